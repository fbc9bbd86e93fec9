package main

import (
	"context"
	"log/slog"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/store"
)

// watchedHealth is grpc.health.v1 whose Watch streams end when the server stops.
// Load balancers keep such a stream open for ever, and a graceful stop would
// wait for it until its time is up.
type watchedHealth struct {
	*health.Server
	stopping context.Context
	stop     context.CancelFunc
}

func newWatchedHealth() *watchedHealth {
	h := &watchedHealth{Server: health.NewServer()}
	h.stopping, h.stop = context.WithCancel(context.Background())
	return h
}

var errHealthStopping = fault.New(fault.Unavailable, "GOING_AWAY", "the server is stopping")

// Watch sends the state of a service, and again whenever it changes.
func (h *watchedHealth) Watch(req *healthpb.HealthCheckRequest, stream healthpb.Health_WatchServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(h.stopping, cancel)()
	err := h.Server.Watch(req, &watchStream{Health_WatchServer: stream, ctx: ctx})
	if h.stopping.Err() != nil && stream.Context().Err() == nil {
		return errHealthStopping
	}
	return err
}

type watchStream struct {
	healthpb.Health_WatchServer
	ctx context.Context
}

func (s *watchStream) Context() context.Context { return s.ctx }

var _ grpc.ServerStream = (*watchStream)(nil)

// readiness is whether the store works, as it was when somebody asked last.
type readiness struct {
	store store.Store
	log   *slog.Logger
	away  atomic.Bool
}

// check asks the store. The log has why it doesn't work, once until it does again;
// who asked is told as callers are.
func (r *readiness) check(ctx context.Context) error {
	err := r.store.Ready(ctx)
	if err == nil {
		if r.away.Swap(false) {
			r.log.InfoContext(ctx, "the store works again")
		}
		return nil
	}
	if ctx.Err() == nil && !r.away.Swap(true) {
		r.log.ErrorContext(ctx, "the store doesn't work", "error", err)
	}
	if e := store.Fault(err); e != nil {
		return e
	}
	return err
}
