package storetest

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

// fillRun ends a run, some minutes after noon, and gives it n tests in two attempts,
// the first of which failed; every third test fails again. Each has output.
func fillRun(tx store.Tx, id string, n, minutes int) error {
	run, err := tx.Run(id)
	if err != nil {
		return err
	}
	run.State, run.EndReason, run.EndedAt = pb.RunState_RUN_STATE_ENDED, pb.EndReason_END_REASON_FAILED, at(minutes)
	run.Counts = &pb.Counts{Total: uint32(n)}
	errs := []error{
		tx.PutRun(run), tx.PutShard(store.Shard{RunID: id, Name: "main", ChangedAt: noon}),
		tx.PutSuites(id, []*pb.Suite{{Name: "s"}, {Name: "t"}}),
		tx.AddOutput(id, []store.Output{{Key: store.OutputKey{RunID: id, Suite: "s"}, Data: []byte("of the suite")}}),
	}
	for i := 1; i <= n; i++ {
		status := pb.Status_STATUS_PASSED
		if i%3 == 0 {
			status = pb.Status_STATUS_TIMED_OUT
		}
		name := fmt.Sprint("test ", i)
		results := []store.Result{
			{Seq: uint64(i), Attempt: 1, Source: "go", Suite: "s", Name: name, Status: pb.Status_STATUS_FAILED, Offset: 1},
			{Seq: uint64(i), Attempt: 2, Source: "go", Suite: "s", Name: name, Status: status, Offset: 2, Update: []byte("x")},
		}
		out := []store.Output{{Key: store.OutputKey{RunID: id, Suite: "s", Name: name, Attempt: 2}, Data: []byte("said")}}
		_, err := tx.Append(durable(event.RunRoom(id), "x"))
		errs = append(errs, err, tx.PutResults(id, results), tx.AddOutput(id, out))
	}
	return errors.Join(errs...)
}

// purge drops what is left behind, and returns how many rows and calls that were.
func (e *env) purge() (rows, calls int) {
	e.Helper()
	for more := true; more; calls++ {
		if calls > 10_000 {
			e.Fatal("there is always more to drop")
		}
		e.update(func(tx store.Tx) error {
			done, err := tx.PurgeRuns()
			rows, more = rows+done.Rows, done.More
			return err
		})
	}
	return rows, calls
}

// gone checks that nothing of a run can be found, but that it was.
func gone(r store.Reader, id, key string) error {
	shards, errShards := r.Shards(id)
	suites, errSuites := r.Suites(id, 10)
	results, errResults := r.Results(id, store.ResultQuery{Limit: 10})
	failures, errFailures := r.Results(id, store.ResultQuery{Limit: 10, Descending: true, Statuses: []pb.Status{pb.Status_STATUS_FAILED}})
	out, errOut := r.Output(store.OutputKey{RunID: id, Suite: "s"}, 0, 100)
	attempts := 0
	return errors.Join(errShards, errSuites, errResults, errFailures, errOut,
		r.EachResult(id, func(store.Result) error { attempts++; return nil }),
		fails(r.Run(id))("by id", store.ErrNotFound),
		fails(r.RunByKey(projectID, key))("by key", store.ErrNotFound),
		fails(r.Shard(id, "main"))("its shard", store.ErrNotFound),
		is(len(shards)+len(suites)+len(results)+len(failures)+len(out.Data)+attempts, nil)("what is found of it", 0),
		is(r.DeletedRun(id))("the project it was of", projectID))
}

// attemptsOf returns the attempts that a run has, as "seq.attempt".
func attemptsOf(r store.Reader, id string) (string, error) {
	var all []string
	err := r.EachResult(id, func(res store.Result) error {
		all = append(all, fmt.Sprintf("%d.%d", res.Seq, res.Attempt))
		return nil
	})
	return strings.Join(all, " "), err
}

var retentionTests = []test{
	{"runs that ended before a moment are found by how much of them is kept, the oldest first", func(e *env) {
		e.keeps(func(tx store.Tx) error {
			return errors.Join(populate(tx), addRuns(tx, 4), fillRun(tx, "run-1", 0, 30), fillRun(tx, "run-2", 0, 10), fillRun(tx, "run-3", 0, 20), tx.TrimRun("run-3"))
		}, func(r store.Reader) error {
			return errors.Join(
				is(r.EndedRuns(store.KeptWhole, at(31).AsTime(), 9))("whole ones", []string{"run-2", "run-1"}),
				is(r.EndedRuns(store.KeptWhole, at(30).AsTime(), 9))("those before it", []string{"run-2"}),
				is(r.EndedRuns(store.KeptWhole, at(31).AsTime(), 1))("one of them", []string{"run-2"}),
				is(r.EndedRuns(store.KeptTrimmed, at(31).AsTime(), 9))("trimmed ones", []string{"run-3"}),
				is(r.EndedRuns(store.KeptWhole, at(1).AsTime(), 9))("none", nil))
		})
	}},
	{"runs behind the newest of their project are found if they have ended", func(e *env) {
		e.keeps(func(tx store.Tx) error {
			elsewhere := newRun("d", "first")
			elsewhere.ProjectId = otherID
			return errors.Join(tx.PutProject(project()), tx.PutProject(other()), addRuns(tx, 5), tx.AddRun(elsewhere),
				fillRun(tx, "run-1", 0, 10), fillRun(tx, "run-3", 0, 20), fillRun(tx, "run-4", 0, 30), fillRun(tx, "d", 0, 1))
		}, func(r store.Reader) error {
			late := at(60).AsTime()
			return errors.Join(
				is(r.SurplusRuns(1, late, 9))("behind the newest", []string{"run-1", "run-3", "run-4"}),
				is(r.SurplusRuns(1, at(30).AsTime(), 9))("that ended before", []string{"run-1", "run-3"}),
				is(r.SurplusRuns(1, late, 2))("two of them", []string{"run-1", "run-3"}),
				is(r.SurplusRuns(2, late, 9))("behind two", []string{"run-1", "run-3"}),
				is(r.SurplusRuns(3, late, 9))("behind three", []string{"run-1"}),
				is(r.SurplusRuns(5, late, 9))("behind as many as there are", nil),
				is(r.SurplusRuns(6, late, 9))("behind more", nil))
		})
	}},
	{"deleted runs don't count among the newest", func(e *env) {
		e.update(func(tx store.Tx) error {
			return errors.Join(tx.PutProject(project()), addRuns(tx, 4), fillRun(tx, "run-1", 0, 1), fillRun(tx, "run-3", 0, 1), tx.DeleteRun("run-3"))
		})
		e.stands(func(r store.Reader) error {
			return errors.Join(
				is(r.SurplusRuns(2, at(60).AsTime(), 9))("behind two", []string{"run-1"}),
				is(r.SurplusRuns(3, at(60).AsTime(), 9))("behind three", nil),
				is(r.EndedRuns(store.KeptWhole, at(60).AsTime(), 9))("that ended", []string{"run-1"}))
		})
	}},
	{"a deleted run is gone at once, whatever is left of it, and its number and key stay taken", func(e *env) {
		e.update(func(tx store.Tx) error { return errors.Join(populate(tx), addRuns(tx, 2), fillRun(tx, "run-2", 7, 1)) })
		e.keeps(func(tx store.Tx) error { return tx.DeleteRun("run-2") }, func(r store.Reader) error {
			return errors.Join(gone(r, "run-2", "run-2"), is(numbersOf(r.Runs(projectID, 0, 9)))("the others", []uint32{2, 1}))
		})
		e.purge()
		after := newRun("b", "b")
		e.update(func(tx store.Tx) error { return tx.AddRun(after) })
		if after.Number != 4 {
			e.Errorf("the next run has number %d, want 4", after.Number)
		}
		for _, run := range []*pb.Run{newRun("c", "run-2"), newRun("run-2", "c")} {
			e.refuses(store.ErrExists, func(tx store.Tx) error { return tx.AddRun(run) })
		}
		e.stands(func(r store.Reader) error {
			return errors.Join(gone(r, "run-2", "run-2"), is(numbersOf(r.Runs(projectID, 0, 9)))("the others", []uint32{4, 2, 1}),
				fails(r.DeletedRun("run-1"))("one that is kept", store.ErrNotFound), fails(r.DeletedRun(missing))("one that never was", store.ErrNotFound))
		})
	}},
	{"nothing can be written to a deleted run", func(e *env) {
		e.update(func(tx store.Tx) error { return errors.Join(populate(tx), fillRun(tx, runID, 2, 1)) })
		writes := map[string]func(store.Tx) error{
			"the run":  func(tx store.Tx) error { return tx.PutRun(newRun(runID, "first")) },
			"a shard":  func(tx store.Tx) error { return tx.PutShard(store.Shard{RunID: runID, Name: "x"}) },
			"a suite":  func(tx store.Tx) error { return tx.PutSuites(runID, []*pb.Suite{{Name: "x"}}) },
			"a result": func(tx store.Tx) error { return tx.PutResults(runID, []store.Result{{Seq: 9, Attempt: 1}}) },
			"output":   func(tx store.Tx) error { return tx.AddOutput(runID, []store.Output{{Data: []byte("x")}}) },
			"a trim":   func(tx store.Tx) error { return tx.TrimRun(runID) },
			"an end":   func(tx store.Tx) error { return tx.DeleteRun(runID) },
		}
		e.refuses(store.ErrNotFound, func(tx store.Tx) error { // in the same transaction, which knows the run
			return errors.Join(tx.DeleteRun(runID), tx.PutSuites(runID, []*pb.Suite{{Name: "x"}}))
		})
		e.view(func(r store.Reader) error { return is(len(must(r.Suites(runID, 9))), nil)("its suites", 2) })
		e.update(func(tx store.Tx) error { return tx.DeleteRun(runID) })
		for what, write := range writes {
			if err := e.s.Update(e.ctx, write); !errors.Is(err, store.ErrNotFound) {
				e.Errorf("%s: got error %v, want %v", what, err, store.ErrNotFound)
			}
		}
		e.purge()
		for what, write := range writes {
			if err := e.s.Update(e.ctx, write); !errors.Is(err, store.ErrNotFound) {
				e.Errorf("%s, after the purge: got error %v, want %v", what, err, store.ErrNotFound)
			}
		}
	}},
	{"what is left of a deleted run is dropped piece by piece, and nothing of another", func(e *env) {
		e.update(func(tx store.Tx) error {
			return errors.Join(populate(tx), addRuns(tx, 2), fillRun(tx, runID, 9, 1), fillRun(tx, "run-1", 1500, 1), fillRun(tx, "run-2", 9, 1))
		})
		var before string
		e.view(func(r store.Reader) (err error) { before, err = attemptsOf(r, "run-2"); return err })
		e.update(func(tx store.Tx) error { return errors.Join(tx.DeleteRun(runID), tx.DeleteRun("run-1")) })
		rows, calls := 0, 0
		for more := true; more; calls++ {
			if calls%3 == 2 {
				e.reopen() // it goes on where it was
			}
			e.update(func(tx store.Tx) error {
				done, err := tx.PurgeRuns()
				rows, more = rows+done.Rows, done.More
				return err
			})
			e.view(func(r store.Reader) error { return errors.Join(gone(r, runID, "first"), gone(r, "run-1", "run-1")) })
		}
		// Two attempts and a piece of output a test; a run's log is in a few pieces.
		if want := 3 * (1500 + 9); rows < want || rows > want+60 || calls < 5 {
			e.Errorf("%d rows were dropped in %d calls, want about %d in several", rows, calls, want)
		}
		e.stands(func(r store.Reader) error {
			_, errRoom := r.Head(event.RunRoom(runID))
			return errors.Join(is(errors.Is(errRoom, store.ErrNotFound), nil)("its room is gone", true),
				is(attemptsOf(r, "run-2"))("the other's results", before),
				is(len(must(r.Suites("run-2", 9))), nil)("the other's suites", 2),
				is(len(must(r.Recent(event.RunRoom("run-2"), math.MaxInt32))), nil)("the other's log", 9),
				is(string(must(r.Output(store.OutputKey{RunID: "run-2", Suite: "s", Name: "test 9"}, 0, 99)).Data), nil)("the other's output", "said"))
		})
		if rows, calls := e.purge(); rows != 0 || calls != 1 {
			e.Errorf("afterwards %d rows were dropped in %d calls", rows, calls)
		}
	}},
	{"a trimmed run keeps its counts, suites and failures", func(e *env) {
		e.update(func(tx store.Tx) error { return errors.Join(populate(tx), fillRun(tx, runID, 800, 1)) })
		trim := func(tx store.Tx) error { return tx.TrimRun(runID) }
		e.keeps(trim, func(r store.Reader) error {
			run, err := r.Run(runID)
			return errors.Join(err, is(run.GetResultsTrimmed(), nil)("it says so", true))
		})
		if rows, calls := e.purge(); rows != 2*800-800-800/3+800+1 || calls < 3 {
			e.Errorf("%d rows were dropped in %d calls", rows, calls)
		}
		e.update(trim) // once more
		if rows, _ := e.purge(); rows != 0 {
			e.Errorf("trimmed once more, it lost %d rows", rows)
		}
		e.stands(func(r store.Reader) error {
			run, err := r.Run(runID)
			attempts, errAttempts := attemptsOf(r, runID)
			return errors.Join(err, errAttempts,
				is(run.GetResultsTrimmed(), nil)("it says so", true),
				is(run.GetCounts().GetTotal(), nil)("its counts", 800),
				is(len(run.GetShards()), nil)("its shards", 1),
				is(len(must(r.Suites(runID, 9))), nil)("its suites", 2),
				is(strings.HasPrefix(attempts, "1.1 2.1 3.1 3.2 4.1 "), nil)("what did not pass stays", true),
				is(len(must(r.Output(store.OutputKey{RunID: runID, Suite: "s"}, 0, 99)).Data), nil)("its output", 0),
				is(len(must(r.Recent(event.RunRoom(runID), math.MaxInt32))), nil)("its log", 800))
		})
		e.update(func(tx store.Tx) error { return tx.DeleteRun(runID) })
		if rows, _ := e.purge(); rows < 800+800/3 {
			e.Errorf("deleted, it lost %d rows more", rows)
		}
		e.stands(func(r store.Reader) error { return gone(r, runID, "first") })
	}},
	{"a deletion that is undone leaves the run", func(e *env) {
		e.update(func(tx store.Tx) error { return errors.Join(populate(tx), fillRun(tx, runID, 3, 1)) })
		e.refuses(errUndo, func(tx store.Tx) error {
			if err := tx.DeleteRun(runID); err != nil {
				return err
			}
			_, err := tx.PurgeRuns()
			return errors.Join(err, errUndo)
		})
		e.update(func(tx store.Tx) error {
			_, err := tx.Append(durable(event.RunRoom(runID), "x"))
			return errors.Join(err, tx.PutSuites(runID, []*pb.Suite{{Name: "u"}}))
		})
		e.purge()
		e.stands(func(r store.Reader) error {
			return errors.Join(is(attemptsOf(r, runID))("its results", "1.1 1.2 2.1 2.2 3.1 3.2"),
				is(len(must(r.Suites(runID, 9))), nil)("its suites", 3),
				is(len(must(r.Recent(event.RunRoom(runID), math.MaxInt32))), nil)("its log", 4))
		})
	}},
	{"a run that is deleted and purged in the update that told of it leaves nothing", func(e *env) {
		e.update(func(tx store.Tx) error { return errors.Join(populate(tx), fillRun(tx, runID, 3, 1)) })
		e.update(func(tx store.Tx) error {
			_, err := tx.Append(durable(event.RunRoom(runID), "it is gone"))
			if err = errors.Join(err, tx.DeleteRun(runID)); err != nil {
				return err
			}
			_, err = tx.PurgeRuns()
			return err
		})
		e.purge()
		e.stands(func(r store.Reader) error {
			return errors.Join(gone(r, runID, "first"), fails(r.Head(event.RunRoom(runID)))("its room", store.ErrNotFound))
		})
	}},
	{"the last total is of a run that is kept", func(e *env) {
		e.keeps(func(tx store.Tx) error {
			return errors.Join(populate(tx), addRuns(tx, 1), fillRun(tx, runID, 4, 1), fillRun(tx, "run-1", 7, 1), tx.DeleteRun("run-1"))
		}, func(r store.Reader) error { return is(r.LastTotal(projectID, "go", "unit"))("the total", 4) })
	}},
	{"a view keeps its run while that is deleted", func(e *env) {
		e.update(func(tx store.Tx) error { return errors.Join(populate(tx), fillRun(tx, runID, 3, 1)) })
		e.view(func(r store.Reader) error {
			if _, err := r.Run(runID); err != nil { // so that it has its snapshot
				return err
			}
			e.update(func(tx store.Tx) error { return tx.DeleteRun(runID) })
			e.purge()
			return is(attemptsOf(r, runID))("its results", "1.1 1.2 2.1 2.2 3.1 3.2")
		})
		e.view(func(r store.Reader) error { return gone(r, runID, "first") })
	}},
	{"no time, no runs: limits of nothing find nothing", func(e *env) {
		e.update(populate)
		e.view(func(r store.Reader) error {
			return errors.Join(is(r.EndedRuns(store.KeptWhole, time.Time{}, 9))("before the beginning of time", nil),
				is(r.SurplusRuns(1, time.Time{}, 9))("behind the newest", nil))
		})
	}},
}

// must returns what a call returned, or its zero: the comparison shows the failure.
func must[T any](v T, _ error) T { return v }
