package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/column"
	"github.com/tcmanager/tcmanager/service/store/postgres/pgtest"
)

// faulty is a store whose database fails on purpose, with a proxy in front of it.
type faulty struct {
	*testing.T
	s     *Store
	p     *proxy
	dsn   string // past the proxy
	mu    sync.Mutex
	heard []event.Event // guarded by mu

	warmed int // events from before the test
}

func newFaulty(t *testing.T, patience time.Duration) *faulty {
	t.Helper()
	f := &faulty{T: t, dsn: database(t)}
	var dsn string
	f.p, dsn = proxied(t, f.dsn)
	f.s = open(t, Options{DSN: dsn, idle: 50 * time.Millisecond, Patience: patience, Listener: func(events []event.Event) {
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

// warm makes the store prepare its statements: the first time takes a round trip
// more, in which the faults below would happen too early.
func (f *faulty) warm() {
	f.Helper()
	for range 2 {
		if err := f.update("w"); err != nil {
			f.Fatal(err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.warmed, f.heard = 2, nil
}

// exec runs statements behind the store's back.
func (f *faulty) exec(statements ...string) {
	f.Helper()
	alter(f, nameOf(f.dsn), statements...)
}

// number asks the database behind the store's back.
func (f *faulty) number(sql string) (n int) {
	f.Helper()
	conn, err := pgx.Connect(f.Context(), f.dsn)
	if err != nil {
		f.Fatal(err)
	}
	defer func() { _ = conn.Close(f.Context()) }()
	if err := conn.QueryRow(f.Context(), sql).Scan(&n); err != nil {
		f.Fatal(err)
	}
	return n
}

// fails makes a table refuse rows with a code of PostgreSQL's, for a condition on
// the new row.
func (f *faulty) fails(table, condition, code string) {
	f.exec("CREATE SEQUENCE IF NOT EXISTS times", fmt.Sprintf(`CREATE FUNCTION fail_%s() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN IF %s THEN RAISE EXCEPTION 'on purpose' USING ERRCODE = '%s'; END IF; RETURN NEW; END $$`, table, condition, code),
		fmt.Sprintf("CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION fail_%s()", table, table))
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
func put(t store.Tx, name string) error {
	d, err := event.NewDraft("project:p", time.Now(), nil, &pb.Event{Payload: &pb.Event_RunChanged{RunChanged: &pb.RunChanged{}}})
	if err != nil {
		return err
	}
	_, err = t.Append(d)
	return errors.Join(err, t.PutUser(&pb.User{Id: name}))
}

func (f *faulty) update(name string, before ...func()) error {
	return f.s.Update(f.Context(), func(t store.Tx) error {
		err := put(t, name)
		for _, fn := range before {
			fn()
		}
		return err
	})
}

// is checks which of some users are there, and that the log and what was heard are
// as long as that.
func (f *faulty) is(want, names string) {
	f.Helper()
	var found string
	err := f.s.View(f.Context(), func(r store.Reader) error {
		found = ""
		for name := range strings.SplitSeq(names, "") {
			if _, err := r.User(name); err == nil {
				found += name
			} else if !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		h, err := r.Head("project:p")
		if int(h.Newest.Offset) != f.warmed+len(want) {
			f.Errorf("the newest event is %d, want %d", h.Newest.Offset, len(want))
		}
		return column.OrNone(err)
	})
	if err != nil {
		f.Fatal(err)
	}
	if found != want {
		f.Errorf("found %q of %q, want %q", found, names, want)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, ev := range f.heard {
		if ev.Position.Offset != uint64(f.warmed+i+1) {
			f.Errorf("heard event %d as number %d", ev.Position.Offset, i+1)
		}
	}
	if len(f.heard) != len(want) {
		f.Errorf("%d events were heard, want %d", len(f.heard), len(want))
	}
}

func TestCommitWhoseAnswerIsLostHappensOnce(t *testing.T) {
	f := newFaulty(t, 0)
	f.warm()
	deafen := func() { f.p.set(func(p *proxy) { p.deaf = true }) }
	go func() { // hears again once it was cut
		for f.s.writer.down.Load() == nil {
			runtime.Gosched()
		}
		f.p.fine()
	}()
	if err := f.update("a", deafen); err != nil {
		t.Errorf("got %v, want that it is found out that the commit arrived", err)
	}
	f.is("a", "a")
	if err := f.update("b"); err != nil {
		t.Error(err)
	}
	f.is("ab", "ab")
}

func TestCommitThatNeverArrivedIsSaidAgain(t *testing.T) {
	f := newFaulty(t, 0)
	f.warm()
	if err := f.update("a"); err != nil {
		t.Fatal(err)
	}
	ran := 0
	mute := func() { ran++; f.p.set(func(p *proxy) { p.mute = true }) }
	go func() {
		for f.s.writer.down.Load() == nil {
			runtime.Gosched()
		}
		f.p.fine()
	}()
	if err := f.update("b", mute); err != nil || ran != 1 {
		t.Errorf("got %v after the function ran %d times", err, ran)
	}
	f.is("ab", "ab")
}

func TestCommitThatNobodyKnowsOfIsUncertainAndFoundOutLater(t *testing.T) {
	for name, test := range map[string]struct {
		harm func(*proxy)
		kept string
	}{
		"it arrived":     {func(p *proxy) { p.deaf = true }, "ab"},
		"it got lost":    {func(p *proxy) { p.mute = true }, "a"},
		"it was cut off": {func(p *proxy) { p.mute, p.deaf = true, true }, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFaulty(t, 300*time.Millisecond)
			f.warm()
			if err := f.update("a"); err != nil {
				t.Fatal(err)
			}
			err := f.update("b", func() { f.p.set(test.harm) })
			if !errors.Is(err, store.ErrUncertain) || errors.Is(err, store.ErrUnavailable) {
				t.Fatalf("got %v, want that it is uncertain", err)
			}
			if err := f.update("c"); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("the next one, before that is known: %v", err)
			}
			if err := f.s.Ready(t.Context()); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("ready: %v", err)
			}
			f.p.fine()
			eventually(t, "it is ready again", func() bool { return f.s.Ready(t.Context()) == nil })
			f.is(test.kept, "abc")
			if err := f.update("d"); err != nil {
				t.Error(err)
			}
			f.is(test.kept+"d", "abcd")
		})
	}
}

func TestFunctionDoesNotNoticeThatItsTransactionIsSaidAgain(t *testing.T) {
	f := newFaulty(t, 0)
	ran := 0
	err := f.s.Update(t.Context(), func(tx store.Tx) error {
		ran++
		if err := put(tx, "a"); err != nil {
			return err
		}
		for range 3 {
			f.p.refuse(true)
			f.p.fine()
			if _, err := tx.User("a"); err != nil {
				return fmt.Errorf("what the function wrote: %w", err)
			}
		}
		return put(tx, "b")
	})
	if err != nil || ran != 1 {
		t.Errorf("got %v after %d runs", err, ran)
	}
	f.is("ab", "ab")
}

func TestTransactionThatTheServerUndidIsSaidAgain(t *testing.T) {
	for _, code := range []string{"40001", "40P01", "55P03"} {
		t.Run(code, func(t *testing.T) {
			f := newFaulty(t, 0)
			f.fails("users", "nextval('times') <= 3", code)
			ran := 0
			err := f.s.Update(t.Context(), func(tx store.Tx) error {
				ran++
				if err := put(tx, "a"); err != nil {
					return err
				}
				_, err := tx.User("a") // so that it fails in the middle
				return err
			})
			if err != nil || ran != 1 {
				t.Errorf("got %v after %d runs", err, ran)
			}
			f.is("a", "a")
		})
	}
	t.Run("but not for ever", func(t *testing.T) {
		f := newFaulty(t, 0)
		f.fails("users", "true", "40001")
		if err := f.update("a"); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		f.is("", "a")
	})
}

func TestDatabaseThatIsAwayIsWaitedForAndThenRefused(t *testing.T) {
	f := newFaulty(t, time.Second)
	if err := f.update("a"); err != nil {
		t.Fatal(err)
	}
	f.p.refuse(true)
	began := time.Now()
	err := f.update("b")
	if took := time.Since(began); !errors.Is(err, store.ErrUnavailable) || took < 900*time.Millisecond || took > 5*time.Second {
		t.Errorf("got %v after %v, want it unavailable after a second", err, took)
	}
	began = time.Now()
	errView := f.s.View(t.Context(), func(r store.Reader) error { _, err := r.User("a"); return err })
	for what, err := range map[string]error{"update": f.update("c"), "view": errView, "ready": f.s.Ready(t.Context())} {
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("then refusing took %v", took)
	}
	f.p.fine()
	eventually(t, "it is ready again", func() bool { return f.s.Ready(t.Context()) == nil })
	f.is("a", "abc")
	if err := f.update("d"); err != nil {
		t.Error(err)
	}
	f.is("ad", "abcd")
}

func TestUpdateWaitsNoLongerThanItsContext(t *testing.T) {
	f := newFaulty(t, time.Minute)
	f.p.refuse(true)
	go func() { _ = f.update("a") }() // which the writer waits with
	eventually(t, "it noticed", func() bool { return f.s.writer.down.Load() != nil })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := f.s.Update(ctx, func(store.Tx) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("update: %v", err)
	}
	if err := f.s.View(ctx, func(r store.Reader) error { _, err := r.User("a"); return err }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("view: %v", err)
	}
	if err := f.s.Ready(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("ready: %v", err)
	}
}

func TestIdleStoreFindsOutThatItsDatabaseWasAway(t *testing.T) {
	f := newFaulty(t, 0)
	f.p.refuse(true)
	eventually(t, "it noticed", func() bool { return f.s.writer.down.Load() != nil })
	f.p.fine()
	eventually(t, "it came back", func() bool { return f.s.writer.down.Load() == nil })
}

func TestViewTakesAnotherConnectionForADeadOneAndToldWhenItIsCut(t *testing.T) {
	f := newFaulty(t, 0)
	if err := f.update("a"); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		var all sync.WaitGroup
		for range 8 { // so that the pool has some
			all.Go(func() {
				err := f.s.View(t.Context(), func(r store.Reader) error { _, err := r.User("a"); return err })
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		f.p.refuse(true)
		f.p.fine()
	}
	err := f.s.View(t.Context(), func(r store.Reader) error {
		if _, err := r.User("a"); err != nil {
			return err
		}
		f.p.refuse(true)
		f.p.fine()
		_, err := r.User("a") // another connection would have another snapshot
		return err
	})
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a view that was cut got %v", err)
	}
}

func TestServerThatLostTheDatabaseToAnotherOneNeverWritesAgain(t *testing.T) {
	f := newFaulty(t, 200*time.Millisecond)
	if err := f.update("a"); err != nil {
		t.Fatal(err)
	}
	f.p.refuse(true)
	second := open(t, Options{DSN: f.dsn})
	if err := second.Update(t.Context(), func(tx store.Tx) error { return tx.PutUser(&pb.User{Id: "x"}) }); err != nil {
		t.Fatal(err)
	}
	f.p.fine()
	err := f.update("b")
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "in use by another server (backend ") {
		t.Errorf("while the other one runs: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it looked", func() bool {
		err = f.update("c")
		return !strings.Contains(fmt.Sprint(err), "in use by")
	})
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "another server has written") {
		t.Errorf("after the other one: %v", err)
	}
	if err := f.s.Ready(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("ready: %v", err)
	}
	if n := f.number("SELECT count(*) FROM users"); n != 2 {
		t.Errorf("%d users, want that of each while it had the database", n)
	}
}

func TestDatabaseThatForgotCommitsIsNotWrittenAgain(t *testing.T) {
	f := newFaulty(t, 0)
	for _, name := range []string{"a", "b"} {
		if err := f.update(name); err != nil {
			t.Fatal(err)
		}
	}
	f.p.refuse(true)
	f.exec("UPDATE tcmanager SET commits = 1") // as a standby that was behind has it
	f.p.fine()
	if err := f.update("c"); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "gone back") {
		t.Errorf("got %v", err)
	}
	if n := f.number("SELECT count(*) FROM users WHERE id = 'c'"); n != 0 {
		t.Error("it was written")
	}
}

func TestFullDiskIsSaidClearlyAndPasses(t *testing.T) {
	f := newFaulty(t, 0)
	if err := f.update("a"); err != nil {
		t.Fatal(err)
	}
	f.fails("users", "true", "53100")
	f.fails("tcmanager", "NEW.pad IS NOT NULL", "53100")
	for i, err := range f.together(
		func(t *tx) error { return put(t, "b") },
		func(t *tx) error { return put(t, "c") },
	) {
		if err == nil || !strings.Contains(err.Error(), "disk is full") || !errors.Is(err, store.ErrFull) {
			t.Errorf("update %d: got %v, want it to say that the disk is full", i, err)
		}
	}
	if err := f.s.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "disk is full") {
		t.Errorf("ready: %v", err)
	}
	f.is("a", "abc")
	f.exec("DROP TRIGGER fail ON users", "DROP TRIGGER fail ON tcmanager")
	if err := f.s.Ready(t.Context()); err != nil {
		t.Errorf("ready: %v", err)
	}
	if err := f.update("d"); err != nil {
		t.Error(err)
	}
	f.is("ad", "abcd")
}

func TestCommitThatFailsAnswersAllAndTheCulpritIsAloneTheNextTime(t *testing.T) {
	f := newFaulty(t, 0)
	f.fails("users", "NEW.id = 'x'", "23514")
	try := func() []error {
		return f.together(
			func(t *tx) error { return put(t, "a") },
			func(t *tx) error { // a write whose error only shows later
				return errors.Join(put(t, "y"), t.note("INSERT INTO users (num, id, name, email) VALUES (-1, 'x', '', '')"))
			},
			func(t *tx) error { return put(t, "b") },
		)
	}
	for i, err := range try() {
		if err == nil || !strings.Contains(err.Error(), "on purpose") {
			t.Errorf("update %d: %v, want why the commit failed", i, err)
		}
	}
	f.is("", "abxy")
	for i, err := range try() {
		if (err == nil) != (i != 1) {
			t.Errorf("the second time, update %d: %v", i, err)
		}
	}
	f.is("ab", "abxy")
}

// newRun makes a run, and has shards of the name x refused.
func (f *faulty) newRun(id string) {
	f.Helper()
	err := f.s.Update(f.Context(), func(tx store.Tx) error {
		return errors.Join(tx.PutProject(&pb.Project{Id: "p", Key: "p"}), tx.AddRun(&pb.Run{Id: id, ProjectId: "p", Key: id}))
	})
	if err != nil {
		f.Fatal(err)
	}
	f.fails("shards", "NEW.name = convert_to('x', 'UTF8')", "23514")
}

// shard puts a user and a shard of a name.
func shard(name string) func(*tx) error {
	return func(t *tx) error {
		return errors.Join(put(t, name), t.PutShard(store.Shard{RunID: "r", Name: name, Committed: 1, ChangedAt: time.Unix(0, 0)}))
	}
}

func TestRowOfARunnerThatCannotBeWrittenIsAloneTheNextTime(t *testing.T) {
	f := newFaulty(t, 0)
	f.newRun("r")
	try := func() []error { return f.together(shard("a"), shard("x"), shard("b")) }
	for i, err := range try() {
		if err == nil || !strings.Contains(err.Error(), "on purpose") {
			t.Errorf("update %d: %v, want why the commit failed", i, err)
		}
	}
	if n := f.number("SELECT count(*) FROM shards"); n != 0 {
		t.Errorf("%d shards of a group that failed", n)
	}
	for i, err := range try() {
		if (err == nil) != (i != 1) {
			t.Errorf("the second time, update %d: %v", i, err)
		}
	}
	if n := f.number("SELECT count(*) FROM shards"); n != 2 {
		t.Errorf("%d shards, want those of a and b", n)
	}
	f.is("ab", "abx")
}

func TestWhatIsPendingIsForgottenWithItsGroup(t *testing.T) {
	f := newFaulty(t, 0)
	f.newRun("r")
	errs := f.together(
		shard("a"),
		func(t *tx) error { return t.note("INSERT INTO nowhere VALUES (1)") },
		func(t *tx) error { // which asks for nothing that is pending
			_, err := t.User("nobody")
			return err
		},
	)
	for i, err := range errs {
		if err == nil || !strings.Contains(err.Error(), "nowhere") {
			t.Errorf("update %d: %v, want that there is no such table", i, err)
		}
	}
	if err := f.s.Update(t.Context(), func(st store.Tx) error { return shard("b")(st.(*tx)) }); err != nil {
		t.Error(err)
	}
	if n := f.number("SELECT count(*) FROM shards"); n != 1 {
		t.Errorf("%d shards, want that of b", n)
	}
	f.is("b", "ab")
}

func TestStatementFindsWhatIsPendingWritten(t *testing.T) {
	f := newFaulty(t, 0)
	f.newRun("r")
	err := f.s.Update(t.Context(), func(st store.Tx) error {
		t := st.(*tx)
		return errors.Join(shard("a")(t), t.note("UPDATE shards SET committed = committed + 5"))
	})
	if n := f.number("SELECT max(committed) FROM shards"); n != 6 || err != nil {
		t.Errorf("the shard has %d (%v), want 6", n, err)
	}
}

func TestErrorOfTheEngineCannotBePassedOver(t *testing.T) {
	f := newFaulty(t, 0)
	errs := f.together(
		func(t *tx) error { return put(t, "a") },
		func(t *tx) error {
			var n int
			if err := t.row("SELECT 1 FROM no_such_table", nil, &n); err == nil {
				return nil
			}
			if err := put(t, "b"); err == nil {
				return errors.New("something could be written after it")
			}
			return nil // as if nothing had happened
		},
		func(t *tx) error { return put(t, "c") },
	)
	if errs[1] == nil || !strings.Contains(errs[1].Error(), "no_such_table") || errs[0] != nil || errs[2] != nil {
		t.Errorf("got %v, want the second one to have the engine's error", errs)
	}
	f.is("ac", "abc")
}

func TestNamesThatNoIndexTakesAreKeptOrRefusedAlone(t *testing.T) {
	f := newFaulty(t, 0)
	// What can't be compressed, so that it is too long for an entry of an index.
	long := func(n int) string {
		var b strings.Builder
		for i := 0; b.Len() < n; i++ {
			fmt.Fprintf(&b, "%x", digest(fmt.Sprint(i)))
		}
		return b.String()
	}
	suite, name := long(4096), long(16384)
	errs := f.together(
		func(t *tx) error {
			return errors.Join(t.PutProject(&pb.Project{Id: "p", Key: "p"}), t.AddRun(&pb.Run{Id: "r", ProjectId: "p", Key: "r"}),
				t.PutSuites("r", []*pb.Suite{{Name: suite + "2"}, {Name: suite + "1"}}),
				t.PutResults("r", []store.Result{{Seq: 1, Attempt: 1, Suite: suite, Name: name}}))
		},
		func(t *tx) error { return put(t, long(3000)) },
	)
	if errs[0] != nil || errs[1] == nil || !strings.Contains(errs[1].Error(), "3008 bytes") {
		t.Errorf("got %v", errs)
	}
	err := f.s.View(t.Context(), func(r store.Reader) error {
		suites, err := r.Suites("r", 5)
		if err != nil || len(suites) != 2 || suites[0].Name != suite+"1" {
			t.Errorf("the suites are not in order: %v", err)
		}
		return r.EachResult("r", func(res store.Result) error {
			if res.Suite != suite || res.Name != name {
				t.Error("the test has another name")
			}
			return nil
		})
	})
	if err != nil {
		t.Error(err)
	}
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
			f := newFaulty(t, 0)
			fns := []func(*tx) error{func(t *tx) error { test.set(&t.w.bounds); return nil }}
			for i := range 50 {
				fns = append(fns, func(t *tx) error { return put(t, fmt.Sprint(i)) })
			}
			for i, err := range f.together(fns...) {
				if err != nil {
					t.Errorf("update %d: %v", i, err)
				}
			}
			if rows := f.number("SELECT count(*) FROM event_batches"); rows != test.want {
				t.Errorf("50 updates that waited made %d rows in the log, want %d", rows, test.want)
			}
			if commits := f.number("SELECT commits FROM tcmanager"); commits != test.want {
				t.Errorf("%d commits were counted, want %d", commits, test.want)
			}
		})
	}
}

func TestUpdateThatEndsItsGoroutineEndsTheStoreAndHangsNobody(t *testing.T) {
	s := open(t, Options{DSN: database(t)})
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

func TestLostConnectionsLeaveNothingBehind(t *testing.T) {
	f := newFaulty(t, 0)
	for i := range 15 {
		if err := f.update(string(rune('a' + i))); err != nil {
			t.Fatal(err)
		}
		f.is("abcdefghijklmno"[:i+1], "abcdefghijklmno"[:i+1])
		f.p.refuse(true)
		f.p.fine()
	}
	limit := int(f.s.pool.Config().MaxConns) + 1
	eventually(t, "the database has no more connections than the store needs", func() bool {
		return f.number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'tcmanager%'") <= limit
	})
}

func TestStoreClosesWhileItsDatabaseIsAway(t *testing.T) {
	f := newFaulty(t, time.Minute)
	f.p.refuse(true)
	done := make(chan error, 1)
	go func() { done <- f.update("a") }()
	eventually(t, "it noticed", func() bool { return f.s.writer.down.Load() != nil })
	if err := f.s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

func TestOutagesAreLoggedOnceWithoutThePassword(t *testing.T) {
	dsn := database(t)
	p, through := proxied(t, dsn)
	var log bytes.Buffer
	s := open(t, Options{DSN: through, Patience: 300 * time.Millisecond, Log: slog.New(slog.NewTextHandler(&log, nil))})
	p.refuse(true)
	for range 3 {
		_ = s.Update(t.Context(), func(tx store.Tx) error { return put(tx, "a") })
	}
	p.fine()
	eventually(t, "it is ready again", func() bool { return s.Ready(t.Context()) == nil })
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if text := log.String(); strings.Count(text, "\n") != 2 || !strings.Contains(text, "is lost") || !strings.Contains(text, "is back") || hasPassword(text) {
		t.Errorf("the log is\n%s", text)
	}
}

func hasPassword(text string) bool {
	return strings.Contains(text, pgtest.Password) || strings.Contains(text, "p%40ss") || strings.Contains(text, "p@ss")
}

// TestRowsThatChangeWithEveryCommitNeedNoNewEntriesInIndexes keeps appends to a
// long log as cheap as to a short one: see the migration about rooms.
func TestRowsThatChangeWithEveryCommitNeedNoNewEntriesInIndexes(t *testing.T) {
	dsn := database(t)
	s := open(t, Options{DSN: dsn})
	run := &pb.Run{Id: "r", ProjectId: "p", Key: "r", State: pb.RunState_RUN_STATE_RUNNING}
	for i := range 300 {
		err := s.Update(t.Context(), func(tx store.Tx) error {
			if i == 0 {
				return errors.Join(tx.PutProject(&pb.Project{Id: "p", Key: "p"}), tx.AddRun(run))
			}
			run.Counts = &pb.Counts{Total: uint32(i)}
			return errors.Join(put(tx, "a"), tx.PutRun(run), tx.PutShard(store.Shard{RunID: "r", Name: "s", Committed: uint64(i)}))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil { // the counts are told when a connection ends
		t.Fatal(err)
	}
	f := &faulty{T: t, dsn: dsn}
	for _, table := range []string{"rooms", "runs", "shards", "tcmanager"} {
		count := func(column string) int {
			return f.number(fmt.Sprintf("SELECT %s FROM pg_stat_user_tables WHERE relname = '%s'", column, table))
		}
		eventually(t, "the database has counted", func() bool { return count("n_tup_upd") >= 290 })
		if all, hot := count("n_tup_upd"), count("n_tup_hot_upd"); hot*100 < all*90 {
			t.Errorf("only %d of %d changes of %s were made in place", hot, all, table)
		}
	}
}
