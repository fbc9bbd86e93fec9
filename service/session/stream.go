package session

import (
	"context"

	"google.golang.org/grpc"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/wire"
)

// Stream is what a session needs of a carrier. Send takes an encoded
// SubscribeResponse, ready to go: a carrier adds its framing and nothing else.
// One goroutine sends at a time, and one receives.
type Stream interface {
	Context() context.Context
	Send(wire.Frame) error
	Recv() (*pb.SubscribeRequest, error)
}

// grpcStream is a Subscribe call, native or through grpc-web.
type grpcStream struct {
	grpc.BidiStreamingServer[pb.SubscribeRequest, pb.SubscribeResponse]
}

func (s grpcStream) Send(f wire.Frame) error { return s.SendMsg(f) }

// Direct is what a carrier has beside its Stream if sending on it never waits and
// waiting for a request takes next to nothing. A session over it has one goroutine,
// that of its handler, which rests in Wait; what there is to send is sent by whoever
// comes by. Its methods, and Send and Recv, may still be called for a moment when the
// handler has returned; they then report errors, or false.
type Direct interface {
	// Wait returns once there is a request to receive, or with the reason why there
	// never will be: io.EOF if the client has said all it had to say. One goroutine at
	// a time receives, that is calls Wait, Pending and Recv, but not always the same.
	Wait() error
	// Pending reports whether Recv would return at once. Likewise.
	Pending() bool
	// Send is Stream's, without what stands between the two: interceptors count what a
	// stream is sent, and a carrier can do so at less cost.
	Send(wire.Frame) error
	// Flushed reports whether the network has taken all that was sent. If it has
	// not, ready is called once it has, from any goroutine: until then the carrier
	// keeps what is sent, and no more should be. If the carrier ends before that,
	// ready is called too. It is always the same function, so that of several calls
	// the last is enough. Ready doesn't wait and doesn't call the carrier.
	Flushed(ready func()) bool
	// Interrupt makes Wait and Recv return, now and from then on. It doesn't wait,
	// and may be called more than once, at any time.
	Interrupt()
}

type directKey struct{}

// WithDirect says that a stream's carrier is direct.
func WithDirect(ctx context.Context, d Direct) context.Context {
	return context.WithValue(ctx, directKey{}, d)
}
