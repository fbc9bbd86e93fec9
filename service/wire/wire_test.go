package wire

import (
	"bytes"
	"context"
	"net"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type service struct {
	pb.UnimplementedRealtimeServiceServer
	send []any
}

func (s *service) Subscribe(stream grpc.BidiStreamingServer[pb.SubscribeRequest, pb.SubscribeResponse]) error {
	for _, m := range s.send {
		if err := stream.SendMsg(m); err != nil {
			return err
		}
	}
	return nil
}

func TestAFrameArrivesAsTheMessageItWas(t *testing.T) {
	want := &pb.SubscribeResponse{ReplyTo: 7, Frame: &pb.SubscribeResponse_Left{Left: &pb.Left{Room: "project:x"}}}
	frame, err := Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	if frame.Size() != proto.Size(want) || !bytes.Equal(frame.Bytes(), Join(frame.Bytes()).Bytes()) {
		t.Error(frame.Size())
	}
	empty := &pb.SubscribeResponse{}
	s := grpc.NewServer(grpc.ForceServerCodecV2(NewCodec()))
	pb.RegisterRealtimeServiceServer(s, &service{send: []any{frame, &frame, want, Frame{}, empty}})
	l := bufconn.Listen(1 << 16)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	defer func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	stream, err := pb.NewRealtimeServiceClient(conn).Subscribe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []*pb.SubscribeResponse{want, want, want, empty, empty} {
		got, err := stream.Recv()
		if err != nil || !proto.Equal(got, want) {
			t.Errorf("message %d: %v, %v", i, got, err)
		}
	}
}

// reader is a Decoder.
type reader struct{ got string }

func (r *reader) DecodeMessage(b []byte) error {
	r.got = string(b)
	return nil
}

func TestADecoderGetsTheBytes(t *testing.T) {
	var r reader
	pieces := mem.BufferSlice{mem.SliceBuffer("ab"), mem.SliceBuffer("c")}
	if err := NewCodec().Unmarshal(pieces, &r); err != nil || r.got != "abc" {
		t.Errorf("it got %q, %v", r.got, err)
	}
	if err := DecodeAny([]byte("abc"), 7); err == nil {
		t.Error("a number was taken for a message")
	}
}

func TestTheCodecHasTheNameClientsExpect(t *testing.T) {
	if NewCodec().Name() != "proto" {
		t.Error(NewCodec().Name())
	}
}

func BenchmarkMarshalFrame(b *testing.B) {
	frame, err := Encode(&pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Left{Left: &pb.Left{Room: "project:x"}}})
	if err != nil {
		b.Fatal(err)
	}
	codec := NewCodec()
	for b.Loop() {
		if _, err := codec.Marshal(frame); err != nil {
			b.Fatal(err)
		}
	}
}
