package retention

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/sqlite"
)

const (
	benchRooms  = 10_000
	benchEvents = 100 // of each room
)

// BenchmarkSweep drops half of a million events of 10,000 rooms while somebody
// appends, one event after the other, each in a commit of its own. Rows hold one
// event, as those of a chatty room do, or 50, as those of runs do.
func BenchmarkSweep(b *testing.B) {
	for _, each := range []int{1, 50} {
		b.Run(fmt.Sprintf("%d a row", each), func(b *testing.B) { benchSweep(b, each) })
	}
}

func benchSweep(b *testing.B, each int) {
	var took, idle time.Duration
	var alone, during, steps []time.Duration
	for range b.N {
		st := filled(b, each)
		stop, cancel := context.WithTimeout(b.Context(), time.Second)
		alone = append(alone, appends(b, st, stop)...)
		cancel()
		sweeping := &timed{Store: st}
		s := New(sweeping, nil, Config{Events: benchEvents / 2, Age: time.Hour})
		stop, cancel = context.WithCancel(b.Context())
		var appender sync.WaitGroup
		appender.Go(func() { during = append(during, appends(b, st, stop)...) })
		began := time.Now()
		if err := s.sweep(b.Context()); err != nil {
			b.Fatal(err)
		}
		took += time.Since(began)
		cancel()
		appender.Wait()
		began = time.Now()
		if err := s.sweep(b.Context()); err != nil {
			b.Fatal(err)
		}
		idle += time.Since(began)
		steps = append(steps, sweeping.took...)
		if err := st.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(took.Seconds()/float64(b.N), "sweep-s")
	b.ReportMetric(float64(idle.Microseconds())/float64(b.N), "idle-sweep-µs")
	for name, took := range map[string][]time.Duration{"alone": alone, "append": during, "step": steps} {
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, name+"-median-ms")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, name+"-p99-ms")
		b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, name+"-max-ms")
	}
}

// timed is a store that notes how long each function of Update took of its writer.
type timed struct {
	store.Store
	took []time.Duration
}

func (t *timed) Update(ctx context.Context, fn func(store.Tx) error) error {
	return t.Store.Update(ctx, func(tx store.Tx) error {
		began := time.Now()
		defer func() { t.took = append(t.took, time.Since(began)) }()
		return fn(tx)
	})
}

// draft is an event as large as most.
func draft(tb testing.TB) event.Draft {
	d, err := event.NewDraft("project:bench", time.Now(), nil, &pb.Event{Payload: &pb.Event_TestExecution{TestExecution: &pb.TestExecutionUpdate{
		RunId: "0190a000-0000-7000-8000-00000000000a", Test: &pb.TestRef{Suite: "golang.org/x/text/package", Name: "TestSomething/case_000001"}, Comment: fmt.Sprintf("%0100d", 7),
	}}})
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// filled returns a store whose rooms are full.
func filled(b *testing.B, each int) store.Store {
	st, err := sqlite.Open(b.Context(), sqlite.Options{Path: filepath.Join(b.TempDir(), "tcm.db")})
	if err != nil {
		b.Fatal(err)
	}
	d := draft(b)
	for range benchEvents / each {
		for first := 0; first < benchRooms; first += 500 {
			err := st.Update(b.Context(), func(tx store.Tx) error {
				var drafts []event.Draft
				for i := range 500 {
					for range each {
						drafts = append(drafts, d.For(event.Room(fmt.Sprintf("project:%d", first+i))))
					}
				}
				_, err := tx.Append(drafts...)
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	return st
}

// appends appends one event after the other until ctx ends, and returns how long
// each took.
func appends(b *testing.B, st store.Store, ctx context.Context) (took []time.Duration) {
	d := draft(b)
	for ctx.Err() == nil {
		began := time.Now()
		err := st.Update(b.Context(), func(tx store.Tx) error {
			_, err := tx.Append(d)
			return err
		})
		if err != nil {
			b.Error(err)
			return took
		}
		took = append(took, time.Since(began))
	}
	return took
}
