package retention

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/once"
	"github.com/tcmanager/tcmanager/service/scene"
	"github.com/tcmanager/tcmanager/service/store"
)

// room is the room of the scene's project.
const room = event.Room("project:" + scene.ProjectID)

// stage is a scene whose sweeper runs.
type stage struct {
	*scene.Scene
	t        *testing.T
	sweeping *calls
	sweeper  *Sweeper
	stop     context.CancelFunc
	done     chan error
}

// calls is the sweeper's store and log: it notes when updates begin and what is
// logged, and may fail the updates.
type calls struct {
	store.Store

	mu   sync.Mutex // guards the rest
	at   []time.Time
	fail error
	log  strings.Builder
}

func (c *calls) Update(ctx context.Context, fn func(store.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	c.at = append(c.at, time.Now())
	fail := c.fail
	c.mu.Unlock()
	if fail != nil {
		return fail
	}
	return c.Store.Update(ctx, fn)
}

func (c *calls) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log.Write(b)
}

func (c *calls) failWith(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = err
}

// begun returns when updates began.
func (c *calls) begun() []time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.at)
}

func (c *calls) logged() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log.String()
}

// onStage runs a test in a bubble, where time is the test's own. The store's
// clock is the bubble's too.
func onStage(t *testing.T, cfg Config, fn func(*testing.T, *stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		st := &stage{Scene: scene.New(t), t: t, done: make(chan error, 1)}
		st.sweeping = &calls{Store: st.Store}
		cfg.Logger = slog.New(slog.NewTextHandler(st.sweeping, &slog.HandlerOptions{Level: slog.LevelDebug}))
		var ctx context.Context
		ctx, st.stop = context.WithCancel(t.Context())
		st.sweeper = New(st.sweeping, st, cfg)
		go func() { st.done <- st.sweeper.Run(ctx) }()
		fn(t, st)
		st.stop()
		if err := <-st.done; err != nil {
			t.Errorf("the sweep ended with %v", err)
		}
	})
}

// say appends n events to the project's room, each in an update of its own.
func (st *stage) say(n int) {
	st.t.Helper()
	for range n {
		st.Update(func(tx store.Tx) error {
			d, err := event.NewDraft(room, time.Now(), nil, &pb.Event{Payload: &pb.Event_MemberChanged{MemberChanged: &pb.MemberChanged{}}})
			if err != nil {
				return err
			}
			_, err = tx.Append(d)
			return err
		})
	}
}

// trimmed returns the trim mark of the project's room.
func (st *stage) trimmed() (offset uint64) {
	st.t.Helper()
	synctest.Wait()
	st.View(func(r store.Reader) error {
		h, err := r.Head(room)
		offset = h.Trim.Offset
		return err
	})
	return offset
}

func TestEveryMinuteLogsAreTrimmedByCount(t *testing.T) {
	onStage(t, Config{Events: 25}, func(t *testing.T, st *stage) {
		st.say(60)
		time.Sleep(time.Minute)
		if got := st.trimmed(); got != 35 {
			t.Errorf("trimmed up to %d within the first minute, want 35", got)
		}
		st.say(10)
		time.Sleep(time.Minute)
		if got := st.trimmed(); got != 45 {
			t.Errorf("trimmed up to %d a minute later, want 45", got)
		}
		if log := st.sweeping.logged(); !strings.Contains(log, "events=35 ") || !strings.Contains(log, "events=10 ") || strings.Count(log, "\n") != 2 {
			t.Errorf("it logged\n%s\nwant what was dropped, twice", log)
		}
	})
}

func TestLogsAreTrimmedByAgeDownToTheNewest(t *testing.T) {
	onStage(t, Config{Age: time.Hour}, func(t *testing.T, st *stage) {
		st.say(30)
		time.Sleep(30 * time.Minute)
		st.say(5)
		time.Sleep(29 * time.Minute)
		if got := st.trimmed(); got != 0 {
			t.Errorf("trimmed up to %d of what is younger than an hour", got)
		}
		time.Sleep(2 * time.Minute)
		if got := st.trimmed(); got != 15 {
			t.Errorf("trimmed up to %d after an hour, want 15: the newest 20 stay", got)
		}
		st.say(20)
		time.Sleep(24 * time.Hour)
		if got := st.trimmed(); got != 35 {
			t.Errorf("trimmed up to %d after a day, want 35", got)
		}
	})
}

func TestWithoutAPolicyLogsAreKeptForEver(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		st.say(50)
		time.Sleep(48 * time.Hour)
		if got := st.trimmed(); got != 0 {
			t.Errorf("trimmed up to %d", got)
		}
	})
}

func TestOldAnswersAreForgottenAfterTheirWindow(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		st.Update(func(tx store.Tx) error {
			return tx.PutRequest(store.Request{UserID: scene.Tester, ID: "r", At: time.Now()})
		})
		known := func() bool {
			synctest.Wait()
			var err error
			st.View(func(r store.Reader) error { _, err = r.Request(scene.Tester, "r"); return nil })
			return err == nil
		}
		time.Sleep(once.Window)
		if !known() {
			t.Error("an answer was forgotten within its window")
		}
		time.Sleep(2 * time.Minute)
		if known() {
			t.Error("an answer is remembered for ever")
		}
	})
}

func TestMuchIsDroppedInStepsWithPausesForOthers(t *testing.T) {
	onStage(t, Config{Events: 20}, func(t *testing.T, st *stage) {
		st.say(1300)
		began := time.Now()
		time.Sleep(time.Minute)
		if got := st.trimmed(); got != 1280 {
			t.Errorf("trimmed up to %d, want 1280", got)
		}
		at := st.sweeping.begun()
		if first := at[0].Sub(began); first < 0 || first > time.Minute {
			t.Errorf("the first sweep began after %v, want within a minute", first)
		}
		if len(at) < 5 { // a step at least for each 500 rows, one for runs, and one for requests
			t.Fatalf("%d events were dropped in %d updates", 1280, len(at))
		}
		for i := range len(at) - 3 {
			if d := at[i+1].Sub(at[i]); d < pause {
				t.Errorf("%v between step %d and the next, want a pause of %v", d, i, pause)
			}
		}
	})
}

func TestASweepEndsInItsPauseWithItsContext(t *testing.T) {
	onStage(t, Config{Events: 20}, func(t *testing.T, st *stage) {
		st.say(1300)
		for len(st.sweeping.begun()) == 0 {
			time.Sleep(pause / 10)
			synctest.Wait()
		}
		st.stop()
		began := time.Now()
		st.done <- <-st.done
		if d := time.Since(began); d != 0 {
			t.Errorf("it ended after %v", d)
		}
		if n := len(st.sweeping.begun()); n != 1 {
			t.Errorf("it took %d steps", n)
		}
		if log := st.sweeping.logged(); strings.Contains(log, "ERROR") {
			t.Errorf("the stop was logged as an error:\n%s", log)
		}
	})
}

func TestASweepThatFailsIsSaidAndTriedAgain(t *testing.T) {
	onStage(t, Config{Events: 25}, func(t *testing.T, st *stage) {
		st.say(60)
		st.sweeping.failWith(errors.New("the disk is full"))
		time.Sleep(time.Minute)
		synctest.Wait()
		if log := st.sweeping.logged(); strings.Count(log, "ERROR") != 1 || !strings.Contains(log, "the disk is full") {
			t.Errorf("it logged\n%s\nwant why, once", log)
		}
		st.sweeping.failWith(nil)
		time.Sleep(time.Minute)
		if got := st.trimmed(); got != 35 {
			t.Errorf("trimmed up to %d when the disk had space again, want 35", got)
		}
	})
}
