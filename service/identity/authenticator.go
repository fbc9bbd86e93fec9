package identity

import (
	"context"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// UserKeeper makes the record of a user whom a good token names, or brings it
// up to date, and returns it.
type UserKeeper interface {
	EnsureUser(ctx context.Context, claimed *pb.User) (*pb.User, error)
}

// Authenticator turns tokens into callers whose records exist. Every door uses
// it: the auth interceptor for calls, and a session for the tokens that renew it.
type Authenticator struct {
	verifier *Verifier
	users    UserKeeper
}

// NewAuthenticator returns an authenticator.
func NewAuthenticator(v *Verifier, users UserKeeper) *Authenticator {
	return &Authenticator{verifier: v, users: users}
}

// TokenError says why a token was refused. It is for the security log; clients
// are told ErrUnauthenticated.
type TokenError struct {
	Reason string // fixed words, never a part of the token
}

// Error returns the reason.
func (e *TokenError) Error() string { return "token refused: " + e.Reason }

// Unwrap returns ErrUnauthenticated, so that a TokenError that gets as far as a
// client tells it no more than that.
func (e *TokenError) Unwrap() error { return ErrUnauthenticated }

// Authenticate returns the caller that a token names. A bad token gets a
// *TokenError; any other error means that the user's record could not be kept.
func (a *Authenticator) Authenticate(ctx context.Context, token string) (Caller, error) {
	caller, err := a.verifier.Verify(token)
	if err != nil {
		return Caller{}, err
	}
	caller.User, err = a.users.EnsureUser(ctx, caller.User)
	if err != nil {
		return Caller{}, err
	}
	return caller, nil
}
