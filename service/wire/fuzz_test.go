package wire

import (
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// FuzzUnmarshal decodes what a client may send: it is refused, or what it says can
// be said again.
func FuzzUnmarshal(f *testing.F) {
	for _, m := range []proto.Message{
		&pb.SubscribeRequest{Id: 1, Frame: &pb.SubscribeRequest_Hello{Hello: &pb.Hello{Client: "fuzz", SessionId: "x"}}},
		&pb.SubscribeRequest{Id: 2, Frame: &pb.SubscribeRequest_Join{Join: &pb.JoinRoom{Room: "project:demo", Position: &pb.Position{Epoch: 1, Offset: 2}}}},
		&pb.WatchRequest{Frames: []*pb.SubscribeRequest{{}, {Id: 3}}, Mode: pb.WatchMode_WATCH_MODE_POLL},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(nested(40))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range []proto.Message{
			&pb.SubscribeRequest{}, &pb.WatchRequest{}, &pb.ExecuteRequest{}, &pb.PublishResultsRequest{}, &structpb.Value{},
		} {
			if err := NewCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, m); err != nil {
				continue
			}
			said, err := proto.Marshal(m)
			if err != nil {
				t.Fatalf("%T was decoded and can't be encoded: %v", m, err)
			}
			if err := proto.Unmarshal(said, m.ProtoReflect().New().Interface()); err != nil {
				t.Errorf("%T was said again and can't be decoded: %v", m, err)
			}
		}
	})
}
