package session

import (
	"context"

	"google.golang.org/grpc"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/wire"
)

// Stream is what a session needs of a carrier. Send takes an encoded
// SubscribeResponse, ready to go: a carrier adds its framing and nothing else.
// One goroutine sends and one receives.
type Stream interface {
	Context() context.Context
	Send(encoded []byte) error
	Recv() (*pb.SubscribeRequest, error)
}

// grpcStream is a Subscribe call, native or through grpc-web.
type grpcStream struct {
	grpc.BidiStreamingServer[pb.SubscribeRequest, pb.SubscribeResponse]
}

func (s grpcStream) Send(encoded []byte) error { return s.SendMsg(wire.Freeze(encoded)) }
