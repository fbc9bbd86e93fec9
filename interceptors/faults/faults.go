// Package faults turns the errors of services into gRPC statuses.
//
// A fault.Error becomes a status with exactly one google.rpc.ErrorInfo (see
// AIP-193), a RetryInfo or a BadRequest where they apply, and a
// tcmanager.v1.Error, which is the shape the frames of a stream have too. A
// status that gRPC itself made passes as it is. Any other error is the server's
// own mistake: it is logged once, with the method, and the client is told
// "internal error".
package faults

import (
	"context"
	"log/slog"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tcmanager/tcmanager/interceptors/layer"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/rules"
	"github.com/tcmanager/tcmanager/service/store"
)

// Unary translates the errors of calls.
func Unary(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		resp, err := handler(ctx, req)
		return resp, translate(ctx, log, info.FullMethod, err)
	}
}

// Stream translates the errors that end streams.
func Stream(log *slog.Logger) layer.Layer {
	return func(ss grpc.ServerStream, info *grpc.StreamServerInfo) (grpc.ServerStream, func(error) error, error) {
		return nil, func(err error) error { return translate(ss.Context(), log, info.FullMethod, err) }, nil
	}
}

func translate(ctx context.Context, log *slog.Logger, method string, err error) error {
	if err == nil {
		return nil
	}
	if e := fault.Of(err); e != nil {
		return Status(e).Err()
	}
	if st, ok := status.FromError(err); ok {
		return fromStatus(st).Err()
	}
	// The caller left or ran out of time: whatever failed inside, failed of that.
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	if e := store.Fault(err); e != nil {
		return Status(e).Err()
	}
	log.ErrorContext(ctx, "internal error", "grpc.full_method", method, "error", err)
	return Status(internal).Err()
}

var internal = fault.New(fault.Internal, "INTERNAL", "internal error; the server's log has the details")

// fromStatus passes a status on. The validation interceptor's own detail, which
// no client of ours reads, becomes what every other error has.
func fromStatus(st *status.Status) *status.Status {
	if st.Code() != codes.InvalidArgument {
		return st
	}
	for _, d := range st.Details() {
		if broken, ok := d.(*validate.Violations); ok {
			return Status(rules.Fault(broken))
		}
	}
	return st
}

// Status returns the status of a fault, with its details.
func Status(e *fault.Error) *status.Status {
	st := status.New(codes.Code(e.Kind), e.Message)
	details := []protoadapt.MessageV1{
		protoadapt.MessageV1Of(&errdetails.ErrorInfo{Reason: e.Reason, Domain: fault.Domain, Metadata: e.Metadata}),
	}
	if e.RetryAfter > 0 {
		details = append(details, protoadapt.MessageV1Of(&errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)}))
	}
	if len(e.Violations) > 0 {
		details = append(details, protoadapt.MessageV1Of(badRequest(e.Violations)))
	}
	details = append(details, protoadapt.MessageV1Of(fault.Proto(e)))
	withDetails, err := st.WithDetails(details...)
	if err != nil {
		// Only a code OK or text that isn't UTF-8 gets here; the code still counts.
		return st
	}
	return withDetails
}

func badRequest(violations []fault.Violation) *errdetails.BadRequest {
	b := &errdetails.BadRequest{}
	for _, v := range violations {
		b.FieldViolations = append(b.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: v.Field, Description: v.Description})
	}
	return b
}
