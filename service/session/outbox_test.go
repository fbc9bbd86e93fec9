package session

import (
	"errors"
	"strings"
	"testing"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/router"
	"github.com/tcmanager/tcmanager/service/wire"
)

// idleOutbox is an outbox that nobody flushes, with what tests need of it.
func idleOutbox(maxBytes int) *testedOutbox {
	return &testedOutbox{newOutbox(maxBytes, func() {})}
}

// ownerFunc is an owner that is told so.
type ownerFunc func()

func (f ownerFunc) summon() { f() }

func (f ownerFunc) group() router.Group { return nil }

func newOutbox(maxBytes int, summon ownerFunc) *outbox {
	return &outbox{maxBytes: maxBytes, owner: summon}
}

type testedOutbox struct{ *outbox }

// take returns what is sent next; nil if nothing waits.
func (o *testedOutbox) take() ([]byte, error) {
	frame, found, err := o.outbox.take(time.Now())
	if found != (frame.Size() > 0) {
		return nil, errors.New("an empty frame")
	}
	return frame.Bytes(), err
}

func batch(ev event.Event) *router.Batch {
	return &router.Batch{Room: ev.Room, Class: ev.Class, Events: []event.Event{ev}, Piece: &router.Piece{Frame: wire.Join(ev.Wire)}}
}

// A room has thousands of readers: what one of them costs is to be read from memory, not
// made.
func TestToHandAnEventOnAllocatesNothing(t *testing.T) {
	o := idleOutbox(1 << 10)
	p := o.enter("testrun:r")
	o.begin(p, event.Position{Epoch: 1}, 0, false)
	result, progress := batch(durableEvent(p, 1)), batch(durableEvent(p, 0))
	progress.Class = pb.DeliveryClass_DELIVERY_CLASS_LATEST
	result.With = progress
	var sent []byte
	allocated := testing.AllocsPerRun(100, func() {
		p.queued = event.Position{Epoch: 1}
		p.Offer(result)
		sent, _ = o.take()
	})
	if allocated > 0 || string(sent) != "eventevent" {
		t.Errorf("%v times memory was allocated to send %q", allocated, sent)
	}
}

func TestAnswersThatPileUpAreBoundedInNumberAndBytes(t *testing.T) {
	big := &pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Joined{Joined: &pb.Joined{Room: strings.Repeat("x", 3<<20)}}}
	small := &pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Pong{Pong: &pb.Pong{}}}
	for name, tc := range map[string]struct {
		frame *pb.SubscribeResponse
		fit   int
	}{
		"many":  {small, maxControl},
		"large": {big, 2},
	} {
		o := idleOutbox(1 << 10)
		for range tc.fit {
			o.post(tc.frame)
		}
		if _, err := o.take(); err != nil {
			t.Errorf("%s: %d frames waited, and taking one failed: %v", name, tc.fit, err)
		}
		o.post(tc.frame)
		o.post(tc.frame)
		if _, err := o.take(); !errors.Is(err, errTooSlow) {
			t.Errorf("%s: a frame too many gave %v, want TOO_SLOW", name, err)
		}
	}
	o := idleOutbox(1 << 10)
	o.post(&pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Joined{Joined: &pb.Joined{Room: strings.Repeat("x", 2*controlBytes)}}})
	if b, err := o.take(); err != nil || len(b) < controlBytes {
		t.Errorf("one answer larger than the bound gave %d bytes, %v; want it to go", len(b), err)
	}
}

func TestNoCursorCountsWhatStillWaits(t *testing.T) {
	const room = event.Room("testrun:r")
	o := idleOutbox(1 << 10)
	p := o.enter(room)
	o.begin(p, event.Position{Epoch: 1}, 0, false)
	if at, all := o.cursors(); !all || len(at) != 1 || at[0].Position.Offset != 0 {
		t.Errorf("before the first event: %v, %v", at, all)
	}
	ev := event.Event{Room: room, Class: pb.DeliveryClass_DELIVERY_CLASS_DURABLE, Position: event.Position{Epoch: 1, Offset: 1}, Wire: []byte("event")}
	if b, err := o.take(); b != nil || err != nil {
		t.Fatal(b, err)
	}
	// It comes just after a drain saw that nothing waited.
	o.offer(p, batch(ev))
	if at, all := o.cursors(); all {
		t.Errorf("an event waits, and the client is told %v", at)
	}
	if b, err := o.take(); string(b) != "event" || err != nil {
		t.Fatal(b, err)
	}
	if at, all := o.cursors(); !all || at[0].Position.Offset != 1 {
		t.Errorf("after it was sent: %v, %v", at, all)
	}
	o.post(&pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Ack{Ack: &pb.Ack{}}})
	if _, all := o.cursors(); all {
		t.Error("an answer waits, and the client may go")
	}
}

func TestTheLogComesBehindTheAnswerToTheJoin(t *testing.T) {
	const room = event.Room("testrun:r")
	at := event.Position{Epoch: 1, Offset: 3}
	joined := &pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Joined{Joined: &pb.Joined{Room: string(room)}}}
	o := idleOutbox(1 << 10)
	place := o.enter(room)
	if b, err := o.take(); b != nil || err != nil {
		t.Fatal(b, err)
	}
	// The join is carried out just after the sender saw that nothing waited.
	o.begin(place, at, 9, false, joined)
	if b, found := o.nextBehind(); found {
		t.Errorf("the log is read from %v before the answer is sent", b.after)
	}
	if b, err := o.take(); b == nil || err != nil {
		t.Fatal(b, err)
	}
	b, found := o.nextBehind()
	if !found || b.after != at {
		t.Fatalf("after the answer: %v, %v", b, found)
	}
	// While the log is read, the room is joined anew where it was.
	o.leave(place)
	o.begin(o.enter(room), at, 9, false, joined)
	if o.caughtUp(b, event.Position{Epoch: 1, Offset: 9}) {
		t.Error("what was read for the former join is sent before the answer to the latter")
	}
}

// Who is there is read for the answer to a join, and somebody may leave before it
// is queued. Told before the answer, that would be undone by it.
func TestNewsOfARoomComesBehindTheAnswerToTheJoin(t *testing.T) {
	const room, other = event.Room("project:p"), event.Room("project:q")
	news := func(p *place, class pb.DeliveryClass, wire string) *router.Batch {
		return batch(event.Event{Room: p.room, Class: class, Key: "u", Wire: []byte(wire)})
	}
	o := idleOutbox(1 << 10)
	q := o.enter(other)
	o.begin(q, event.Position{}, 0, false)
	p := o.enter(room)
	o.offer(p, news(p, pb.DeliveryClass_DELIVERY_CLASS_LATEST, "left "))
	o.offer(p, news(p, pb.DeliveryClass_DELIVERY_CLASS_EPHEMERAL, "typing "))
	o.offer(q, news(q, pb.DeliveryClass_DELIVERY_CLASS_LATEST, "elsewhere"))
	if b, err := o.take(); string(b) != "elsewhere" || err != nil {
		t.Errorf("before the answer came %q, %v; want what is told of the other room", b, err)
	}
	if b, err := o.take(); len(b) > 0 || err != nil {
		t.Errorf("before the answer came %q, %v", b, err)
	}
	answer := &pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Joined{Joined: &pb.Joined{Room: string(room)}}}
	o.begin(p, event.Position{}, 0, false, answer)
	if b, err := o.take(); !strings.Contains(string(b), string(room)) || err != nil {
		t.Errorf("came %q, %v; want the answer", b, err)
	}
	if b, err := o.take(); string(b) != "left typing " || err != nil {
		t.Errorf("behind the answer came %q, %v", b, err)
	}
}
