package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/store"
)

const (
	running = pb.Status_STATUS_RUNNING
	passed  = pb.Status_STATUS_PASSED
	failed  = pb.Status_STATUS_FAILED
	skipped = pb.Status_STATUS_SKIPPED
)

// result makes an attempt; equal arguments make equal ones.
func result(seq uint64, attempt uint32, status pb.Status, offset uint64) store.Result {
	return store.Result{
		Seq: seq, Attempt: attempt, Source: "go", Suite: fmt.Sprintf("pkg/%d", seq%3), Name: fmt.Sprintf("Test%d", seq),
		Shard: "s", ShardAttempt: attempt, Status: status, Offset: offset,
		Update: fmt.Appendf(nil, "update %d of test %d", offset, seq),
	}
}

// seqs returns the tests of a list of results.
func seqs(results []store.Result, err error) ([]uint64, error) {
	var n []uint64
	for _, r := range results {
		n = append(n, r.Seq)
	}
	return n, err
}

// each collects what EachResult calls with.
func each(r store.Reader, runID string) ([]store.Result, error) {
	var out []store.Result
	err := r.EachResult(runID, func(res store.Result) error {
		res.Update = slices.Clone(res.Update)
		out = append(out, res)
		return nil
	})
	return out, err
}

var resultTests = []test{
	{"a result is kept whole", func(e *env) {
		a := result(1, 1, failed, 4)
		b := store.Result{Seq: 2, Attempt: 1, Suite: "pkg/ü", Name: "Test/näme with 'quotes' and \x00", Status: skipped, Offset: 1 << 40, Update: []byte{0, 255}}
		e.keeps(func(tx store.Tx) error {
			return errors.Join(populate(tx), tx.PutResults(runID, []store.Result{a, b}), tx.PutResults(runID, nil),
				fails(0, tx.PutResults(missing, []store.Result{a}))("results of no run", store.ErrNotFound))
		}, func(r store.Reader) error {
			return errors.Join(
				is(r.Results(runID, store.ResultQuery{Limit: 9}))("the results", []store.Result{a, b}),
				is(each(r, runID))("each result", []store.Result{a, b}),
				is(r.Results(missing, store.ResultQuery{Limit: 9}))("those of no run", nil),
				is(each(r, missing))("each of no run", nil),
			)
		})
	}},
	{"many tests, known and new and of two sources, keep their names", func(e *env) {
		var first, second []store.Result
		for seq := uint64(1); seq <= 200; seq++ {
			r := result(seq, 1, passed, seq)
			r.Name += " \x00é"
			first = append(first, r)
			r.Attempt, r.Source, r.Offset = 2, "junit", 300+seq
			second = append(second, r)
			r.Attempt, r.Source, r.Offset = 3, "go", 600+seq
			second = append(second, r)
		}
		known := first[:150]
		e.keeps(func(tx store.Tx) error {
			return errors.Join(populate(tx), tx.PutResults(runID, known))
		}, func(r store.Reader) error {
			return is(each(r, runID))("the first", known)
		})
		// The store was opened again: it has nothing in memory.
		e.keeps(func(tx store.Tx) error {
			return errors.Join(tx.PutResults(runID, first), tx.PutResults(runID, second))
		}, func(r store.Reader) error {
			all := slices.Concat(first, second)
			slices.SortFunc(all, func(a, b store.Result) int {
				return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Attempt, b.Attempt))
			})
			return is(each(r, runID))("all", all)
		})
	}},
	{"a result without an update is kept", func(e *env) {
		a := result(1, 1, passed, 1)
		a.Update = nil
		e.keeps(func(tx store.Tx) error {
			return errors.Join(populate(tx), tx.PutResults(runID, []store.Result{a}))
		}, func(r store.Reader) error {
			return is(seqs(r.Results(runID, store.ResultQuery{Limit: 1})))("the test", []uint64{1})
		})
	}},
	{"an attempt changes in place, in one call or several", func(e *env) {
		e.keeps(func(tx store.Tx) error {
			return errors.Join(populate(tx),
				tx.PutResults(runID, []store.Result{result(1, 1, running, 1), result(2, 1, running, 2), result(1, 1, passed, 3)}),
				tx.PutResults(runID, []store.Result{result(2, 1, failed, 4)}))
		}, func(r store.Reader) error {
			return errors.Join(
				is(each(r, runID))("each result", []store.Result{result(1, 1, passed, 3), result(2, 1, failed, 4)}),
				is(r.Results(runID, store.ResultQuery{Limit: 9, Statuses: []pb.Status{running}}))("those running", nil),
			)
		})
	}},
	{"only a test's highest attempt is its last, in whatever order attempts come", func(e *env) {
		e.keeps(func(tx store.Tx) error {
			return errors.Join(populate(tx),
				tx.PutResults(runID, []store.Result{result(1, 1, failed, 1), result(1, 2, running, 2), result(2, 3, passed, 3)}),
				tx.PutResults(runID, []store.Result{result(2, 1, failed, 4), result(1, 1, failed, 5), result(2, 2, failed, 6)}),
				tx.PutResults(runID, []store.Result{result(1, 2, passed, 7)}))
		}, func(r store.Reader) error {
			return errors.Join(
				is(r.Results(runID, store.ResultQuery{Limit: 9}))("the last attempts", []store.Result{result(1, 2, passed, 7), result(2, 3, passed, 3)}),
				is(r.Results(runID, store.ResultQuery{Limit: 9, Statuses: []pb.Status{failed, running}}))("those that failed", nil),
				is(each(r, runID))("each attempt", []store.Result{
					result(1, 1, failed, 5), result(1, 2, passed, 7), result(2, 1, failed, 4), result(2, 2, failed, 6), result(2, 3, passed, 3),
				}),
			)
		})
	}},
	{"results of many runs and projects don't mix", func(e *env) {
		elsewhere := newRun("x", "x")
		elsewhere.ProjectId = otherID
		e.keeps(func(tx store.Tx) error {
			return errors.Join(populate(tx), tx.AddRun(newRun("b", "b")), tx.AddRun(elsewhere),
				tx.PutResults(runID, []store.Result{result(1, 1, passed, 1)}),
				tx.PutResults("b", []store.Result{result(2, 1, passed, 2)}),
				tx.PutResults("x", []store.Result{result(1, 1, failed, 3)}))
		}, func(r store.Reader) error {
			return errors.Join(
				is(each(r, runID))("the first run's", []store.Result{result(1, 1, passed, 1)}),
				is(each(r, "b"))("the second run's", []store.Result{result(2, 1, passed, 2)}),
				is(each(r, "x"))("the other project's", []store.Result{result(1, 1, failed, 3)}),
			)
		})
	}},
	{"one name of several sources is several tests", func(e *env) {
		a, b := result(1, 1, passed, 1), result(2, 1, failed, 2)
		b.Source, b.Suite, b.Name = "junit", a.Suite, a.Name
		e.keeps(func(tx store.Tx) error {
			return errors.Join(populate(tx), tx.PutResults(runID, []store.Result{a, b}))
		}, func(r store.Reader) error { return is(each(r, runID))("each", []store.Result{a, b}) })
	}},
	{"a limit must be positive", func(e *env) {
		e.update(populate)
		for _, limit := range []int{0, -1} {
			err := e.s.View(e.ctx, func(r store.Reader) error {
				_, err := r.Results(runID, store.ResultQuery{Limit: limit})
				return err
			})
			if err == nil {
				e.Errorf("limit %d is taken", limit)
			}
		}
	}},
	{"an error of EachResult's function ends it", func(e *env) {
		e.update(func(tx store.Tx) error {
			return errors.Join(populate(tx), tx.PutResults(runID, []store.Result{result(1, 1, passed, 1), result(2, 1, passed, 2)}))
		})
		stop, calls := errors.New("stop"), 0
		err := e.s.View(e.ctx, func(r store.Reader) error {
			return r.EachResult(runID, func(store.Result) error { calls++; return stop })
		})
		if !errors.Is(err, stop) || calls != 1 {
			e.Errorf("got error %v after %d calls, want it after 1", err, calls)
		}
	}},
	{"EachResult's function may read", func(e *env) {
		e.update(func(tx store.Tx) error {
			return errors.Join(populate(tx), tx.PutResults(runID, []store.Result{result(1, 1, passed, 1), result(2, 1, passed, 2)}))
		})
		e.view(func(r store.Reader) error {
			calls := 0
			err := r.EachResult(runID, func(store.Result) error {
				return r.EachResult(runID, func(store.Result) error { calls++; return nil })
			})
			return errors.Join(err, is(calls, nil)("calls", 4))
		})
	}},
	{"pages, filters and orders agree with a simple model", func(e *env) { modelResults(e, 30) }},
	{"tests are found again after a function was undone", func(e *env) {
		undo := errors.New("undo")
		e.update(populate)
		e.refuses(undo, func(tx store.Tx) error {
			return errors.Join(tx.PutResults(runID, []store.Result{result(1, 1, passed, 1)}), undo)
		})
		e.keeps(func(tx store.Tx) error {
			return tx.PutResults(runID, []store.Result{result(2, 1, passed, 1), result(1, 1, failed, 2)})
		}, func(r store.Reader) error {
			return is(each(r, runID))("each", []store.Result{result(1, 1, failed, 2), result(2, 1, passed, 1)})
		})
	}},
}

type attemptKey struct {
	seq     uint64
	attempt uint32
}

// modelResults stores random attempts and compares every kind of page with what a
// map of them says.
func modelResults(e *env, rounds int) {
	const tests = 900 // more than fit a page of any store
	e.update(populate)
	rng := rand.New(rand.NewPCG(1, 2))
	statuses := []pb.Status{running, passed, failed, skipped}
	model, attempts, offset := map[attemptKey]store.Result{}, map[uint64]uint32{}, uint64(0)
	for range rounds {
		var batch []store.Result
		for range rng.IntN(200) {
			seq := 1 + rng.Uint64N(tests)
			if attempts[seq] == 0 || rng.IntN(8) == 0 {
				attempts[seq]++
			}
			attempt := attempts[seq]
			if attempt > 1 && rng.IntN(4) == 0 {
				attempt-- // news of an earlier attempt
			}
			offset++
			r := result(seq, attempt, statuses[rng.IntN(len(statuses))], offset)
			model[attemptKey{seq, attempt}] = r
			batch = append(batch, r)
		}
		e.update(func(tx store.Tx) error { return tx.PutResults(runID, batch) })
	}
	e.view(func(r store.Reader) error { return compareResults(r, model) })
	e.reopen()
	e.view(func(r store.Reader) error { return compareResults(r, model) })
}

func compareResults(r store.Reader, model map[attemptKey]store.Result) error {
	order := func(a, b store.Result) int {
		return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Attempt, b.Attempt))
	}
	all := slices.SortedFunc(maps.Values(model), order)
	errs := []error{is(each(r, runID))("each attempt", all)}
	for _, statuses := range [][]pb.Status{nil, {failed}, {failed, running}, {failed, skipped, running, failed}, {pb.Status_STATUS_BLOCKED}, {passed}, {running, passed, failed}} {
		var want []store.Result
		for i, res := range all {
			last := i+1 == len(all) || all[i+1].Seq != res.Seq
			if last && (statuses == nil || slices.Contains(statuses, res.Status)) {
				want = append(want, res)
			}
		}
		for _, limit := range []int{7, 100, 1000} {
			got, err := pages(r, store.ResultQuery{Statuses: statuses, Limit: limit})
			errs = append(errs, is(got, err)(fmt.Sprintf("pages of %d of %v", limit, statuses), want))
		}
		slices.SortFunc(want, func(a, b store.Result) int { return cmp.Compare(b.Offset, a.Offset) })
		for _, limit := range []int{1, 20, 1000} {
			got, err := r.Results(runID, store.ResultQuery{Statuses: statuses, Limit: limit, Descending: true, AfterSeq: 5})
			if statuses == nil || slices.Contains(statuses, passed) {
				if err == nil {
					errs = append(errs, fmt.Errorf("the newest of %v are told, which are in no order", statuses))
				}
				continue
			}
			errs = append(errs, is(got, err)(fmt.Sprintf("the newest %d of %v", limit, statuses), want[:min(limit, len(want))]))
		}
	}
	return errors.Join(errs...)
}

// pages reads all pages of a query.
func pages(r store.Reader, q store.ResultQuery) ([]store.Result, error) {
	var out []store.Result
	for {
		page, err := r.Results(runID, q)
		if err != nil || len(page) == 0 {
			return out, err
		}
		if len(page) > q.Limit {
			return nil, fmt.Errorf("a page of %d has %d results", q.Limit, len(page))
		}
		out, q.AfterSeq = append(out, page...), page[len(page)-1].Seq
	}
}
