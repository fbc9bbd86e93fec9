package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"github.com/tcmanager/tcmanager/service/history"
)

// fault is something that happens to the server or to its store, and how often.
type fault struct {
	name   string
	weight int
	// strike lets it happen and mends it.
	strike func(ctx context.Context, rng *rand.Rand) error
	// still says that nobody is served meanwhile and nothing is committed, so that
	// the time doesn't count.
	still bool
}

// fate is what happens to the server and its store, one fault after the other.
type fate struct {
	server *process
	rec    *history.Recorder
	tally  *tally
	faults []fault

	mu     sync.Mutex // guards the rest
	struck time.Time  // when the last fault was mended; zero while there is one
	bad    []string
}

func newFate(p *process, rec *history.Recorder, t *tally, others []fault) *fate {
	f := &fate{server: p, rec: rec, tally: t, struck: time.Now()}
	f.faults = append([]fault{
		{name: "server killed", weight: 25, strike: f.kill, still: true},
		{name: "server restarted", weight: 15, strike: f.restart},
		{name: "server paused", weight: 20, still: true, strike: func(ctx context.Context, rng *rand.Rand) error {
			return f.freeze(ctx, time.Duration(100+rng.IntN(1500))*time.Millisecond)
		}},
		{name: "server paused for longer than clients wait", weight: 8, still: true, strike: func(ctx context.Context, rng *rand.Rand) error {
			return f.freeze(ctx, silence+time.Duration(300+rng.IntN(1500))*time.Millisecond)
		}},
	}, others...)
	return f
}

// work lets things happen until ctx ends: each of them once, in an order of the seed's
// own, and then as it comes. In the end all is mended.
func (f *fate) work(ctx context.Context, rng *rand.Rand) {
	rng.Shuffle(len(f.faults), func(i, j int) { f.faults[i], f.faults[j] = f.faults[j], f.faults[i] })
	for n := 0; ; n++ {
		pause(ctx, time.Duration(200+rng.IntN(1800))*time.Millisecond)
		switch {
		case n <= len(f.faults):
		case rng.IntN(6) == 0:
			pause(ctx, reconnect+2*slack) // time for everybody to be back
		case rng.IntN(10) == 0:
			pause(ctx, silence+grace+2*slack) // time for those who have gone to be forgotten
		default:
		}
		if ctx.Err() != nil {
			return
		}
		next := pick(rng, f.faults, func(x fault) int { return x.weight })
		if n < len(f.faults) {
			next = f.faults[n]
		}
		if err := f.happen(ctx, rng, next); err != nil {
			f.complainf("%s: %v", next.name, err)
			return
		}
	}
}

func (f *fate) happen(ctx context.Context, rng *rand.Rand, next fault) error {
	if err, gone := f.server.gone(); gone {
		f.complainf("%v", err)
		if err := f.server.start(); err != nil {
			return err
		}
	}
	f.mark(time.Time{})
	began := time.Now()
	err := next.strike(ctx, rng)
	if next.still {
		f.rec.Add(history.Record{Kind: history.Paused, At: began, Until: time.Now()})
	}
	f.mark(time.Now())
	f.tally.add(next.name)
	return err
}

func (f *fate) mark(at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.struck = at
}

func (f *fate) complainf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bad = append(f.bad, fmt.Sprintf(format, args...))
}

// calm is how long nothing has happened; negative while something does.
func (f *fate) calm() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.struck.IsZero() {
		return -1
	}
	return min(f.server.calm(), time.Since(f.struck))
}

func (f *fate) kill(ctx context.Context, rng *rand.Rand) error {
	if err := f.server.kill(); err != nil {
		return err
	}
	if rng.IntN(2) == 0 {
		pause(ctx, time.Duration(rng.IntN(800))*time.Millisecond)
	}
	return f.server.start()
}

func (f *fate) restart(context.Context, *rand.Rand) error {
	if err := f.server.stop(); err != nil {
		return fmt.Errorf("the server did not stop well: %w", err)
	}
	return f.server.start()
}

func (f *fate) freeze(ctx context.Context, d time.Duration) error {
	if err := f.server.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	pause(ctx, d)
	return f.server.signal(syscall.SIGCONT)
}
