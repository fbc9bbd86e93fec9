package crowd

import (
	"context"
	"slices"
	"time"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/carrier"
	"github.com/tcmanager/tcmanager/service/history"
)

// Walk does what clients do, one thing after the other, until ctx ends. The stream
// stays open: Settle goes on with it.
func (c *Client) Walk(ctx context.Context) {
	life := context.WithoutCancel(ctx) // of streams
	for ctx.Err() == nil {
		if err := c.step(life); err != nil {
			c.Wait(ctx, 50*time.Millisecond) // the server is away, or the stream has ended
		}
		c.rest(ctx)
	}
}

// pingEvery is how often a client shows that it lives.
const pingEvery = 500 * time.Millisecond

// rest waits a little, of which much is nothing at all.
func (c *Client) rest(ctx context.Context) {
	d := time.Duration(c.rng.IntN(60)-20) * time.Millisecond
	if d <= 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (c *Client) step(ctx context.Context) error {
	if !c.Connected() {
		return c.comeBack(ctx)
	}
	c.mu.Lock()
	refresh := c.refresh
	c.mu.Unlock()
	if refresh && c.rng.IntN(2) == 0 {
		return c.Renew()
	}
	if time.Since(c.pinged) > pingEvery {
		return c.Ping()
	}
	if c.Pending() > 0 && c.rng.IntN(4) > 0 {
		c.Wait(ctx, 200*time.Millisecond) // mostly it hears the answer first, however busy the server is
		return nil
	}
	switch n := c.rng.IntN(100); {
	case n < 30:
		return c.joinAny(ctx)
	case n < 42:
		return c.leaveAny(ctx)
	case n < 49:
		c.Stall(time.Duration(50+c.rng.IntN(500)) * time.Millisecond)
	case n < 56:
		c.Cut()
		return c.comeBack(ctx)
	case n < 62:
		c.Close()
		return c.comeBack(ctx)
	default: // only listens
	}
	return nil
}

// comeBack opens a stream by any carrier. Mostly it goes on where it was, now and
// then at an older place.
func (c *Client) comeBack(ctx context.Context) error {
	c.mu.Lock()
	rooms := make([]string, 0, len(c.in))
	for room := range c.in {
		rooms = append(rooms, room)
	}
	slices.Sort(rooms) // a map's order is no choice of the seed's
	for _, room := range rooms {
		if c.rng.IntN(4) == 0 {
			c.in[room].at = c.placeLocked(room)
		}
	}
	c.mu.Unlock()
	return c.Open(ctx, carrier.All[c.rng.IntN(len(carrier.All))])
}

// joinAny joins a room, from any place, whether the client is in it or not.
func (c *Client) joinAny(ctx context.Context) error {
	targets := c.cfg.Rooms()
	if len(targets) == 0 {
		return nil
	}
	to := targets[c.rng.IntN(len(targets))]
	c.mu.Lock()
	from := c.placeLocked(to.Room)
	c.mu.Unlock()
	return c.Join(ctx, to, from)
}

// placeLocked chooses a place to come back with: none, one that was told, or one
// that isn't there.
func (c *Client) placeLocked(room string) history.Position {
	kept := c.kept[room]
	switch n := c.rng.IntN(20); {
	case n < 5 || len(kept) == 0:
		return history.Position{}
	case n == 5:
		return history.Position{Epoch: kept[0].Epoch, Offset: kept[len(kept)-1].Offset + 1_000_000}
	case n == 6:
		at := kept[c.rng.IntN(len(kept))]
		return history.Position{Epoch: at.Epoch ^ 1, Offset: at.Offset}
	case n < 14:
		return kept[len(kept)-1]
	default:
		return kept[c.rng.IntN(len(kept))]
	}
}

func (c *Client) leaveAny(ctx context.Context) error {
	c.mu.Lock()
	rooms := make([]string, 0, len(c.in))
	for room := range c.in {
		rooms = append(rooms, room)
	}
	c.mu.Unlock()
	if len(rooms) == 0 {
		return nil
	}
	slices.Sort(rooms)
	return c.Leave(ctx, rooms[c.rng.IntN(len(rooms))])
}
