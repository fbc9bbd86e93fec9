// Package identity knows who is asking: it verifies tokens, signs them for
// development, and keeps the users' records.
package identity

import (
	"context"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/fault"
)

// Caller is the user a good token names.
type Caller struct {
	User      *pb.User
	ExpiresAt time.Time
}

// Ref returns the caller as events name them.
func (c Caller) Ref() *pb.UserRef { return &pb.UserRef{Id: c.User.GetId(), Name: c.User.GetName()} }

type callerKey struct{}

// WithCaller returns a context that knows its caller.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// ErrUnauthenticated is the answer to a missing or bad token. It doesn't say
// what was wrong with the token: the security log does.
var ErrUnauthenticated = fault.New(fault.Unauthenticated, "UNAUTHENTICATED",
	"a valid token is needed; send it as \"authorization: Bearer TOKEN\", and get a new one if it has expired")

// From returns the caller of a request. Without one it returns
// ErrUnauthenticated: the auth interceptor puts it there before any service runs.
func From(ctx context.Context) (Caller, error) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	if !ok || c.User.GetId() == "" {
		return Caller{}, ErrUnauthenticated
	}
	return c, nil
}
