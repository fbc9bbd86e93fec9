package event_test

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
)

var (
	moment = time.Date(2026, 11, 24, 23, 9, 0, 5000, time.UTC)
	ana    = &pb.UserRef{Id: "ana", Name: "Ana"}
)

func comment(text string) *pb.Event {
	return &pb.Event{Payload: &pb.Event_Collaboration{Collaboration: &pb.CollaborationUpdate{
		Type: pb.CollaborationType_COLLABORATION_TYPE_COMMENT_ADDED,
		Data: &pb.CollaborationUpdate_Comment{Comment: &pb.Comment{Text: text}},
	}}}
}

func draft(t *testing.T, room event.Room, ev *pb.Event) event.Draft {
	t.Helper()
	d, err := event.NewDraft(room, moment, ana, ev)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestAWireIsAFrameWithOneEvent(t *testing.T) {
	got := draft(t, "testcase:1", comment("hello")).At(event.Position{Epoch: 7, Offset: 300})
	want := comment("hello")
	want.Room, want.Offset, want.Epoch = "testcase:1", 300, 7
	want.Time, want.Actor = timestamppb.New(moment), ana

	frame := &pb.SubscribeResponse{}
	if err := proto.Unmarshal(got.Wire, frame); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(frame, &pb.SubscribeResponse{Events: []*pb.Event{want}}) {
		t.Errorf("got  %v\nwant %v", frame.GetEvents(), want)
	}
	decoded, err := got.Decode()
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(decoded, want) {
		t.Errorf("Decode gave %v\nwant %v", decoded, want)
	}
}

// The log keeps these bytes: a server of tomorrow reads what one of today wrote.
func TestTheEncodingOfAnEventStaysAsItIs(t *testing.T) {
	ev := draft(t, "user:ana", &pb.Event{Payload: &pb.Event_NotificationsRead{
		NotificationsRead: &pb.NotificationsRead{All: true, Unread: 2}}}).
		At(event.Position{Epoch: 0x0102030405060708, Offset: 300})
	const want = "0a34" + // SubscribeResponse.events
		"0a08" + "757365723a616e61" + // room: user:ana
		"10ac02" + // offset: 300
		"19" + "0807060504030201" + // epoch
		"2a09" + "088cb298d806" + "108827" + // time
		"320a" + "0a03616e61" + "1203416e61" + // actor
		"fa0104" + "1001" + "1802" // notifications_read
	if got := hex.EncodeToString(ev.Wire); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestJoinedWiresAndAControlMessageAreOneFrame(t *testing.T) {
	var joined []byte
	for i, text := range []string{"one", "two", "three"} {
		joined = append(joined, draft(t, "testcase:1", comment(text)).At(event.Position{Epoch: 7, Offset: uint64(i + 1)}).Wire...)
	}
	pong, err := proto.Marshal(&pb.SubscribeResponse{ReplyTo: 9, Frame: &pb.SubscribeResponse_Pong{Pong: &pb.Pong{}}})
	if err != nil {
		t.Fatal(err)
	}
	frame := &pb.SubscribeResponse{}
	if err := proto.Unmarshal(append(joined, pong...), frame); err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, ev := range frame.GetEvents() {
		texts = append(texts, ev.GetCollaboration().GetComment().GetText())
	}
	if got := strings.Join(texts, " "); got != "one two three" || frame.GetReplyTo() != 9 || frame.GetPong() == nil {
		t.Errorf("the frame holds %q and %v", got, frame.GetFrame())
	}
}

func TestSplitIsTheInverseOfJoining(t *testing.T) {
	var joined []byte
	var want []event.Event
	for i, ev := range []*pb.Event{
		comment("one"),
		{Payload: &pb.Event_RunChanged{RunChanged: &pb.RunChanged{}}},
		{Payload: &pb.Event_MemberChanged{MemberChanged: &pb.MemberChanged{ProjectId: "p"}}},
	} {
		placed := draft(t, "project:1", ev).At(event.Position{Epoch: 7, Offset: uint64(i + 1)})
		want = append(want, placed)
		joined = append(joined, placed.Wire...)
	}
	got, err := event.Split("project:1", joined)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("got %d events, want %d", len(got), len(want))
	}
	for i := range want {
		g, w := got[i], want[i]
		if g.Room != w.Room || g.Class != w.Class || g.Kind != w.Kind || g.Position != w.Position || !bytes.Equal(g.Wire, w.Wire) {
			t.Errorf("event %d: got %+v\nwant %+v", i, g, w)
		}
	}
}

// An event of the log is sent as it lies, appended to a frame: growing that
// frame must not overwrite the event that follows in the log.
func TestAppendingToASplitEventLeavesTheNextOneAlone(t *testing.T) {
	joined := slices.Concat(
		draft(t, "project:1", comment("one")).At(event.Position{Epoch: 7, Offset: 1}).Wire,
		draft(t, "project:1", comment("two")).At(event.Position{Epoch: 7, Offset: 2}).Wire)
	before := bytes.Clone(joined)
	events, err := event.Split("project:1", joined)
	if err != nil {
		t.Fatal(err)
	}
	_ = append(events[0].Wire, "something else"...)
	if !bytes.Equal(joined, before) {
		t.Error("appending to the first event changed the log's memory")
	}
}

func TestSplitRefusesALogThatIsCutOff(t *testing.T) {
	whole := draft(t, "project:1", comment("one")).At(event.Position{Epoch: 7, Offset: 1}).Wire
	for n := 1; n < len(whole); n++ {
		if _, err := event.Split("project:1", whole[:n]); err == nil {
			t.Errorf("the first %d of %d bytes were taken for events", n, len(whole))
		}
	}
}

func TestSplitRefusesAnythingButEvents(t *testing.T) {
	pong, err := proto.Marshal(&pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Pong{Pong: &pb.Pong{}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := event.Split("project:1", pong); err == nil || !strings.Contains(err.Error(), "project:1") {
		t.Errorf("got %v, want an error that names the room", err)
	}
}

func TestOnlyADurableEventHasAPosition(t *testing.T) {
	typing := draft(t, "testcase:1", &pb.Event{Payload: &pb.Event_Activity{Activity: &pb.Activity{Field: "title"}}}).
		At(event.Position{Epoch: 7, Offset: 3})
	if typing.Position != (event.Position{}) {
		t.Errorf("typing got the position %v", typing.Position)
	}
	ev, err := typing.Decode()
	if err != nil {
		t.Fatal(err)
	}
	if ev.GetOffset() != 0 || ev.GetEpoch() != 0 || ev.GetActivity().GetField() != "title" {
		t.Errorf("typing is sent as %v", ev)
	}
}

// A caller may fill in what only the store and the clock know; it doesn't count.
func TestADraftTakesNoPlaceFromItsMaker(t *testing.T) {
	ev := comment("hello")
	ev.Room, ev.Offset, ev.Epoch, ev.Actor = "project:another", 99, 99, &pb.UserRef{Id: "eve"}
	got, err := draft(t, "testcase:1", ev).At(event.Position{Epoch: 7, Offset: 1}).Decode()
	if err != nil {
		t.Fatal(err)
	}
	if got.GetRoom() != "testcase:1" || got.GetOffset() != 1 || got.GetEpoch() != 7 || got.GetActor().GetId() != "ana" {
		t.Errorf("got %v", got)
	}
}

func TestForSendsTheSameEventToAnotherRoom(t *testing.T) {
	d := draft(t, "testcase:1", comment("hello"))
	got, err := d.For("project:2").At(event.Position{Epoch: 7, Offset: 5}).Decode()
	if err != nil {
		t.Fatal(err)
	}
	if got.GetRoom() != "project:2" || got.GetCollaboration().GetComment().GetText() != "hello" || d.Room != "testcase:1" {
		t.Errorf("got %v; the first draft is for %s", got, d.Room)
	}
}

func TestAStampedDraftIsTheSameEvent(t *testing.T) {
	stamp, err := event.NewStamp(moment, ana)
	if err != nil {
		t.Fatal(err)
	}
	kind, at := payloadField("run_changed").Number(), event.Position{Epoch: 7, Offset: 300}
	for _, payload := range []*pb.RunChanged{{Run: &pb.Run{Id: "r"}}, {}} {
		encoded, err := proto.Marshal(payload)
		if err != nil {
			t.Fatal(err)
		}
		d, err := stamp.Draft("testrun:r", kind, encoded)
		if err != nil {
			t.Fatal(err)
		}
		plain := draft(t, "testrun:r", &pb.Event{Payload: &pb.Event_RunChanged{RunChanged: payload}})
		got, want := d.At(at), plain.At(at)
		if !bytes.Equal(got.Wire, want.Wire) || d.WireSize(at) != len(want.Wire) || plain.WireSize(at) != len(want.Wire) {
			t.Errorf("the two ways to make an event give different bytes for %v", payload)
		}
		if d.Class != plain.Class || d.Kind != plain.Kind || d.Key != plain.Key || d.Room != plain.Room {
			t.Errorf("got %+v\nwant %+v", d, plain)
		}
	}
}

func TestAnEventMayBeWrittenBehindOthers(t *testing.T) {
	d, at := draft(t, "testcase:1", comment("hello")), event.Position{Epoch: 7, Offset: 1}
	joined, ev := d.AppendAt(append(make([]byte, 0, 1000), "before"...), at)
	if want := d.At(at); !bytes.Equal(joined, append([]byte("before"), want.Wire...)) || !bytes.Equal(ev.Wire, want.Wire) {
		t.Errorf("got %q and %q", joined, ev.Wire)
	}
	_ = append(ev.Wire, "something else"...)
	if !bytes.Equal(joined[:cap(joined)][len(joined):][:4], make([]byte, 4)) {
		t.Error("appending to an event overwrites what will follow it")
	}
}

func TestADraftNeedsAPayloadAndIfLatestAKey(t *testing.T) {
	for name, ev := range map[string]*pb.Event{
		"no payload":     {},
		"latest, no key": {Payload: &pb.Event_RunProgress{RunProgress: &pb.RunProgress{}}},
	} {
		if _, err := event.NewDraft("project:1", moment, nil, ev); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, kind := range []protoreflect.FieldNumber{payloadField("run_progress").Number(), 9999} {
		if _, err := (event.Stamp{}).Draft("project:1", kind, nil); err == nil {
			t.Errorf("a stamped draft of kind %d, which isn't durable: no error", kind)
		}
	}
}

func TestAPositionSurvivesTheWayToAClientAndBack(t *testing.T) {
	want := event.Position{Epoch: 1 << 63, Offset: 42}
	if got := event.PositionOf(want.Proto()); got != want {
		t.Errorf("got %v", got)
	}
	if got := event.PositionOf(nil); got != (event.Position{}) {
		t.Errorf("no position gave %v", got)
	}
}

func TestEachKindOfEventDeclaresItsClass(t *testing.T) {
	fields := (&pb.Event{}).ProtoReflect().Descriptor().Oneofs().ByName("payload").Fields()
	if fields.Len() == 0 {
		t.Fatal("Event.payload has no fields")
	}
	inPayload := map[protoreflect.FieldNumber]bool{}
	for i := range fields.Len() {
		f := fields.Get(i)
		inPayload[f.Number()] = true
		if event.ClassOf(f.Number()) == pb.DeliveryClass_DELIVERY_CLASS_UNSPECIFIED {
			t.Errorf("%s declares no delivery class; add [(delivery) = ...] to it in event.proto", f.Name())
		}
		if f.Number() < 10 {
			t.Errorf("%s has number %d; those below 10 are the envelope's", f.Name(), f.Number())
		}
	}
	all := (&pb.Event{}).ProtoReflect().Descriptor().Fields()
	for i := range all.Len() {
		if f := all.Get(i); f.Number() >= 10 && !inPayload[f.Number()] {
			t.Errorf("%s has number %d, which readers of the log take for a payload", f.Name(), f.Number())
		}
	}
	if got := event.ClassOf(9999); got != pb.DeliveryClass_DELIVERY_CLASS_UNSPECIFIED {
		t.Errorf("an unknown kind is of class %s", got)
	}
}

// A class is a promise to clients: changing one is a decision, not a slip.
func TestTheClassesAreThosePromised(t *testing.T) {
	const want = `test_execution DURABLE
suite_execution DURABLE
run_changed DURABLE
run_progress LATEST
collaboration DURABLE
presence LATEST
activity EPHEMERAL
headcount LATEST
notification_added DURABLE
notifications_read DURABLE
member_changed DURABLE
`
	var got strings.Builder
	fields := (&pb.Event{}).ProtoReflect().Descriptor().Oneofs().ByName("payload").Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		got.WriteString(string(f.Name()) + " " + strings.TrimPrefix(event.ClassOf(f.Number()).String(), "DELIVERY_CLASS_") + "\n")
	}
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}

func payloadField(name protoreflect.Name) protoreflect.FieldDescriptor {
	return (&pb.Event{}).ProtoReflect().Descriptor().Fields().ByName(name)
}

// FuzzSplit: whatever lies in a log, reading it doesn't panic, and what is read
// is all of it.
func FuzzSplit(f *testing.F) {
	d, err := event.NewDraft("project:1", moment, ana, comment("one"))
	if err != nil {
		f.Fatal(err)
	}
	wire := d.At(event.Position{Epoch: 7, Offset: 1}).Wire
	f.Add([]byte(nil))
	f.Add(wire)
	f.Add(append(bytes.Clone(wire), wire...))
	f.Add(wire[:len(wire)-1])
	f.Add([]byte{0x0a, 0x02, 0x10, 0x80})       // an offset that is cut off
	f.Add([]byte{0x0a, 0x03, 0x18, 0x01, 0x52}) // an epoch of another type, half a payload
	f.Add([]byte{0x0a, 0x02, 0x53, 0x54})       // a group
	f.Fuzz(func(t *testing.T, b []byte) {
		events, err := event.Split("project:1", b)
		if err != nil {
			return
		}
		var joined []byte
		for _, ev := range events {
			joined = append(joined, ev.Wire...)
			decoded, err := ev.Decode()
			if err != nil {
				continue // well-formed fields, but not those of an event
			}
			if got := event.PositionOf(&pb.Position{Epoch: decoded.GetEpoch(), Offset: decoded.GetOffset()}); got != ev.Position {
				t.Errorf("Split read position %v where Decode reads %v", ev.Position, got)
			}
		}
		if !bytes.Equal(joined, b) {
			t.Error("the events joined are not what was split")
		}
	})
}
