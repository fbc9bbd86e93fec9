// Package router hands events to whoever is in their room. Rooms live in memory
// and exist while somebody is in them.
//
// # Concurrency
//
// Publish may be called from any goroutine; the events of one call reach each
// subscriber of a room in their order, and calls are ordered as their callers
// order them. Publish never waits: a Subscriber takes a batch into a bounded
// queue of its own, or notes that it is behind and reads the log later. No lock
// is held across a write to a network.
package router

import (
	"maps"
	"slices"
	"sync"

	"github.com/tcmanager/tcmanager/service/event"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// Batch is a piece of one room's events, all of one delivery class, or a
// bookmark. It is shared by all subscribers and never changed.
type Batch struct {
	Room   event.Room
	Class  pb.DeliveryClass
	Events []event.Event  // in order; empty for a bookmark
	At     event.Position // of a bookmark: where the room's log is
	Wire   []byte         // the events' Wire, joined; of a bookmark, the frame that tells of it
}

// IsBookmark reports whether the batch tells where the room is and nothing else.
func (b Batch) IsBookmark() bool { return len(b.Events) == 0 }

// First is the offset of the first event; 0 unless the class is DURABLE.
func (b Batch) First() uint64 { return b.Events[0].Position.Offset }

// Last is the position of the last event; zero unless the class is DURABLE.
func (b Batch) Last() event.Position { return b.Events[len(b.Events)-1].Position }

// Subscriber hears batches of the rooms it subscribed to.
type Subscriber interface {
	// Offer must not block. It may be called from several goroutines, one at a
	// time for each room and class DURABLE.
	Offer(Batch)
}

// Router knows who is in which room.
type Router struct {
	mu    sync.RWMutex // guards rooms and each room's subs
	rooms map[event.Room][]Subscriber
}

// New returns a router without rooms.
func New() *Router { return &Router{rooms: map[event.Room][]Subscriber{}} }

// Subscribe lets sub hear a room until the returned function is called, which
// may be done more than once. A batch that is being published at that moment may
// still arrive.
func (r *Router) Subscribe(room event.Room, sub Subscriber) (leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// Publish reads the slice without the lock, so it is replaced, never changed.
	r.rooms[room] = append(slices.Clip(r.rooms[room]), sub)
	return sync.OnceFunc(func() { r.unsubscribe(room, sub) })
}

func (r *Router) unsubscribe(room event.Room, sub Subscriber) {
	r.mu.Lock()
	defer r.mu.Unlock()
	subs := r.rooms[room]
	i := slices.Index(subs, sub)
	if i < 0 {
		return
	}
	if len(subs) == 1 {
		delete(r.rooms, room)
		return
	}
	r.rooms[room] = slices.Concat(subs[:i], subs[i+1:])
}

// Publish hands events to the subscribers of their rooms. It is the store's
// listener for durable events, and is called directly for the others.
func (r *Router) Publish(events []event.Event) {
	for len(events) > 0 {
		n := 1
		for n < len(events) && events[n].Room == events[0].Room && events[n].Class == events[0].Class {
			n++
		}
		r.publish(events[:n])
		events = events[n:]
	}
}

// publish hands on events of one room and class.
func (r *Router) publish(events []event.Event) {
	room := events[0].Room
	r.mu.RLock()
	subs := r.rooms[room]
	r.mu.RUnlock()
	if len(subs) == 0 {
		return
	}
	b := Batch{Room: room, Class: events[0].Class, Events: events, Wire: join(events)}
	for _, sub := range subs {
		sub.Offer(b)
	}
}

func join(events []event.Event) []byte {
	if len(events) == 1 {
		return events[0].Wire
	}
	n := 0
	for _, ev := range events {
		n += len(ev.Wire)
	}
	b := make([]byte, 0, n)
	for _, ev := range events {
		b = append(b, ev.Wire...)
	}
	return b
}

// Bookmark tells the subscribers of a room where its log is. They may be behind
// that, for a batch may be on its way, or lost.
func (r *Router) Bookmark(room event.Room, at event.Position, frame []byte) {
	r.mu.RLock()
	subs := r.rooms[room]
	r.mu.RUnlock()
	for _, sub := range subs {
		sub.Offer(Batch{Room: room, At: at, Wire: frame})
	}
}

// Names returns the rooms that have subscribers, in no order.
func (r *Router) Names() []event.Room {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Collect(maps.Keys(r.rooms))
}

// Audience returns how many subscribers a room has.
func (r *Router) Audience(room event.Room) int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.rooms[room])
}

// Rooms returns how many rooms have subscribers.
func (r *Router) Rooms() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.rooms)
}
