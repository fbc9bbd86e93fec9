// Package logging writes one line about each call when it is over.
//
// Never logged: tokens, metadata, requests and responses. The fields:
//
//	grpc.service, grpc.method, grpc.method_type   what was called
//	grpc.code, grpc.error                         how it ended, as the client was told
//	grpc.time_ms                                  how long it took
//	peer.address                                  the other end of the connection; no header is believed
//	user.id                                       the caller, once known
//	auth.refused                                  why a token was refused, in fixed words
//
// Calls that ended well are logged at level debug, the mistakes of clients at
// info, limits and time-outs at warn, and the server's own mistakes at error.
package logging

import (
	"context"
	"log/slog"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// Names of the fields that other interceptors add with Add.
const (
	UserID      = "user.id"
	AuthRefused = "auth.refused"
)

// Unary logs calls.
func Unary(log *slog.Logger) grpc.UnaryServerInterceptor {
	return logging.UnaryServerInterceptor(logger(log), options()...)
}

// Stream logs streams when they end. Messages pass it by: the library would look
// at the clock twice for each of them, for lines that we don't write.
func Stream(log *slog.Logger) grpc.StreamServerInterceptor {
	intercept := logging.StreamServerInterceptor(logger(log), options()...)
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		return intercept(srv, ss, info, func(srv any, logged grpc.ServerStream) error {
			return handler(srv, &stream{ServerStream: ss, ctx: logged.Context()})
		})
	}
}

// stream is a stream with the context that carries the fields of its line.
type stream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *stream) Context() context.Context { return s.ctx }

// Add puts a field into the line of the call that ctx belongs to. It may only be
// called by interceptors, before the handler runs.
func Add(ctx context.Context, key string, value any) {
	logging.AddFields(ctx, logging.Fields{key, value})
}

func options() []logging.Option {
	return []logging.Option{
		logging.WithLogOnEvents(logging.FinishCall),
		logging.WithLevels(level),
		// "protocol" and "grpc.component" say the same on every line.
		logging.WithDisableLoggingFields(logging.SystemTag[0], logging.ComponentFieldKey),
	}
}

func logger(log *slog.Logger) logging.Logger {
	return logging.LoggerFunc(func(ctx context.Context, level logging.Level, msg string, fields ...any) {
		log.Log(ctx, slog.Level(level), msg, fields...)
	})
}

func level(code codes.Code) logging.Level {
	switch code {
	case codes.OK, codes.Canceled:
		return logging.LevelDebug
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.Unauthenticated, codes.PermissionDenied,
		codes.FailedPrecondition, codes.Aborted, codes.OutOfRange, codes.Unimplemented:
		return logging.LevelInfo
	case codes.DeadlineExceeded, codes.ResourceExhausted, codes.Unavailable:
		return logging.LevelWarn
	case codes.Unknown, codes.Internal, codes.DataLoss:
		return logging.LevelError
	}
	return logging.LevelError
}
