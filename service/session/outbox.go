package session

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/router"
	"github.com/tcmanager/tcmanager/service/wire"
)

// Bounds of what waits for one client.
const (
	maxControl   = 256      // control frames; a client that lets more pile up is ended,
	controlBytes = 8 << 20  // as is one whose second frame and those behind it take more
	maxLatest    = 1024     // keys of class LATEST; above it the oldest is dropped
	maxEphemeral = 64       // events that may be lost; above it the oldest is
	frameBytes   = 32 << 10 // about the size at which a frame is sent rather than filled
	keptEntries  = 4        // for so many a queue keeps its memory when it is empty
)

// outbox is what waits to be sent to one client, and whose turn it is to send.
// Delivery classes have a queue each, so that none can push out another. Durable
// events are bounded in bytes: what doesn't fit is not queued but read from the
// log later, so a slow client costs bounded memory and loses nothing.
type outbox struct {
	mu        sync.Mutex    // guards the rest, but atomics and what never changes, and every place in places
	asks      atomic.Uint32 // what whoever sends has to look at beside what waits: a set of ask...
	logs      bool          // some place may be behind
	turn      turn
	maxBytes  int
	bytes     int // of durable
	durable   []entry
	control   []control
	broken    error  // a control frame is missing: the session must end
	acked     uint64 // the newest signal that was carried out and is not acknowledged; 0 for none
	latest    newest
	ephemeral []entry
	owner     owner
	few       [keptEntries]entry // memory of durable while it is short

	replies int // bytes of control
	places  []*place
	room    chan struct{} // closed when an answer is sent or dropped; nil unless somebody waits for that
	told    atomic.Int64  // frames that say no more than that the client is up to date
}

// owner is whose outbox it is.
type owner interface {
	// summon puts it on its worker's list.
	summon()
	// group is its worker.
	group() router.Group
}

// control is a control frame that waits.
type control struct {
	frame wire.Frame
	of    *place // whose state the frame tells, if it does: a right is needed to hear that
	to    uint64 // the request that it answers, if so; 0 for none
}

// entry is a piece of a room that waits.
type entry struct {
	of    *place
	piece *router.Piece
}

// place is where a session is in a room: what the router hands its batches to.
// Events up to queued are sent or wait in the queue; behind says that newer ones
// wait in the log.
type place struct {
	out     *outbox
	queued  event.Position
	newest  uint64 // the newest offset heard of
	behind  bool
	joining bool // where the session is in the room isn't known yet
	follow  bool // tell the session when a run of this project starts or ends
	left    bool

	room   event.Room
	looked event.Position // where it was when a bookmark came by: it is idle if it is there still
	marked event.Position // the last bookmark that was queued
}

// Offer takes events from the router.
func (p *place) Offer(b *router.Batch) { p.out.offer(p, b) }

// Group returns what the router hands its batches to.
func (p *place) Group() router.Group { return p.out.owner.group() }

// post queues a control frame.
func (o *outbox) post(frame *pb.SubscribeResponse) {
	f, err := wire.Encode(frame)
	o.mu.Lock()
	o.postLocked(control{frame: f}, err)
	o.unlock(o.dueLocked(true))
}

// unlock ends a change, after which the session may have to be put on its worker's
// list.
func (o *outbox) unlock(summon bool) {
	o.mu.Unlock()
	if summon {
		o.owner.summon()
	}
}

func (o *outbox) postLocked(c control, err error) {
	switch {
	case o.broken != nil:
	case err != nil:
		o.broken = err
	case len(o.control) >= maxControl, len(o.control) > 0 && o.replies+c.frame.Size() > controlBytes:
		o.broken = errTooSlow
	default:
		o.control = append(o.control, c)
		o.replies += c.frame.Size()
	}
}

// ack notes that a signal was carried out, unless its client doesn't care. One
// answer tells of all that were since the last. Who receives sends it, once there is
// nothing more to receive.
func (o *outbox) ack(signal uint64) {
	if signal == 0 {
		return
	}
	o.mu.Lock()
	o.acked = signal
	o.turn.more = true
	o.mu.Unlock()
}

// answered returns the places whose state waits to be told, also those that the
// session has left since.
func (o *outbox) answered() map[event.Room][]*place {
	o.mu.Lock()
	defer o.mu.Unlock()
	waits := map[event.Room][]*place{}
	for _, c := range o.control {
		if c.of != nil && !slices.Contains(waits[c.of.room], c.of) {
			waits[c.of.room] = append(waits[c.of.room], c.of)
		}
	}
	return waits
}

// forget drops the state of places that waits to be told. A request that it was
// the answer to is answered with an error instead.
func (o *outbox) forget(places []*place, why *pb.Error) {
	o.mu.Lock()
	kept := o.control[:0]
	for _, c := range o.control {
		if c.of == nil || !slices.Contains(places, c.of) {
			kept = append(kept, c)
			continue
		}
		o.replies -= c.frame.Size()
		if c.to == 0 {
			continue
		}
		refused, err := wire.Encode(&pb.SubscribeResponse{ReplyTo: c.to, Frame: &pb.SubscribeResponse_Error{Error: why}})
		if err != nil {
			o.broken = err
		}
		o.replies += refused.Size()
		kept = append(kept, control{frame: refused})
	}
	clear(o.control[len(kept):])
	o.control = kept
	o.makeRoomLocked()
	o.unlock(o.dueLocked(true))
}

// makeRoomLocked tells who waits for it that fewer answers wait.
func (o *outbox) makeRoomLocked() {
	if o.room != nil {
		close(o.room)
		o.room = nil
	}
}

// paced waits until no more answers wait than may, or ctx ends. A client that asks
// faster than it reads is slowed down by its own stream.
func (o *outbox) paced(ctx context.Context) {
	for {
		room := o.full()
		if room == nil {
			return
		}
		select {
		case <-room:
		case <-ctx.Done():
			return
		}
	}
}

// full returns what is closed when there may be room for another answer; nil if
// there is.
func (o *outbox) full() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.broken != nil || o.replies <= o.maxBytes {
		return nil
	}
	if o.room == nil {
		o.room = make(chan struct{})
	}
	return o.room
}

// enter makes a place in a room that waits for the log: until the session has
// read where the room is, what is published is only noted.
func (o *outbox) enter(room event.Room) *place {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := &place{out: o, room: room, behind: true, joining: true}
	o.places = append(o.places, p)
	return p
}

// begin queues the frames that tell of a room, and says where the session is in
// it: the log is read from there if more was published since. It reports false,
// and does nothing, if the session has left that place meanwhile.
func (o *outbox) begin(p *place, from event.Position, newest uint64, follow bool, frames ...*pb.SubscribeResponse) bool {
	encoded := make([]wire.Frame, len(frames))
	errs := make([]error, len(frames))
	for i, f := range frames {
		encoded[i], errs[i] = wire.Encode(f)
	}
	o.mu.Lock()
	if p.left {
		o.mu.Unlock()
		return false
	}
	for i := range frames {
		o.postLocked(control{frame: encoded[i], of: p, to: frames[i].ReplyTo}, errs[i])
	}
	p.queued = from
	p.newest = max(p.newest, newest)
	p.behind = p.newest > from.Offset
	p.joining, p.follow = false, follow
	o.logs = o.logs || p.behind
	o.unlock(o.dueLocked(true))
	return true
}

// leave drops a room and all that waits of it: nothing of a room is sent after
// the session left it, or was put out.
func (o *outbox) leave(p *place) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p.left = true
	o.places = slices.DeleteFunc(o.places, func(other *place) bool { return other == p })
	o.durable = slices.DeleteFunc(o.durable, func(e entry) bool {
		if e.of == p {
			o.bytes -= e.piece.Frame.Size()
		}
		return e.of == p
	})
	o.latest.drop(p)
	o.ephemeral = slices.DeleteFunc(o.ephemeral, func(e entry) bool { return e.of == p })
}

// offer queues a batch by its class.
func (o *outbox) offer(p *place, b *router.Batch) {
	o.mu.Lock()
	if p.left || o.turn.is == over {
		o.mu.Unlock()
		return
	}
	urgent := false
	switch {
	case b.IsBookmark():
		if !o.offerBookmarkLocked(p, b) {
			o.mu.Unlock()
			return
		}
	case b.Class == pb.DeliveryClass_DELIVERY_CLASS_DURABLE:
		o.offerDurableLocked(p, b)
		if b.With != nil {
			o.offerLatestLocked(p, b.With)
		}
		if p.follow && tellsOfRuns(b) {
			o.asks.Or(askRuns)
			urgent = true
		}
	case b.Class == pb.DeliveryClass_DELIVERY_CLASS_LATEST:
		o.offerLatestLocked(p, b)
	default:
		o.ephemeral = append(o.ephemeral, entry{p, b.Piece})
		if n := len(o.ephemeral) - maxEphemeral; n > 0 {
			o.ephemeral = append(o.ephemeral[:0], o.ephemeral[n:]...)
		}
	}
	o.unlock(o.dueLocked(urgent || o.bytes >= frameBytes))
}

func tellsOfRuns(b *router.Batch) bool {
	for _, ev := range b.Events {
		if ev.Kind == kindRunChanged {
			return true
		}
	}
	return false
}

func (o *outbox) offerDurableLocked(p *place, b *router.Batch) {
	last := b.Last()
	p.newest = max(p.newest, last.Offset)
	switch {
	case p.behind || last.Offset <= p.queued.Offset:
		// The log has it, or the client does.
	case b.First() != p.queued.Offset+1 || o.bytes+b.Piece.Frame.Size() > o.maxBytes:
		// What is queued of the room is sent first and stays in order: the log is
		// read from behind it.
		p.behind, o.logs = true, true
	default:
		o.queueLocked(entry{p, b.Piece})
		p.queued = last
	}
}

func (o *outbox) offerLatestLocked(p *place, b *router.Batch) {
	o.latest.put(latestKey{p, b.Events[0].Kind, b.Events[0].Key}, b.Piece)
}

func (o *outbox) queueLocked(e entry) {
	if o.durable == nil {
		o.durable = o.few[:0]
	}
	if n := len(o.durable); n == cap(o.durable) && keptEntries <= n && n < burstEntries {
		if memory, is := bursts.Get().(*[burstEntries]entry); is {
			o.durable = append(memory[:0], o.durable...)
		}
	}
	o.durable = append(o.durable, e)
	o.bytes += e.piece.Frame.Size()
}

// offerBookmarkLocked queues a bookmark behind the events it speaks of, once the
// room is idle. It never tells of a place that the client is not brought to: what
// was committed and has not come by is read from the log. It reports whether there
// is anything to send now.
func (o *outbox) offerBookmarkLocked(p *place, b *router.Batch) bool {
	switch {
	case p.joining:
	case b.At.Offset > p.queued.Offset:
		p.newest = max(p.newest, b.At.Offset)
		p.behind, o.logs = true, true
		return true
	case p.behind || b.At != p.queued:
		// There is more already.
	case b.At != p.looked:
		p.looked = b.At // the last event, or the join, told as much
	case b.At != p.marked && (o.bytes == 0 || o.bytes+b.Piece.Frame.Size() <= o.maxBytes):
		p.marked = b.At
		o.queueLocked(entry{p, b.Piece})
		return true
	}
	return false
}

// cursors returns where the client is in each room, all of which was sent, and
// true; false if something waits. Both are looked at together: an event that came
// in between would be counted as sent, and be lost to a client that believes it.
func (o *outbox) cursors() (at []*pb.Bookmark, all bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.broken != nil || len(o.control) > 0 || len(o.durable) > 0 {
		return nil, false
	}
	for _, p := range o.places {
		if !p.joining {
			at = append(at, &pb.Bookmark{Room: string(p.room), Position: p.queued.Proto()})
		}
	}
	slices.SortFunc(at, func(a, b *pb.Bookmark) int { return strings.Compare(a.Room, b.Room) })
	return at, true
}

// take removes what goes into the next frame: one control frame, or events up to
// about frameBytes. It reports false if nothing waits.
func (o *outbox) take(now time.Time) (frame wire.Frame, found bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	frame, found, err = o.nextLocked(now)
	o.turn.more = found && o.holdsLocked()
	return frame, found, err
}

func (o *outbox) holdsLocked() bool {
	return len(o.durable) > 0 || len(o.control) > 0 || o.acked != 0 || o.latest.len() > 0 || len(o.ephemeral) > 0
}

func (o *outbox) nextLocked(now time.Time) (frame wire.Frame, found bool, err error) {
	switch {
	case o.broken != nil:
		return frame, false, o.broken
	case len(o.control) > 0:
		frame = o.control[0].frame
		o.control[0] = control{}
		if o.control = o.control[1:]; len(o.control) == 0 {
			o.control = nil
		}
		o.replies -= frame.Size()
		o.makeRoomLocked()
		return frame, true, nil
	case o.acked != 0: // behind the refusals of the signals before it
		frame = ackFrame(o.acked)
		o.acked = 0
		o.told.Add(1)
		return frame, true, nil
	}
	if frame, found = o.eventsLocked(); found {
		o.turn.flushed = now.UnixNano()
	}
	return frame, found, nil
}

// Fields of SubscribeResponse, checked by a test.
const (
	fieldReplyTo protowire.Number = 2
	fieldAck     protowire.Number = 6
)

// ackFrame is the answer to a signal: an Ack without a result.
func ackFrame(to uint64) wire.Frame {
	const size = 14 // two tags, a varint, a length
	b := protowire.AppendTag(make([]byte, 0, size), fieldReplyTo, protowire.VarintType)
	b = protowire.AppendVarint(b, to)
	b = protowire.AppendTag(b, fieldAck, protowire.BytesType)
	return wire.Join(protowire.AppendBytes(b, nil))
}

// eventsLocked takes the events of the next frame. One that waits alone goes as it
// is, shared with all who hear it; so does a run of pieces of one room.
func (o *outbox) eventsLocked() (frame wire.Frame, found bool) {
	n, size := o.fitLocked()
	durable := o.durable[:n]
	var few [8]*router.Piece
	others := few[:0]
	if size < frameBytes && o.latest.len() > 0 {
		others = o.latest.take(frameBytes-size, others)
	}
	if size < frameBytes && len(o.ephemeral) > 0 {
		others = o.fleetingLocked(frameBytes-size, others)
	}
	switch {
	case n == 0 && len(others) == 0:
		return frame, false
	case n == 0 && len(others) == 1:
		frame = others[0].Frame
	case n == 1 && len(others) == 0:
		frame = durable[0].piece.Frame
	default:
		frame = joinEntries(durable, size, others)
	}
	o.bytes -= size
	if o.durable = drained(o.durable, n); len(o.durable) == 0 {
		o.durable = nil
	}
	return frame, true
}

// fitLocked returns how many durable entries go into the next frame, and how much
// they take. A bookmark ends a frame: it stands behind the events.
func (o *outbox) fitLocked() (n, size int) {
	for n < len(o.durable) && size < frameBytes {
		piece := o.durable[n].piece
		size += piece.Frame.Size()
		n++
		if piece.Bookmark {
			break
		}
	}
	return n, size
}

// joinEntries returns a frame of several pieces. Those of one room, alone or with
// what moves with them, are likely to be what others in it are sent too.
func joinEntries(durable []entry, size int, others []*router.Piece) wire.Frame {
	if len(durable) > 0 && len(others) <= 1 && areOfOneRoom(durable) {
		var few [64]*router.Piece // a frame's worth of events that were committed one by one has 150
		pieces := few[:0]
		for _, e := range durable {
			pieces = append(pieces, e.piece)
		}
		var other *router.Piece
		if len(others) == 1 {
			other = others[0]
		}
		return router.Join(pieces, other)
	}
	for _, p := range others {
		size += p.Frame.Size()
	}
	b := wire.NewBuilder(size)
	// A bookmark is a field of its own, which may stand anywhere in the message.
	for _, e := range durable {
		b.Add(e.piece.Frame.Bytes())
	}
	for _, p := range others {
		b.Add(p.Frame.Bytes())
	}
	return b.Frame()
}

func areOfOneRoom(entries []entry) bool {
	for _, e := range entries {
		if e.of != entries[0].of || e.piece.Bookmark {
			return false
		}
	}
	return true
}

// fleetingLocked takes events of class EPHEMERAL.
func (o *outbox) fleetingLocked(size int, taken []*router.Piece) []*router.Piece {
	kept := o.ephemeral[:0]
	for _, e := range o.ephemeral {
		if size <= 0 || e.of.joining {
			kept = append(kept, e)
			continue
		}
		taken = append(taken, e.piece)
		size -= e.piece.Frame.Size()
	}
	clear(o.ephemeral[len(kept):])
	o.ephemeral = drained(kept, 0)
	return taken
}

// burstEntries is how many events wait for a reader between two flushes of a burst:
// a frame full of them, and more.
const burstEntries = 256

// bursts is memory for queues in a burst, in which they are filled and emptied again
// and again.
var bursts = sync.Pool{New: func() any { return new([burstEntries]entry) }}

// drained returns a queue without its first entries, and without memory that it
// only needed while it was long.
func drained(q []entry, n int) []entry {
	switch rest := q[n:]; {
	case len(rest) > n: // to move them would cost more than it saves
		clear(q[:n])
		return rest
	case len(rest) > 0:
		copy(q, rest)
		clear(q[len(rest):])
		return q[:len(rest)]
	}
	clear(q)
	switch {
	case cap(q) == burstEntries:
		bursts.Put((*[burstEntries]entry)(q[:burstEntries]))
		return nil
	case cap(q) > keptEntries:
		return nil
	default:
		return q[:0]
	}
}

// behind is a room whose log must be read.
type behind struct {
	place  *place
	after  event.Position // what the client has or is about to get
	newest uint64
}

// nextBehind returns a room whose log must be read. Rooms take turns. A room whose
// queued events have not been sent yet has to wait: the log goes behind them. And
// all wait for control frames: the answer to a join may have been queued since
// take was called, and no event comes before it.
func (o *outbox) nextBehind() (b behind, found bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.logs || len(o.control) > 0 {
		return behind{}, false
	}
	o.logs = false
	for i, p := range o.places {
		if !p.behind || p.joining || p.newest <= p.queued.Offset {
			continue
		}
		o.logs = true
		if o.waitsLocked(p) {
			continue
		}
		copy(o.places[i:], o.places[i+1:]) // the others come first next time
		o.places[len(o.places)-1] = p
		return behind{place: p, after: p.queued, newest: p.newest}, true
	}
	return behind{}, false
}

func (o *outbox) waitsLocked(p *place) bool {
	return slices.ContainsFunc(o.durable, func(e entry) bool { return e.of == p })
}

// caughtUp moves a room's place to what was read from the log. It reports false
// if the session is no longer there, so that nothing of it is sent: if it joined
// the room anew, if at the same position, the answer to that comes first.
func (o *outbox) caughtUp(b behind, last event.Position) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := b.place
	if p.left {
		return false
	}
	p.queued = last
	p.behind = p.newest > last.Offset
	o.logs = o.logs || p.behind
	return true
}

// settled reports whether all that was heard of a room was sent.
func (o *outbox) settled(p *place) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return p.left || !p.behind && !o.waitsLocked(p)
}

// waiting is how many bytes of durable events wait.
func (o *outbox) waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes
}

// isBehind reports whether the log of some room may have to be read.
func (o *outbox) isBehind() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.logs && len(o.control) == 0
}

func (b behind) String() string {
	return fmt.Sprintf("%s at %d of %d", b.place.room, b.after.Offset, b.newest)
}
