package postgres

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/postgres/pgtest"
)

// childEnv tells the test binary to be the child, on the database it names.
const childEnv = "TCMANAGER_TEST_CRASH_CHILD"

// told is what callers were told of their updates, by the user that each makes.
type told struct {
	acked     map[string]event.Position
	refused   map[string]bool // certainly not kept
	uncertain map[string]bool
}

func newTold() told { return told{map[string]event.Position{}, map[string]bool{}, map[string]bool{}} }

// check looks for all of it: what was acknowledged is there once, at its place, what
// was refused is not, and what is there was asked for.
func (told told) check(t *testing.T, s *Store) {
	t.Helper()
	err := s.View(t.Context(), func(r store.Reader) error {
		head, err := r.Head("project:p")
		if err != nil {
			return err
		}
		log, err := wholeLog(t, r, head)
		if err != nil {
			return err
		}
		at := map[string]event.Position{}
		for _, ev := range log {
			m, err := ev.Decode()
			if err != nil {
				return err
			}
			id := m.GetActor().GetId()
			if _, ok := at[id]; ok {
				t.Errorf("update %s is there twice", id)
			}
			at[id] = ev.Position
			if _, err := r.User(id); err != nil {
				t.Errorf("event without its state: %v", err)
			}
			if told.refused[id] {
				t.Errorf("update %s is there and was refused", id)
			}
		}
		for id, p := range told.acked {
			if at[id] != p {
				t.Errorf("acknowledged update %s is at %v, want %v", id, at[id], p)
			}
		}
		var users int
		if err := r.(*reader).row("SELECT count(*) FROM users", nil, &users); err != nil || users != len(at) {
			t.Errorf("%d users of %d events (%v)", users, len(at), err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// wholeLog reads a room from its trim mark on, and checks that nothing is missing.
func wholeLog(t *testing.T, r store.Reader, head store.Head) (log []event.Event, err error) {
	t.Helper()
	next := head.Trim.Offset + 1
	for next <= head.Newest.Offset {
		part, err := r.Log("project:p", next-1, 1<<20)
		if err != nil || len(part.Events) == 0 {
			return nil, fmt.Errorf("no event %d between %v and %v: %w", next, head.Trim, head.Newest, err)
		}
		for _, ev := range part.Events {
			if ev.Position.Offset != next {
				t.Fatalf("event %d where %d should be, between %v and %v", ev.Position.Offset, next, head.Trim, head.Newest)
			}
			next++
		}
		log = append(log, part.Events...)
	}
	var cut, last int64
	err = r.(*reader).row("SELECT r.cut_offset, (SELECT min(last) FROM event_batches WHERE room = r.num) FROM rooms r WHERE name = 'project:p'", nil, &cut, &last)
	if err != nil || cut != last {
		t.Errorf("the log is cut next at %d, its oldest row ends at %d (%v)", cut, last, err)
	}
	return log, nil
}

// commitOne makes a user and an event that tells of it.
func commitOne(ctx context.Context, s *Store, id string) (event.Position, error) {
	return commitUser(ctx, s, &pb.User{Id: id})
}

func commitUser(ctx context.Context, s *Store, u *pb.User) (p event.Position, err error) {
	d, err := event.NewDraft("project:p", time.Now(), &pb.UserRef{Id: u.Id}, &pb.Event{Payload: &pb.Event_RunChanged{RunChanged: &pb.RunChanged{}}})
	if err != nil {
		return p, err
	}
	err = s.Update(ctx, func(tx store.Tx) error {
		events, err := tx.Append(d)
		if err != nil {
			return err
		}
		p = events[0].Position
		return tx.PutUser(u)
	})
	return p, err
}

// TestAcknowledgedUpdatesSurviveRestartsOfTheDatabase has many updates while
// PostgreSQL is killed and started again: callers wait, and nobody is refused.
func TestAcknowledgedUpdatesSurviveRestartsOfTheDatabase(t *testing.T) {
	c := pgtest.Shared(t)
	for name, end := range map[string]func() error{"immediate": c.Kill, "fast": c.Shutdown} {
		t.Run(name, func(t *testing.T) {
			heard := map[uint64]int{}
			s := open(t, Options{DSN: database(t), Patience: 30 * time.Second, Listener: func(events []event.Event) {
				for _, ev := range events {
					heard[ev.Position.Offset]++
				}
			}})
			ctx, stop := context.WithCancel(t.Context())
			told, all := newTold(), sync.WaitGroup{}
			defer all.Wait() // also if the test gives up
			defer stop()
			var mu sync.Mutex
			for w := range 8 {
				all.Go(func() {
					for i := 0; ctx.Err() == nil; i++ {
						id := fmt.Sprintf("%d-%d", w, i)
						p, err := commitOne(t.Context(), s, id)
						mu.Lock()
						if err != nil {
							t.Errorf("update %s: %v", id, err)
							told.refused[id] = !errors.Is(err, store.ErrUncertain)
						} else {
							told.acked[id] = p
						}
						mu.Unlock()
					}
				})
			}
			count := func() int { mu.Lock(); defer mu.Unlock(); return len(told.acked) }
			for round := range 3 {
				eventually(t, "updates go on", func() bool { return count() > 150*(round+1) })
				if err := errors.Join(end(), c.Run()); err != nil {
					t.Fatal(err)
				}
			}
			before := count()
			eventually(t, "updates go on", func() bool { return count() > before+100 })
			stop()
			all.Wait()
			told.check(t, s)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if len(heard) != len(told.acked) {
				t.Errorf("%d events were heard of %d updates", len(heard), len(told.acked))
			}
			for offset, n := range heard {
				if n != 1 {
					t.Errorf("event %d was heard %d times", offset, n)
				}
			}
		})
	}
}

// TestFrozenDatabaseIsSaidAndPasses stops PostgreSQL's processes: connections stay
// open and nobody answers.
func TestFrozenDatabaseIsSaidAndPasses(t *testing.T) {
	c := pgtest.Shared(t)
	s := open(t, Options{DSN: database(t)})
	defer func() { _ = s.Close() }()
	if _, err := commitOne(t.Context(), s, "a"); err != nil {
		t.Fatal(err)
	}
	if err := c.Freeze(); err != nil {
		t.Fatal(err)
	}
	errReady := s.Ready(t.Context())
	done := make(chan error, 1)
	go func() { _, err := commitOne(t.Context(), s, "b"); done <- err }()
	if err := c.Thaw(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || errReady == nil {
		t.Errorf("ready: %v, then an update: %v", errReady, err)
	}
	eventually(t, "it is ready again", func() bool { return s.Ready(t.Context()) == nil })
}

// TestAcknowledgedUpdatesSurviveAKill starts a process that commits and prints what
// was acknowledged, kills it without warning, several times on the same database,
// and looks for all of it. A sweep that never ends trims another log meanwhile.
func TestAcknowledgedUpdatesSurviveAKill(t *testing.T) {
	dsn, told := database(t), newTold()
	for life := range 3 {
		maps.Copy(told.acked, killedChild(t, dsn, life, 40+60*life, ""))
		s := open(t, Options{DSN: dsn})
		told.check(t, s)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestKillWhileALogIsTrimmedLeavesTheLogAndItsMarkTogether is the same with a sweep
// that never ends: whenever the process dies, the log goes on where the trim mark
// is, and the mark has the epoch of the event that was there.
func TestKillWhileALogIsTrimmedLeavesTheLogAndItsMarkTogether(t *testing.T) {
	dsn := database(t)
	epochs := map[uint64]uint64{} // of each acknowledged offset
	for life := range 3 {
		for _, p := range killedChild(t, dsn, life, 60+50*life, "trim") {
			epochs[p.Offset] = p.Epoch
		}
		s := open(t, Options{DSN: dsn})
		err := s.View(t.Context(), func(r store.Reader) error {
			head, err := r.Head("project:p")
			if err != nil {
				return err
			}
			if epoch, ok := epochs[head.Trim.Offset]; ok && epoch != head.Trim.Epoch || head.Trim.Offset == 0 {
				t.Errorf("the trim mark is %v, that event was of epoch %d", head.Trim, epoch)
			}
			_, err = wholeLog(t, r, head)
			return err
		})
		if err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// killedChild runs a child until it has acknowledged n updates, kills it, and
// returns all that it acknowledged. With a sweep it drops old events, or what is left
// of runs, all the while.
func killedChild(t *testing.T, dsn string, life, n int, sweep string) map[string]event.Position {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestCrashChild$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"="+dsn, fmt.Sprintf("%s_LIFE=%d", childEnv, life), childEnv+"_SWEEP="+sweep)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acked, other := map[string]event.Position{}, []string{}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var id string
		var p event.Position
		if _, err := fmt.Sscanf(lines.Text(), "acked %s %d %d", &id, &p.Epoch, &p.Offset); err != nil {
			other = append(other, lines.Text())
			continue
		}
		acked[id] = p
		if len(acked) == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
			// What it had written into the pipe before it died is read on.
		}
	}
	if err := cmd.Wait(); err == nil || len(acked) < n {
		t.Fatalf("the child ended by itself after %d updates: %v\n%s", len(acked), err, strings.Join(other, "\n"))
	}
	return acked
}

// TestCrashChild is the child of the tests above.
func TestCrashChild(t *testing.T) {
	dsn := os.Getenv(childEnv)
	if dsn == "" {
		t.Log("only runs as a child process")
		return
	}
	s, err := Open(t.Context(), Options{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	var out sync.Mutex
	var all sync.WaitGroup
	switch os.Getenv(childEnv + "_SWEEP") {
	case "trim":
		all.Go(func() { trimForEver(t, s) })
	case "purge":
		all.Go(func() { purgeForEver(t, s) })
	}
	for w := range 8 {
		all.Go(func() {
			for i := 0; t.Context().Err() == nil; i++ {
				id := "life" + os.Getenv(childEnv+"_LIFE") + "-" + strconv.Itoa(w) + "-" + strconv.Itoa(i)
				p, err := commitOne(t.Context(), s, id)
				if err != nil {
					t.Error(err)
					return
				}
				out.Lock()
				fmt.Printf("acked %s %d %d\n", id, p.Epoch, p.Offset)
				out.Unlock()
			}
		})
	}
	all.Wait()
}

func trimForEver(t *testing.T, s *Store) {
	for t.Context().Err() == nil {
		err := s.Update(t.Context(), func(tx store.Tx) error {
			_, err := tx.TrimLogs(store.History{Events: store.LeastHistory})
			return err
		})
		if err != nil {
			t.Error(err)
			return
		}
	}
}
