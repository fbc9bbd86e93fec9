package storetest

import (
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

// numbered returns run with its number set.
func numbered(run *pb.Run, n uint32) *pb.Run {
	run.Number = n
	return run
}

// addRuns adds n runs with the keys run-1, run-2, ... to the project.
func addRuns(tx store.Tx, n int) error {
	var errs []error
	for i := 1; i <= n; i++ {
		errs = append(errs, tx.AddRun(newRun(fmt.Sprintf("run-%d", i), fmt.Sprintf("run-%d", i))))
	}
	return errors.Join(errs...)
}

// numbersOf returns the numbers of a list of runs.
func numbersOf(runs []*pb.Run, err error) ([]uint32, error) {
	var n []uint32
	for _, r := range runs {
		n = append(n, r.Number)
	}
	return n, err
}

func putEnded(tx store.Tx, id string, reason pb.EndReason, total uint32) error {
	run, err := tx.Run(id)
	if err != nil {
		return err
	}
	run.State, run.EndReason, run.EndedAt = pb.RunState_RUN_STATE_ENDED, reason, at(9)
	run.Counts = &pb.Counts{Total: total}
	return tx.PutRun(run)
}

var runTests = []test{
	{"a run is kept and found by id and by key", func(e *env) {
		e.keeps(populate, func(r store.Reader) error {
			want := numbered(newRun(runID, "first"), 1)
			_, errRoom := r.Head(event.RunRoom(runID))
			return errors.Join(errRoom,
				is(r.Run(runID))("by id", want),
				is(r.RunByKey(projectID, "first"))("by key", want),
				fails(r.Run(missing))("an unknown id", store.ErrNotFound),
				fails(r.RunByKey(projectID, "second"))("an unknown key", store.ErrNotFound),
				fails(r.RunByKey(otherID, "first"))("a key of another project", store.ErrNotFound),
			)
		})
	}},
	{"a new run gets the next number of its project", func(e *env) {
		second, third := newRun("b", "b"), newRun("c", "c")
		elsewhere := newRun("d", "first")
		elsewhere.ProjectId = otherID
		e.keeps(func(tx store.Tx) error {
			return errors.Join(populate(tx), tx.AddRun(second), tx.AddRun(elsewhere), tx.AddRun(third),
				is(second.Number, nil)("the second run", 2),
				is(third.Number, nil)("the third run", 3),
				is(elsewhere.Number, nil)("the first run of another project", 1))
		}, func(r store.Reader) error {
			return errors.Join(is(r.Run("c"))("the third run", third), is(r.Run("d"))("the run elsewhere", elsewhere))
		})
	}},
	{"a number is not used up by a run that was undone", func(e *env) {
		undo := errors.New("undo")
		e.update(populate)
		e.refuses(undo, func(tx store.Tx) error { return errors.Join(tx.AddRun(newRun("b", "b")), undo) })
		next := newRun("c", "c")
		e.update(func(tx store.Tx) error { return tx.AddRun(next) })
		if next.Number != 2 {
			e.Errorf("the next run has number %d, want 2", next.Number)
		}
	}},
	{"a run's key and id are unique", func(e *env) {
		e.keeps(func(tx store.Tx) error {
			return errors.Join(populate(tx),
				fails(0, tx.AddRun(newRun("b", "first")))("a taken key", store.ErrExists),
				fails(0, tx.AddRun(newRun(runID, "b")))("a taken id", store.ErrExists))
		}, func(r store.Reader) error {
			return is(numbersOf(r.Runs(projectID, 0, 10)))("the runs", []uint32{1})
		})
	}},
	{"a run must have a project", func(e *env) {
		run := newRun("b", "b")
		run.ProjectId = missing
		e.refuses(store.ErrNotFound, func(tx store.Tx) error { return tx.AddRun(run) })
	}},
	{"a run's changes are kept, without its address", func(e *env) {
		want := numbered(newRun(runID, "first"), 1)
		want.State, want.EndReason = pb.RunState_RUN_STATE_ENDED, pb.EndReason_END_REASON_FAILED
		want.Counts, want.Suites = &pb.Counts{Total: 7, Failed: 1, Passed: 6}, &pb.Counts{Total: 2}
		want.EndedAt, want.ExpectedShards, want.ExpectedTotal = at(5), 3, 8
		want.Info.Commit = "abc"
		given := proto.CloneOf(want)
		given.Url, given.Shards = "https://example.org/", []*pb.Shard{{Name: "ignored"}}
		untouched := proto.CloneOf(given)
		e.keeps(func(tx store.Tx) error {
			return errors.Join(populate(tx), tx.PutRun(given), is(given, nil)("the caller's message", untouched))
		}, func(r store.Reader) error { return is(r.Run(runID))("the run", want) })
		e.refuses(store.ErrNotFound, func(tx store.Tx) error { return tx.PutRun(newRun(missing, "x")) })
	}},
	{"runs come newest first, in pages, without shards", func(e *env) {
		e.keeps(func(tx store.Tx) error {
			return errors.Join(tx.PutProject(project()), tx.PutProject(other()), addRuns(tx, 5),
				tx.PutShard(store.Shard{RunID: "run-5", Name: "s", ChangedAt: noon}))
		}, func(r store.Reader) error {
			runs, err := r.Runs(projectID, 0, 1)
			return errors.Join(
				is(runs, err)("the newest", []*pb.Run{numbered(newRun("run-5", "run-5"), 5)}),
				is(numbersOf(r.Runs(projectID, 0, 2)))("a page", []uint32{5, 4}),
				is(numbersOf(r.Runs(projectID, 4, 2)))("the next page", []uint32{3, 2}),
				is(numbersOf(r.Runs(projectID, 2, 2)))("the last page", []uint32{1}),
				is(numbersOf(r.Runs(projectID, 1, 2)))("what follows it", nil),
				is(numbersOf(r.Runs(projectID, math.MaxUint32, 9)))("below a high number", []uint32{5, 4, 3, 2, 1}),
				is(numbersOf(r.Runs(otherID, 0, 9)))("another project's", nil),
				is(numbersOf(r.Runs(missing, 0, 9)))("no project's", nil),
			)
		})
	}},
	{"running runs are those of one project or all, with shards", func(e *env) {
		elsewhere := newRun("x", "x")
		elsewhere.ProjectId = otherID
		planned := newRun("y", "y")
		planned.State = pb.RunState_RUN_STATE_PLANNED
		e.keeps(func(tx store.Tx) error {
			return errors.Join(tx.PutProject(project()), tx.PutProject(other()), addRuns(tx, 3), tx.AddRun(elsewhere), tx.AddRun(planned),
				putEnded(tx, "run-2", pb.EndReason_END_REASON_PASSED, 1),
				tx.PutShard(store.Shard{RunID: "run-3", Name: "s", State: pb.ShardState_SHARD_STATE_LIVE, Committed: 9, ChangedAt: noon}))
		}, func(r store.Reader) error {
			ids := func(runs []*pb.Run, err error) (map[string]int, error) {
				shards := map[string]int{}
				for _, run := range runs {
					shards[run.Id] = len(run.Shards)
				}
				return shards, err
			}
			return errors.Join(
				is(ids(r.RunningRuns(projectID)))("shards of one project's", map[string]int{"run-1": 0, "run-3": 1}),
				is(ids(r.RunningRuns("")))("shards of all", map[string]int{"run-1": 0, "run-3": 1, "x": 0}),
				is(ids(r.RunningRuns(missing)))("no project's", map[string]int{}),
			)
		})
	}},
	{"the last total is that of the newest completed run of the same source and name", func(e *env) {
		longer := newRun("n", "n")
		longer.Info.Name = "nightly"
		e.keeps(func(tx store.Tx) error {
			return errors.Join(tx.PutProject(project()), addRuns(tx, 4), tx.AddRun(longer),
				putEnded(tx, "run-1", pb.EndReason_END_REASON_PASSED, 10),
				putEnded(tx, "run-2", pb.EndReason_END_REASON_FAILED, 20),
				putEnded(tx, "run-3", pb.EndReason_END_REASON_ABORTED, 30),
				putEnded(tx, "n", pb.EndReason_END_REASON_PASSED, 50))
		}, func(r store.Reader) error {
			return errors.Join(
				is(r.LastTotal(projectID, "go", "unit"))("the total", 20),
				is(r.LastTotal(projectID, "go", "nightly"))("another name's", 50),
				is(r.LastTotal(projectID, "junit", "unit"))("another source's", 0),
				is(r.LastTotal(missing, "go", "unit"))("no project's", 0),
			)
		})
	}},
	{"a shard is kept and changed, and stands in its run", func(e *env) {
		exit := int32(2)
		live := store.Shard{RunID: runID, Name: "b", State: pb.ShardState_SHARD_STATE_LIVE, Incarnation: 1, Committed: 5, ChangedAt: noon}
		done := store.Shard{RunID: runID, Name: "b", State: pb.ShardState_SHARD_STATE_FINISHED, Incarnation: 1 << 62, Committed: 1 << 40,
			ChangedAt: noon.Add(time.Minute), ExitCode: &exit}
		unnamed := store.Shard{RunID: runID, ChangedAt: noon}
		e.keeps(func(tx store.Tx) error {
			return errors.Join(populate(tx), tx.PutShard(live), tx.PutShard(unnamed), tx.PutShard(done),
				fails(0, tx.PutShard(store.Shard{RunID: missing}))("a shard of no run", store.ErrNotFound))
		}, func(r store.Reader) error {
			run, err := r.Run(runID)
			return errors.Join(
				is(r.Shards(runID))("the shards by name", []store.Shard{unnamed, done}),
				is(r.Shards(missing))("the shards of no run", nil),
				is(r.Shard(runID, "b"))("one", done),
				is(r.Shard(runID, ""))("one without a name", unnamed),
				fails(r.Shard(runID, "c"))("an unknown one", store.ErrNotFound),
				fails(r.Shard(missing, "b"))("one of no run", store.ErrNotFound),
				is(run.GetShards(), err)("the run's shards", []*pb.Shard{
					{Name: "", ChangedAt: at(0)},
					{Name: "b", State: pb.ShardState_SHARD_STATE_FINISHED, CommittedSequence: 1 << 40, ChangedAt: at(1), ExitCode: &exit},
				}),
			)
		})
	}},
	{"suites are kept and changed, and come by name", func(e *env) {
		a, b := &pb.Suite{Name: "pkg/a", Status: pb.Status_STATUS_PASSED, Offset: 3}, &pb.Suite{Name: "pkg/b", Counts: &pb.Counts{Total: 2}}
		e.keeps(func(tx store.Tx) error {
			return errors.Join(populate(tx),
				tx.PutSuites(runID, []*pb.Suite{b, {Name: "pkg/a", Status: pb.Status_STATUS_RUNNING}}),
				tx.PutSuites(runID, []*pb.Suite{a}), tx.PutSuites(runID, nil),
				fails(0, tx.PutSuites(missing, []*pb.Suite{a}))("suites of no run", store.ErrNotFound))
		}, func(r store.Reader) error {
			return errors.Join(
				is(r.Suites(runID, 10))("the suites", []*pb.Suite{a, b}),
				is(r.Suites(runID, 1))("at most one", []*pb.Suite{a}),
				is(r.Suites(missing, 1))("those of no run", nil),
			)
		})
	}},
}
