package tcm

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

func TestFieldsAreThoseOfTheSchema(t *testing.T) {
	for _, c := range []struct {
		message proto.Message
		fields  map[protoreflect.FieldNumber]protoreflect.Name
	}{
		{&pb.SubscribeResponse{}, map[protoreflect.FieldNumber]protoreflect.Name{
			respEvents: "events", respReplyTo: "reply_to", respWelcome: "welcome", respJoined: "joined", respError: "error",
			respReset: "reset", respEvicted: "evicted", respGoing: "going_away", respAck: "ack",
		}},
		{&pb.Joined{}, map[protoreflect.FieldNumber]protoreflect.Name{joinedPosition: "position"}},
		{&pb.Position{}, map[protoreflect.FieldNumber]protoreflect.Name{positionEpoch: "epoch", positionOffset: "offset"}},
		{&pb.Event{}, map[protoreflect.FieldNumber]protoreflect.Name{eventOffset: "offset", eventEpoch: "epoch", eventTest: "test_execution"}},
		{&pb.TestExecutionUpdate{}, map[protoreflect.FieldNumber]protoreflect.Name{testDuration: "duration_ms", testTimestamp: "timestamp"}},
	} {
		d := c.message.ProtoReflect().Descriptor()
		for number, name := range c.fields {
			if f := d.Fields().ByNumber(number); f == nil || f.Name() != name {
				t.Errorf("field %d of %s is %v, want %s", number, d.Name(), f, name)
			}
		}
	}
}

// heard is a Handler that keeps what it was told.
type heard struct {
	ready, joined int
	events        []uint64 // sequence numbers and times, by turns
	acked         uint64
}

func (h *heard) Ready()           { h.ready++ }
func (h *heard) Joined()          { h.joined++ }
func (h *heard) Acked(seq uint64) { h.acked = seq }
func (h *heard) Event(p []byte) {
	h.events = append(h.events, binary.BigEndian.Uint64(p), binary.BigEndian.Uint64(p[8:]))
}

// publish returns the batch that a runner sends of payloads numbered from 1.
func publish(t *testing.T, payloads int) *pb.PublishBatch {
	t.Helper()
	r := NewRunner(Credentials{}, "key")
	sent := &web{}
	r.transport = sent // its frames are plain to cut
	for i := range payloads {
		p := binary.BigEndian.AppendUint64(nil, uint64(i+1))
		p = binary.BigEndian.AppendUint64(p, uint64(1_700_000_000_123_456_789+i))
		r.Publish(nil, "", p)
	}
	frame := r.Flush(nil)
	_, body, size := socketFrame(unmask(frame))
	var req pb.PublishResultsRequest
	if size == 0 || proto.Unmarshal(body[1+prefix:], &req) != nil {
		t.Fatalf("a batch of %q", frame)
	}
	return req.GetBatch()
}

// unmask turns a client's frame, whose mask is zero, into a server's.
func unmask(p []byte) []byte {
	n := 2
	switch p[1] & 0x7f {
	case 126:
		n = 4
	case 127:
		n = 10
	}
	b := append([]byte{}, p[:n]...)
	b[1] &^= masked
	return append(b, p[n+4:]...)
}

func TestPayloadsTravelInResults(t *testing.T) {
	batch := publish(t, 3)
	if batch.FirstSequence != 1 || len(batch.Items) != 3 {
		t.Fatalf("batch %v", batch)
	}
	resp := &pb.SubscribeResponse{}
	for i, item := range batch.Items {
		u := item.GetTest()
		if u.GetTest().GetSuite() == "" || u.Test.Name == "" || u.Status != pb.Status_STATUS_PASSED {
			t.Errorf("result %v", u)
		}
		resp.Events = append(resp.Events, &pb.Event{
			Room: "testrun:x", Offset: uint64(i + 7), Epoch: 9, Payload: &pb.Event_TestExecution{TestExecution: u},
		})
	}
	b, err := proto.Marshal(resp)
	if err != nil {
		t.Fatal(err)
	}
	var h heard
	s := &Subscriber{on: &h}
	if err := s.message(b); err != nil {
		t.Fatal(err)
	}
	want := []uint64{1, 1_700_000_000_123_456_789, 2, 1_700_000_000_123_456_790, 3, 1_700_000_000_123_456_791}
	if len(h.events) != 6 || !bytes.Equal(words(h.events), words(want)) || s.offset != 9 || s.epoch != 9 {
		t.Errorf("events %d at %d/%d, want %d at 9/9", h.events, s.epoch, s.offset, want)
	}
}

func words(v []uint64) (b []byte) {
	for _, n := range v {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}

// conversation is what a server sends: a welcome, the answer to a join, and an
// event, as gRPC messages.
func conversation(t *testing.T) (stream []byte, messages int) {
	t.Helper()
	for _, resp := range []*pb.SubscribeResponse{
		{Frame: &pb.SubscribeResponse_Welcome{Welcome: &pb.Welcome{SessionId: "s"}}},
		{ReplyTo: 1, Frame: &pb.SubscribeResponse_Joined{Joined: &pb.Joined{Room: "r", Position: &pb.Position{Epoch: 1, Offset: 5}}}},
		{Events: []*pb.Event{{Offset: 6, Epoch: 1, Payload: &pb.Event_TestExecution{TestExecution: publish(t, 1).Items[0].GetTest()}}}},
		{ReplyTo: joinID + 16, Frame: &pb.SubscribeResponse_Ack{Ack: &pb.Ack{}}},
	} {
		b, err := proto.Marshal(resp)
		if err != nil {
			t.Fatal(err)
		}
		stream = appendMessage(stream, b)
		messages++
	}
	return stream, messages
}

// TestBytesMayBeCutAnywhere cuts the server's bytes at each place, into frames and
// into reads, on both carriers.
func TestBytesMayBeCutAnywhere(t *testing.T) {
	stream, _ := conversation(t)
	for cut := range stream {
		halves := [][]byte{stream[:cut], stream[cut:]}
		upgrade := "HTTP/1.1 101 Switching Protocols\r\n\r\n"
		inWeb, inNative := []byte(upgrade), []byte(nil)
		for _, half := range halves {
			inWeb = append(inWeb, unmask(appendSocketFrame(nil, opBinary, half))...)
			inNative = append(appendFrame(inNative, len(half), frameData, 0, streamID), half...)
		}
		for name, c := range map[string]struct {
			s  *Subscriber
			in []byte
		}{"web": {NewWeb(Credentials{}), inWeb}, "native": {NewNative(Credentials{}), inNative}} {
			var h heard
			at := cut * len(c.in) / len(stream)
			used, _, err := c.s.Feed(c.in[:at], &h)
			if err != nil {
				t.Fatal(err)
			}
			rest := bytes.Clone(c.in[used:])
			if used, _, err = c.s.Feed(rest, &h); err != nil || used != len(rest) {
				t.Fatalf("%s, cut at %d: %d of %d used, %v", name, cut, used, len(rest), err)
			}
			if h.ready != 1 || h.joined != 1 || len(h.events) != 2 || h.acked != 16 || c.s.offset != 6 {
				t.Fatalf("%s, cut at %d: %+v", name, cut, h)
			}
		}
	}
}

func TestAnEndIsAnError(t *testing.T) {
	refusal, err := proto.Marshal(&pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Error{Error: &pb.Error{Message: "no such room"}}})
	if err != nil {
		t.Fatal(err)
	}
	upgraded := "HTTP/1.1 101 Switching Protocols\r\n\r\n"
	block := "grpc-status: 8\r\ngrpc-message: too many\r\n"
	trailer := append(binary.BigEndian.AppendUint32([]byte{0x80}, uint32(len(block))), block...)
	for name, c := range map[string]struct {
		s    *Subscriber
		in   []byte
		want string
	}{
		"a refused upgrade": {NewWeb(Credentials{}), []byte("HTTP/1.1 403 Forbidden\r\n\r\n"), "403"},
		"trailers":          {NewWeb(Credentials{}), append([]byte(upgraded), unmask(appendSocketFrame(nil, opBinary, trailer))...), "too many"},
		"a close frame": {
			NewWeb(Credentials{}), append([]byte(upgraded), unmask(appendSocketFrame(nil, opClose, append([]byte{3, 232}, "bye"...)))...), "bye",
		},
		"an error frame": {NewNative(Credentials{}), dataFrame(appendMessage(nil, refusal)), "no such room"},
		"a reset":        {NewNative(Credentials{}), appendFrame(nil, 0, frameReset, 0, streamID), "reset"},
		"compression":    {NewNative(Credentials{}), dataFrame([]byte{1, 0, 0, 0, 0}), "flags"},
	} {
		_, _, err := c.s.Feed(c.in, &heard{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
}

func dataFrame(p []byte) []byte {
	return append(appendFrame(nil, len(p), frameData, 0, streamID), p...)
}

// TestNativeSendsNoMoreThanTheWindows: what doesn't fit waits for the server.
func TestNativeSendsNoMoreThanTheWindows(t *testing.T) {
	n := newNative()
	out := n.send(nil, make([]byte, defaultWindow+1000))
	if got := data(out); got != defaultWindow {
		t.Errorf("%d bytes of data at once, want %d", got, defaultWindow)
	}
	grant := appendWindow(appendWindow(nil, 0, 500), streamID, 2000)
	_, reply, err := n.feed(grant, nil)
	if err != nil || data(reply) != 500 {
		t.Errorf("%d bytes after 500 were granted (%v)", data(reply), err)
	}
	if _, reply, err = n.feed(appendWindow(nil, 0, 5000), nil); err != nil || data(reply) != 1000+prefix-500 {
		t.Errorf("%d bytes at the end (%v), want %d", data(reply), err, 1000+prefix-500)
	}
}

// data is how many bytes of data there are in frames.
func data(frames []byte) (n int) {
	for len(frames) > 0 {
		size := int(frames[0])<<16 | int(frames[1])<<8 | int(frames[2])
		if frames[3] == frameData {
			n += size
		}
		frames = frames[frameHeader+size:]
	}
	return n
}

// TestASessionGoesOnWhereItWas: the join of the new one says the position.
func TestASessionGoesOnWhereItWas(t *testing.T) {
	stream, _ := conversation(t)
	s := NewNative(Credentials{})
	if _, _, err := s.Feed(dataFrame(stream), &heard{}); err != nil {
		t.Fatal(err)
	}
	again := s.Resume().(*Subscriber)
	again.transport = &web{}
	_, body, _ := socketFrame(unmask(again.Join("testrun:x")))
	var req pb.SubscribeRequest
	if err := proto.Unmarshal(body[1+prefix:], &req); err != nil {
		t.Fatal(err)
	}
	if at := req.GetJoin().GetPosition(); at.GetEpoch() != 1 || at.GetOffset() != 6 {
		t.Errorf("it joins at %v, want 1/6", at)
	}
}

// FuzzFeed: whatever the server sends, there is no panic, and no more is used than
// there is.
func FuzzFeed(f *testing.F) {
	f.Add([]byte("HTTP/1.1 101 Switching Protocols\r\n\r\n\x82\x05\x00\x00\x00\x00\x00"), true)
	f.Add(dataFrame([]byte{0, 0, 0, 0, 2, 0x0a, 0}), false)
	f.Fuzz(func(t *testing.T, p []byte, isWeb bool) {
		s := NewNative(Credentials{})
		if isWeb {
			s = NewWeb(Credentials{})
		}
		if used, _, _ := s.Feed(p, &heard{}); used > len(p) {
			t.Errorf("%d of %d bytes used", used, len(p))
		}
	})
}
