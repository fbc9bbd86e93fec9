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
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/tcmanager/tcmanager/interceptors/layer"
	"github.com/tcmanager/tcmanager/interceptors/metrics"
)

// Names of the fields that other interceptors add with Add.
const (
	UserID      = "user.id"
	AuthRefused = "auth.refused"
)

// Unary logs calls.
func Unary(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		l := &line{began: time.Now()}
		ctx = context.WithValue(ctx, lineKey{}, l)
		resp, err := handler(ctx, req)
		l.write(ctx, log, info.FullMethod, "unary", err)
		return resp, err
	}
}

// Stream logs streams when they end. Messages pass it by.
func Stream(log *slog.Logger) layer.Layer {
	return func(ss grpc.ServerStream, info *grpc.StreamServerInfo) (grpc.ServerStream, func(error) error, error) {
		l := &line{began: time.Now()}
		ctx := context.WithValue(ss.Context(), lineKey{}, l)
		return layer.WithContext(ctx, ss), func(err error) error {
			l.write(ctx, log, info.FullMethod, metrics.FormOf(info), err)
			return err
		}, nil
	}
}

// line is what the line of a call will say that only its interceptors know.
type line struct {
	began time.Time
	added []any // keys and values
}

type lineKey struct{}

// Add puts a field into the line of the call that ctx belongs to. It may only be
// called by interceptors, before the handler runs.
func Add(ctx context.Context, key string, value any) {
	if l, ok := ctx.Value(lineKey{}).(*line); ok {
		l.added = append(l.added, key, value)
	}
}

func (l *line) write(ctx context.Context, log *slog.Logger, name, kind string, err error) {
	code := status.Code(err)
	level := level(code)
	if !log.Enabled(ctx, level) {
		return
	}
	service, method, _ := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	fields := []any{"grpc.service", service, "grpc.method", method, "grpc.method_type", kind}
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		fields = append(fields, "peer.address", p.Addr.String())
	}
	fields = append(append(fields, l.added...), "grpc.code", code.String())
	if err != nil {
		fields = append(fields, "grpc.error", err.Error())
	}
	millis := float64(time.Since(l.began).Microseconds()) / 1000
	log.Log(ctx, level, "finished call", append(fields, "grpc.time_ms", strconv.FormatFloat(millis, 'f', -1, 64))...)
}

func level(code codes.Code) slog.Level {
	switch code {
	case codes.OK, codes.Canceled:
		return slog.LevelDebug
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.Unauthenticated, codes.PermissionDenied,
		codes.FailedPrecondition, codes.Aborted, codes.OutOfRange, codes.Unimplemented:
		return slog.LevelInfo
	case codes.DeadlineExceeded, codes.ResourceExhausted, codes.Unavailable:
		return slog.LevelWarn
	case codes.Unknown, codes.Internal, codes.DataLoss:
		return slog.LevelError
	}
	return slog.LevelError
}
