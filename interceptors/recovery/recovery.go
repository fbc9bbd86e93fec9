// Package recovery keeps the server alive when the code behind a call panics.
//
// The panic is logged with its stack and the client is told "internal error".
// It covers what runs on the call's own goroutine: a goroutine that a handler
// starts has to look after itself.
package recovery

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"google.golang.org/grpc"

	"github.com/tcmanager/tcmanager/service/fault"
)

// Unary recovers calls.
func Unary(log *slog.Logger) grpc.UnaryServerInterceptor {
	return recovery.UnaryServerInterceptor(recovery.WithRecoveryHandlerContext(handler(log)))
}

func handler(log *slog.Logger) recovery.RecoveryHandlerFuncContext {
	recovered := Stream(log)
	return func(ctx context.Context, p any) error {
		method, _ := grpc.Method(ctx)
		return recovered(ctx, method, p)
	}
}

// Stream is for the layers of streams: it makes an error of a panic.
func Stream(log *slog.Logger) func(ctx context.Context, method string, p any) error {
	return func(ctx context.Context, method string, p any) error {
		log.ErrorContext(ctx, "panic", "grpc.full_method", method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		return fault.New(fault.Internal, "INTERNAL", "internal error; the server's log has the details")
	}
}
