package workload

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/load"
	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/peer"
	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/target"
)

const (
	// payloadBytes is the size of a message of the peers: that of a result as a
	// reader of TCManager gets it.
	payloadBytes = 210
	// dialing is how many connections are being made at once: fewer than a server
	// keeps waiting to be accepted.
	dialing = 128
	// patience is how long nothing may happen before a run is given up.
	patience = 30 * time.Second
	// beats is how often readers show that they live.
	beats = 20 * time.Second
	// stepMost bounds a wait, so that a signal to stop is heard.
	stepMost = 100 * time.Millisecond
)

// flusher is a protocol that gathers what it is given until Flush.
type flusher interface{ Flush(dst []byte) []byte }

// beater is a protocol that has to show that it lives.
type beater interface{ Beat() []byte }

// roomed is a publisher that makes its room itself.
type roomed interface{ Room() string }

// room is a room and who publishes to it.
type room struct {
	name      string
	publisher *member
	published uint64 // events, which are numbered from 1
}

// member is one connection: a publisher, or a reader of one room, who checks that
// it hears each event once and in order.
type member struct {
	crowd   *crowd
	conn    *load.Conn
	room    *room // nil for a publisher
	ready   bool
	joined  bool
	next    uint64 // the event it waits for; 0 if any may come first
	acked   uint64
	refused int    // how often it was turned away, in a storm
	out     []byte // what a publisher is about to send
}

// crowd is all connections to one server.
type crowd struct {
	ctx     context.Context
	target  *target.Target
	loop    *load.Loop
	readers []*member
	rooms   []*room
	others  []*member // publishers

	isReady, isJoined int // members that are
	delivered         int
	lost              int // and repeated or out of order
	forgiving         bool
	firstLost         error
	published         int
	latencies         Latencies
	payload           [payloadBytes]byte
	storm             *storm // nil while there is none
	beat              time.Time
}

func newCrowd(ctx context.Context, t *target.Target) (*crowd, error) {
	loop, err := load.New()
	if err != nil {
		return nil, err
	}
	return &crowd{ctx: ctx, target: t, loop: loop, beat: time.Now()}, nil
}

func (c *crowd) close() error { return c.loop.Close() }

// Ready is called when the connection is open.
func (m *member) Ready() {
	m.ready = true
	m.crowd.isReady++
	if m.room != nil {
		m.crowd.fail(m.conn.Send(m.conn.Protocol.Join(m.room.name)))
	}
}

// Joined is called when a reader is in its room.
func (m *member) Joined() {
	m.joined = true
	m.crowd.isJoined++
	if s := m.crowd.storm; s != nil {
		s.took.Add(time.Since(s.back).Nanoseconds())
	}
}

// Event is called with each event.
func (m *member) Event(payload []byte) {
	c := m.crowd
	seq := binary.BigEndian.Uint64(payload)
	c.latencies.Add(c.loop.Now() - int64(binary.BigEndian.Uint64(payload[8:])))
	if seq != m.next && m.next != 0 {
		c.missed(m, seq)
	}
	m.next = seq + 1
	c.delivered++
}

// missed is called with an event that is not the one that was to come.
func (c *crowd) missed(m *member, seq uint64) {
	n := 1
	if seq > m.next {
		n = int(seq - m.next)
	}
	c.lost += n
	if c.firstLost == nil {
		c.firstLost = fmt.Errorf("a reader of %s was sent event %d instead of %d", m.room.name, seq, m.next)
	}
}

// Acked is called with what the server acknowledges.
func (m *member) Acked(seq uint64) { m.acked = max(m.acked, seq) }

// Broken is called when the connection has ended: in a storm it is made anew.
func (m *member) Broken(cause error) error {
	if m.room != nil && m.crowd.storm != nil {
		m.crowd.storm.again(m)
		return nil
	}
	return cause
}

// fail keeps an error of a handler, which can't return one.
func (c *crowd) fail(err error) {
	if err != nil && c.firstLost == nil {
		c.firstLost = err
	}
}

// step waits for what comes next, until a time at most.
func (c *crowd) step(until time.Time) error {
	if !until.IsZero() && time.Until(until) < stepMost {
		if err := c.loop.Wake(until); err != nil {
			return err
		}
	}
	if err := c.loop.Step(stepMost); err != nil {
		return err
	}
	if time.Since(c.beat) > beats {
		c.beat = time.Now()
		for _, members := range [][]*member{c.readers, c.others} {
			for _, m := range members {
				if b, ok := m.conn.Protocol.(beater); ok && m.ready {
					c.fail(m.conn.Send(b.Beat()))
				}
			}
		}
	}
	if c.firstLost != nil && !c.forgiving {
		return c.firstLost
	}
	return c.ctx.Err()
}

// until steps until something is so. Progress is a number that changes while there
// is hope.
func (c *crowd) until(done func() bool, progress func() int, waiting func() string) error {
	for last, since := progress(), time.Now(); !done(); {
		if err := c.step(time.Time{}); err != nil {
			return err
		}
		if now := progress(); now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) > patience {
			return fmt.Errorf("nothing came for %s while waiting for %s", patience, waiting())
		}
	}
	return nil
}

func (c *crowd) dial(m *member, to netip.AddrPort, p peer.Protocol) error {
	var err error
	m.conn, err = c.loop.Dial(to, to.String(), p, m)
	return err
}

// open makes rooms, each with a publisher or all with one.
func (c *crowd) open(rooms int) error {
	for i := range rooms {
		r := &room{name: fmt.Sprintf("room-%d", i)}
		c.rooms = append(c.rooms, r)
		if i > 0 {
			if _, all := c.target.Publisher(i); all {
				r.publisher = c.others[0]
				continue
			}
		}
		p, _ := c.target.Publisher(i)
		r.publisher = &member{crowd: c}
		c.others = append(c.others, r.publisher)
		if err := c.dial(r.publisher, c.target.Runners, p); err != nil {
			return err
		}
	}
	err := c.until(func() bool { return c.isReady == len(c.others) }, func() int { return c.isReady },
		func() string { return fmt.Sprintf("publisher %d of %d to be welcome", c.isReady+1, len(c.others)) })
	for _, r := range c.rooms {
		if n, ok := r.publisher.conn.Protocol.(roomed); ok {
			r.name = n.Room()
		}
	}
	return err
}

// enter lets so many readers into rooms, by turns.
func (c *crowd) enter(readers int, rooms ...*room) error {
	for i := range readers {
		r := rooms[i%len(rooms)]
		m := &member{crowd: c, room: r, next: r.published + 1}
		c.readers = append(c.readers, m)
		if err := c.dial(m, c.target.Readers, c.target.Reader()); err != nil {
			return err
		}
		if err := c.arrive(dialing); err != nil {
			return err
		}
	}
	return c.arrive(1)
}

// arrive waits until fewer than so many readers are on their way.
func (c *crowd) arrive(under int) error {
	return c.until(func() bool { return len(c.readers)-c.isJoined < under }, func() int { return c.isJoined + c.isReady },
		func() string { return fmt.Sprintf("reader %d of %d to be in its room", c.isJoined+1, len(c.readers)) })
}

// publish publishes so many events, to the rooms by turns.
func (c *crowd) publish(events int) error {
	for range events {
		r := c.rooms[c.published%len(c.rooms)]
		c.published++
		r.published++
		binary.BigEndian.PutUint64(c.payload[:], r.published)
		binary.BigEndian.PutUint64(c.payload[8:], uint64(time.Now().UnixNano()))
		r.publisher.out = r.publisher.conn.Protocol.Publish(r.publisher.out, r.name, c.payload[:])
	}
	// The rooms that got something are the last ones before where the turn is now.
	for i := range min(events, len(c.rooms)) {
		if err := c.rooms[(c.published-1-i)%len(c.rooms)].publisher.send(); err != nil {
			return err
		}
	}
	return nil
}

// send sends what was gathered.
func (m *member) send() error {
	if f, ok := m.conn.Protocol.(flusher); ok {
		m.out = f.Flush(m.out)
	}
	err := m.conn.Send(m.out)
	m.out = m.out[:0]
	return err
}
