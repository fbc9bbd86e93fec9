package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

// The benchmarks write a run as the execution service does: updates of about 210
// bytes, each as a result and as an event, with the run's suites and counts.
const (
	benchTests  = 50_000 // of the project
	benchCommit = 1_000  // results a commit
)

type bench struct {
	testing.TB
	s       *Store
	results []store.Result
	drafts  []event.Draft
	suites  []*pb.Suite
	run     *pb.Run
	offset  uint64
	groups  atomic.Int64 // of updates with events
}

func newBench(tb testing.TB, dsn string) *bench {
	b := &bench{TB: tb}
	b.s = open(tb, Options{DSN: dsn, Listener: func([]event.Event) { b.groups.Add(1) }})
	tb.Cleanup(func() {
		if err := b.s.Close(); err != nil {
			tb.Error(err)
		}
	})
	for i := range benchTests {
		u := &pb.TestExecutionUpdate{
			RunId: "0190a000-0000-7000-8000-00000000000a", Attempt: 1, Status: pb.Status_STATUS_PASSED, DurationMs: 12.5,
			Test: &pb.TestRef{Source: "go", Suite: fmt.Sprintf("golang.org/x/text/package%d", i%100), Name: fmt.Sprintf("TestSomething/case_%06d", i), Parent: "TestSomething"},
			User: &pb.UserRef{Id: "0190a000-0000-7000-8000-0000000000aa", Name: "Ada Lovelace"}, Timestamp: timestamppb.New(time.UnixMicro(1_800_000_000_123_456)),
		}
		if i%50 == 0 {
			u.Status = pb.Status_STATUS_FAILED
		}
		data, err := proto.Marshal(u)
		if err != nil {
			tb.Fatal(err)
		}
		b.results = append(b.results, store.Result{Seq: uint64(i + 1), Attempt: 1, Source: "go", Suite: u.Test.Suite, Name: u.Test.Name, ShardAttempt: 1, Status: u.Status, Update: data})
		d, err := event.NewDraft(event.RunRoom("run-0"), time.Unix(1_800_000_000, 0), nil, &pb.Event{Payload: &pb.Event_TestExecution{TestExecution: u}})
		if err != nil {
			tb.Fatal(err)
		}
		b.drafts = append(b.drafts, d)
	}
	for i := range 10 {
		b.suites = append(b.suites, &pb.Suite{Name: fmt.Sprintf("golang.org/x/text/package%d", i), Counts: &pb.Counts{Total: 100, Passed: 98, Failed: 2}})
	}
	err := b.s.Update(tb.Context(), func(tx store.Tx) error { return tx.PutProject(&pb.Project{Id: "p", Key: "p"}) })
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// begin begins a run.
func (b *bench) begin(n int) {
	b.run, b.offset = &pb.Run{Id: fmt.Sprintf("run-%d", n), Key: fmt.Sprint(n), ProjectId: "p", State: pb.RunState_RUN_STATE_RUNNING}, 0
	if err := b.s.Update(b.Context(), func(tx store.Tx) error { return tx.AddRun(b.run) }); err != nil {
		b.Fatal(err)
	}
}

// commit writes the results [from, from+n) of the run.
func (b *bench) commit(from, n int) {
	err := b.s.Update(b.Context(), func(tx store.Tx) error {
		drafts := make([]event.Draft, 0, n)
		for i := range n {
			b.offset++
			b.results[from+i].Offset = b.offset
			drafts = append(drafts, b.drafts[from+i].For(event.RunRoom(b.run.Id)))
		}
		if _, err := tx.Append(drafts...); err != nil {
			return err
		}
		if err := tx.PutResults(b.run.Id, b.results[from:from+n]); err != nil {
			return err
		}
		if err := tx.PutSuites(b.run.Id, b.suites); err != nil {
			return err
		}
		b.run.Counts = &pb.Counts{Total: uint32(from + n)}
		return tx.PutRun(b.run)
	})
	if err != nil {
		b.Fatal(err)
	}
}

// fill writes a whole run.
func (b *bench) fill(n int) {
	b.begin(n)
	for from := 0; from < benchTests; from += benchCommit {
		b.commit(from, benchCommit)
	}
}

// BenchmarkRunners is one result a commit of a runner, as the run service writes it: an
// event, the result, the run's counts and the shard. With 200 runners, each of a run of
// its own, as many as wait share a commit of the store.
func BenchmarkRunners(tb *testing.B) {
	const runnerTests = 1_000
	for _, runners := range []int{1, 200} {
		tb.Run(fmt.Sprint(runners), func(tb *testing.B) {
			b := newBench(tb, database(tb))
			left := make(chan int, runners)
			var all sync.WaitGroup
			for n := range runners {
				b.begin(n)
				run, room := b.run, event.RunRoom(b.run.Id)
				all.Go(func() {
					shard := store.Shard{RunID: run.Id, Name: "main", State: pb.ShardState_SHARD_STATE_LIVE}
					for i := range left {
						result := b.results[i%runnerTests]
						shard.Committed++
						shard.ChangedAt = time.UnixMicro(int64(i))
						run.Counts = &pb.Counts{Total: uint32(i)}
						err := b.s.Update(tb.Context(), func(tx store.Tx) error {
							events, err := tx.Append(b.drafts[i%runnerTests].For(room))
							if err != nil {
								return err
							}
							result.Seq, result.Offset = shard.Committed, events[0].Position.Offset
							return errors.Join(tx.PutResults(run.Id, []store.Result{result}), tx.PutRun(run), tx.PutShard(shard))
						})
						if err != nil {
							tb.Error(err)
						}
					}
				})
			}
			for i := range 2 * runnerTests { // until they are known
				left <- i
			}
			tb.ReportAllocs()
			tb.ResetTimer()
			before := b.groups.Load()
			for i := range tb.N {
				left <- i
			}
			close(left)
			all.Wait()
			tb.ReportMetric(float64(tb.N)/float64(b.groups.Load()-before), "updates/commit")
		})
	}
}

// BenchmarkUpdateResults is the runners' lane with tests the project knows: a
// result, an event and the test's row each, 1, 100 and 1,000 a commit, synced to disk.
func BenchmarkUpdateResults(tb *testing.B) {
	b := newBench(tb, database(tb))
	b.fill(0)
	run := 0
	for _, n := range []int{1, 100, 1000} {
		tb.Run(fmt.Sprint(n), func(tb *testing.B) {
			from := benchTests
			var took []time.Duration
			for tb.Loop() {
				if from+n > benchTests {
					run, from = run+1, 0
					b.begin(run)
				}
				start := time.Now()
				b.commit(from, n)
				took = append(took, time.Since(start))
				from += n
			}
			slices.Sort(took)
			tb.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
			tb.ReportMetric(float64(tb.N*n)/tb.Elapsed().Seconds(), "results/s")
		})
	}
}

// BenchmarkUpdateNewTests is the first run of a project.
func BenchmarkUpdateNewTests(tb *testing.B) {
	var elapsed time.Duration
	for range tb.N {
		b := newBench(tb, database(tb))
		start := time.Now()
		b.fill(0)
		elapsed += time.Since(start)
	}
	tb.ReportMetric(float64(tb.N)*benchTests/elapsed.Seconds(), "results/s")
}

// BenchmarkLogTail reads the newest 64 KB of a long log, as a session does that is
// a little behind.
func BenchmarkLogTail(tb *testing.B) {
	b := newBench(tb, database(tb))
	b.fill(0)
	events := 0
	for tb.Loop() {
		err := b.s.View(tb.Context(), func(r store.Reader) error {
			part, err := r.Log(event.RunRoom("run-0"), benchTests-200, 64<<10)
			events += len(part.Events)
			return err
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
	tb.ReportMetric(float64(events)/tb.Elapsed().Seconds(), "events/s")
}

// BenchmarkResultsPage reads a page of 5,000 results, and the newest failures.
func BenchmarkResultsPage(tb *testing.B) {
	b := newBench(tb, database(tb))
	b.fill(0)
	for name, q := range map[string]store.ResultQuery{
		"5000":     {AfterSeq: 20_000, Limit: 5_000},
		"failures": {Statuses: []pb.Status{pb.Status_STATUS_FAILED, pb.Status_STATUS_ERRORED}, Limit: 500, Descending: true},
	} {
		tb.Run(name, func(tb *testing.B) {
			rows := 0
			for tb.Loop() {
				err := b.s.View(tb.Context(), func(r store.Reader) error {
					page, err := r.Results("run-0", q)
					rows += len(page)
					return err
				})
				if err != nil {
					tb.Fatal(err)
				}
			}
			tb.ReportMetric(float64(rows)/tb.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkSmallUpdates is many callers with one event each, which share commits.
func BenchmarkSmallUpdates(tb *testing.B) {
	b := newBench(tb, database(tb))
	b.begin(0)
	tb.SetParallelism(64)
	tb.ResetTimer()
	tb.RunParallel(func(p *testing.PB) {
		for p.Next() {
			err := b.s.Update(tb.Context(), func(tx store.Tx) error {
				if _, err := tx.Append(b.drafts[0]); err != nil {
					return err
				}
				return tx.PutResults("run-0", b.results[:1])
			})
			if err != nil {
				tb.Error(err)
			}
		}
	})
	tb.ReportMetric(float64(tb.N)/tb.Elapsed().Seconds(), "updates/s")
}

// BenchmarkAppendTo appends one event a commit, in turns to a log that had ten and to
// one that had a million: whatever else the machine does, it does to both.
func BenchmarkAppendTo(tb *testing.B) {
	b := newBench(tb, database(tb))
	lengths := []int{10, 1_000_000}
	took := map[int][]time.Duration{}
	room := func(n int) event.Room { return event.Room(fmt.Sprintf("project:%d", n)) }
	for _, n := range lengths {
		for left := n; left > 0; {
			drafts := make([]event.Draft, min(left, 1000))
			for i := range drafts {
				drafts[i] = b.drafts[i].For(room(n))
			}
			left -= len(drafts)
			appendAll(tb, b.s, drafts...)
		}
	}
	for tb.Loop() {
		for _, n := range lengths {
			start := time.Now()
			appendAll(tb, b.s, b.drafts[0].For(room(n)))
			took[n] = append(took[n], time.Since(start))
		}
	}
	for _, n := range lengths {
		slices.Sort(took[n])
		tb.ReportMetric(float64(took[n][len(took[n])/2].Microseconds()), fmt.Sprintf("p50-µs-of-%d", n))
	}
}

func appendAll(tb testing.TB, s *Store, drafts ...event.Draft) {
	err := s.Update(tb.Context(), func(tx store.Tx) error {
		_, err := tx.Append(drafts...)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// BenchmarkAppendDuringPurge deletes a run of a million results, with their events,
// while somebody appends, one event after the other, each in a commit of its own. It
// reports what an append waits for alone and meanwhile, how long a step takes of the
// writer, and how long it takes until all is gone.
func BenchmarkAppendDuringPurge(tb *testing.B) {
	const results, pause = 1_000_000, 10 * time.Millisecond
	b := newBench(tb, database(tb))
	b.begin(0)
	for base := 0; base < results; base += benchTests {
		for i := range b.results {
			b.results[i].Seq = uint64(base + i + 1)
		}
		for from := 0; from < benchTests; from += benchCommit {
			b.commit(from, benchCommit)
		}
	}
	room := event.Room("project:p")
	var steps []time.Duration
	rows := 0
	purge := func() error {
		for more := true; more; {
			err := b.s.Update(tb.Context(), func(tx store.Tx) error {
				began := time.Now()
				done, err := tx.PurgeRuns()
				steps, rows, more = append(steps, time.Since(began)), rows+done.Rows, done.More
				return err
			})
			if err != nil {
				return err
			}
			time.Sleep(pause)
		}
		return nil
	}
	tb.ReportMetric(0, "ns/op")
	for _, phase := range []struct {
		name string
		do   func() error
	}{
		{"alone", func() error { time.Sleep(5 * time.Second); return nil }},
		{"delete", func() error {
			return b.s.Update(tb.Context(), func(tx store.Tx) error { return tx.DeleteRun(b.run.Id) })
		}},
		{"purge", purge},
	} {
		var took []time.Duration
		var appender sync.WaitGroup
		ctx, stop := context.WithCancel(tb.Context())
		appender.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				appendAll(tb, b.s, b.drafts[0].For(room))
				took = append(took, time.Since(began))
			}
		})
		began := time.Now()
		if err := phase.do(); err != nil {
			tb.Error(err)
		}
		tb.ReportMetric(time.Since(began).Seconds(), phase.name+"-s")
		stop()
		appender.Wait()
		report(tb, phase.name, took)
	}
	report(tb, "step", steps)
	tb.ReportMetric(float64(rows), "rows")
}

func report(tb *testing.B, name string, took []time.Duration) {
	slices.Sort(took)
	tb.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, name+"-median-ms")
	tb.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, name+"-p99-ms")
	tb.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, name+"-max-ms")
}
