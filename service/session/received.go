package session

import (
	"slices"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/wire"
)

// received is a request: an activity, which comes most often and is small, or any
// other. Who receives uses one again and again.
type received struct {
	isActivity bool
	activity   activity
	encoded    []byte               // any other, until decode is called
	other      *pb.SubscribeRequest // nil if it is an activity that came encoded
	at         time.Time            // when it came, or one a moment before; zero until it was looked at

	room   string    // the one that was named last, and
	fields [4]string // some fields: who types says the same ones again
	oldest int       // of fields
}

// activity is an update_activity that keeps every rule of its schema and has no
// request id.
type activity struct {
	id    uint64 // of the request
	room  event.Room
	field string
	state pb.ActivityState
}

// Fields of SubscribeRequest, Command and UpdateActivityRequest, checked by a test.
const (
	fieldID             protowire.Number = 1
	fieldCommand        protowire.Number = 5
	fieldUpdateActivity protowire.Number = 2
	fieldRoom           protowire.Number = 1
	fieldField          protowire.Number = 2
	fieldState          protowire.Number = 3
)

// request returns the request as a message.
func (r *received) request() *pb.SubscribeRequest {
	if r.other != nil {
		return r.other
	}
	a := &r.activity
	return &pb.SubscribeRequest{Id: a.id, Frame: &pb.SubscribeRequest_Command{Command: &pb.Command{
		Command: &pb.Command_UpdateActivity{UpdateActivity: &pb.UpdateActivityRequest{Room: string(a.room), Field: a.field, State: a.state}},
	}}}
}

// take takes a request that was decoded.
func (r *received) take(req *pb.SubscribeRequest) {
	r.other, r.isActivity = req, false
	if x := req.GetCommand().GetUpdateActivity(); x != nil && isSurelyValid(req) {
		r.isActivity, r.activity = true, activity{req.Id, event.Room(x.Room), x.Field, x.State}
	}
}

// DecodeMessage takes an encoded request, and keeps no byte of it. Only an activity is
// decoded at once: for anything else a stack has to be deep, and that of the
// goroutine that waits for the next request would stay so.
func (r *received) DecodeMessage(b []byte) error {
	r.other, r.encoded = nil, nil
	if r.isActivity = r.decodeActivity(b); !r.isActivity {
		r.encoded = append([]byte{}, b...) // not nil, even if b is
	}
	return nil
}

// decode decodes what DecodeMessage has left.
func (r *received) decode() error {
	if r.encoded == nil {
		return nil
	}
	req := &pb.SubscribeRequest{}
	err := wire.Decode(r.encoded, req)
	r.encoded = nil
	if err != nil {
		return status.Error(codes.Internal, err.Error()) // as grpc-go has it
	}
	r.take(req)
	return nil
}

// decodeActivity reports whether the request is an activity written as an encoder
// writes it. Whatever is unusual is left to the decoder that knows all of it.
func (r *received) decodeActivity(b []byte) bool {
	var id uint64
	if len(b) > 0 && b[0] == byte(protowire.EncodeTag(fieldID, protowire.VarintType)) {
		var n int
		if id, n = protowire.ConsumeVarint(b[1:]); n < 0 {
			return false
		}
		b = b[1+n:]
	}
	b, command := within(b, fieldCommand)
	b, update := within(b, fieldUpdateActivity)
	if !command || !update {
		return false
	}
	room, b := text(b, fieldRoom)
	field, b := text(b, fieldField)
	if len(b) != 2 || b[0] != byte(protowire.EncodeTag(fieldState, protowire.VarintType)) || !utf8.Valid(room) || !isFieldName(field) {
		return false
	}
	state := pb.ActivityState(b[1])
	if !isActivityState(state) || !isRoomName(room) {
		return false
	}
	r.activity = activity{id, r.roomOf(room), r.fieldOf(field), state}
	return true
}

// within returns what is in a message that b holds as this field and nothing else.
func within(b []byte, num protowire.Number) (inner []byte, ok bool) {
	if len(b) == 0 || b[0] != byte(protowire.EncodeTag(num, protowire.BytesType)) {
		return nil, false
	}
	inner, n := protowire.ConsumeBytes(b[1:])
	return inner, n == len(b)-1
}

// text cuts a string off b that is this field; it is empty if there is none.
func text(b []byte, num protowire.Number) (s, rest []byte) {
	if len(b) == 0 || b[0] != byte(protowire.EncodeTag(num, protowire.BytesType)) {
		return nil, b
	}
	s, n := protowire.ConsumeBytes(b[1:])
	if n < 0 {
		return nil, b
	}
	return s, b[1+n:]
}

func (r *received) roomOf(b []byte) event.Room {
	if r.room != string(b) {
		r.room = string(b)
	}
	return event.Room(r.room)
}

func (r *received) fieldOf(b []byte) string {
	if i := slices.IndexFunc(r.fields[:], func(f string) bool { return f == string(b) }); i >= 0 {
		return r.fields[i]
	}
	f := string(b)
	r.fields[r.oldest] = f
	r.oldest = (r.oldest + 1) % len(r.fields)
	return f
}
