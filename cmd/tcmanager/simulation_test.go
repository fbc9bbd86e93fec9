package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/carrier"
	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/config"
	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/crowd"
	"github.com/tcmanager/tcmanager/service/history"
)

// seeds are those that are always run. Those that found something are named after it.
var seeds = []struct {
	name string
	seed uint64
}{
	{"first", 1},
	{"events of the log ahead of the answer to a join", 22},
	{"a run that was left, told behind the answer to the next join", 113},
}

// TestRoomsLoseNothing lets many clients on all carriers come and go at a server
// that is restarted, while much is published and rights change, and holds what
// they were told against every guarantee. TCM_SIM_SEED runs one seed, and
// TCM_SIM_SECONDS for how long; TCM_SIM_DIR keeps the histories.
func TestRoomsLoseNothing(t *testing.T) {
	d := seconds(t, "TCM_SIM_SECONDS", 2*time.Second)
	if seed := number(t, "TCM_SIM_SEED", 0); seed != 0 {
		simulate(t, seed, d)
		return
	}
	for _, s := range seeds {
		t.Run(s.name, func(t *testing.T) { simulate(t, s.seed, d) })
	}
}

func number(t testing.TB, variable string, otherwise uint64) uint64 {
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

func seconds(t testing.TB, variable string, otherwise time.Duration) time.Duration {
	return time.Duration(number(t, variable, uint64(otherwise/time.Second))) * time.Second
}

const (
	clientsAtOnce = 18
	shortToken    = 1200 * time.Millisecond // of every sixth user
)

func simulate(t *testing.T, seed uint64, d time.Duration) {
	w := newTown(t, seed, func(c *config.Config) { c.ReplayEvents = 250 })
	users, clients := w.crowd(seed, clientsAtOnce)
	rng := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var group sync.WaitGroup
	for _, c := range clients {
		group.Go(func() { c.Walk(ctx) })
	}
	group.Go(func() { w.runner(ctx, rng(1)) })
	group.Go(func() { w.reporter(ctx, rng(2)) })
	group.Go(func() { w.editor(ctx, rng(3)) })
	group.Go(func() { w.manager(ctx, rng(4), users[:len(users)/2]) })
	w.restarts(ctx, rng(5), d)
	cancel()
	group.Wait()
	w.settle(w.quiet(), w.settleTime(), clients...)
	for _, c := range clients {
		c.Cut()
	}
	h := w.history()
	keep(t, h)
	w.check(h)
	n := count(h)
	t.Log(listed(n))
	for _, by := range carrier.All {
		if n["told by "+by.String()] == 0 || n["recovered by "+by.String()] == 0 {
			t.Errorf("nothing was told by %s, or nobody came back by it", by)
		}
	}
	if missing := w.untried(); missing != "" {
		t.Errorf("nothing was %s: the simulation doesn't try what it should", missing)
	}
}

// untried returns something that must be in a history, and isn't.
func (w *town) untried() history.Kind {
	for _, kind := range []history.Kind{
		history.Told, history.News, history.Joined, history.Bookmark, history.Cursor, history.Reset,
		history.Evicted, history.Refused, history.Left, history.Renewed, history.Stalled,
	} {
		if w.rec.Count(kind) == 0 {
			return kind
		}
	}
	return ""
}

// crowd makes clients, each of another user, members of all projects.
func (w *town) crowd(seed uint64, n int) (users []string, clients []*crowd.Client) {
	for i := range n {
		user := fmt.Sprintf("user%02d", i)
		w.admit(user)
		if i%6 == 5 {
			w.short[user] = shortToken
		}
		users = append(users, user)
		clients = append(clients, w.client(fmt.Sprint("s", i), user, seed*1000+uint64(i)))
	}
	return users, clients
}

// restarts stops the server and starts it again, gracefully and abruptly in turn,
// for some time, and until all was tried: a slow machine needs longer.
func (w *town) restarts(ctx context.Context, rng *rand.Rand, d time.Duration) {
	began := time.Now()
	for i := 0; time.Since(began) < d || w.untried() != "" && time.Since(began) < d+time.Minute; i++ {
		pause(ctx, rng, 200*time.Millisecond)
		select {
		case <-time.After(700 * time.Millisecond):
		case <-ctx.Done():
			return
		}
		w.stop(i%2 != 0)
		w.start()
	}
}

// keep writes a history to a file, if one is asked for.
func keep(t *testing.T, h *history.History) {
	dir := os.Getenv("TCM_SIM_DIR")
	if dir == "" {
		return
	}
	f, err := os.Create(filepath.Join(dir, fmt.Sprintf("history-%d.jsonl", h.Seed)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := history.Write(f, h); err != nil {
		t.Error(err)
	}
}
