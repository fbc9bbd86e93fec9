package tcmanager

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// Events comes into a room and yields what there is to know of it: all that
// happened after from, in order, nothing twice and nothing left out; or, if from is
// nil or can't be continued, a snapshot and all that happens after it. It goes on
// over any number of connections, and waits for them. A room is a name like
// "project:KEY", "testrun:ID", "testcase:ID" or "user:ID".
//
// The iteration ends when the caller ends it, which leaves the room; with the
// cause of ctx; with an *Error in the chain if the server refuses the room or puts
// the session out of it; and with the session's end. It is yielded as the last
// error, with an empty Delivery.
//
// A reader that is slow costs bounded memory: what doesn't fit into
// SessionConfig.RoomBuffer is dropped and read again from the server's log, which
// may have been trimmed by then: that is a DeliveryReset. Such a session is not in
// the room, for others to see, while its reader works off what waits.
//
// A room has one reader in a session; a second one is told so by ErrRoomTaken.
// To read it twice, hand on what the first reads, or use two sessions.
func (s *Session) Events(ctx context.Context, room string, from *Position) iter.Seq2[Delivery, error] {
	return func(yield func(Delivery, error) bool) {
		f, err := s.enter(room, from)
		if err != nil {
			yield(Delivery{}, err)
			return
		}
		defer s.leave(f)
		for {
			d, err := f.next(ctx)
			if err != nil {
				yield(Delivery{}, err)
				return
			}
			if !yield(d, nil) {
				return
			}
		}
	}
}

// Presence returns who is in a room that Events reads, by user id, as far as the
// session has heard; nil for a room that isn't read. In a room of more than 200
// people it is 200 of them and the session's own user: see Headcount.
func (s *Session) Presence(room string) []*tcmv1.Presence {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.readLocked(room)
	if f == nil {
		return nil
	}
	people := make([]*tcmv1.Presence, 0, len(f.present))
	for _, p := range f.present {
		people = append(people, proto.CloneOf(p))
	}
	slices.SortFunc(people, func(a, b *tcmv1.Presence) int {
		return cmp.Compare(a.GetUser().GetId(), b.GetUser().GetId())
	})
	return people
}

// Headcount returns how many people are in a room that Events reads, as far as the
// session has heard: as many as Presence returns, or more if there are more than it
// is told of one by one; 0 for a room that isn't read.
func (s *Session) Headcount(room string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.readLocked(room)
	if f == nil {
		return 0
	}
	return max(f.headcount, len(f.present))
}

// readLocked returns the feed of a room by either of its names; nil if it isn't read.
func (s *Session) readLocked(room string) *feed {
	if f := s.feeds[room]; f != nil {
		return f
	}
	return s.joined[room]
}

// feed is one room on its way to its reader. All but the first three fields are
// guarded by Session.mu.
type feed struct {
	s     *Session
	name  string        // as the caller calls it
	ready chan struct{} // holds a token if there may be something to take

	canonical string
	position  Position // of what was queued last
	known     bool     // whether position is one
	yielded   Position // of what the reader took last

	wanted  bool      // a join is to be sent
	due     time.Time // not before this
	asked   uint64    // the join that waits for its answer on the link; 0 if none does
	joined  bool      // what arrives goes on from position
	behind  bool      // the buffer was full: the room is joined again once there is room
	target  uint64    // until position is here, the room is catching up
	retry   backoff   // of joins; forgotten once position has moved
	buffer  buffer
	present map[string]*tcmv1.Presence // by user id
	err     error                      // the end, behind what is in the buffer

	headcount int // of a room with more people than are told of; 0 if those in present are all
}

// enter makes a feed, which the link joins.
func (s *Session) enter(room string, from *Position) (*feed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed != nil {
		return nil, s.closed
	}
	if s.feeds[room] != nil || s.joined[room] != nil {
		return nil, fmt.Errorf("join %s: %w", room, ErrRoomTaken)
	}
	f := &feed{
		s: s, name: room, canonical: room, ready: make(chan struct{}, 1),
		wanted: true, buffer: buffer{limit: s.config.RoomBuffer},
	}
	if from != nil {
		f.position, f.yielded, f.known = *from, *from, true
	}
	s.feeds[room] = f
	s.poke()
	return f, nil
}

// leave ends a feed that its reader has left.
func (s *Session) leave(f *feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.outLocked(true)
	f.wanted, f.asked = false, 0
	if s.feeds[f.name] == f {
		delete(s.feeds, f.name)
		s.settleLocked()
		s.poke()
	}
}

// next returns what comes next, and waits for it.
func (f *feed) next(ctx context.Context) (Delivery, error) {
	for {
		if ctx.Err() != nil {
			return Delivery{}, context.Cause(ctx)
		}
		d, ok, err := f.take()
		if ok || err != nil {
			return d, err
		}
		select {
		case <-f.ready:
		case <-ctx.Done():
		}
	}
}

// take returns what waits, if anything does. Once half of the buffer is free, a
// room that was left for want of room is joined again.
func (f *feed) take() (d Delivery, ok bool, err error) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	d, ok = f.buffer.take()
	if f.behind && f.buffer.bytes <= f.buffer.limit/2 {
		f.behind = false
		f.wanted, f.due = true, time.Time{}
		f.s.poke()
	}
	if !ok {
		return d, false, f.err
	}
	switch {
	case d.Kind == DeliverySnapshot, d.Kind == DeliveryPosition, d.Kind == DeliveryEvent && d.Position != Position{}:
		f.yielded = d.Position
	default:
		d.Position = f.yielded
	}
	return d, true, nil
}

// wake lets the reader look.
func (f *feed) wake() {
	select {
	case f.ready <- struct{}{}:
	default:
	}
}

// currentLocked reports whether nothing that was missed is on its way. A room that
// was put off, and one whose reader is slow, keep the session waiting for nothing.
func (f *feed) currentLocked(now time.Time) bool {
	if !f.joined {
		return f.behind || f.wanted && f.due.After(now)
	}
	return f.position.Offset >= f.target
}

// acceptLocked takes an event of a room that is joined. The class of its kind
// says what it must look like: what doesn't fit has holes before it, and is read
// again from the log.
func (f *feed) acceptLocked(ev *tcmv1.Event) {
	kind, class := classify(ev)
	at := Position{Epoch: ev.GetEpoch(), Offset: ev.GetOffset()}
	d := Delivery{Kind: DeliveryEvent, Room: f.canonical, Event: ev}
	switch {
	case class == tcmv1.DeliveryClass_DELIVERY_CLASS_LATEST:
		f.noteLocked(ev.GetPresence().GetPresence())
		if h := ev.GetHeadcount(); h != nil {
			f.headcount = int(h.GetPresent())
		}
		f.buffer.addLatest(kind, d)
	case class == tcmv1.DeliveryClass_DELIVERY_CLASS_EPHEMERAL:
		f.buffer.addEphemeral(d)
	case at.Offset == 0 && class == tcmv1.DeliveryClass_DELIVERY_CLASS_UNSPECIFIED:
		return // of a kind that isn't known here, and not durable
	case at.Offset == 0:
		f.rejoinLocked()
		return
	case at.Offset <= f.position.Offset:
		return // it was heard before
	case at.Offset != f.position.Offset+1:
		f.rejoinLocked()
		return
	case !f.queueLocked(d, class, at):
		f.overflowLocked()
		return
	default:
		f.position = at
		f.retry = backoff{}
	}
	f.wake()
}

// queueLocked queues a numbered event, or of one that means nothing here only
// the number.
func (f *feed) queueLocked(d Delivery, class tcmv1.DeliveryClass, at Position) bool {
	d.Position = at
	if class == tcmv1.DeliveryClass_DELIVERY_CLASS_UNSPECIFIED {
		d.Kind, d.Event = DeliveryPosition, nil
		return f.buffer.addPosition(d)
	}
	return f.buffer.add(d)
}

// bookmarkLocked takes the server's word that it has told all up to a position.
func (f *feed) bookmarkLocked(at Position) {
	switch {
	case at.Offset > f.position.Offset:
		f.rejoinLocked()
	case at.Offset == f.position.Offset:
		f.retry = backoff{}
		if f.buffer.addPosition(Delivery{Kind: DeliveryPosition, Room: f.canonical, Position: at}) {
			f.position = at
			f.wake()
		}
	}
}

// joinedLocked takes the state of the room: the answer to a join, or what follows
// a reset.
// reason is why it begins anew, if it does.
func (f *feed) joinedLocked(j *tcmv1.Joined, reason string) {
	at := positionOf(j.GetPosition())
	f.asked, f.joined, f.canonical, f.target = 0, true, j.GetRoom(), at.Offset
	f.s.joined[f.canonical] = f
	f.present = map[string]*tcmv1.Presence{}
	for _, p := range j.GetPresence() {
		f.noteLocked(p)
	}
	f.headcount = 0
	if n := int(j.GetPresent()); n > len(f.present) {
		f.headcount = n
	}
	if j.GetRecovered() && f.known {
		// The position is only how far what follows will reach: to take it as
		// reached would lose that if the stream broke now. And if there is no room
		// for the news, it is none that the reader needs.
		if f.buffer.add(Delivery{Kind: DeliveryResumed, Room: f.canonical, Joined: j}) {
			f.wake()
		}
		return
	}
	f.buffer.forgetFleeting()
	deliveries := make([]Delivery, 0, 2)
	if f.known {
		deliveries = append(deliveries, Delivery{Kind: DeliveryReset, Room: f.canonical, Reason: reason})
	}
	deliveries = append(deliveries, Delivery{Kind: DeliverySnapshot, Room: f.canonical, Position: at, Joined: j})
	if !f.buffer.add(deliveries...) {
		f.overflowLocked()
		return
	}
	f.position, f.known = at, true
	f.wake()
}

// noteLocked remembers who is in the room; nil says nothing.
func (f *feed) noteLocked(p *tcmv1.Presence) {
	if p == nil || f.present == nil {
		return
	}
	id := p.GetUser().GetId()
	switch p.GetState() {
	case tcmv1.PresenceState_PRESENCE_STATE_OFFLINE:
		delete(f.present, id)
	case tcmv1.PresenceState_PRESENCE_STATE_UNLISTED:
		if id != f.s.userLocked() {
			delete(f.present, id)
		}
	default:
		f.present[id] = proto.CloneOf(p) // the reader may change its own
	}
}

// outLocked makes the feed take nothing more of what arrives; if tell, the server
// is told to send no more.
func (f *feed) outLocked(tell bool) {
	if !f.joined {
		return
	}
	f.joined = false
	if f.s.joined[f.canonical] != f {
		return
	}
	delete(f.s.joined, f.canonical)
	if tell && f.s.link != nil {
		f.s.link.leaves = append(f.s.link.leaves, f.canonical)
	}
}

// overflowLocked leaves the room since the reader doesn't keep up: what a server
// would go on sending would be dropped here, and delay the other rooms.
func (f *feed) overflowLocked() {
	f.outLocked(true)
	f.behind = true
	f.s.poke()
}

// rejoinLocked joins again from where the reader is, since something is missing:
// at once, or after a while if that didn't help the last time.
func (f *feed) rejoinLocked() {
	f.outLocked(false)
	f.asked = 0
	if f.retry.attempt == 0 {
		f.retry.attempt++
		f.wantLocked(0)
		return
	}
	f.wantLocked(f.retry.next(0))
}

// wantLocked has a join sent after a while.
func (f *feed) wantLocked(after time.Duration) {
	f.wanted, f.due = true, time.Now().Add(after)
	f.s.poke()
}

// refusedLocked takes the refusal of a join. What may pass is asked for again.
func (f *feed) refusedLocked(e *Error) {
	f.asked = 0
	if passes(e) {
		f.wantLocked(f.retry.next(e.RetryAfter))
		return
	}
	f.endLocked(fmt.Errorf("join %s: %w", f.name, e))
}

// evictedLocked ends a feed whose reader may hear no more of the room: not of
// what waits either.
func (f *feed) evictedLocked(e *Error) {
	f.buffer = buffer{limit: f.buffer.limit}
	f.endLocked(fmt.Errorf("the server put the session out of %s: %w", f.canonical, e))
}

// endLocked ends the feed behind what waits.
func (f *feed) endLocked(err error) {
	f.outLocked(false)
	f.wanted, f.behind, f.asked = false, false, 0
	f.err = err
	if f.s.feeds[f.name] == f {
		delete(f.s.feeds, f.name)
	}
	f.wake()
}

// lostLocked notes that the link is gone.
func (f *feed) lostLocked() {
	f.outLocked(false)
	f.asked = 0
	f.wanted, f.due = !f.behind, time.Time{}
}

// passes reports whether a join that was refused is worth another try on the same
// stream.
func passes(e *Error) bool {
	switch e.Code {
	case codes.ResourceExhausted: // of rooms there are too many until one is left
		return e.RetryAfter > 0
	case codes.Unavailable, codes.Aborted, codes.DeadlineExceeded, codes.Internal, codes.Unknown:
		return true
	default:
		return false
	}
}
