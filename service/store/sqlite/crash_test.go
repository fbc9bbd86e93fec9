package sqlite

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
)

// childEnv tells the test binary to be the child, on the data file it names.
const childEnv = "TCMANAGER_TEST_CRASH_CHILD"

// TestAcknowledgedUpdatesSurviveAKill starts a process that commits and prints what
// was acknowledged, kills it without warning, several times on the same file, and
// looks for all of it.
func TestAcknowledgedUpdatesSurviveAKill(t *testing.T) {
	path := dataPath(t)
	acked := map[string]event.Position{}
	for life := range 4 {
		maps.Copy(acked, killedChild(t, path, life, 40+60*life, ""))
		s := open(t, Options{Path: path})
		err := s.View(t.Context(), func(r store.Reader) error {
			for id, p := range acked {
				if _, err := r.User(id); err != nil {
					t.Errorf("an acknowledged update is gone: %v", err)
				}
				part, err := r.Log("project:p", p.Offset-1, 1)
				if err != nil || len(part.Events) == 0 || part.Events[0].Position != p {
					t.Errorf("the event of %s is not at %v: %v", id, p, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		checkIntegrity(t, s)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestKillWhileALogIsTrimmedLeavesTheLogAndItsMarkTogether is the same with a sweep
// that never ends: whenever the process dies, the log goes on where the trim mark
// is, and the mark has the epoch of the event that was there.
func TestKillWhileALogIsTrimmedLeavesTheLogAndItsMarkTogether(t *testing.T) {
	path := dataPath(t)
	epochs := map[uint64]uint64{} // of each acknowledged offset
	for life := range 5 {
		for _, p := range killedChild(t, path, life, 60+50*life, "trim") {
			epochs[p.Offset] = p.Epoch
		}
		s := open(t, Options{Path: path})
		err := s.View(t.Context(), func(r store.Reader) error {
			head, err := r.Head("project:p")
			if err != nil {
				return err
			}
			checkWhole(t, r, head)
			if epoch, ok := epochs[head.Trim.Offset]; ok && epoch != head.Trim.Epoch || head.Trim.Offset == 0 {
				t.Errorf("the trim mark is %v, that event was of epoch %d", head.Trim, epoch)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		checkIntegrity(t, s)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// checkWhole checks that a log has every event between its trim mark and its newest,
// and that the room's row knows of its oldest row.
func checkWhole(t *testing.T, r store.Reader, head store.Head) {
	t.Helper()
	next := head.Trim.Offset + 1
	for next <= head.Newest.Offset {
		part, err := r.Log("project:p", next-1, 1<<20)
		if err != nil || len(part.Events) == 0 {
			t.Fatalf("no event %d between %v and %v: %v", next, head.Trim, head.Newest, err)
		}
		for _, ev := range part.Events {
			if ev.Position.Offset != next {
				t.Fatalf("event %d where %d should be, between %v and %v", ev.Position.Offset, next, head.Trim, head.Newest)
			}
			next++
		}
	}
	var cut, cutAt, last, at int64
	c := r.(*reader).c
	err := errors.Join(c.row("SELECT cut_offset, cut_at FROM rooms WHERE name = 'project:p'", nil, &cut, &cutAt),
		c.row("SELECT last, at FROM event_batches ORDER BY num LIMIT 1", nil, &last, &at))
	if err != nil || cut != last || cutAt != at {
		t.Errorf("the log is cut next at %d of %d, its oldest row ends at %d of %d (%v)", cut, cutAt, last, at, err)
	}
}

func checkIntegrity(t *testing.T, s *Store) {
	t.Helper()
	err := s.View(t.Context(), func(r store.Reader) error {
		var verdict string
		if err := r.(*reader).c.row("PRAGMA integrity_check", nil, &verdict); err != nil || verdict != "ok" {
			return fmt.Errorf("integrity check: %s (%w)", verdict, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// killedChild runs a child until it has acknowledged n updates, kills it, and
// returns all that it acknowledged. With a sweep it drops old events, or what is left
// of runs, all the while.
func killedChild(t *testing.T, path string, life, n int, sweep string) map[string]event.Position {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestCrashChild$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"="+path, fmt.Sprintf("%s_LIFE=%d", childEnv, life), childEnv+"_SWEEP="+sweep)
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
	path := os.Getenv(childEnv)
	if path == "" {
		t.Log("only runs as a child process")
		return
	}
	s, err := Open(t.Context(), Options{Path: path})
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

func commitOne(ctx context.Context, s *Store, id string) (p event.Position, err error) {
	d, err := event.NewDraft("project:p", time.Now(), nil, &pb.Event{Payload: &pb.Event_RunChanged{RunChanged: &pb.RunChanged{}}})
	if err != nil {
		return p, err
	}
	err = s.Update(ctx, func(tx store.Tx) error {
		events, err := tx.Append(d)
		if err != nil {
			return err
		}
		p = events[0].Position
		return tx.PutUser(&pb.User{Id: id})
	})
	return p, err
}
