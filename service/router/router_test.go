package router

import (
	"bytes"
	"slices"
	"sync"
	"testing"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/wire"
)

// ear keeps what it hears.
type ear struct{ batches []*Batch }

func (e *ear) Offer(b *Batch) { e.batches = append(e.batches, b) }

func (e *ear) offsets() []uint64 {
	var out []uint64
	for _, b := range e.batches {
		for _, ev := range b.Events {
			out = append(out, ev.Position.Offset)
		}
	}
	return out
}

func durable(room event.Room, offset uint64) event.Event {
	return event.Event{
		Room: room, Class: pb.DeliveryClass_DELIVERY_CLASS_DURABLE,
		Position: event.Position{Epoch: 1, Offset: offset}, Wire: []byte{byte(offset)},
	}
}

func TestASubscriberHearsItsRoomsInOrderAndNoOthers(t *testing.T) {
	r := New()
	var a, b ear
	r.Subscribe("testrun:a", &a)
	r.Subscribe("testrun:b", &b)
	r.Publish([]event.Event{durable("testrun:a", 1), durable("testrun:a", 2), durable("testrun:b", 1), durable("testrun:a", 3)})
	if got := a.offsets(); len(got) != 3 || got[0] != 1 || got[1] != 2 || got[2] != 3 {
		t.Errorf("room a heard %v, want 1 2 3", got)
	}
	if got := b.offsets(); len(got) != 1 || got[0] != 1 {
		t.Errorf("room b heard %v, want 1", got)
	}
}

func TestWhatMovesWithEventsComesWithThem(t *testing.T) {
	r := New()
	var a, b ear
	r.Subscribe("testrun:a", &a)
	r.Subscribe("testrun:b", &b)
	latest := func(room event.Room) event.Event {
		return event.Event{Room: room, Class: pb.DeliveryClass_DELIVERY_CLASS_LATEST, Wire: []byte{99}}
	}
	r.Publish([]event.Event{durable("testrun:a", 1), latest("testrun:a"), latest("testrun:b"), durable("testrun:b", 1), latest("testrun:a")})
	if len(a.batches) != 2 || a.batches[0].With == nil || a.batches[0].With.Class != pb.DeliveryClass_DELIVERY_CLASS_LATEST || a.batches[1].With != nil {
		t.Errorf("room a heard %+v, want an event with the latest behind it, and that of later alone", a.batches)
	}
	if len(b.batches) != 2 || b.batches[0].Class != pb.DeliveryClass_DELIVERY_CLASS_LATEST || b.batches[1].With != nil {
		t.Errorf("room b heard %+v, want the latest alone, and then an event", b.batches)
	}
}

func TestABatchIsOneClassAndItsWireIsTheEventsJoined(t *testing.T) {
	r := New()
	var a ear
	r.Subscribe("testrun:a", &a)
	fleeting := event.Event{Room: "testrun:a", Class: pb.DeliveryClass_DELIVERY_CLASS_EPHEMERAL, Wire: []byte{99}}
	r.Publish([]event.Event{durable("testrun:a", 1), durable("testrun:a", 2), fleeting})
	if len(a.batches) != 2 {
		t.Fatalf("heard %d batches, want 2: classes never share one", len(a.batches))
	}
	if got := a.batches[0]; !bytes.Equal(got.Piece.Frame.Bytes(), []byte{1, 2}) || got.First() != 1 || got.Last().Offset != 2 {
		t.Errorf("first batch is %v from %d to %d, want bytes 1 2 from 1 to 2", got.Piece.Frame.Bytes(), got.First(), got.Last().Offset)
	}
}

func TestOthersAreWhoeverElseIsInTheRoom(t *testing.T) {
	r := New()
	var a, b ear
	leaveA := r.Subscribe("testrun:a", &a)
	defer r.Subscribe("testrun:b", &b)()
	others := r.Others("testrun:a", &a)
	want := func(are bool) {
		t.Helper()
		if got := others(); got != are {
			t.Errorf("there are others: %v, want %v", got, are)
		}
	}
	want(false)
	leave := r.Subscribe("testrun:a", &b)
	want(true)
	leave()
	want(false)
	for range 20 {
		defer r.Subscribe("testrun:a", &b)()
	}
	want(true)
	leaveA()
	want(true)
	if !r.Others("testrun:a", &a)() || !r.Others("testrun:nobody", &a)() {
		t.Error("who isn't in a room knows that nobody else is")
	}
}

func TestWhoLeftHearsNothingAndEmptyRoomsAreForgotten(t *testing.T) {
	r := New()
	var a, b ear
	leaveA := r.Subscribe("testrun:a", &a)
	leaveB := r.Subscribe("testrun:a", &b)
	if n := r.Audience("testrun:a"); n != 2 {
		t.Fatalf("the audience is %d, want 2", n)
	}
	leaveA()
	leaveA() // a second time is harmless
	r.Publish([]event.Event{durable("testrun:a", 1)})
	if len(a.batches) != 0 || len(b.batches) != 1 {
		t.Errorf("the one who left heard %d batches and the other %d, want 0 and 1", len(a.batches), len(b.batches))
	}
	leaveB()
	if n := r.Rooms(); n != 0 {
		t.Errorf("%d rooms are left, want 0", n)
	}
}

func TestLeavingDuringAPublishDoesNotDisturbIt(t *testing.T) {
	r := New()
	var b ear
	quitter := &quitter{}
	quitter.leave = r.Subscribe("testrun:a", quitter)
	r.Subscribe("testrun:a", &b)
	r.Publish([]event.Event{durable("testrun:a", 1)})
	r.Publish([]event.Event{durable("testrun:a", 2)})
	if got := b.offsets(); len(got) != 2 {
		t.Errorf("the one who stayed heard %v, want 1 2", got)
	}
	if quitter.heard != 1 {
		t.Errorf("the one who left heard %d batches, want 1", quitter.heard)
	}
}

// quitter leaves when it hears something.
type quitter struct {
	leave func()
	heard int
}

func (q *quitter) Offer(*Batch) { q.heard++; q.leave() }

func TestThoseWhoLeaveAreForgottenAndThoseWhoStayHearAll(t *testing.T) {
	const n, stay = 1000, 10
	r := New()
	ears := make([]ear, n)
	leaves := make([]func(), n)
	for i := range ears {
		leaves[i] = r.Subscribe("testrun:a", &ears[i])
	}
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for i := range uint64(50) {
			r.Publish([]event.Event{durable("testrun:a", i+1)})
		}
	})
	var leaving sync.WaitGroup
	for i := stay; i < n; i += 99 {
		leaving.Go(func() {
			for _, leave := range leaves[i:min(i+99, n)] {
				leave()
			}
		})
	}
	leaving.Wait()
	publishing.Wait()
	r.Publish([]event.Event{durable("testrun:a", 51)})
	for i := range ears {
		if got := ears[i].offsets(); i < stay && len(got) != 51 || i >= stay && slices.Contains(got, 51) {
			t.Fatalf("subscriber %d heard %v", i, got)
		}
	}
	if kept := len(r.rooms["testrun:a"].groups[0].subs); kept > 2*stay || r.Audience("testrun:a") != stay {
		t.Errorf("%d subscribers are kept of %d, the audience is %d", kept, stay, r.Audience("testrun:a"))
	}
}

func TestPiecesThatAreSentTogetherAreJoinedOnce(t *testing.T) {
	pieces := make([]*Piece, 4)
	for i := range pieces {
		pieces[i] = &Piece{Frame: wire.Join([]byte{byte(i)})}
	}
	all := Join(pieces, nil)
	if !bytes.Equal(all.Bytes(), []byte{0, 1, 2, 3}) {
		t.Errorf("joined they are %v", all.Bytes())
	}
	if again := Join(pieces, nil); &again.Bytes()[0] != &all.Bytes()[0] {
		t.Error("they were joined a second time")
	}
	if some := Join(pieces[:2], nil); !bytes.Equal(some.Bytes(), []byte{0, 1}) {
		t.Errorf("some of them are %v", some.Bytes())
	}
	if one := Join(pieces[3:], nil); &one.Bytes()[0] != &pieces[3].Frame.Bytes()[0] {
		t.Error("one alone was copied")
	}
	other := &Piece{Frame: wire.Join([]byte{9})}
	both := Join(pieces[3:], other)
	if !bytes.Equal(both.Bytes(), []byte{3, 9}) {
		t.Errorf("with another behind it, it is %v", both.Bytes())
	}
	if again := Join(pieces[3:], other); &again.Bytes()[0] != &both.Bytes()[0] {
		t.Error("it was joined with the other a second time")
	}
	if newer := Join(pieces[3:], &Piece{Frame: wire.Join([]byte{8})}); !bytes.Equal(newer.Bytes(), []byte{3, 8}) {
		t.Errorf("with a newer one behind it, it is %v", newer.Bytes())
	}
}
