package sqlite

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

// addRun makes a project and a run of the same name.
func (f *faulty) addRun(id string) {
	f.Helper()
	err := f.s.Update(f.Context(), func(t store.Tx) error {
		return errors.Join(t.PutProject(&pb.Project{Id: id, Key: id}),
			t.AddRun(&pb.Run{Id: id, ProjectId: id, Key: id, State: pb.RunState_RUN_STATE_RUNNING}))
	})
	if err != nil {
		f.Fatal(err)
	}
}

// runner writes what a commit of a runner does, and an event to hear of.
func runner(t *tx, run string, n uint64) error {
	_, err := t.Append(draft("project:p"))
	return errors.Join(err, t.PutRun(&pb.Run{Id: run, State: pb.RunState_RUN_STATE_RUNNING, Counts: &pb.Counts{Total: uint32(n)}}),
		t.PutShard(store.Shard{RunID: run, Name: "main", Committed: n, ChangedAt: time.Unix(0, 0)}),
		t.PutSuites(run, []*pb.Suite{{Name: "s"}}),
		t.PutResults(run, []store.Result{{Seq: n, Attempt: 1, Suite: "s", Name: "n", Status: pb.Status_STATUS_PASSED, Update: []byte("u")}}))
}

// committed returns what a run's shard has, and how many results there are.
func (f *faulty) committed(run string) (committed uint64, results int) {
	f.Helper()
	err := f.s.View(f.Context(), func(r store.Reader) error {
		shard, err := r.Shard(run, "main")
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		committed = shard.Committed
		return r.EachResult(run, func(store.Result) error { results++; return nil })
	})
	if err != nil {
		f.Fatal(err)
	}
	return committed, results
}

func TestWhatRunnersCommitNeedsNoStatementOfItsOwn(t *testing.T) {
	f := newFaulty(t)
	f.addRun("r")
	var fns []func(*tx) error
	for n := range uint64(20) {
		fns = append(fns, func(t *tx) error {
			err := runner(t, "r", n+1)
			if n > 0 && t.w.saved {
				err = errors.Join(err, fmt.Errorf("update %d ran a statement", n))
			}
			return err
		})
	}
	if err := errors.Join(f.together(fns...)...); err != nil {
		t.Error(err)
	}
	if committed, results := f.committed("r"); committed != 20 || results != 20 {
		t.Errorf("the shard has %d, and there are %d results; want 20", committed, results)
	}
	f.goesOn(20)
}

func TestWriteThatFailsForAllAnswersAllAndNobodyHears(t *testing.T) {
	for name, last := range map[string]func(*tx) error{
		"at the commit": func(t *tx) error { return runner(t, "r", 3) },
		"before something reads": func(t *tx) error {
			_, _ = t.Suites("r", 1) // as if nothing had happened
			return runner(t, "r", 3)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFaulty(t)
			f.addRun("r")
			errs := f.together(
				func(t *tx) error { return runner(t, "r", 1) },
				func(t *tx) error {
					_, err := t.c.exec("ALTER TABLE run_suites RENAME TO elsewhere")
					return err
				},
				func(t *tx) error { return runner(t, "r", 2) },
				last,
			)
			for i, err := range errs {
				if err == nil || !strings.Contains(err.Error(), "no such table") {
					t.Errorf("update %d: %v, want that the table is missing", i, err)
				}
			}
			if committed, results := f.committed("r"); committed != 0 || results != 0 {
				t.Errorf("the shard has %d, and there are %d results, of a group that failed", committed, results)
			}
			f.goesOn(0)
			if err := f.s.Update(t.Context(), func(st store.Tx) error { return runner(st.(*tx), "r", 1) }); err != nil {
				t.Errorf("the next commit: %v", err)
			}
			if committed, results := f.committed("r"); committed != 1 || results != 1 {
				t.Errorf("then the shard has %d, and there are %d results; want 1", committed, results)
			}
		})
	}
}

func TestWriteThatFailsWithinAFunctionFailsItAlone(t *testing.T) {
	f := newFaulty(t)
	f.addRun("r")
	errs := f.together(
		func(t *tx) error { return runner(t, "r", 1) },
		func(t *tx) error {
			_, err := t.c.exec("ALTER TABLE run_suites RENAME TO elsewhere")
			if _, e := t.Suites("r", 1); e == nil {
				err = errors.Join(err, errors.New("a table was read that isn't there"))
			}
			return err // as if nothing had happened
		},
		func(t *tx) error { return runner(t, "r", 2) },
	)
	if errs[0] != nil || errs[2] != nil || errs[1] == nil || !strings.Contains(errs[1].Error(), "no such table") {
		t.Errorf("got %v, want that the table is missing for the second one", errs)
	}
	if committed, results := f.committed("r"); committed != 2 || results != 2 {
		t.Errorf("the shard has %d, and there are %d results; want 2", committed, results)
	}
	f.goesOn(2)
}

func TestStatementFindsWhatIsPendingWritten(t *testing.T) {
	f := newFaulty(t)
	f.addRun("r")
	err := f.s.Update(t.Context(), func(st store.Tx) error {
		t := st.(*tx)
		_, err := t.c.exec("SELECT 1") // which asks for nothing that is pending
		err = errors.Join(err, runner(t, "r", 1))
		_, e := t.c.exec("UPDATE shards SET committed = committed + 5")
		return errors.Join(err, e)
	})
	if committed, _ := f.committed("r"); committed != 6 || err != nil {
		t.Errorf("the shard has %d (%v), want 6", committed, err)
	}
}

func draft(room event.Room) event.Draft {
	d, err := event.NewDraft(room, time.Now(), nil, &pb.Event{Payload: &pb.Event_RunChanged{RunChanged: &pb.RunChanged{}}})
	if err != nil {
		panic(err)
	}
	return d
}
