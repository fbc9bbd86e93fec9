package reclaim

import (
	"context"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestMemoryIsGivenBackWhenABusyServerHasBecomeQuiet says what a server allocates in
// each second, and after which of them its memory is given back.
func TestMemoryIsGivenBackWhenABusyServerHasBecomeQuiet(t *testing.T) {
	const mb = 1 << 20
	seconds := func(n int, bytes uint64) []uint64 { return slices.Repeat([]uint64{bytes}, n) }
	for name, tc := range map[string]struct {
		live      uint64
		takes     time.Duration
		allocates []uint64
		at        []int
	}{
		"a server that never does anything":    {allocates: seconds(600, 1000)},
		"one that is busy":                     {allocates: seconds(600, 20*mb)},
		"one that was busy":                    {allocates: slices.Concat(seconds(5, 20*mb), seconds(600, 1000)), at: []int{8}},
		"one that was hardly busy":             {allocates: slices.Concat(seconds(1, 10*mb), seconds(600, 1000))},
		"one that was for a large heap":        {live: 500 * mb, allocates: slices.Concat(seconds(5, 20*mb), seconds(600, 1000))},
		"one that is again and again":          {allocates: slices.Repeat(slices.Concat(seconds(1, 20*mb), seconds(4, 0)), 8), at: []int{4, 14, 24, 34}},
		"one that is, and it takes long":       {takes: time.Second, allocates: slices.Repeat(slices.Concat(seconds(1, 20*mb), seconds(4, 0)), 60), at: []int{4, 105, 209}},
		"one that never pauses for so long":    {allocates: slices.Repeat(slices.Concat(seconds(1, 20*mb), seconds(2, 0)), 60)},
		"one that allocates a little for ever": {allocates: seconds(100, mb/2), at: []int{32, 64, 96}},
		"a large one with its pings":           {live: 400 * mb, allocates: slices.Concat(seconds(6, 20*mb), seconds(10, 3*mb)), at: []int{9}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var use usage
				use.live = tc.live
				var at []int
				second := 0
				r := &Reclaimer{
					read: func() usage {
						if second < len(tc.allocates) {
							use.allocated += tc.allocates[second]
						}
						second++
						return use
					},
					reclaim: func() {
						at = append(at, second)
						time.Sleep(tc.takes)
					},
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() {
					defer close(done)
					r.Run(ctx)
				}()
				time.Sleep(time.Duration(len(tc.allocates))*every + every/2)
				cancel()
				<-done
				if !slices.Equal(at, tc.at) {
					t.Errorf("memory was given back after %d s, want %d", at, tc.at)
				}
			})
		})
	}
}

// TestWhatIsFreeIsReturned fills the heap and a pool, and looks at how much the
// runtime holds after they are let go.
func TestWhatIsFreeIsReturned(t *testing.T) {
	const size = 64 << 20
	var pool sync.Pool
	fill := func() {
		garbage := make([][]byte, 0, size>>15)
		for range size >> 15 {
			b := make([]byte, 32<<10)
			pool.Put(&b)
			garbage = append(garbage, make([]byte, 32<<10))
		}
		runtime.KeepAlive(garbage)
	}
	percent := debug.SetGCPercent(-1) // nothing is collected by the way
	defer debug.SetGCPercent(percent)
	fill()
	held := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapSys - m.HeapReleased
	}
	before := held()
	r := New()
	if use := r.read(); use.allocated < 2*size {
		t.Errorf("%d bytes are said to be allocated", use.allocated)
	}
	for range calm + 1 {
		r.look()
	}
	if after := held(); after > before/4 {
		t.Errorf("%d MB were held, and %d are", before>>20, after>>20)
	}
	runtime.KeepAlive(&pool)
}
