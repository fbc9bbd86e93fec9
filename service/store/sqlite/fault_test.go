package sqlite

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/column"
)

// faulty is a store whose engine fails on purpose.
type faulty struct {
	*testing.T
	s     *Store
	mu    sync.Mutex
	heard []event.Event // guarded by mu
}

func newFaulty(t *testing.T) *faulty {
	f := &faulty{T: t}
	f.s = open(t, Options{Path: dataPath(t), Listener: func(events []event.Event) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.heard = append(f.heard, events...)
	}})
	t.Cleanup(func() {
		if err := f.s.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// together runs functions in one group, in their order, by holding the writer until
// all wait.
func (f *faulty) together(fns ...func(*tx) error) []error {
	f.Helper()
	errs := make([]error, len(fns))
	var all sync.WaitGroup
	all.Go(func() {
		// Its own outcome is that of the group.
		_ = f.s.Update(f.Context(), func(st store.Tx) error {
			st.(*tx).w.bounds.time = time.Hour // or a busy machine would cut the group
			for i, fn := range fns {
				all.Go(func() { errs[i] = f.s.Update(f.Context(), func(t store.Tx) error { return fn(t.(*tx)) }) })
				f.waitForQueue(i + 1)
			}
			return nil
		})
	})
	all.Wait()
	return errs
}

func (f *faulty) waitForQueue(n int) {
	for deadline := time.Now().Add(10 * time.Second); len(f.s.writer.jobs) < n; runtime.Gosched() {
		if time.Now().After(deadline) {
			f.Errorf("%d updates wait, want %d", len(f.s.writer.jobs), n)
			return
		}
	}
}

// put appends an event and puts a user of that name.
func put(t *tx, name string) error {
	d, err := event.NewDraft("project:p", time.Now(), nil, &pb.Event{Payload: &pb.Event_RunChanged{RunChanged: &pb.RunChanged{}}})
	if err != nil {
		return err
	}
	_, err = t.Append(d)
	return errors.Join(err, t.PutUser(&pb.User{Id: name}))
}

// users returns which of some users are there, and the newest offset.
func (f *faulty) state(names ...string) (found string, newest uint64) {
	f.Helper()
	err := f.s.View(f.Context(), func(r store.Reader) error {
		for _, name := range names {
			if _, err := r.User(name); err == nil {
				found += name
			} else if !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		h, err := r.Head("project:p")
		newest = h.Newest.Offset
		return column.OrNone(err)
	})
	if err != nil {
		f.Fatal(err)
	}
	return found, newest
}

// hearsAndGoesOn checks that as many events were heard as are in the log, then that
// the next update works and gets the next number.
func (f *faulty) goesOn(want uint64) {
	f.Helper()
	f.mu.Lock()
	heard := len(f.heard)
	f.mu.Unlock()
	if uint64(heard) != want {
		f.Errorf("%d events were heard, want %d", heard, want)
	}
	if err := f.s.Update(f.Context(), func(t store.Tx) error { return put(t.(*tx), "z") }); err != nil {
		f.Fatalf("the next update: %v", err)
	}
	if found, newest := f.state("z"); found != "z" || newest != want+1 {
		f.Errorf("after the next update: %q, newest %d, want %d", found, newest, want+1)
	}
}

func TestCommitThatFailsAnswersAllAndNobodyHears(t *testing.T) {
	f := newFaulty(t)
	errs := f.together(
		func(t *tx) error { return put(t, "a") },
		func(t *tx) error { return put(t, "b") },
		func(t *tx) error {
			// A reference to nothing, which is checked when the transaction commits.
			if _, err := t.c.exec("PRAGMA defer_foreign_keys = ON"); err != nil {
				return err
			}
			_, err := t.c.exec("INSERT INTO members (project, user, role) VALUES (77, 77, 1)")
			return err
		},
		func(t *tx) error { return put(t, "c") },
	)
	for i, err := range errs {
		if err == nil || !strings.Contains(err.Error(), "commit: ") {
			t.Errorf("update %d: %v, want that the commit failed", i, err)
		}
	}
	if found, newest := f.state("a", "b", "c"); found != "" || newest != 0 {
		t.Errorf("kept %q and %d events of a failed commit", found, newest)
	}
	f.goesOn(0)
}

func TestFullDiskIsSaidClearlyAndPasses(t *testing.T) {
	f := newFaulty(t)
	if err := f.s.Update(t.Context(), func(st store.Tx) error { return put(st.(*tx), "a") }); err != nil {
		t.Fatal(err)
	}
	fill := func(t *tx) error {
		var pages int
		if err := t.c.row("PRAGMA page_count", nil, &pages); err != nil {
			return err
		}
		var max int
		if err := t.c.row(fmt.Sprintf("PRAGMA max_page_count = %d", pages+2), nil, &max); err != nil {
			return err
		}
		return t.PutUser(&pb.User{Id: "b", Name: strings.Repeat("x", 1<<20)})
	}
	// SQLite rolls back the whole transaction, so those before it are lost too.
	for i, err := range f.together(func(t *tx) error { return put(t, "c") }, fill) {
		if err == nil || !strings.Contains(err.Error(), "disk is full") {
			t.Errorf("update %d: got %v, want it to say that the disk is full", i, err)
		}
	}
	err := f.s.Update(t.Context(), func(st store.Tx) error {
		var max int
		return st.(*tx).c.row("PRAGMA max_page_count = 1000000", nil, &max)
	})
	if err != nil {
		t.Fatal(err)
	}
	if found, newest := f.state("a", "b", "c"); found != "a" || newest != 1 {
		t.Errorf("kept %q and %d events", found, newest)
	}
	f.goesOn(1)
}

func TestTransactionThatTheEngineEndedLosesTheWholeGroup(t *testing.T) {
	f := newFaulty(t)
	errs := f.together(
		func(t *tx) error { return put(t, "a") },
		func(t *tx) error {
			err := put(t, "b")
			// What SQLite does by itself after some errors of the disk.
			_, errEnd := t.c.exec("ROLLBACK")
			t.c.broken = errors.New("the disk failed")
			if e := t.PutUser(&pb.User{Id: "c"}); e == nil {
				err = errors.Join(err, errors.New("a statement ran outside of the transaction"))
			}
			return errors.Join(err, errEnd)
		},
	)
	for i, err := range errs {
		if err == nil || !strings.Contains(err.Error(), "the disk failed") {
			t.Errorf("update %d: %v, want the engine's error", i, err)
		}
	}
	if found, newest := f.state("a", "b", "c"); found != "" || newest != 0 {
		t.Errorf("kept %q and %d events", found, newest)
	}
	f.goesOn(0)
}

func TestErrorOfTheEngineCannotBePassedOver(t *testing.T) {
	f := newFaulty(t)
	err := f.s.Update(t.Context(), func(st store.Tx) error {
		t := st.(*tx)
		if _, err := t.c.exec("SELECT 1 FROM no_such_table"); err == nil {
			return nil
		}
		return nil // as if nothing had happened
	})
	if err == nil || !strings.Contains(err.Error(), "no_such_table") {
		t.Errorf("got %v, want the engine's error", err)
	}
	f.goesOn(0)
}

func TestGroupIsOneCommitWithinItsBounds(t *testing.T) {
	for name, test := range map[string]struct {
		set  func(*bounds)
		want int // commits
	}{
		"all at once": {func(*bounds) {}, 1},
		"by count":    {func(b *bounds) { b.count = 10 }, 6}, // the function that sets it is one of the first ten
		"by bytes":    {func(b *bounds) { b.bytes = 1 }, 50},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFaulty(t)
			fns := []func(*tx) error{func(t *tx) error { test.set(&t.w.bounds); return nil }}
			for i := range 50 {
				fns = append(fns, func(t *tx) error { return put(t, fmt.Sprint(i)) })
			}
			for i, err := range f.together(fns...) {
				if err != nil {
					t.Errorf("update %d: %v", i, err)
				}
			}
			var rows int
			err := f.s.View(t.Context(), func(r store.Reader) error {
				return r.(*reader).c.row("SELECT count(*) FROM event_batches", nil, &rows)
			})
			if err != nil || rows != test.want {
				t.Errorf("50 updates that waited made %d rows in the log, want %d (%v)", rows, test.want, err)
			}
		})
	}
}

func TestUpdateThatEndsItsGoroutineEndsTheStoreAndHangsNobody(t *testing.T) {
	s := open(t, Options{Path: dataPath(t)})
	err := s.Update(t.Context(), func(store.Tx) error {
		runtime.Goexit() // as t.Fatal does
		return nil
	})
	if !errors.Is(err, store.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if err := s.Update(t.Context(), func(store.Tx) error { return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("the next update: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
