// Package ratelimit keeps one client from taking the server away from others.
//
// Calls and openings of streams take a token from their user's bucket, or from
// the peer's where there is no user (public methods). Each message of a stream
// takes one from the bucket of its user and method, since a limit on openings
// alone lets any number of messages through one stream. Without a token the
// answer is RESOURCE_EXHAUSTED with a RetryInfo; a stream ends with it, and the
// client is asked to stay away for a while. This is the flood gate: the session
// has limits of its own, by kind of frame, whose answers don't end it.
package ratelimit

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/ratelimit"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/tcmanager/tcmanager/interceptors/layer"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/limit"
)

// Reason is the reason of the fault that a client over its limit gets.
const Reason = "RATE_LIMITED"

// Config are the limits.
type Config struct {
	Calls    limit.Rate // calls and openings of streams, of a user or of a peer without one
	Messages limit.Rate // messages a client sends in streams, of a user to a method
}

// Limiter holds the buckets of one server.
type Limiter struct {
	calls    *limit.Buckets
	messages *limit.Buckets
}

// New returns a limiter with full buckets.
func New(c Config) *Limiter {
	return &Limiter{calls: limit.New(c.Calls), messages: limit.New(c.Messages)}
}

// verdict carries the fault past go-grpc-middleware's interceptor, which keeps
// only an error's text and would lose how long to wait.
type verdict struct{ refused *fault.Error }

type verdictKey struct{}

// Limit takes a token for a call; it implements ratelimit.Limiter.
func (l *Limiter) Limit(ctx context.Context) error {
	wait := l.calls.Of(who(ctx)).Take()
	if wait == 0 {
		return nil
	}
	err := exceeded(wait, "calls")
	if v, ok := ctx.Value(verdictKey{}).(*verdict); ok {
		v.refused = err
	}
	return err
}

// Unary limits calls.
func (l *Limiter) Unary() grpc.UnaryServerInterceptor {
	limit := ratelimit.UnaryServerInterceptor(l)
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		v := &verdict{}
		resp, err := limit(context.WithValue(ctx, verdictKey{}, v), req, info, handler)
		if v.refused != nil {
			return nil, v.refused
		}
		return resp, err
	}
}

// Stream limits openings of streams, and the messages that come through them.
func (l *Limiter) Stream(ss grpc.ServerStream, info *grpc.StreamServerInfo) (grpc.ServerStream, func(error) error, error) {
	caller := who(ss.Context())
	if wait := l.calls.Of(caller).Take(); wait > 0 {
		return nil, nil, exceeded(wait, "calls")
	}
	// Looked up once: a message costs no more than its token.
	tokens := l.messages.Of(caller + " " + info.FullMethod)
	if tokens == nil {
		return nil, nil, nil
	}
	return &stream{ServerStream: ss, tokens: tokens}, nil, nil
}

var _ layer.Layer = (*Limiter)(nil).Stream

type stream struct {
	grpc.ServerStream
	tokens *limit.Bucket
}

// Sends returns the stream that does what SendMsg has to.
func (s *stream) Sends() grpc.ServerStream { return s.ServerStream }

func (s *stream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	if wait := s.tokens.Take(); wait > 0 {
		return exceeded(max(wait, floodPause), "messages")
	}
	return nil
}

// floodPause is how long a client stays away whose stream was ended: if it could
// come back at once it would be no better off for keeping to the limit.
const floodPause = 5 * time.Second

func exceeded(wait time.Duration, what string) *fault.Error {
	return fault.New(fault.Exhausted, Reason, "too many %s; try again in %s", what, wait.Round(time.Millisecond)).After(wait)
}

// who names the user, or the peer where there is none. Peers of an IPv6 network
// share a bucket by /64, since one machine has that many addresses.
func who(ctx context.Context) string {
	if caller, err := identity.From(ctx); err == nil {
		return "user " + caller.User.GetId()
	}
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return "peer unknown"
	}
	host, _, err := net.SplitHostPort(p.Addr.String())
	if err != nil {
		return "peer " + p.Addr.String()
	}
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.Unmap().Is4() {
		return "peer " + host
	}
	prefix, err := addr.WithZone("").Prefix(64)
	if err != nil {
		return "peer " + host
	}
	return "peer " + prefix.String()
}
