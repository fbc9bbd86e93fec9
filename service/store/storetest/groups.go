package storetest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/store"
)

var groupTests = []test{
	{"of many functions that write to the same runs each sees those before it, and one that fails leaves nothing", func(e *env) {
		e.update(populate)
		e.update(func(tx store.Tx) error { return errors.Join(tx.AddRun(newRun("b", "b")), tx.AddRun(newRun("c", "c"))) })
		model := runsModel{runID: newRunModel(), "b": newRunModel(), "c": newRunModel()}
		for seed := range uint64(6) {
			errs := e.gather(100, func(i int) error {
				rng := rand.New(rand.NewPCG(seed, uint64(i)))
				return e.s.Update(e.ctx, func(tx store.Tx) error {
					after := model.clone()
					err := after.change(tx, rng)
					if err == nil {
						model = after
					}
					return err
				})
			})
			for i, err := range errs {
				if err != nil && !errors.Is(err, errUndo) {
					e.Errorf("update %d of seed %d: %v", i, seed, err)
				}
			}
			e.view(model.compare)
		}
		e.reopen()
		e.view(model.compare)
	}},
	{"a run that is deleted in between refuses those behind, and them alone", func(e *env) {
		e.update(populate)
		put := func(tx store.Tx, id string, n uint64) error {
			run := newRun(id, "")
			run.Counts = &pb.Counts{Total: uint32(n)}
			return errors.Join(tx.PutRun(run), tx.PutShard(store.Shard{RunID: id, Name: "s", Committed: n, ChangedAt: noon}),
				tx.PutSuites(id, []*pb.Suite{{Name: "s", DurationMs: float64(n)}}), tx.PutResults(id, []store.Result{result(n, 1, passed, n)}))
		}
		e.update(func(tx store.Tx) error { return tx.AddRun(newRun("b", "b")) })
		done, deleted := uint64(0), false
		errs := e.gather(60, func(int) error {
			return e.s.Update(e.ctx, func(tx store.Tx) error {
				done++
				if done == 20 || done == 40 {
					if err := tx.DeleteRun("b"); err != nil || done == 20 {
						return errors.Join(err, errUndo)
					}
					deleted = true
					return put(tx, runID, done)
				}
				err := errors.Join(put(tx, runID, done), put(tx, "b", done))
				if gone := errors.Is(err, store.ErrNotFound); gone != deleted {
					return fmt.Errorf("update %d: %w", done, err)
				}
				if deleted {
					return errUndo
				}
				return err
			})
		})
		for i, err := range errs {
			if err != nil && !errors.Is(err, errUndo) {
				e.Errorf("update %d: %v", i, err)
			}
		}
		check := func(r store.Reader) error {
			results, err := each(r, runID)
			shard, errShard := r.Shard(runID, "s")
			return errors.Join(
				is(len(results), err)("results", 39), is(shard.Committed, errShard)("the shard", 40),
				fails(r.Run("b"))("the deleted run", store.ErrNotFound), is(each(r, "b"))("its results", nil),
				is(r.Shards("b"))("its shards", nil), is(r.DeletedRun("b"))("its project", projectID),
			)
		}
		e.view(check)
		e.reopen()
		e.view(check)
	}},
}

// runModel is what a run's rows should be.
type runModel struct {
	run     *pb.Run
	shards  map[string]store.Shard
	suites  map[string]float64
	results map[attemptKey]store.Result
}

func newRunModel() *runModel {
	return &runModel{shards: map[string]store.Shard{}, suites: map[string]float64{}, results: map[attemptKey]store.Result{}}
}

// runsModel is that of some runs.
type runsModel map[string]*runModel

func (m runsModel) clone() runsModel {
	c := runsModel{}
	for id, r := range m {
		c[id] = &runModel{r.run, maps.Clone(r.shards), maps.Clone(r.suites), maps.Clone(r.results)}
	}
	return c
}

// change puts some rows, of the transaction and of the model, and may compare the two,
// write elsewhere, or fail.
func (m runsModel) change(tx store.Tx, rng *rand.Rand) error {
	ids := slices.Sorted(maps.Keys(m))
	for range 1 + rng.IntN(4) {
		id := ids[rng.IntN(len(ids))]
		if err := m[id].put(tx, id, rng); err != nil {
			return err
		}
		switch rng.IntN(12) {
		case 0:
			if err := m.compare(tx); err != nil {
				return fmt.Errorf("within the transaction: %w", err)
			}
		case 1:
			if err := tx.PutUser(&pb.User{Id: "ada", Name: strconv.FormatUint(rng.Uint64(), 10)}); err != nil {
				return err
			}
		}
	}
	if rng.IntN(3) == 0 {
		return errUndo
	}
	return nil
}

func (r *runModel) put(tx store.Tx, id string, rng *rand.Rand) error {
	switch n := rng.Uint64N(1000); rng.IntN(4) {
	case 0:
		run := newRun(id, "")
		run.Counts = &pb.Counts{Total: uint32(n)}
		run.State = []pb.RunState{pb.RunState_RUN_STATE_RUNNING, pb.RunState_RUN_STATE_ENDED}[rng.IntN(2)]
		if rng.IntN(4) == 0 {
			run.Info.Source = strconv.FormatUint(n%3, 10)
		}
		r.run = run
		return tx.PutRun(run)
	case 1:
		s := store.Shard{RunID: id, Name: strconv.FormatUint(n%3, 10), Committed: n, ChangedAt: noon}
		r.shards[s.Name] = s
		return tx.PutShard(s)
	case 2:
		name := strconv.FormatUint(n%3, 10)
		r.suites[name] = float64(n)
		return tx.PutSuites(id, []*pb.Suite{{Name: name, DurationMs: float64(n)}})
	default:
		res := result(1+n%20, 1+uint32(rng.IntN(2)), passed, 1+rng.Uint64N(1<<40))
		r.results[attemptKey{res.Seq, res.Attempt}] = res
		err := tx.PutResults(id, []store.Result{res})
		clear(res.Update) // the store keeps nothing of it
		res.Update = result(res.Seq, res.Attempt, passed, res.Offset).Update
		r.results[attemptKey{res.Seq, res.Attempt}] = res
		return err
	}
}

// compare compares with what is stored, also by the indexes.
func (m runsModel) compare(r store.Reader) error {
	var errs []error
	running, errRunning := r.RunningRuns("")
	for id, want := range m {
		if want.run != nil {
			got, err := r.Run(id)
			if err != nil {
				return err
			}
			errs = append(errs, is(got.Counts.Total, nil)("the total of "+id, want.run.Counts.Total), is(got.State, nil)("the state of "+id, want.run.State),
				is(got.Info.Source, nil)("the source of "+id, want.run.Info.Source),
				is(slices.ContainsFunc(running, func(r *pb.Run) bool { return r.Id == id }), errRunning)(id+" is running", want.run.State == pb.RunState_RUN_STATE_RUNNING))
		}
		shards, err := r.Shards(id)
		errs = append(errs, is(len(shards), err)("shards of "+id, len(want.shards)))
		for _, s := range shards {
			errs = append(errs, is(s, nil)("a shard of "+id, want.shards[s.Name]), is(r.Shard(id, s.Name))("the shard of "+id, s))
		}
		suites, err := r.Suites(id, 10)
		errs = append(errs, is(len(suites), err)("suites of "+id, len(want.suites)))
		for _, s := range suites {
			errs = append(errs, is(s.DurationMs, nil)("a suite of "+id, want.suites[s.Name]))
		}
		errs = append(errs, want.compareResults(r, id))
	}
	return errors.Join(errs...)
}

func (r *runModel) compareResults(from store.Reader, id string) error {
	results, err := each(from, id)
	errs := []error{is(len(results), err)("results of "+id, len(r.results))}
	last := map[uint64]store.Result{}
	for _, res := range results {
		errs = append(errs, is(res, nil)("a result of "+id, r.results[attemptKey{res.Seq, res.Attempt}]))
		last[res.Seq] = res
	}
	shown, err := from.Results(id, store.ResultQuery{Limit: 100})
	errs = append(errs, is(len(shown), err)("last attempts of "+id, len(last)))
	for _, res := range shown {
		errs = append(errs, is(res, nil)("a last attempt of "+id, last[res.Seq]))
	}
	return errors.Join(errs...)
}
