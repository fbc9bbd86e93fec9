// Package reclaim gives memory back to the system when a busy server has become quiet.
//
// Go collects garbage when the heap has grown by as much as it held, which a server
// that has nothing to do any more never does: it keeps what its busiest time left, and
// stacks that have grown then, for minutes. After 5,000 clients came at once that is
// half of the resident memory. So once little has been allocated for some seconds the
// heap is collected, and what is free returned.
//
// # Concurrency
//
// Run is one goroutine, which wakes once a second. It takes at most a hundredth of the
// time, and nothing while the server is busy.
package reclaim

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// every is how often it is looked.
	every = time.Second
	// calm is for how many looks in a row little has to be allocated: longer than
	// between two bursts of clients that come back after a restart.
	calm = 3
	// little is what may be allocated between two looks, or a hundredth of what is
	// live: pings of 5,000 clients take a third of it.
	little = 1 << 20
	// worth is how much has to have been allocated since the last time, or a quarter
	// of what is live.
	worth = 16 << 20
	// share is which part of the time may be spent.
	share = 100
	// least is how long lies between two times at least.
	least = 10 * time.Second
)

// usage is what the runtime says of the heap.
type usage struct {
	allocated uint64 // bytes since the process began
	live      uint64 // bytes that the last collection found
}

// Reclaimer looks after the memory of this process.
type Reclaimer struct {
	read    func() usage
	reclaim func()

	looked uint64 // allocated when it was looked last
	before uint64 // and when it was reclaimed last
	quiet  int    // looks in a row
	next   time.Time
}

// New returns a reclaimer that does nothing yet.
func New() *Reclaimer {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	return &Reclaimer{
		read: func() usage {
			metrics.Read(samples)
			return usage{allocated: samples[0].Value.Uint64(), live: samples[1].Value.Uint64()}
		},
		reclaim: func() {
			runtime.GC() // what pools hold is let go by the second one
			debug.FreeOSMemory()
		},
	}
}

// Run reclaims memory until ctx ends.
func (r *Reclaimer) Run(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.look()
		}
	}
}

func (r *Reclaimer) look() {
	now := r.read()
	fresh := now.allocated - r.looked
	r.looked = now.allocated
	if fresh > max(little, now.live/100) {
		r.quiet = 0
		return
	}
	r.quiet++
	if r.quiet < calm || now.allocated-r.before < max(worth, now.live/4) || time.Now().Before(r.next) {
		return
	}
	began := time.Now()
	r.reclaim()
	r.next = time.Now().Add(max(least, share*time.Since(began)))
	r.before = now.allocated
}
