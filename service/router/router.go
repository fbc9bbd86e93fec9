// Package router hands events to whoever is in their room. Rooms live in memory
// and exist while somebody is in them.
//
// # Concurrency
//
// Publish may be called from any goroutine; the events of one call reach each
// subscriber of a room in their order, and calls are ordered as their callers
// order them. Publish never waits: a Subscriber takes a batch into a bounded
// queue of its own, or notes that it is behind and reads the log later. Those of a
// Group are offered it by their group, in the same order, and perhaps a little later.
// No lock is held across an Offer, so that who comes into a room, or leaves it,
// doesn't wait for those who publish there.
package router

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/wire"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// Batch is a piece of one room's events, all of one delivery class, or a
// bookmark. It is shared by all subscribers and never changed. A batch of another
// class than DURABLE has one event.
type Batch struct {
	Room   event.Room
	Class  pb.DeliveryClass
	Events []event.Event  // in order; empty for a bookmark
	At     event.Position // of a bookmark: where the room's log is
	Piece  *Piece         // what its readers are sent
	With   *Batch         // of class LATEST, published right behind events of class DURABLE; nil if there was none
}

// Piece is a batch as it is sent. It is made once for all who hear it.
type Piece struct {
	Frame    wire.Frame // the events' Wire, joined; of a bookmark, the frame that tells of it
	Bookmark bool

	joined atomic.Pointer[joined]
}

// joined is what some pieces of a room are when they are sent together, and one of
// another kind with them.
type joined struct {
	last, other *Piece
	frame       wire.Frame
}

// Join returns the frame that some pieces make, one behind the other, and behind them
// another one, if it is not nil. The pieces are all that one room had of DURABLE events
// from the first to the last: readers who have the same to be sent, which is what a
// burst makes of them, share the frame.
func Join(pieces []*Piece, other *Piece) wire.Frame {
	first, last := pieces[0], pieces[len(pieces)-1]
	if first == last && other == nil {
		return first.Frame
	}
	if j := first.joined.Load(); j != nil && j.last == last && j.other == other {
		return j.frame
	}
	size := 0
	for _, p := range pieces {
		size += p.Frame.Size()
	}
	if other != nil {
		size += other.Frame.Size()
	}
	b := wire.NewBuilder(size)
	for _, p := range pieces {
		b.Add(p.Frame.Bytes())
	}
	if other != nil {
		b.Add(other.Frame.Bytes())
	}
	j := &joined{last: last, other: other, frame: b.Frame()}
	first.joined.Store(j)
	return j.frame
}

// IsBookmark reports whether the batch tells where the room is and nothing else.
func (b *Batch) IsBookmark() bool { return len(b.Events) == 0 }

// First is the offset of the first event; 0 unless the class is DURABLE.
func (b *Batch) First() uint64 { return b.Events[0].Position.Offset }

// Last is the position of the last event; zero unless the class is DURABLE.
func (b *Batch) Last() event.Position { return b.Events[len(b.Events)-1].Position }

// Subscriber hears batches of the rooms it subscribed to.
type Subscriber interface {
	// Offer must not block. It may be called from several goroutines, one at a
	// time for each room and class DURABLE.
	Offer(*Batch)
}

// Member is a Subscriber that is offered batches by its group.
type Member interface {
	Subscriber
	Group() Group // always the same
}

// Group offers batches to its members, where their memory is at hand.
type Group interface {
	// Deliver offers a batch to those of the group who hear a room, now or soon, and
	// behind what it was given before. It must not block, and leaves to as it is.
	Deliver(b *Batch, to []*Subscription)
}

// Router knows who is in which room.
type Router struct {
	mu    sync.RWMutex // guards rooms and each room's users
	rooms map[event.Room]*room
}

// room is a room with subscribers.
type room struct {
	users int // who is in it, or about to be: the room is forgotten with the last

	mu     sync.Mutex // guards the rest
	groups []*audience
}

// audience is who of a group is in a room. Those who publish read subs without the
// room's lock: it is appended to, behind what they read, or replaced, and never changed.
type audience struct {
	group Group // nil for those who are in none
	subs  []*Subscription
	left  int // how many of subs have left
}

// Subscription is a subscriber's place in a room.
type Subscription struct {
	sub    Subscriber
	left   atomic.Bool
	router *Router
	name   event.Room
	room   *room
	among  *audience
}

// Offer hands on a batch, unless the subscriber has left.
func (s *Subscription) Offer(b *Batch) {
	if !s.left.Load() {
		s.sub.Offer(b)
	}
}

// New returns a router without rooms.
func New() *Router { return &Router{rooms: map[event.Room]*room{}} }

// Subscribe lets sub hear a room until the returned function is called, which
// may be done more than once. A batch that is being published at that moment may
// still arrive.
func (r *Router) Subscribe(name event.Room, sub Subscriber) (leave func()) {
	r.mu.Lock()
	in := r.rooms[name]
	if in == nil {
		in = &room{}
		r.rooms[name] = in
	}
	in.users++
	r.mu.Unlock()
	s := &Subscription{sub: sub, router: r, name: name, room: in}
	in.add(s)
	return s.leave
}

func (in *room) add(s *Subscription) {
	var group Group
	if m, is := s.sub.(Member); is {
		group = m.Group()
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	i := slices.IndexFunc(in.groups, func(a *audience) bool { return a.group == group })
	if i < 0 {
		i = len(in.groups)
		in.groups = append(in.groups, &audience{group: group})
	}
	s.among = in.groups[i]
	s.among.subs = append(s.among.subs, s)
}

func (s *Subscription) leave() {
	if s.left.Swap(true) {
		return
	}
	s.room.tidy(s.among)
	s.router.mu.Lock()
	defer s.router.mu.Unlock()
	if s.room.users--; s.room.users == 0 {
		delete(s.router.rooms, s.name)
	}
}

// tidy forgets those who have left once they are a quarter, so that many who leave
// at once cost each a constant share.
func (in *room) tidy(a *audience) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if a.left++; a.left*4 <= len(a.subs) {
		return
	}
	stay := make([]*Subscription, 0, len(a.subs))
	for _, s := range a.subs {
		if !s.left.Load() {
			stay = append(stay, s)
		}
	}
	// One who is about to be counted may be forgotten already; then somebody is
	// tidied up a little earlier.
	a.subs, a.left = stay, 0
}

// Publish hands events to the subscribers of their rooms. It is the store's
// listener for durable events, and is called directly for the others.
func (r *Router) Publish(events []event.Event) {
	for len(events) > 0 {
		room, n := events[0].Room, 0
		for n < len(events) && events[n].Room == room && events[n].Class == pb.DeliveryClass_DELIVERY_CLASS_DURABLE {
			n++
		}
		var with []event.Event
		switch {
		case n == 0:
			n = 1
		case n < len(events) && events[n].Room == room && events[n].Class == pb.DeliveryClass_DELIVERY_CLASS_LATEST:
			with = events[n : n+1]
		}
		if in := r.in(room); in != nil {
			b := newBatch(events[:n])
			if with != nil {
				b.With = newBatch(with)
			}
			in.offer(b)
		}
		events = events[n+len(with):]
	}
}

// newBatch makes a batch of events of one room and class.
func newBatch(events []event.Event) *Batch {
	size := 0
	for _, ev := range events {
		size += len(ev.Wire)
	}
	frame := wire.NewBuilder(size)
	for _, ev := range events {
		frame.Add(ev.Wire)
	}
	return &Batch{Room: events[0].Room, Class: events[0].Class, Events: events, Piece: &Piece{Frame: frame.Frame()}}
}

// in returns a room that has subscribers, or nil.
func (r *Router) in(name event.Room) *room {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.rooms[name]
}

func (in *room) offer(b *Batch) {
	for i := 0; ; i++ {
		group, subs, is := in.audience(i)
		switch {
		case !is:
			return
		case group != nil:
			group.Deliver(b, subs)
		default:
			for _, s := range subs {
				s.Offer(b)
			}
		}
	}
}

// audience returns those of a group who are in the room, and some who have left.
func (in *room) audience(i int) (group Group, subs []*Subscription, is bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if i >= len(in.groups) {
		return nil, nil, false
	}
	a := in.groups[i]
	return a.group, a.subs, true
}

// Bookmark tells the subscribers of a room where its log is. They may be behind
// that, for a batch may be on its way, or lost.
func (r *Router) Bookmark(name event.Room, at event.Position, frame wire.Frame) {
	if in := r.in(name); in != nil {
		in.offer(&Batch{Room: name, At: at, Piece: &Piece{Frame: frame, Bookmark: true}})
	}
}

// Others returns a function that reports whether anybody beside sub, which must have
// subscribed to it, hears a room. Once sub has left, that is taken for granted.
func (r *Router) Others(name event.Room, sub Subscriber) (hear func() bool) {
	in := r.in(name)
	if in == nil {
		return func() bool { return true }
	}
	var own *Subscription
	in.each(func(s *Subscription) bool {
		if s.sub == sub && !s.left.Load() {
			own = s
		}
		return own == nil
	})
	return func() bool { return own == nil || own.left.Load() || in.hasOthers(own) }
}

func (in *room) hasOthers(own *Subscription) (others bool) {
	in.each(func(s *Subscription) bool {
		others = s != own && !s.left.Load()
		return !others
	})
	return others
}

// each calls fn for those who are in the room, and some who have left, until it
// returns false.
func (in *room) each(fn func(*Subscription) bool) {
	for i := 0; ; i++ {
		_, subs, is := in.audience(i)
		if !is {
			return
		}
		for _, s := range subs {
			if !fn(s) {
				return
			}
		}
	}
}

// Names returns the rooms that have subscribers, in no order.
func (r *Router) Names() []event.Room {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Collect(maps.Keys(r.rooms))
}

// Audience returns how many subscribers a room has.
func (r *Router) Audience(name event.Room) int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if in := r.rooms[name]; in != nil {
		return in.users
	}
	return 0
}

// Rooms returns how many rooms have subscribers.
func (r *Router) Rooms() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.rooms)
}
