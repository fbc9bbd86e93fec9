package websocket

import (
	"context"
	"errors"
	"net/textproto"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/tcmanager/tcmanager/service/wire"
)

// stream is the call of a connection, as a grpc.ServerStream.
type stream struct {
	conn *Conn
	ctx  context.Context

	sending sync.Mutex // guards the rest, and keeps messages from following the end
	header  metadata.MD
	trailer metadata.MD
	headed  bool // the headers are sent
}

func newStream(c *Conn) *stream { return &stream{conn: c, ctx: c.ctx} }

// open opens the call, and returns what runs it and says how it ends.
func (s *stream) open(headers textproto.MIMEHeader, authority string) func() error {
	call, err := parseCall(headers, authority)
	if err != nil {
		return func() error { return err }
	}
	c := s.conn
	c.messages.encoding = call.encoding
	headed := &headedContext{Context: peer.NewContext(c.ctx, c.peer())}
	headed.opening.Store(&withHeaders{metadata.NewIncomingContext(headed.Context, call.metadata)})
	defer headed.opening.Store(nil)
	ctx := grpc.NewContextWithServerTransportStream(headed, transportStream{s})
	if !call.timed {
		s.ctx = c.endpoint.cfg.Context(ctx, c)
		return c.endpoint.cfg.Open(s)
	}
	timed, cancel := context.WithTimeout(ctx, call.timeout)
	stop := context.AfterFunc(timed, func() {
		c.socket.finish()
		c.Interrupt()
	})
	s.ctx = c.endpoint.cfg.Context(timed, c)
	inTime := c.endpoint.cfg.Open(s)
	return func() error {
		defer cancel()
		defer stop()
		return inTime()
	}
}

// headedContext is a call's context that has the client's headers, with its token,
// while the call opens, and drops them then: they are as large as the rest of a
// connection that does nothing, and nobody asks for them again.
type headedContext struct {
	context.Context
	opening atomic.Pointer[withHeaders] // nil once the call is open
}

type withHeaders struct{ context.Context }

// Value returns what the context has under a key.
func (c *headedContext) Value(key any) any {
	if opening := c.opening.Load(); opening != nil {
		return opening.Value(key)
	}
	return c.Context.Value(key)
}

// peer is who is at the other end, as grpc-go tells it.
func (c *Conn) peer() *peer.Peer {
	p := &peer.Peer{Addr: c.socket.conn.RemoteAddr(), LocalAddr: c.socket.conn.LocalAddr()}
	if c.tls != nil {
		p.AuthInfo = credentials.TLSInfo{
			State: c.tls.ConnectionState(), CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
		}
	}
	return p
}

// finish tells the client how the call ended, and parts from it.
func (s *stream) finish(err error) {
	st, ok := status.FromError(err)
	if !ok {
		st = status.FromContextError(err)
	}
	s.conn.socket.finish()
	if s.conn.ctx.Err() != nil || s.sayEnd(st) != nil {
		return
	}
	s.conn.linger()
}

// sayEnd sends the trailers and the close frame.
func (s *stream) sayEnd(st *status.Status) error {
	s.sending.Lock() // whoever still sends has been woken up
	defer s.sending.Unlock()
	if err := s.sendHeaderLocked(); err != nil {
		return err
	}
	return s.conn.write(append(headerFrame(trailerBlock(st, s.trailer)), closeFrame(closeNormal)...))
}

// Context is the call's.
func (s *stream) Context() context.Context { return s.ctx }

var errHeaderSent = errors.New("the headers are sent already")

// SetHeader adds to the headers.
func (s *stream) SetHeader(md metadata.MD) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	if s.headed {
		return errHeaderSent
	}
	s.header = metadata.Join(s.header, md)
	return nil
}

// SendHeader adds to the headers and sends them.
func (s *stream) SendHeader(md metadata.MD) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	if s.headed {
		return errHeaderSent
	}
	s.header = metadata.Join(s.header, md)
	return s.sendHeaderLocked()
}

func (s *stream) sendHeaderLocked() error {
	if s.headed {
		return nil
	}
	s.headed = true
	err := s.conn.write(headerFrame(headerBlock(s.header)))
	s.conn.socket.headed.Store(true)
	return err
}

// SetTrailer adds to the trailers.
func (s *stream) SetTrailer(md metadata.MD) {
	s.sending.Lock()
	defer s.sending.Unlock()
	s.trailer = metadata.Join(s.trailer, md)
}

// SendMsg sends a wire.Frame as it is, and any other message encoded. It waits
// only behind more than a megabyte that the network has not taken.
func (s *stream) SendMsg(m any) error {
	var frame wire.Frame
	switch m := m.(type) {
	case wire.Frame:
		frame = m
	case *wire.Frame:
		frame = *m
	case proto.Message:
		var err error
		if frame, err = wire.Encode(m); err != nil {
			return status.Errorf(codes.Internal, "grpc: error while marshaling: %v", err)
		}
	default:
		return status.Errorf(codes.Internal, "grpc: error while marshaling: a %T is no message", m)
	}
	s.sending.Lock()
	defer s.sending.Unlock()
	if s.conn.socket.room() != nil {
		return s.ended(errGone)
	}
	if err := s.sendHeaderLocked(); err != nil {
		return s.ended(err)
	}
	return s.ended(s.conn.write(frame.Websocket()))
}

// RecvMsg decodes the next message, into a message or a wire.Decoder.
func (s *stream) RecvMsg(m any) error {
	var bad error
	err := s.conn.receive(func(b []byte) error {
		if err := wire.DecodeAny(b, m); err != nil {
			bad = status.Errorf(codes.Internal, "grpc: failed to unmarshal the received message: %v", err)
		}
		return bad
	})
	if errors.Is(err, errInterrupted) {
		return s.ended(err)
	}
	return err
}

// ended prefers the reason why the call's time is over.
func (s *stream) ended(err error) error {
	if err != nil && errors.Is(s.ctx.Err(), context.DeadlineExceeded) {
		return status.FromContextError(s.ctx.Err()).Err()
	}
	return err
}

// transportStream lets grpc.SetHeader and its like find the stream.
type transportStream struct{ stream *stream }

func (t transportStream) Method() string                  { return t.stream.conn.endpoint.cfg.Method }
func (t transportStream) SetHeader(md metadata.MD) error  { return t.stream.SetHeader(md) }
func (t transportStream) SendHeader(md metadata.MD) error { return t.stream.SendHeader(md) }

func (t transportStream) SetTrailer(md metadata.MD) error {
	t.stream.SetTrailer(md)
	return nil
}
