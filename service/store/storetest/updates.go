package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

var errUndo = errors.New("undo")

// patience is how long a test waits for what has to happen.
const patience = 30 * time.Second

// holdWriter begins an update that lasts until release is called, so that those
// after it gather behind it.
func (e *env) holdWriter() (release func()) {
	e.Helper()
	held, let, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- e.s.Update(e.ctx, func(store.Tx) error {
			close(held)
			<-let
			return nil
		})
	}()
	<-held
	return func() {
		close(let)
		if err := <-done; err != nil {
			e.Errorf("the update that held the others: %v", err)
		}
	}
}

// gather starts updates behind one that holds them, then lets them all go.
func (e *env) gather(n int, update func(i int) error) []error {
	release := e.holdWriter()
	errs := make([]error, n)
	var begun, ended sync.WaitGroup
	for i := range n {
		begun.Add(1)
		ended.Go(func() {
			begun.Done()
			errs[i] = update(i)
		})
	}
	begun.Wait()
	release()
	ended.Wait()
	return errs
}

var updateTests = []test{
	{"shards and roles are as the transaction has them, also after one that was undone", func(e *env) {
		e.update(populate)
		shard := store.Shard{RunID: runID, Name: "x", State: pb.ShardState_SHARD_STATE_LIVE, Incarnation: 1, Committed: 1, ChangedAt: noon}
		has := func(tx store.Tx, committed uint64, role pb.Role) error {
			s, err := tx.Shard(runID, "x")
			r, errRole := tx.Role(projectID, "ada")
			if errRole != nil && !errors.Is(errRole, store.ErrNotFound) {
				return errRole
			}
			if want := shard; err == nil {
				if want.Committed = committed; s != want || r != role {
					err = fmt.Errorf("the transaction has %+v and %v, want %+v and %v", s, r, want, role)
				}
			}
			return err
		}
		put := func(tx store.Tx, committed uint64, role pb.Role) error {
			s := shard
			s.Committed = committed
			return errors.Join(tx.PutShard(s), tx.PutMember(projectID, "ada", role), has(tx, committed, role))
		}
		undone := func(fn func(tx store.Tx) error) {
			e.Helper()
			e.refuses(errUndo, func(tx store.Tx) error {
				if err := fn(tx); err != nil {
					return err
				}
				return errUndo
			})
		}
		const tester, owner, none = pb.Role_ROLE_TESTER, pb.Role_ROLE_OWNER, pb.Role_ROLE_UNSPECIFIED
		e.update(func(tx store.Tx) error { return put(tx, 1, tester) })
		undone(func(tx store.Tx) error { return put(tx, 9, owner) })
		e.update(func(tx store.Tx) error { return has(tx, 1, tester) })
		undone(func(tx store.Tx) error { return errors.Join(tx.DeleteMember(projectID, "ada"), has(tx, 1, none)) })
		e.update(func(tx store.Tx) error { return has(tx, 1, tester) })
		e.update(func(tx store.Tx) error { return put(tx, 2, owner) })
		e.update(func(tx store.Tx) error {
			return errors.Join(has(tx, 2, owner), tx.DeleteMember(projectID, "ada"), has(tx, 2, none))
		})
		gone := func(tx store.Tx) error {
			if _, err := tx.Shard(runID, "x"); !errors.Is(err, store.ErrNotFound) {
				return fmt.Errorf("the shard of a deleted run: %w", err)
			}
			return nil
		}
		undone(func(tx store.Tx) error { return errors.Join(tx.DeleteRun(runID), gone(tx)) })
		e.update(func(tx store.Tx) error { return errors.Join(has(tx, 2, none), tx.DeleteRun(runID), gone(tx)) })
		e.update(gone)
	}},
	{"an error undoes all that the function did, and nothing else", func(e *env) {
		e.update(populate)
		err := e.s.Update(e.ctx, func(tx store.Tx) error {
			_, errAppend := tx.Append(durable(room, "x"))
			return errors.Join(errAppend, tx.PutUser(&pb.User{Id: "new"}), tx.PutUser(&pb.User{Id: "ada", Name: "Changed"}),
				tx.PutMember(projectID, "ada", pb.Role_ROLE_OWNER), tx.AddRun(newRun("b", "b")), tx.AddTestCase(newCase("c", "C")),
				tx.PutResults(runID, []store.Result{result(1, 1, passed, 1)}), tx.AddNotification("ada", notice("1")),
				tx.AddOutput(runID, []store.Output{printed(outputKey("s", "n", 1), "text")}),
				tx.PutRequest(store.Request{UserID: "ada", ID: "1", At: noon}), errUndo)
		})
		if !errors.Is(err, errUndo) {
			e.Fatalf("got error %v, want the function's own", err)
		}
		check := func(r store.Reader) error {
			head, errHead := r.Head(room)
			return errors.Join(
				fails(r.User("new"))("the new user", store.ErrNotFound),
				is(r.User("ada"))("the changed user", ada),
				fails(r.Role(projectID, "ada"))("the membership", store.ErrNotFound),
				fails(r.Run("b"))("the run", store.ErrNotFound),
				fails(r.TestCase("c"))("the test case", store.ErrNotFound),
				is(each(r, runID))("the result", nil),
				is(readOutput(r, outputKey("s", "n", 1), 10))("the output", ""),
				is(r.Unread("ada"))("the notification", 0),
				fails(r.Request("ada", "1"))("the request", store.ErrNotFound),
				fails(r.Head(event.RunRoom("b")))("the run's room", store.ErrNotFound),
				is(head.Newest.Offset, errHead)("the head", 0),
			)
		}
		e.view(check)
		e.update(func(tx store.Tx) error { return check(tx) })
		e.reopen()
		e.view(check)
		if n := len(e.hears()); n != 0 {
			e.Errorf("heard %d events of an update that failed", n)
		}
	}},
	{"a function that fails among many undoes its own work alone", func(e *env) {
		e.update(populate)
		const n = 200
		errs := e.gather(n, func(i int) error {
			return e.s.Update(e.ctx, func(tx store.Tx) error {
				name := fmt.Sprintf("user-%d", i)
				err := errors.Join(tx.PutUser(&pb.User{Id: name}), appendTexts(tx, name, strings.Repeat("x", i*50)),
					tx.PutResults(runID, []store.Result{result(uint64(i+1), 1, passed, uint64(i+1))}))
				if err == nil && i%3 == 0 {
					return errUndo
				}
				return err
			})
		})
		check := func(r store.Reader) error {
			var wrong []error
			results, err := each(r, runID)
			wrong = append(wrong, is(len(results), err)("results", n-(n+2)/3))
			for i, err := range errs {
				_, errUser := r.User(fmt.Sprintf("user-%d", i))
				_, errRoom := r.Head(event.UserRoom(fmt.Sprintf("user-%d", i)))
				if i%3 == 0 && (!errors.Is(err, errUndo) || !errors.Is(errUser, store.ErrNotFound) || !errors.Is(errRoom, store.ErrNotFound)) ||
					i%3 != 0 && errors.Join(err, errUser, errRoom) != nil {
					wrong = append(wrong, fmt.Errorf("update %d went wrong: %w", i, errors.Join(err, errUser, errRoom)))
				}
			}
			log, err := wholeLog(r, room, 1<<20)
			wrong = append(wrong, err)
			if !bytes.Equal(wires(log), wires(runEvents(e.hears()))) {
				wrong = append(wrong, errors.New("the log is not what the listener heard"))
			}
			return errors.Join(wrong...)
		}
		e.view(check)
		e.reopen()
		e.view(check)
	}},
	{"a panic is an error that undoes the function, and the store goes on", func(e *env) {
		err := e.s.Update(e.ctx, func(tx store.Tx) error {
			if err := tx.PutUser(ada); err != nil {
				return err
			}
			panic("on purpose")
		})
		if err == nil || !strings.Contains(err.Error(), "on purpose") {
			e.Errorf("got error %v, want one that tells of the panic", err)
		}
		e.keeps(func(tx store.Tx) error { return tx.PutUser(grace) }, func(r store.Reader) error {
			return errors.Join(is(r.User("grace"))("the next user", grace), fails(r.User("ada"))("the panicking user", store.ErrNotFound))
		})
	}},
	{"the listener has heard, and views can read, when Update returns", func(e *env) {
		e.update(populate)
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				var events []event.Event
				err := e.s.Update(e.ctx, func(tx store.Tx) (err error) {
					events, err = tx.Append(durable(room, strconv.Itoa(i)), progress(room))
					return err
				})
				if err != nil {
					e.Error(err)
					return
				}
				heard := e.hears()
				for _, ev := range events {
					if !slices.ContainsFunc(heard, func(h event.Event) bool { return h.Position == ev.Position && bytes.Equal(h.Wire, ev.Wire) }) {
						e.Errorf("event %v was not heard", ev.Position)
					}
				}
				e.view(func(r store.Reader) error {
					part, err := r.Log(room, events[0].Position.Offset-1, 1)
					return is(wires(part.Events), err)("the event", events[0].Wire)
				})
			})
		}
		wg.Wait()
	}},
	{"the listener hears all classes of events, in the order of their updates", func(e *env) {
		e.update(populate)
		var mu sync.Mutex
		var want []byte // in the order the functions ran in
		errs := e.gather(40, func(i int) error {
			return e.s.Update(e.ctx, func(tx store.Tx) error {
				events, err := tx.Append(durable(room, strconv.Itoa(i)), typing(room), durable("user:ada", "x"), progress(room))
				if err == nil && i%5 == 0 {
					return errUndo
				}
				mu.Lock()
				defer mu.Unlock()
				want = append(want, wires(events)...)
				return err
			})
		})
		for i, err := range errs {
			if (i%5 == 0) != errors.Is(err, errUndo) {
				e.Errorf("update %d: %v", i, err)
			}
		}
		if !bytes.Equal(wires(e.hears()), want) {
			e.Error("the listener heard something else than was committed")
		}
	}},
	{"an update whose context ended does nothing", func(e *env) {
		ctx, cancel := context.WithCancel(e.ctx)
		cancel()
		ran := false
		err := e.s.Update(ctx, func(store.Tx) error { ran = true; return nil })
		if !errors.Is(err, context.Canceled) || ran {
			e.Errorf("got error %v, ran %v; want it cancelled and not run", err, ran)
		}
	}},
	{"an update stops waiting when its context ends", func(e *env) {
		release := e.holdWriter()
		ctx, cancel := context.WithTimeout(e.ctx, time.Millisecond)
		defer cancel()
		err := e.s.Update(ctx, func(tx store.Tx) error { return tx.PutUser(ada) })
		release()
		if !errors.Is(err, context.DeadlineExceeded) {
			e.Errorf("got error %v, want that of the context", err)
		}
		e.view(func(r store.Reader) error { return fails(r.User("ada"))("the user", store.ErrNotFound) })
	}},
	{"many writers and readers at once lose nothing", func(e *env) { concurrency(e, 16, 25) }},
}

// concurrency counts a run's total up from many goroutines while views check that
// the counter and the log, which change together, always agree.
func concurrency(e *env, writers, rounds int) {
	e.update(populate)
	stop := make(chan struct{})
	var readers, all sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					e.consistent()
				}
			}
		})
	}
	for range writers {
		all.Go(func() {
			for range rounds {
				err := e.s.Update(e.ctx, func(tx store.Tx) error {
					run, err := tx.Run(runID)
					if err != nil {
						return err
					}
					run.Counts = &pb.Counts{Total: run.GetCounts().GetTotal() + 1}
					return errors.Join(tx.PutRun(run), appendTexts(tx, strconv.FormatUint(uint64(run.Counts.Total), 10)))
				})
				if err != nil {
					e.Error(err)
				}
			}
		})
	}
	all.Wait()
	close(stop)
	readers.Wait()
	e.view(func(r store.Reader) error {
		run, err := r.Run(runID)
		return is(int(run.GetCounts().GetTotal()), err)("the total", writers*rounds)
	})
	heard := runEvents(e.hears())
	for i, ev := range heard {
		if ev.Position.Offset != uint64(i+1) {
			e.Fatalf("heard event %d as number %d", ev.Position.Offset, i+1)
		}
	}
	if len(heard) != writers*rounds {
		e.Errorf("heard %d events, want %d", len(heard), writers*rounds)
	}
}

// consistent checks that a view sees the counter and the log of the same moment.
func (e *env) consistent() {
	err := e.s.View(e.ctx, func(r store.Reader) error {
		run, err := r.Run(runID)
		if err != nil {
			return err
		}
		head, err := r.Head(room)
		if err != nil {
			return err
		}
		total := run.GetCounts().GetTotal()
		events, err := r.Recent(room, 1)
		if err != nil || total == 0 {
			return errors.Join(err, is(head.Newest.Offset, nil)("the head of no event", uint64(total)))
		}
		got, err := texts(events)
		return errors.Join(
			is(got, err)("the newest event", []string{strconv.FormatUint(uint64(total), 10)}),
			is(head.Newest.Offset, nil)("the head", uint64(total)))
	})
	if err != nil {
		e.Errorf("a view: %v", err)
	}
}

var viewTests = []test{
	{"a view keeps its snapshot while updates go on", func(e *env) {
		e.update(func(tx store.Tx) error { return errors.Join(populate(tx), appendTexts(tx, "a")) })
		e.view(func(r store.Reader) error {
			before, err := wholeLog(r, room, 100)
			if err != nil {
				return err
			}
			err = e.s.Update(e.ctx, func(tx store.Tx) error {
				return errors.Join(tx.PutUser(&pb.User{Id: "new"}), appendTexts(tx, "b"), tx.PutUser(&pb.User{Id: "ada", Name: "Changed"}))
			})
			if err != nil {
				return err
			}
			after, err := wholeLog(r, room, 100)
			return errors.Join(
				is(wires(after), err)("the log", wires(before)),
				is(r.User("ada"))("a user that changed since", ada),
				fails(r.User("new"))("a user that came since", store.ErrNotFound))
		})
		e.view(func(r store.Reader) error {
			log, err := wholeLog(r, room, 100)
			return is(len(log), err)("events in the next view", 2)
		})
	}},
	{"views run at the same time as each other and as an update", func(e *env) {
		release := e.holdWriter()
		defer release()
		e.view(func(store.Reader) error { return e.s.View(e.ctx, func(store.Reader) error { return nil }) })
	}},
	{"a view returns its function's error", func(e *env) {
		if err := e.s.View(e.ctx, func(store.Reader) error { return errUndo }); !errors.Is(err, errUndo) {
			e.Errorf("got error %v", err)
		}
	}},
	{"a view whose context ended does nothing", func(e *env) {
		ctx, cancel := context.WithCancel(e.ctx)
		cancel()
		ran := false
		err := e.s.View(ctx, func(store.Reader) error { ran = true; return nil })
		if !errors.Is(err, context.Canceled) || ran {
			e.Errorf("got error %v, ran %v; want it cancelled and not run", err, ran)
		}
	}},
	{"many views at once all get their turn", func(e *env) {
		e.update(populate)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { e.consistent() })
		}
		wg.Wait()
	}},
	{"a view that panics gives back what it holds", func(e *env) {
		e.update(populate)
		for range 100 {
			func() {
				defer func() { _ = recover() }()
				_ = e.s.View(e.ctx, func(store.Reader) error { panic("on purpose") })
			}()
		}
		ctx, cancel := context.WithTimeout(e.ctx, patience)
		defer cancel()
		if err := e.s.View(ctx, func(store.Reader) error { return nil }); err != nil {
			e.Errorf("a view after it: %v", err)
		}
	}},
}

var lifeTests = []test{
	{"an open store is ready", func(e *env) {
		if err := e.s.Ready(e.ctx); err != nil {
			e.Error(err)
		}
	}},
	{"closing waits for updates that run, and keeps them", func(e *env) {
		release := e.holdWriter()
		var update, closed sync.WaitGroup
		var errUpdate, errClose error
		update.Go(func() { errUpdate = e.s.Update(e.ctx, func(tx store.Tx) error { return tx.PutUser(ada) }) })
		closed.Go(func() { errClose = e.s.Close() })
		release()
		update.Wait()
		closed.Wait()
		if errClose != nil {
			e.Fatal(errClose)
		}
		e.open()
		err := e.s.View(e.ctx, func(r store.Reader) error { _, err := r.User("ada"); return err })
		kept, refused := errUpdate == nil && err == nil, errors.Is(errUpdate, store.ErrClosed) && errors.Is(err, store.ErrNotFound)
		if !kept && !refused {
			e.Errorf("update: %v, then the user: %v; want it kept or refused", errUpdate, err)
		}
	}},
	{"a closed store refuses everything, and closes again", func(e *env) {
		if err := e.s.Close(); err != nil {
			e.Fatal(err)
		}
		nothing := errors.New("not called")
		for name, err := range map[string]error{
			"View":   e.s.View(e.ctx, func(store.Reader) error { return nothing }),
			"Update": e.s.Update(e.ctx, func(store.Tx) error { return nothing }),
			"Ready":  e.s.Ready(e.ctx),
		} {
			if !errors.Is(err, store.ErrClosed) {
				e.Errorf("%s: %v, want ErrClosed", name, err)
			}
		}
		if err := e.s.Close(); err != nil {
			e.Errorf("closing again: %v", err)
		}
	}},
	{"updates that race with closing are kept or refused, never lost", func(e *env) {
		const n = 50
		errs := make([]error, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				errs[i] = e.s.Update(e.ctx, func(tx store.Tx) error { return tx.PutUser(&pb.User{Id: strconv.Itoa(i)}) })
			})
		}
		wg.Go(func() {
			if err := e.s.Close(); err != nil {
				e.Error(err)
			}
		})
		wg.Wait()
		e.open()
		e.view(func(r store.Reader) error {
			for i, err := range errs {
				_, found := r.User(strconv.Itoa(i))
				if err == nil && found != nil || err != nil && (!errors.Is(err, store.ErrClosed) || !errors.Is(found, store.ErrNotFound)) {
					e.Errorf("update %d returned %v, then %v", i, err, found)
				}
			}
			return nil
		})
	}},
}
