package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/carrier"
	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/crowd"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/history"
)

// carriers are what clients come by, by how many of eight do.
type carriers struct{ shared []*grpc.ClientConn }

func (c carriers) any(rng *rand.Rand) carrier.Carrier {
	switch rng.IntN(8) {
	case 0, 1, 2:
		return carrier.Shared{Conn: c.shared[rng.IntN(len(c.shared))]}
	case 3:
		return carrier.Native{}
	case 4, 5:
		return carrier.Websocket{}
	case 6:
		return carrier.Watch{}
	default:
		return carrier.Watch{Mode: []pb.WatchMode{pb.WatchMode_WATCH_MODE_LONG_POLL, pb.WatchMode_WATCH_MODE_POLL}[rng.IntN(2)]}
	}
}

// mostRooms is how many rooms a client joins by itself.
const mostRooms = 4

// mostAway is how long a client stays away that left, or polls.
const mostAway = time.Second

// client is one of the crowd that comes and goes.
type client struct {
	*crowd.Client
	by     carriers
	rng    *rand.Rand
	rooms  func() []crowd.Target
	pace   time.Duration // how often it does something, on average
	pings  time.Duration // how often it shows that it lives
	pinged time.Time
	tally  *tally
}

// live comes and goes until ctx ends. Then its stream, if it has one, is open.
func (c *client) live(ctx context.Context) {
	life := context.WithoutCancel(ctx) // of streams
	for ctx.Err() == nil {
		c.do(life)
		rest := time.Duration(c.rng.Int64N(int64(2*c.pace) + 1))
		if !c.Connected() {
			rest = min(rest, mostAway)
		}
		for ; rest > 0 && ctx.Err() == nil; rest -= c.pings {
			_ = wait(ctx, min(rest, c.pings)) // it says that ctx has ended
			c.sign()
		}
	}
}

// sign shows that the client lives, and renews its token if it has to.
func (c *client) sign() {
	if !c.Connected() || time.Since(c.pinged) < c.pings {
		return
	}
	c.pinged = time.Now()
	// A stream that has ended is noticed with the next thing it does.
	_ = c.Ping()
	if c.Wants() {
		_ = c.Renew()
	}
}

// do does one of the things that clients do.
func (c *client) do(ctx context.Context) {
	var err error
	switch n := c.rng.IntN(100); {
	case !c.Connected():
		err = c.comeBack(ctx)
	case n < 25:
		err = c.join(ctx)
	case n < 40:
		c.tally.leaves.Add(1)
		err = c.leave(ctx)
	case n < 48:
		c.tally.stalls.Add(1)
		c.Stall(min(5*time.Second, c.pace*time.Duration(1+c.rng.IntN(3))))
	case n < 60:
		c.tally.cuts.Add(1)
		c.Cut()
		err = c.comeBack(ctx)
	case n < 70:
		c.tally.closes.Add(1)
		c.Close()
	case n < 74:
		c.tally.vanished.Add(1)
		c.Bury()
		c.Vanish()
	default: // only listens
	}
	if err != nil {
		c.tally.errors.Add(1)
	}
}

func (c *client) comeBack(ctx context.Context) error {
	c.tally.opened.Add(1)
	if len(c.Rooms()) > 0 {
		return c.Open(ctx, c.by.any(c.rng))
	}
	targets := c.rooms()
	return c.Open(ctx, c.by.any(c.rng), targets[c.rng.IntN(len(targets))])
}

func (c *client) join(ctx context.Context) error {
	if len(c.Rooms()) >= mostRooms {
		return c.leave(ctx)
	}
	c.tally.joins.Add(1)
	targets := c.rooms()
	return c.Join(ctx, targets[c.rng.IntN(len(targets))], history.Position{})
}

func (c *client) leave(ctx context.Context) error {
	rooms := make([]string, 0, mostRooms)
	for room := range c.Rooms() {
		rooms = append(rooms, room)
	}
	if len(rooms) == 0 {
		return nil
	}
	slices.Sort(rooms)
	return c.Leave(ctx, rooms[c.rng.IntN(len(rooms))])
}

// goAway leaves for good.
func (c *client) goAway() {
	c.Cut()
	c.Bury()
}
