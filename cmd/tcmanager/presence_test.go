package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/carrier"
	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/config"
	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/crowd"
	"github.com/tcmanager/tcmanager/service/history"
)

// TestNobodyIsShownWhoHasGone lets visitors come to a room and go from it in all
// the ways there are: with a word, cut off, without a sign, or by going on with the
// session elsewhere. Those who stay in the room see it.
func TestNobodyIsShownWhoHasGone(t *testing.T) {
	const visitors = ways * 3 // each leaves for good in another way and by another carrier
	d := seconds(t, "TCM_SIM_SECONDS", 3*time.Second)
	w := newTown(t, 1, func(c *config.Config) {
		c.HeartbeatInterval, c.HeartbeatTimeout, c.PresenceGrace = 200*time.Millisecond, time.Second, 500*time.Millisecond
	})
	_, room := w.startRun("visited")
	_, other := w.startRun("other")
	w.admit("honest")
	_, visiting := w.crowd(1, visitors)
	clear(w.short)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var group, watching sync.WaitGroup
	honest := w.honest(ctx, &watching, room)
	walking, stopWalking := context.WithTimeout(ctx, d)
	defer stopWalking()
	for i, c := range visiting {
		v := visitor{number: i, c: c, room: room, other: other, rng: rand.New(rand.NewPCG(1, uint64(i)))}
		defer c.Bury()
		group.Go(func() { v.visit(walking) })
	}
	group.Wait()
	// Whoever is shown longer than this has been shown for too long.
	<-time.After(w.cfg.HeartbeatTimeout + w.cfg.PresenceGrace + soon + 500*time.Millisecond)
	cancel()
	watching.Wait()
	for _, c := range honest {
		c.Cut()
	}
	h := w.history()
	keep(t, h)
	w.check(h)
	t.Log(listed(count(h)))
	for _, kind := range []history.Kind{history.News, history.Alive, history.Left, history.Ended} {
		if w.rec.Count(kind) == 0 {
			t.Errorf("nothing was %s: nothing was tried", kind)
		}
	}
}

// visitor is a client that comes to a room and goes.
type visitor struct {
	number      int
	c           *crowd.Client
	room, other string
	rng         *rand.Rand
}

// visit comes and goes until ctx ends, and then goes for good.
func (v *visitor) visit(ctx context.Context) {
	life := context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		v.come(life, carrier.All[v.rng.IntN(len(carrier.All))])
		pause(ctx, v.rng, 200*time.Millisecond)
		if v.rng.IntN(4) == 0 {
			v.goAway(life, v.rng.IntN(ways))
		}
	}
	v.c.Cut()
	v.come(life, carrier.All[v.number%len(carrier.All)])
	v.c.Wait(life, 200*time.Millisecond)
	v.goAway(life, v.number/len(carrier.All)%ways)
	v.c.Cut()
}

// come sees that the visitor is there and says so.
func (v *visitor) come(ctx context.Context, by carrier.Carrier) {
	if !v.c.Connected() {
		_ = v.c.Open(ctx, by, target(v.room)) // it is tried again
	}
	_ = v.c.Ping() // likewise
}

// ways is how many there are to leave the room.
const ways = 5

// goAway is one of the ways to leave the room.
func (v *visitor) goAway(ctx context.Context, how int) {
	switch how {
	case 0:
		_ = v.c.Leave(ctx, v.room) // the stream may have ended
	case 1:
		v.c.Cut()
	case 2:
		v.c.Close()
	case 3:
		v.c.Vanish()
	case 4: // the session goes on in another room, and the server learns of it by that
		v.c.Vanish()
		if err := v.c.Leave(ctx, v.room); err != nil {
			panic(fmt.Sprint("a client without a stream has nobody to tell: ", err))
		}
		_ = v.c.Open(ctx, carrier.All[v.rng.IntN(len(carrier.All))], target(v.other))
		v.c.Wait(ctx, 50*time.Millisecond)
	}
}
