package crowd

import (
	"math/rand/v2"
	"slices"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/carrier"
	"github.com/tcmanager/tcmanager/service/history"
)

// listen reads a stream to its end and records what it tells.
func (c *Client) listen(stream carrier.Stream, ended chan<- struct{}) {
	defer close(ended)
	for {
		c.hold()
		res, err := stream.Recv()
		c.mu.Lock()
		if c.vanished[stream] {
			delete(c.vanished, stream)
			c.mu.Unlock()
			return
		}
		if err != nil {
			c.end(err)
			c.signalLocked()
			c.mu.Unlock()
			return
		}
		for _, ev := range res.Events {
			c.hearLocked(ev)
		}
		c.frameLocked(res)
		c.signalLocked()
		c.mu.Unlock()
	}
}

// hold waits while the client doesn't read.
func (c *Client) hold() {
	for {
		c.mu.Lock()
		wait := time.Until(c.until)
		changed := c.changed
		c.mu.Unlock()
		if wait <= 0 {
			return
		}
		select {
		case <-time.After(min(wait, 20*time.Millisecond)): // it may be cut off meanwhile
		case <-changed:
		}
	}
}

func (c *Client) signalLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Client) hearLocked(ev *pb.Event) {
	c.told++
	if c.cfg.Recorder != nil { // what is recorded is hashed
		kind := history.Told
		if ev.Offset == 0 {
			kind = history.News
		}
		c.record(history.OfEvent(kind, ev))
	}
	if ev.Offset > 0 {
		c.moveLocked(ev.Room, history.Position{Epoch: ev.Epoch, Offset: ev.Offset})
	}
}

// moveLocked notes that the client was told all up to a position.
func (c *Client) moveLocked(room string, to history.Position) {
	if p := c.in[room]; p != nil && to.Offset >= p.at.Offset {
		p.at = to
	}
	c.keepLocked(room, to)
}

func (c *Client) keepLocked(room string, at history.Position) {
	if at == (history.Position{}) {
		return
	}
	c.kept[room] = append(c.kept[room], at)
	if n := len(c.kept[room]); n > keptPositions {
		// Any of them goes, so that old ones are among those that stay.
		i := rand.IntN(n - 1)
		c.kept[room] = slices.Delete(c.kept[room], i, i+1)
	}
}

// frameLocked records a control frame.
func (c *Client) frameLocked(res *pb.SubscribeResponse) {
	switch f := res.Frame.(type) {
	case *pb.SubscribeResponse_Welcome:
		c.sessionID = f.Welcome.SessionId
	case *pb.SubscribeResponse_Joined:
		c.joinedLocked(res.ReplyTo, f.Joined)
	case *pb.SubscribeResponse_Error:
		c.refusedLocked(res.ReplyTo, f.Error)
	case *pb.SubscribeResponse_Left:
		c.record(history.Record{Kind: history.Left, Room: f.Left.Room})
		c.goneLocked(f.Left.Room)
	case *pb.SubscribeResponse_Evicted:
		c.record(history.Record{Kind: history.Evicted, Room: f.Evicted.Room, Reason: f.Evicted.GetError().GetReason()})
		c.goneLocked(f.Evicted.Room)
	case *pb.SubscribeResponse_Bookmark:
		at := history.OfPosition(f.Bookmark.Position)
		c.record(history.Record{Kind: history.Bookmark, Room: f.Bookmark.Room, Position: at})
		c.moveLocked(f.Bookmark.Room, at)
	case *pb.SubscribeResponse_GoingAway:
		for _, b := range f.GoingAway.Cursors {
			at := history.OfPosition(b.Position)
			c.record(history.Record{Kind: history.Cursor, Room: b.Room, Position: at})
			c.moveLocked(b.Room, at)
		}
		c.awayFor = f.GoingAway.ReconnectAfter.AsDuration()
	case *pb.SubscribeResponse_Reset_:
		c.record(history.Record{Kind: history.Reset, Room: f.Reset_.Room, Reason: f.Reset_.Reason})
	case *pb.SubscribeResponse_Pong:
		c.record(history.Record{Kind: history.Alive})
	case *pb.SubscribeResponse_TokenExpiring:
		c.refresh = true
	default:
	}
}

func (c *Client) joinedLocked(to uint64, j *pb.Joined) {
	at := history.OfPosition(j.Position)
	c.record(history.Record{
		Kind: history.Joined, ID: to, Room: j.Room, Position: at, Recovered: j.Recovered, Snapshot: j.Snapshot != nil,
		Present: history.OfPresence(j.Presence), Crowd: int(j.Present) > len(j.Presence),
	})
	asked, known := c.asks[to]
	delete(c.asks, to)
	p := c.in[j.Room]
	if p == nil {
		if known {
			return // it was left meanwhile
		}
		p = &place{} // a run of a project that is followed
		c.in[j.Room] = p
	}
	p.joined = true
	switch {
	case !j.Recovered:
		p.at = at
	case known:
		p.at = asked.from
	}
	c.keepLocked(j.Room, p.at)
}

func (c *Client) refusedLocked(to uint64, err *pb.Error) {
	c.record(history.Record{Kind: history.Refused, ID: to, Reason: err.GetReason()})
	asked, known := c.asks[to]
	if known {
		delete(c.asks, to)
		c.goneLocked(asked.room)
	}
}

// goneLocked forgets a room, unless it is being joined again.
func (c *Client) goneLocked(room string) {
	for _, a := range c.asks {
		if a.room == room {
			return
		}
	}
	delete(c.in, room)
}
