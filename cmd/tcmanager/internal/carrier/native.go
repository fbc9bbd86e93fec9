package carrier

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// Native is Subscribe over gRPC itself.
type Native struct{}

func (Native) String() string { return "native" }

// Duplex is true.
func (Native) Duplex() bool { return true }

// Open calls Subscribe on a connection of its own.
func (Native) Open(ctx context.Context, to Server, token string, first ...*pb.SubscribeRequest) (Stream, error) {
	s := &nativeStream{wires: wires{readBuffer: to.ReadBuffer}}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(s.dial),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxFrame)),
	}
	if to.ReadBuffer > 0 { // HTTP/2 has a buffer too; this is its least
		options = append(options, grpc.WithStaticStreamWindowSize(64<<10))
	}
	var err error
	if s.conn, err = grpc.NewClient("passthrough:///"+to.GRPC, options...); err != nil {
		return nil, err
	}
	ctx, s.cancel = context.WithCancel(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token))
	if s.BidiStreamingClient, err = pb.NewRealtimeServiceClient(s.conn).Subscribe(ctx); err != nil {
		s.Cut()
		return nil, err
	}
	for i := 0; i < len(first) && s.Send(first[i]) == nil; i++ {
		// If one fails, Recv says why.
	}
	return s, nil
}

type nativeStream struct {
	wires
	grpc.BidiStreamingClient[pb.SubscribeRequest, pb.SubscribeResponse]
	conn   *grpc.ClientConn
	cancel context.CancelFunc
}

func (s *nativeStream) Close() error { return s.CloseSend() }

func (s *nativeStream) Cut() {
	s.cut()
	s.cancel()
	_ = s.conn.Close() // it says only that it was closed before
}

// Shared is Subscribe over a connection that others use too. To cut it off ends
// the call alone.
type Shared struct{ Conn *grpc.ClientConn }

func (Shared) String() string { return "shared" }

// Duplex is true.
func (Shared) Duplex() bool { return true }

// Open calls Subscribe.
func (c Shared) Open(ctx context.Context, _ Server, token string, first ...*pb.SubscribeRequest) (Stream, error) {
	s := &sharedStream{}
	ctx, s.cancel = context.WithCancel(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token))
	var err error
	s.BidiStreamingClient, err = pb.NewRealtimeServiceClient(c.Conn).Subscribe(ctx, grpc.MaxCallRecvMsgSize(maxFrame))
	if err != nil {
		s.cancel()
		return nil, err
	}
	for i := 0; i < len(first) && s.Send(first[i]) == nil; i++ {
		// If one fails, Recv says why.
	}
	return s, nil
}

type sharedStream struct {
	grpc.BidiStreamingClient[pb.SubscribeRequest, pb.SubscribeResponse]
	cancel context.CancelFunc
}

func (s *sharedStream) Close() error { return s.CloseSend() }

func (s *sharedStream) Cut() { s.cancel() }
