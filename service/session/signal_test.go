package session

import (
	"testing"
	"time"

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
	})
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
