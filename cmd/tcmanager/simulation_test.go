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

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/crowd"
	"github.com/tcmanager/tcmanager/service/history"
)

// seeds are those that are always run. One that found something gets the name of
// what it found.
var seeds = []struct {
	name string
	seed uint64
}{
	{"first", 1},
	{"second", 2},
}

// TestRoomsLoseNothing lets many clients on all carriers come and go at a server
// that is restarted, while much is published and rights change, and holds what
// they were told against every guarantee. TCM_SIM_SEED runs one seed, and
// TCM_SIM_SECONDS for how long; TCM_SIM_DIR keeps the histories.
func TestRoomsLoseNothing(t *testing.T) {
	seconds := time.Duration(number(t, "TCM_SIM_SECONDS", 3)) * time.Second
	if seed := number(t, "TCM_SIM_SEED", 0); seed != 0 {
		simulate(t, seed, seconds)
		return
	}
	for _, s := range seeds {
		t.Run(s.name, func(t *testing.T) { simulate(t, s.seed, seconds) })
	}
}

func number(t *testing.T, variable string, otherwise uint64) uint64 {
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

const (
	clientsAtOnce = 18
	shortToken    = 1200 * time.Millisecond // of every sixth user
)

func simulate(t *testing.T, seed uint64, d time.Duration) {
	w := newTown(t, seed)
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
	w.settle(15*time.Second, clients...)
	for _, c := range clients {
		c.Cut()
	}
	h := w.history()
	keep(t, h)
	w.check(h)
	n := count(h)
	t.Log(listed(n))
	for _, must := range []string{
		"told by native", "told by websocket", "told by watch", "recovered by native", "recovered by websocket", "recovered by watch",
		"bookmark", "reset", "evicted", "refused", "stalled", "stayed", "cursor", "news",
	} {
		if n[must] == 0 {
			t.Errorf("nothing was %s: the simulation doesn't try what it should", must)
		}
	}
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

// restarts stops the server and starts it again, now and then, for some time.
func (w *town) restarts(ctx context.Context, rng *rand.Rand, d time.Duration) {
	deadline := time.Now().Add(d)
	for i := 0; time.Now().Before(deadline); i++ {
		pause(ctx, rng, 200*time.Millisecond)
		select {
		case <-time.After(d / 3):
		case <-ctx.Done():
			return
		}
		if time.Now().Before(deadline) {
			w.stop(i%2 == 0)
			w.start()
		}
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
