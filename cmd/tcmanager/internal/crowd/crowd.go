// Package crowd is many clients that come and go at a running server and record
// what they are told, so that the guarantees of package history can be checked.
//
// A Client believes what the protocol says: it comes back with the position of
// the last event, bookmark or cursor it was told, and so finds out by what it is
// told next whether it should have. It also does what clients are free to do:
// comes back with any older position, or on another carrier, stops reading, or is
// cut off. What it chooses follows from a seed; when the server answers doesn't.
//
// # Concurrency
//
// A Client is driven by one goroutine. It has one more, which reads, while a
// stream is open; Cut waits for that.
package crowd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/carrier"
	"github.com/tcmanager/tcmanager/service/history"
)

// keptPositions is how many places in a room a client may come back with.
const keptPositions = 32

// Target is a room to join.
type Target struct {
	Room   string
	Detail pb.Detail
}

// Config is what the clients of a crowd have in common.
type Config struct {
	Server   carrier.Server
	Recorder *history.Recorder // nil for clients whose history nobody asks for
	// Token returns a user's token and when it ends.
	Token func(user string) (token string, until time.Time, err error)
	// Busy says that the machine may be too busy for the clients to read in time:
	// what they read is judged by when it happened.
	Busy bool
	// Rooms are those that may be joined now.
	Rooms func() []Target
}

// Client is one session.
type Client struct {
	cfg     Config
	name    string
	user    string
	rng     *rand.Rand // of the goroutine that drives it
	number  int        // of the stream
	carrier carrier.Carrier
	stream  carrier.Stream // nil while there is none
	ended   chan struct{}  // closed when the stream has been read to its end
	pinged  time.Time
	doubts  bool // what is read may be old, for a reason that is not the client's

	mu        sync.Mutex // guards the rest
	changed   chan struct{}
	sessionID string
	next      uint64                        // the number of the last request
	asks      map[uint64]ask                // joins without an answer
	in        map[string]*place             // rooms it is in, or means to be in
	kept      map[string][]history.Position // places to come back with
	until     time.Time                     // it reads nothing before
	refresh   bool                          // the server asked for a new token
	awayFor   time.Duration                 // the server asked to stay away
	told      int                           // events
	vanished  map[carrier.Stream]bool       // streams that nobody listens to any more
	graves    []carrier.Stream              // those that are to be cut off
}

type ask struct {
	room string
	from history.Position
}

// place is where the client is in a room.
type place struct {
	at     history.Position // zero until something was told
	detail pb.Detail
	joined bool // the answer to the join has come
}

// NewClient returns a client without a stream. Its name is the session's in the
// history.
func NewClient(cfg Config, name, user string, seed uint64) *Client {
	return &Client{
		cfg: cfg, name: name, user: user, rng: rand.New(rand.NewPCG(seed, seed)), changed: make(chan struct{}),
		asks: map[uint64]ask{}, in: map[string]*place{}, kept: map[string][]history.Position{},
		vanished: map[carrier.Stream]bool{},
	}
}

// record adds a record of the current stream.
func (c *Client) record(r history.Record) {
	if c.cfg.Recorder == nil {
		return
	}
	r.Session, r.Stream = c.name, c.number
	c.cfg.Recorder.Add(r)
}

// Streams is how many streams the client has opened.
func (c *Client) Streams() int { return c.number }

// Open opens a stream and joins the rooms that the client was in, where it was,
// and more.
func (c *Client) Open(ctx context.Context, by carrier.Carrier, more ...Target) error {
	c.Cut()
	c.mu.Lock()
	for _, to := range more {
		if c.in[to.Room] == nil {
			c.in[to.Room] = &place{detail: to.Detail}
		}
	}
	c.mu.Unlock()
	token, until, err := c.cfg.Token(c.user)
	if err != nil {
		return err
	}
	c.number++
	c.carrier = by
	c.record(history.Record{Kind: history.Opened, User: c.user, Carrier: by.String(), Until: until})
	if c.doubts || c.cfg.Busy {
		c.record(history.Record{Kind: history.Stalled})
	}
	first := c.hello()
	stream, err := by.Open(ctx, c.cfg.Server, token, first...)
	if err != nil {
		c.end(err)
		return fmt.Errorf("open a stream by %s: %w", by, err)
	}
	c.stream, c.ended, c.pinged = stream, make(chan struct{}), time.Now()
	go c.listen(stream, c.ended)
	return nil
}

// hello returns what is said first.
func (c *Client) hello() []*pb.SubscribeRequest {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refresh, c.awayFor = false, 0
	requests := []*pb.SubscribeRequest{{Frame: &pb.SubscribeRequest_Hello{Hello: &pb.Hello{Client: "crowd", SessionId: c.sessionID}}}}
	clear(c.asks)
	rooms := make([]string, 0, len(c.in))
	for room := range c.in {
		rooms = append(rooms, room)
	}
	slices.Sort(rooms)
	for _, room := range rooms {
		p := c.in[room]
		p.joined = false
		requests = append(requests, c.askLocked(room, p.detail, p.at))
	}
	return requests
}

// askLocked makes a join and records it.
func (c *Client) askLocked(room string, detail pb.Detail, from history.Position) *pb.SubscribeRequest {
	c.next++
	c.asks[c.next] = ask{room, from}
	c.record(history.Record{Kind: history.Asked, ID: c.next, Room: room, Position: from})
	return &pb.SubscribeRequest{Id: c.next, Frame: &pb.SubscribeRequest_Join{Join: &pb.JoinRoom{Room: room, Detail: detail, Position: from.Proto()}}}
}

// Join joins a room, or joins it anew. A client whose carrier takes no requests
// opens another stream for it.
func (c *Client) Join(ctx context.Context, to Target, from history.Position) error {
	if c.stream == nil {
		return c.sayByOpening(ctx, to, from)
	}
	if !c.carrier.Duplex() {
		return c.sayByOpening(ctx, to, from)
	}
	c.mu.Lock()
	if c.in[to.Room] == nil {
		c.in[to.Room] = &place{at: from}
	}
	c.in[to.Room].detail = to.Detail
	req := c.askLocked(to.Room, to.Detail, from)
	c.mu.Unlock()
	return c.stream.Send(req)
}

func (c *Client) sayByOpening(ctx context.Context, to Target, from history.Position) error {
	by := c.carrier
	if by == nil {
		by = carrier.All[c.rng.IntN(len(carrier.All))]
	}
	c.Cut()
	c.mu.Lock()
	c.in[to.Room] = &place{at: from, detail: to.Detail}
	c.mu.Unlock()
	return c.Open(ctx, by)
}

// Leave leaves a room.
func (c *Client) Leave(ctx context.Context, room string) error {
	c.mu.Lock()
	delete(c.in, room)
	c.next++
	id := c.next
	c.mu.Unlock()
	switch {
	case c.stream == nil:
		return nil
	case !c.carrier.Duplex():
		return c.Open(ctx, c.carrier)
	default:
		return c.stream.Send(&pb.SubscribeRequest{Id: id, Frame: &pb.SubscribeRequest_Leave{Leave: &pb.LeaveRoom{Room: room}}})
	}
}

// Ping shows that the client lives.
func (c *Client) Ping() error {
	if c.stream == nil || !c.carrier.Duplex() {
		return nil
	}
	c.pinged = time.Now()
	return c.stream.Send(&pb.SubscribeRequest{Frame: &pb.SubscribeRequest_Ping{Ping: &pb.Ping{}}})
}

// Quiet is how long the client has said nothing.
func (c *Client) Quiet() time.Duration { return time.Since(c.pinged) }

// Renew goes on with a new token, if the carrier takes one.
func (c *Client) Renew() error {
	c.mu.Lock()
	c.refresh = false
	c.mu.Unlock()
	if c.stream == nil || !c.carrier.Duplex() {
		return nil
	}
	token, until, err := c.cfg.Token(c.user)
	if err != nil {
		return err
	}
	c.record(history.Record{Kind: history.Renewed, Until: until})
	return c.stream.Send(&pb.SubscribeRequest{Frame: &pb.SubscribeRequest_RefreshToken{RefreshToken: &pb.RefreshToken{Token: token}}})
}

// Doubt says whether what is read may be old, because something on the way holds it
// back. Of a stream that it was true for it stays true.
func (c *Client) Doubt(may bool) {
	if may && c.stream != nil {
		c.record(history.Record{Kind: history.Stalled})
	}
	c.doubts = may
}

// Stall stops reading for a while.
func (c *Client) Stall(d time.Duration) {
	if c.stream == nil {
		return
	}
	c.record(history.Record{Kind: history.Stalled})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = time.Now().Add(d)
}

// Cut cuts the stream off, if there is one, and waits until nothing of it is read
// any more.
func (c *Client) Cut() {
	if c.stream == nil {
		return
	}
	c.mu.Lock()
	c.until = time.Time{}
	c.mu.Unlock()
	c.stream.Cut()
	<-c.ended
	c.stream = nil
}

// Vanish leaves the stream open and has nothing to do with it any more, as a
// machine that lost its network. Bury ends what is left of it.
func (c *Client) Vanish() {
	if c.stream == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.ended: // it was told so, and recorded it
	default:
		c.vanished[c.stream] = true
		c.graves = append(c.graves, c.stream)
		c.end(errVanished)
	}
	c.until = time.Time{}
	c.stream = nil
}

var errVanished = errors.New("the client vanished")

// Bury cuts off the streams that it vanished from.
func (c *Client) Bury() {
	c.mu.Lock()
	graves := c.graves
	c.graves = nil
	c.mu.Unlock()
	for _, s := range graves {
		s.Cut()
	}
}

// Close finishes the stream and reads it to its end, for at most a second.
func (c *Client) Close() {
	if c.stream == nil {
		return
	}
	if c.stream.Close() == nil {
		select {
		case <-c.ended:
		case <-time.After(time.Second):
		}
	}
	c.Cut()
}

// Connected reports whether there is a stream that hasn't ended.
func (c *Client) Connected() bool {
	if c.stream == nil {
		return false
	}
	select {
	case <-c.ended:
		c.Cut()
		return false
	default:
		return true
	}
}

// Rooms returns the rooms that the client is in, and the offset it was told up to.
// Those whose join has no answer yet are not among them.
func (c *Client) Rooms() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	in := map[string]uint64{}
	for room, p := range c.in {
		if p.joined {
			in[room] = p.at.Offset
		}
	}
	return in
}

// Told is how many events the client was told of.
func (c *Client) Told() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.told
}

// Wants reports whether the server asked for a new token.
func (c *Client) Wants() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refresh
}

// Pending is how many joins have no answer.
func (c *Client) Pending() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.asks)
}

// Wait waits until something was told, ctx ends, or the time is up.
func (c *Client) Wait(ctx context.Context, d time.Duration) {
	c.mu.Lock()
	changed := c.changed
	c.mu.Unlock()
	select {
	case <-changed:
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// Settle sees that the client was told all there is: heads returns the newest
// position of a room, which must not move any more. It waits for at most d, and
// records where the client stayed, whether it was told all or not. It reports
// whether it was.
func (c *Client) Settle(ctx context.Context, d time.Duration, heads func(room string) (history.Position, bool)) bool {
	settled := false
	for deadline := time.Now().Add(d); !settled && time.Now().Before(deadline) && ctx.Err() == nil; {
		if settled = c.isSettled(ctx, heads); !settled {
			c.Wait(ctx, 20*time.Millisecond)
		}
	}
	for room := range c.Rooms() {
		if head, ok := heads(room); ok && c.Connected() {
			c.record(history.Record{Kind: history.Stayed, Room: room, Position: head})
		}
	}
	return settled
}

func (c *Client) isSettled(ctx context.Context, heads func(room string) (history.Position, bool)) bool {
	if !c.Connected() {
		by := carrier.All[c.rng.IntN(len(carrier.All))]
		return c.Open(ctx, by) == nil && false
	}
	if c.Pending() > 0 {
		return false
	}
	for room, offset := range c.Rooms() {
		if head, ok := heads(room); ok && offset < head.Offset {
			return false
		}
	}
	return true
}

// end records the end of a stream.
func (c *Client) end(err error) {
	c.record(history.Record{Kind: history.Ended, Reason: fmt.Sprint(err)})
}
