package validation

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/interceptors/layer"
)

// oneMessage is a stream on which a bad message has come.
type oneMessage struct{ grpc.ServerStream }

func (oneMessage) Context() context.Context { return context.Background() }

func (oneMessage) RecvMsg(m any) error {
	req, ok := m.(proto.Message)
	if !ok {
		return errors.New("no message")
	}
	proto.Merge(req, &pb.CreateProjectRequest{Key: "Not A Key"})
	return nil
}

func TestStreamsAreCheckedUnlessTheyCheckTheirFrames(t *testing.T) {
	for method, want := range map[string]codes.Code{
		"/tcmanager.v1.SomeService/SomeStream":            codes.InvalidArgument,
		pb.RealtimeService_Subscribe_FullMethodName:       codes.OK,
		pb.RealtimeService_Watch_FullMethodName:           codes.OK,
		pb.ExecutionService_PublishResults_FullMethodName: codes.OK,
	} {
		layers := layer.Layers{All: []layer.Layer{Stream()}}
		err := layers.Stream()(nil, oneMessage{}, &grpc.StreamServerInfo{FullMethod: method, IsClientStream: true}, func(_ any, ss grpc.ServerStream) error {
			return ss.RecvMsg(&pb.CreateProjectRequest{})
		})
		if status.Code(err) != want {
			t.Errorf("%s: %v", method, err)
		}
	}
}
