package session

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/router"
)

// Bounds of what waits for one client.
const (
	maxControl   = 256      // control frames; a client that lets more pile up is ended,
	controlBytes = 8 << 20  // as is one whose second frame and those behind it take more
	maxLatest    = 1024     // keys of class LATEST; above it the oldest is dropped
	maxEphemeral = 64       // events that may be lost; above it the oldest is
	frameBytes   = 32 << 10 // about the size at which a frame is sent rather than filled
)

// outbox is what waits to be sent to one client. Delivery classes have a queue
// each, so that none can push out another. Durable events are bounded in bytes:
// what doesn't fit is not queued but read from the log later, so a slow client
// costs bounded memory and loses nothing.
type outbox struct {
	wake     chan struct{} // holds one token while there may be something to send
	room     chan struct{} // holds one token if an answer was sent or dropped
	maxBytes int

	mu        sync.Mutex // guards the rest, and every place in rooms
	rooms     map[event.Room]*place
	control   []control
	replies   int   // bytes of control
	broken    error // a control frame is missing: the session must end
	durable   []entry
	bytes     int
	latest    map[latestKey]event.Event
	order     []latestKey // of latest, oldest first
	ephemeral []event.Event
}

type latestKey struct {
	room event.Room
	kind protoreflect.FieldNumber
	key  string
}

// control is a control frame that waits.
type control struct {
	encoded []byte
	of      *place // whose state the frame tells, if it does: a right is needed to hear that
	to      uint64 // the request that it answers, if so; 0 for none
}

// entry is a piece of a room's log that waits, or a bookmark behind it. Its bytes
// are shared with all who hear it.
type entry struct {
	room     event.Room
	wire     []byte
	bookmark bool // a frame holds one, behind its events
}

// place is where a session is in a room. Events up to queued are sent or wait in
// the queue; behind says that newer ones wait in the log.
type place struct {
	room    event.Room
	queued  event.Position
	newest  uint64 // the newest offset heard of
	behind  bool
	joining bool // where the session is in the room isn't known yet
	follow  bool // tell the session when a run of this project starts or ends

	looked event.Position // where it was when a bookmark came by: it is idle if it is there still
	marked event.Position // the last bookmark that was queued
}

func newOutbox(maxBytes int) *outbox {
	return &outbox{
		wake: make(chan struct{}, 1), room: make(chan struct{}, 1), maxBytes: maxBytes,
		rooms: map[event.Room]*place{}, latest: map[latestKey]event.Event{},
	}
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// post queues a control frame.
func (o *outbox) post(frame *pb.SubscribeResponse) {
	b, err := encode(frame)
	o.mu.Lock()
	o.postLocked(control{encoded: b}, err)
	o.mu.Unlock()
	o.signal()
}

func encode(frame *pb.SubscribeResponse) ([]byte, error) {
	b, err := proto.Marshal(frame)
	if err != nil {
		return nil, fmt.Errorf("encode a frame: %w", err)
	}
	return b, nil
}

func (o *outbox) postLocked(c control, err error) {
	switch {
	case o.broken != nil:
	case err != nil:
		o.broken = err
	case len(o.control) >= maxControl, len(o.control) > 0 && o.replies+len(c.encoded) > controlBytes:
		o.broken = errTooSlow
	default:
		o.control = append(o.control, c)
		o.replies += len(c.encoded)
	}
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
	defer o.mu.Unlock()
	kept := o.control[:0]
	for _, c := range o.control {
		if c.of == nil || !slices.Contains(places, c.of) {
			kept = append(kept, c)
			continue
		}
		o.replies -= len(c.encoded)
		if c.to == 0 {
			continue
		}
		refused, err := encode(&pb.SubscribeResponse{ReplyTo: c.to, Frame: &pb.SubscribeResponse_Error{Error: why}})
		if err != nil {
			o.broken = err
		}
		o.replies += len(refused)
		kept = append(kept, control{encoded: refused})
	}
	clear(o.control[len(kept):])
	o.control = kept
	poke(o.room)
}

// paced waits until no more answers wait than may, or ctx ends. A client that asks
// faster than it reads is slowed down by its own stream.
func (o *outbox) paced(ctx context.Context) {
	for {
		o.mu.Lock()
		fits := o.broken != nil || o.replies <= o.maxBytes
		o.mu.Unlock()
		if fits {
			return
		}
		select {
		case <-o.room:
		case <-ctx.Done():
			return
		}
	}
}

// enter makes a place in a room that waits for the log: until the session has
// read where the room is, what is published is only noted.
func (o *outbox) enter(room event.Room) *place {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := &place{room: room, behind: true, joining: true}
	o.rooms[room] = p
	return p
}

// begin queues the frames that tell of a room, and says where the session is in
// it: the log is read from there if more was published since. It reports false,
// and does nothing, if the session has left that place meanwhile.
func (o *outbox) begin(room event.Room, p *place, from event.Position, newest uint64, follow bool, frames ...*pb.SubscribeResponse) bool {
	encoded := make([][]byte, len(frames))
	errs := make([]error, len(frames))
	for i, f := range frames {
		encoded[i], errs[i] = encode(f)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.rooms[room] != p {
		return false
	}
	for i := range frames {
		o.postLocked(control{encoded: encoded[i], of: p, to: frames[i].ReplyTo}, errs[i])
	}
	p.queued = from
	p.newest = max(p.newest, newest)
	p.behind = p.newest > from.Offset
	p.joining, p.follow = false, follow
	o.signal()
	return true
}

// leave drops a room and all that waits of it: nothing of a room is sent after
// the session left it, or was put out.
func (o *outbox) leave(room event.Room) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.rooms, room)
	kept := o.durable[:0]
	for _, e := range o.durable {
		if e.room != room {
			kept = append(kept, e)
			continue
		}
		o.bytes -= len(e.wire)
	}
	clear(o.durable[len(kept):])
	o.durable = kept
	order := o.order[:0]
	for _, k := range o.order {
		if k.room != room {
			order = append(order, k)
			continue
		}
		delete(o.latest, k)
	}
	o.order = order
	fleeting := o.ephemeral[:0]
	for _, ev := range o.ephemeral {
		if ev.Room != room {
			fleeting = append(fleeting, ev)
		}
	}
	clear(o.ephemeral[len(fleeting):])
	o.ephemeral = fleeting
}

// offer queues a batch by its class. It reports whether a run of a followed
// project started or ended.
func (o *outbox) offer(b router.Batch) (runs bool) {
	o.mu.Lock()
	p := o.rooms[b.Room]
	if p == nil {
		o.mu.Unlock()
		return false
	}
	switch {
	case b.IsBookmark():
		o.offerBookmarkLocked(p, b)
	case b.Class == pb.DeliveryClass_DELIVERY_CLASS_DURABLE:
		o.offerDurableLocked(p, b)
		runs = p.follow && tellsOfRuns(b)
	case b.Class == pb.DeliveryClass_DELIVERY_CLASS_LATEST:
		for _, ev := range b.Events {
			o.offerLatestLocked(ev)
		}
	default:
		o.ephemeral = append(o.ephemeral, b.Events...)
		if n := len(o.ephemeral) - maxEphemeral; n > 0 {
			o.ephemeral = append(o.ephemeral[:0], o.ephemeral[n:]...)
		}
	}
	o.mu.Unlock()
	o.signal()
	return runs
}

func tellsOfRuns(b router.Batch) bool {
	for _, ev := range b.Events {
		if ev.Kind == kindRunChanged {
			return true
		}
	}
	return false
}

func (o *outbox) offerDurableLocked(p *place, b router.Batch) {
	last := b.Last()
	p.newest = max(p.newest, last.Offset)
	switch {
	case p.behind || last.Offset <= p.queued.Offset:
		// The log has it, or the client does.
	case b.First() != p.queued.Offset+1 || o.bytes+len(b.Wire) > o.maxBytes:
		// What is queued of the room is sent first and stays in order: the log is
		// read from behind it.
		p.behind = true
	default:
		o.queueLocked(entry{room: b.Room, wire: b.Wire})
		p.queued = last
	}
}

func (o *outbox) queueLocked(e entry) {
	o.durable = append(o.durable, e)
	o.bytes += len(e.wire)
}

// offerBookmarkLocked queues a bookmark behind the events it speaks of, once the
// room is idle. It never tells of a place that the client is not brought to: what
// was committed and has not come by is read from the log.
func (o *outbox) offerBookmarkLocked(p *place, b router.Batch) {
	switch {
	case p.joining:
	case b.At.Offset > p.queued.Offset:
		p.newest = max(p.newest, b.At.Offset)
		p.behind = true
	case p.behind || b.At != p.queued:
		// There is more already.
	case b.At != p.looked:
		p.looked = b.At // the last event, or the join, told as much
	case b.At != p.marked && (o.bytes == 0 || o.bytes+len(b.Wire) <= o.maxBytes):
		p.marked = b.At
		o.queueLocked(entry{room: b.Room, wire: b.Wire, bookmark: true})
	}
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
	for room, p := range o.rooms {
		if !p.joining {
			at = append(at, &pb.Bookmark{Room: string(room), Position: p.queued.Proto()})
		}
	}
	slices.SortFunc(at, func(a, b *pb.Bookmark) int { return strings.Compare(a.Room, b.Room) })
	return at, true
}

func (o *outbox) offerLatestLocked(ev event.Event) {
	k := latestKey{ev.Room, ev.Kind, ev.Key}
	if _, waits := o.latest[k]; !waits {
		if len(o.order) >= maxLatest {
			delete(o.latest, o.order[0])
			o.order = o.order[1:]
		}
		o.order = append(o.order, k)
	}
	o.latest[k] = ev
}

// take removes what goes into the next frame: one control frame, or events up to
// about frameBytes. It returns nil if nothing waits.
func (o *outbox) take() ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.broken != nil {
		return nil, o.broken
	}
	if len(o.control) > 0 {
		frame := o.control[0].encoded
		o.control[0] = control{}
		o.control = o.control[1:]
		o.replies -= len(frame)
		poke(o.room)
		return frame, nil
	}
	if len(o.durable) == 1 && len(o.order) == 0 && len(o.ephemeral) == 0 {
		// One entry and nothing else: it goes as it is, shared with all its readers.
		b := o.durable[0].wire
		o.durable, o.bytes = nil, 0
		return b, nil
	}
	return o.fillLocked(), nil
}

// fillLocked joins waiting events into a frame.
func (o *outbox) fillLocked() []byte {
	var frame []byte
	n := 0
	for marked := false; n < len(o.durable) && len(frame) < frameBytes && !marked; n++ {
		frame = append(frame, o.durable[n].wire...)
		o.bytes -= len(o.durable[n].wire)
		marked = o.durable[n].bookmark
	}
	clear(o.durable[:n])
	o.durable = o.durable[n:]
	order := o.order[:0]
	for _, k := range o.order {
		if len(frame) >= frameBytes || o.joiningLocked(k.room) {
			order = append(order, k)
			continue
		}
		frame = append(frame, o.latest[k].Wire...)
		delete(o.latest, k)
	}
	o.order = order
	fleeting := o.ephemeral[:0]
	for _, ev := range o.ephemeral {
		if len(frame) >= frameBytes || o.joiningLocked(ev.Room) {
			fleeting = append(fleeting, ev)
			continue
		}
		frame = append(frame, ev.Wire...)
	}
	clear(o.ephemeral[len(fleeting):])
	o.ephemeral = fleeting
	return frame
}

// joiningLocked reports whether the answer to the join of a room is still to come.
// What comes of the room meanwhile has to wait for it: the answer may hold an
// older state than an event that was told before it.
func (o *outbox) joiningLocked(room event.Room) bool {
	p := o.rooms[room]
	return p != nil && p.joining
}

// behind is a room whose log must be read.
type behind struct {
	room   event.Room
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
	if len(o.control) > 0 {
		return behind{}, false
	}
	for room, p := range o.rooms { // Go's random order of a map is fair enough
		if p.behind && !p.joining && p.newest > p.queued.Offset && !o.waitsLocked(room) {
			return behind{room: room, place: p, after: p.queued, newest: p.newest}, true
		}
	}
	return behind{}, false
}

func (o *outbox) waitsLocked(room event.Room) bool {
	return slices.ContainsFunc(o.durable, func(e entry) bool { return e.room == room })
}

// caughtUp moves a room's place to what was read from the log. It reports false
// if the session is no longer there, so that nothing of it is sent.
func (o *outbox) caughtUp(b behind, last event.Position) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.rooms[b.room]
	if p != b.place {
		return false // left, or joined anew, if at the same position: the answer to that comes first
	}
	p.queued = last
	p.behind = p.newest > last.Offset
	return true
}

// settled reports whether all that was heard of a room was sent.
func (o *outbox) settled(room event.Room) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.rooms[room]
	return p == nil || !p.behind && !o.waitsLocked(room)
}

// waiting is how many bytes of durable events wait.
func (o *outbox) waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes
}
