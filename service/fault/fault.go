// Package fault is the one type of error that a client can act on.
//
// Services return a *fault.Error when the caller did something wrong or should
// come back later, and plain wrapped errors for everything else. Two doors
// translate: interceptors/faults turns it into a gRPC status, and a session
// puts its Proto into a frame. A plain error becomes "internal error" there and
// is logged; its text never reaches a client.
package fault

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// Kind says what a client can do about an error. It is a gRPC code, restricted
// to those that services use.
type Kind codes.Code

// The kinds. Their comments say what the client should do.
const (
	Invalid         = Kind(codes.InvalidArgument)    // mend the request
	Unauthenticated = Kind(codes.Unauthenticated)    // get a new token
	Denied          = Kind(codes.PermissionDenied)   // ask for the right
	NotFound        = Kind(codes.NotFound)           // name something that exists
	Exists          = Kind(codes.AlreadyExists)      // choose another name
	Precondition    = Kind(codes.FailedPrecondition) // change the state first
	Conflict        = Kind(codes.Aborted)            // read again, then repeat
	Exhausted       = Kind(codes.ResourceExhausted)  // wait, or send less
	Unavailable     = Kind(codes.Unavailable)        // come back later
	Unimplemented   = Kind(codes.Unimplemented)      // stop asking
	Internal        = Kind(codes.Internal)           // nothing; the server logs it
)

// Domain is the ErrorInfo domain of every reason, see AIP-193.
const Domain = "tcmanager"

// Violation is one field that broke a rule.
type Violation struct {
	Field       string // the path within the request, for example "items[3].test.status"
	Description string // what the rule asks for
}

// Error is an error a client can act on.
type Error struct {
	Kind       Kind
	Reason     string // UPPER_SNAKE, stable
	Message    string // for people
	Metadata   map[string]string
	RetryAfter time.Duration // 0: waiting doesn't help
	Violations []Violation
}

// New makes an error. The message is a sentence that says what to do.
func New(kind Kind, reason, format string, args ...any) *Error {
	return &Error{Kind: kind, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// Field makes an Invalid error about one field.
func Field(field, format string, args ...any) *Error {
	d := fmt.Sprintf(format, args...)
	e := New(Invalid, "INVALID_FIELD", "%s: %s", field, d)
	e.Violations = []Violation{{Field: field, Description: d}}
	return e
}

// With returns a copy with one more metadata entry.
func (e *Error) With(key, value string) *Error {
	c := *e
	c.Metadata = maps.Clone(e.Metadata)
	if c.Metadata == nil {
		c.Metadata = map[string]string{}
	}
	c.Metadata[key] = value
	return &c
}

// After returns a copy that tells the client how long to wait.
func (e *Error) After(d time.Duration) *Error {
	c := *e
	c.RetryAfter = d
	return &c
}

// Error returns the reason and the message.
func (e *Error) Error() string { return e.Reason + ": " + e.Message }

// Of returns the *Error in err's chain, or nil.
func Of(err error) *Error {
	e, _ := errors.AsType[*Error](err)
	return e
}

// IsReason reports whether err is a fault with this reason.
func IsReason(err error, reason string) bool {
	e := Of(err)
	return e != nil && e.Reason == reason
}

// Proto returns the error as clients see it, in a frame or as a status detail.
// An error that is not a *Error becomes INTERNAL without its text.
func Proto(err error) *pb.Error {
	e := Of(err)
	if e == nil {
		e = New(Internal, "INTERNAL", "internal error; the server's log has the details")
	}
	p := &pb.Error{Code: uint32(e.Kind), Reason: e.Reason, Message: e.Message, Metadata: e.Metadata}
	if e.RetryAfter > 0 {
		p.RetryAfter = durationpb.New(e.RetryAfter)
	}
	for _, v := range e.Violations {
		p.Violations = append(p.Violations, &pb.FieldViolation{Field: v.Field, Description: v.Description})
	}
	return p
}
