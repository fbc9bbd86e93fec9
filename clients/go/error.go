package tcmanager

import (
	"errors"
	"fmt"
	"strings"
	"time"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Error is what a server, or the way to it, answered instead of what was asked
// for: by a call, in a session and by a Publisher alike. Find it with errors.As,
// or with AsError for the error of a stream that a program opened by itself. It
// is a gRPC status too: status.Code and its like read it.
type Error struct {
	// Code is the gRPC status code.
	Code codes.Code
	// Reason is a stable word for programs, for example "REVISION_MISMATCH";
	// empty if the server gave none.
	Reason string
	// Message is a sentence for people.
	Message string
	// Metadata are facts that a program can use, for example "current_revision".
	Metadata map[string]string
	// RetryAfter is how long to wait before a retry can succeed; 0 if the server
	// didn't say.
	RetryAfter time.Duration
	// Violations are the fields that broke a rule, with codes.InvalidArgument.
	Violations []Violation

	cause error
}

// Violation is one field that broke a rule.
type Violation struct {
	// Field is the path of the field in the request, for example "update.status".
	Field string
	// Description is what the rule asks for.
	Description string
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns what the Error was made of; nil if it came in a frame.
func (e *Error) Unwrap() error { return e.cause }

// GRPCStatus returns the Error as a status with its details, so that a server
// made for a test can answer with one.
func (e *Error) GRPCStatus() *status.Status {
	s := status.New(e.Code, e.Message)
	details := []protoadapt.MessageV1{protoadapt.MessageV1Of(e.Proto())}
	if e.Reason != "" {
		details = append(details, &errdetails.ErrorInfo{Reason: e.Reason, Domain: "tcmanager", Metadata: e.Metadata})
	}
	if e.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)})
	}
	if detailed, err := s.WithDetails(details...); err == nil {
		return detailed
	}
	return s // with code OK there is nothing to detail
}

// Proto returns the Error as a frame of a stream carries it.
func (e *Error) Proto() *tcmv1.Error {
	p := &tcmv1.Error{Code: uint32(e.Code), Reason: e.Reason, Message: e.Message, Metadata: e.Metadata}
	if e.RetryAfter > 0 {
		p.RetryAfter = durationpb.New(e.RetryAfter)
	}
	for _, v := range e.Violations {
		p.Violations = append(p.Violations, &tcmv1.FieldViolation{Field: v.Field, Description: v.Description})
	}
	return p
}

// AsError returns the Error in err's chain, or makes one of the gRPC status there;
// it reports false if there is neither.
func AsError(err error) (*Error, bool) {
	if e, ok := errors.AsType[*Error](err); ok {
		return e, true
	}
	s, ok := status.FromError(err)
	if !ok || s.Code() == codes.OK {
		return nil, false
	}
	e := &Error{Code: s.Code(), Message: sentence(s), cause: err}
	for _, d := range s.Details() {
		e.addDetail(d)
	}
	return e, true
}

// addDetail takes what a detail of a status says. The server's own detail says
// all of it; those of google.rpc are for servers in between.
func (e *Error) addDetail(d any) {
	switch d := d.(type) {
	case *tcmv1.Error:
		own := errorOfFrame(d)
		e.Reason, e.Metadata, e.Violations = own.Reason, own.Metadata, own.Violations
		e.RetryAfter = max(e.RetryAfter, own.RetryAfter)
	case *errdetails.ErrorInfo:
		if e.Reason == "" {
			e.Reason, e.Metadata = d.GetReason(), d.GetMetadata()
		}
	case *errdetails.RetryInfo:
		e.RetryAfter = max(e.RetryAfter, d.GetRetryDelay().AsDuration())
	case *errdetails.BadRequest:
		if len(e.Violations) > 0 {
			return
		}
		for _, v := range d.GetFieldViolations() {
			e.Violations = append(e.Violations, Violation{Field: v.GetField(), Description: v.GetDescription()})
		}
	}
}

// errorOfFrame returns the error in a frame of a stream.
func errorOfFrame(p *tcmv1.Error) *Error {
	e := &Error{
		Code: codes.Code(p.GetCode()), Reason: p.GetReason(), Message: p.GetMessage(), Metadata: p.GetMetadata(),
		RetryAfter: p.GetRetryAfter().AsDuration(),
	}
	if e.Code == codes.OK || e.Code > codes.Unauthenticated {
		e.Code = codes.Unknown
	}
	if e.Message == "" {
		e.Message = "the server refused the request"
	}
	for _, v := range p.GetViolations() {
		e.Violations = append(e.Violations, Violation{Field: v.GetField(), Description: v.GetDescription()})
	}
	return e
}

// said returns err as an *Error if there is one to be made of it, and err itself
// otherwise.
func said(err error) error {
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	if e, ok := AsError(err); ok {
		return e
	}
	return err
}

// unavailable makes an Error of this side: the connection is not what it should be.
func unavailable(format string, args ...any) *Error {
	return &Error{Code: codes.Unavailable, Message: fmt.Sprintf(format, args...)}
}

// sentence is a status for people: what the server said, without grpc's frame
// around it.
func sentence(s *status.Status) string {
	message := s.Message()
	if message == "" {
		return s.Code().String()
	}
	// grpc wraps what the dialer said twice: connection error: desc = "...".
	if i := strings.LastIndex(message, "connection error: desc = "); i >= 0 {
		message = strings.Trim(message[i+len("connection error: desc = "):], `"`)
	}
	return message
}
