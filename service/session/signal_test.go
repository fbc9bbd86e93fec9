package session

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/rules"
)

// FuzzWhatIsSurelyValidKeepsEveryRule compares the short way with the schema.
func FuzzWhatIsSurelyValidKeepsEveryRule(f *testing.F) {
	long := func(n int) string { return string(make([]byte, n)) }
	for _, room := range []string{"", "project:p", long(200), long(201), "ü" + long(199), "x"} {
		for _, field := range []string{"", "title", "a.b_c-9", "9a", "A", "a" + long(3), "aü", "a\n", "title\n", long(65)} {
			for _, state := range []int32{-1, 0, 1, 2, 3, 4} {
				f.Add(room, field, state, "")
			}
		}
	}
	f.Add("r", "f", int32(1), "request")
	for n := 62; n < 68; n++ {
		name := make([]byte, n)
		for i := range name {
			name[i] = 'a'
		}
		f.Add("r", string(name), int32(1), "")
	}
	f.Fuzz(func(t *testing.T, room, field string, state int32, requestID string) {
		req := &pb.SubscribeRequest{Frame: &pb.SubscribeRequest_Command{Command: &pb.Command{
			RequestId: requestID, Command: &pb.Command_UpdateActivity{UpdateActivity: &pb.UpdateActivityRequest{
				Room: room, Field: field, State: pb.ActivityState(state),
			}},
		}}}
		if b, err := proto.Marshal(req); err != nil || proto.Unmarshal(b, req) != nil {
			return // it can't come
		}
		err := rules.Message(req)
		if isSurelyValid(req) && err != nil {
			t.Errorf("%v is said to be valid, and %v", req, err)
		}
		if requestID == "" && err == nil && !isSurelyValid(req) {
			t.Errorf("%v is valid, and takes the long way", req)
		}
		b, err := proto.Marshal(req)
		if err != nil {
			t.Fatal(err)
		}
		var r received
		if r.decodeActivity(b) != isSurelyValid(req) {
			t.Errorf("%v is surely valid: %v, and decoded in the short way: %v", req, isSurelyValid(req), !isSurelyValid(req))
		}
	})
}

// FuzzWhatIsDecodedInTheShortWayIsWhatItWas compares the short way with the decoder
// that knows the whole schema.
func FuzzWhatIsDecodedInTheShortWayIsWhatItWas(f *testing.F) {
	update := &pb.UpdateActivityRequest{Room: "testcase:1", Field: "title", State: pb.ActivityState_ACTIVITY_STATE_TYPING}
	command := &pb.Command{Command: &pb.Command_UpdateActivity{UpdateActivity: update}}
	for _, req := range []*pb.SubscribeRequest{
		{Id: 1 << 40, Frame: &pb.SubscribeRequest_Command{Command: command}},
		{Frame: &pb.SubscribeRequest_Command{Command: &pb.Command{RequestId: "r", Command: command.Command}}},
		{Id: 7, Frame: &pb.SubscribeRequest_Join{Join: &pb.JoinRoom{Room: "testcase:1"}}},
	} {
		b, err := proto.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(append(b, b...)) // fields that come twice
		f.Add(b[:len(b)-1])
	}
	f.Add([]byte(nil))
	f.Add([]byte("\x08\x07\x2a\x0d\x12\x0b\x0a\x02\xff\xff\x12\x03abc\x18\x01")) // a room that isn't UTF-8
	f.Add([]byte("\x2a\x0e\x12\x0c\x0a\x02rr\x12\x03abc\x18\x81\x00"))           // a number that takes more bytes than it needs
	known := received{room: "testcase:1", fields: [4]string{"steps", "title"}}
	f.Fuzz(func(t *testing.T, b []byte) {
		req := &pb.SubscribeRequest{}
		decodes := proto.Unmarshal(b, req)
		for _, r := range []*received{{}, &known} {
			if short := r.decodeActivity(b); short && (decodes != nil || rules.Message(req) != nil || !proto.Equal(r.request(), req)) {
				t.Errorf("% x is %v, %v, and was decoded as %v", b, req, decodes, r.request())
			}
			if err := r.DecodeMessage(b); err != nil {
				t.Error(err)
			}
			if err := r.decode(); err == nil && !proto.Equal(r.request(), req) {
				t.Errorf("% x is %v, and was decoded as %v", b, req, r.request())
			}
			r.other = nil
		}
	})
}

// TestOnlyAnActivityIsDecodedWhereTheNextRequestIsWaitedFor looks at what a goroutine
// with a small stack does, and what is left to another.
func TestOnlyAnActivityIsDecodedWhereTheNextRequestIsWaitedFor(t *testing.T) {
	join := &pb.SubscribeRequest{Id: 7, Frame: &pb.SubscribeRequest_Join{Join: &pb.JoinRoom{Room: "testcase:1"}}}
	b, err := proto.Marshal(join)
	if err != nil {
		t.Fatal(err)
	}
	var r received
	if err := r.DecodeMessage(b); err != nil || r.other != nil {
		t.Error("a join was decoded:", r.other, err)
	}
	clear(b) // it is gRPC's again
	if err := r.decode(); err != nil || !proto.Equal(r.request(), join) {
		t.Errorf("a join became %v; %v", r.request(), err)
	}
	if err := r.DecodeMessage([]byte("\xff")); err != nil {
		t.Error(err)
	}
	if err := r.decode(); status.Code(err) != codes.Internal {
		t.Errorf("what is no message: %v", err)
	}
	if err := r.DecodeMessage(nil); err != nil || r.decode() != nil || r.request().Frame != nil {
		t.Errorf("a message with nothing in it became %v; %v", r.request(), err)
	}
}

func TestWhatIsNotWholeIsNotSurelyValid(t *testing.T) {
	for _, req := range []*pb.SubscribeRequest{
		{},
		{Frame: &pb.SubscribeRequest_Ping{}},
		{Frame: &pb.SubscribeRequest_Command{}},
		{Frame: &pb.SubscribeRequest_Command{Command: &pb.Command{}}},
		{Frame: &pb.SubscribeRequest_Command{Command: &pb.Command{Command: &pb.Command_UpdateActivity{}}}},
		{Frame: &pb.SubscribeRequest_Join{Join: &pb.JoinRoom{}}},
	} {
		if isSurelyValid(req) {
			t.Errorf("%v is said to be valid", req)
		}
	}
	if ping := (&pb.SubscribeRequest{Frame: &pb.SubscribeRequest_Ping{Ping: &pb.Ping{}}}); !isSurelyValid(ping) || rules.Message(ping) != nil {
		t.Error("a ping takes the long way")
	}
}

// TestEveryKindOfFrameHasItsName keeps kindOf complete: a kind that it doesn't know
// would share the bucket of all that are unknown.
func TestEveryKindOfFrameHasItsName(t *testing.T) {
	each := func(m protoreflect.Message, oneof protoreflect.Name, check func(name string)) {
		fields := m.Descriptor().Oneofs().ByName(oneof).Fields()
		for i := range fields.Len() {
			fd := fields.Get(i)
			m.Set(fd, m.NewField(fd))
			check(string(fd.Name()))
		}
	}
	var req pb.SubscribeRequest
	each(req.ProtoReflect(), "frame", func(name string) {
		if req.GetCommand() != nil {
			return
		}
		if kind, signal := kindOf(&req); kind != name || signal != (name == "ping" || name == "refresh_token") {
			t.Errorf("%s is called %s, a signal: %v", name, kind, signal)
		}
	})
	var c pb.Command
	each(c.ProtoReflect(), "command", func(name string) {
		frame := &pb.SubscribeRequest{Frame: &pb.SubscribeRequest_Command{Command: &c}}
		if kind, signal := kindOf(frame); kind != name || signal != (name == "update_activity" || name == "update_presence") {
			t.Errorf("%s is called %s, a signal: %v", name, kind, signal)
		}
	})
}

func TestTheAnswerToSignalsIsAnAck(t *testing.T) {
	for _, id := range []uint64{1, 127, 128, 1<<64 - 1} {
		o := idleOutbox(1 << 10)
		o.ack(id)
		b, err := o.take()
		var got pb.SubscribeResponse
		if err != nil || proto.Unmarshal(b, &got) != nil {
			t.Fatal(err)
		}
		if want := (&pb.SubscribeResponse{ReplyTo: id, Frame: &pb.SubscribeResponse_Ack{Ack: &pb.Ack{}}}); !proto.Equal(&got, want) {
			t.Errorf("got %v, want %v", &got, want)
		}
	}
	o := idleOutbox(1 << 10)
	o.ack(0)
	if _, found, err := o.outbox.take(time.Now()); found || err != nil {
		t.Error("a signal without an id was answered")
	}
}
