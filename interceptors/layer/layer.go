// Package layer is interceptors of streams in two halves: what comes before the
// handler, and what comes after it. An interceptor of gRPC's is a function around the
// handler, which lies on the stack of each stream for as long as that lasts: eight of
// them were 12 KB of a connection that does nothing.
package layer

import (
	"context"
	"slices"

	"google.golang.org/grpc"
)

// Layer is what an interceptor does with a stream that opens. It returns the stream
// for those behind it, or nil for the same; what is to be done with the outcome at the
// end, or nil for nothing; and why the stream is refused, of which the layers outside
// of it hear like of any other outcome.
type Layer func(grpc.ServerStream, *grpc.StreamServerInfo) (within grpc.ServerStream, end func(error) error, err error)

// Layers are those of a server, the outermost first.
type Layers struct {
	// Recover makes an error of a panic in a layer or in the handler; it is told the
	// method.
	Recover func(ctx context.Context, method string, p any) error
	All     []Layer
}

// Call is a stream that was opened or refused.
type Call struct {
	layers *Layers
	method string
	stream grpc.ServerStream
	ends   []func(error) error // the outermost is first
	err    error               // why it was refused
}

// Open opens a stream. Serve has to be called, even if it is refused.
func (l *Layers) Open(ss grpc.ServerStream, info *grpc.StreamServerInfo) *Call {
	c := &Call{layers: l, method: info.FullMethod, stream: ss}
	c.err = c.open(info)
	return c
}

func (c *Call) open(info *grpc.StreamServerInfo) (err error) {
	defer c.recover(&err)
	for _, layer := range c.layers.All {
		within, end, err := layer(c.stream, info)
		if end != nil {
			c.ends = append(c.ends, end)
		}
		if err != nil {
			return err
		}
		if within != nil {
			c.stream = within
		}
	}
	return nil
}

// Serve calls the handler, unless the stream was refused, and returns the outcome as
// the client gets it. It may be called on another goroutine than Open, on which nothing
// of that is left.
func (c *Call) Serve(srv any, handler grpc.StreamHandler) error {
	err := c.err
	if err == nil {
		err = c.handle(srv, handler)
	}
	for _, end := range slices.Backward(c.ends) {
		err = end(err)
	}
	return err
}

func (c *Call) handle(srv any, handler grpc.StreamHandler) (err error) {
	defer c.recover(&err)
	return handler(srv, c.stream)
}

// recover must be deferred.
func (c *Call) recover(err *error) {
	if p := recover(); p != nil {
		*err = c.layers.Recover(c.stream.Context(), c.method, p)
	}
}

// Stream returns the layers as one interceptor. Streams are opened on goroutines of
// their own, since to look at a token takes a deep stack, which a stream that rests
// would keep.
func (l *Layers) Stream() grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		opened := make(chan *Call, 1)
		go func() { opened <- l.Open(ss, info) }()
		return (<-opened).Serve(srv, handler)
	}
}

// WithContext is a stream with another context.
func WithContext(ctx context.Context, ss grpc.ServerStream) grpc.ServerStream {
	return &inContext{ServerStream: ss, ctx: ctx}
}

type inContext struct {
	grpc.ServerStream
	ctx context.Context
}

// Context returns the context.
func (s *inContext) Context() context.Context { return s.ctx }

// Sends returns the stream that does what SendMsg has to.
func (s *inContext) Sends() grpc.ServerStream { return s.ServerStream }
