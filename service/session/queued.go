package session

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/wire"
)

// quick is what a carrier has if sending on it never waits; see Direct.
type quick interface {
	Send(wire.Frame) error
	Flushed(ready func()) bool
}

type http2Key struct{}

// OverHTTP2 says that a stream is one of grpc-go's HTTP/2 transport: not of a
// request that net/http serves, where SendMsg waits for the client.
func OverHTTP2(ctx context.Context) context.Context {
	return context.WithValue(ctx, http2Key{}, true)
}

// sendOver finds out how to send on a stream of Subscribe.
func (s *Session) sendOver(stream Stream) {
	ctx := stream.Context()
	s.ready = s.out.ready
	if direct, is := ctx.Value(directKey{}).(Direct); is {
		s.direct, s.quick = direct, direct
		return
	}
	if native, is := stream.(grpcStream); is && ctx.Value(http2Key{}) != nil {
		s.quick = &queued{to: sender(native.BidiStreamingServer)}
	}
}

// sender returns the stream that a message of ss comes to in the end: interceptors
// stand in front of it of which some have nothing to do with what is sent, and say so
// by Sends. To call them costs more than it seems, with thousands of streams none of
// which is in a cache.
func sender(ss grpc.ServerStream) grpc.ServerStream {
	if typed, is := ss.(*grpc.GenericServerStream[pb.SubscribeRequest, pb.SubscribeResponse]); is {
		ss = typed.ServerStream
	}
	for {
		within, is := ss.(interface{ Sends() grpc.ServerStream })
		if !is {
			return ss
		}
		ss = within.Sends()
	}
}

// queued sends on a stream of grpc-go's HTTP/2 transport. SendMsg puts a message
// into a queue there, and waits only if 64 KiB of the stream are in it. So nobody
// has to wait who knows how much is.
type queued struct {
	to      grpc.ServerStream
	waiting atomic.Int64 // bytes that may be in the queue
	untold  int64        // of these, those that no frame tells of yet; of who sends
	ready   func()       // set once, before wanted is
	wanted  atomic.Bool  // ready is to be called
}

const (
	// maxQueued is how much of a stream may be in grpc-go's queue before it is left
	// until that has taken some.
	maxQueued = 48 << 10
	// tellEvery is of how much one frame tells that it was taken: small ones, of
	// which there are many, cost nothing.
	tellEvery = 8 << 10
	// messageHeader is what gRPC puts before a message.
	messageHeader = 5
)

// Send puts a frame into the queue.
func (q *queued) Send(f wire.Frame) error {
	size := int64(f.Size() + messageHeader)
	q.waiting.Add(size)
	q.untold += size
	if q.untold < tellEvery {
		return q.to.SendMsg(f)
	}
	told := q.untold
	q.untold = 0
	return q.to.SendMsg(&wire.Told{Frame: f, Taken: func() { q.taken(told) }})
}

// taken notes that so much is in the queue no more.
func (q *queued) taken(size int64) {
	if q.waiting.Add(-size) < maxQueued && q.wanted.CompareAndSwap(true, false) {
		q.ready()
	}
}

// Flushed reports whether more may be sent. If not, ready is called when it may.
func (q *queued) Flushed(ready func()) bool {
	if q.waiting.Load() < maxQueued {
		return true
	}
	if q.ready == nil { // it may be about to be called
		q.ready = ready
	}
	q.wanted.Store(true)
	// What was taken in between has called nobody.
	return q.waiting.Load() < maxQueued && q.wanted.CompareAndSwap(true, false)
}
