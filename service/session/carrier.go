package session

import (
	"context"
	"slices"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/fault"
)

// Carrier is what brings a session's frames.
type Carrier string

// The carriers.
const (
	Native    Carrier = "native"    // Subscribe over gRPC
	Websocket Carrier = "websocket" // Subscribe over grpc-web's websocket
	Watching  Carrier = "watch"     // Watch and Execute, over gRPC or grpc-web
)

// Carriers are all there are.
var Carriers = []Carrier{Native, Websocket, Watching}

type carrierKey struct{}

// WithCarrier says what brings a stream. Without it a stream counts as Native.
func WithCarrier(ctx context.Context, c Carrier) context.Context {
	return context.WithValue(ctx, carrierKey{}, c)
}

func carrierOf(ctx context.Context) Carrier {
	if c, ok := ctx.Value(carrierKey{}).(Carrier); ok {
		return c
	}
	return Native
}

var (
	errRealtimeOff = fault.New(fault.Precondition, "REALTIME_OFF",
		"real-time is switched off on this server; read with calls, or with Watch in mode POLL")
	errCarrierOff = fault.New(fault.Precondition, "TRANSPORT_OFF",
		"this server does not take sessions over this transport; use another one")
)

// admit says whether a stream may become a session. With real-time switched off
// a poll is still answered: it is a read like any call.
func (srv *Server) admit(stream Stream) error {
	w, watches := stream.(*watchStream)
	if srv.cfg.RealtimeOff {
		if watches && w.mode == pb.WatchMode_WATCH_MODE_POLL {
			return nil
		}
		return errRealtimeOff
	}
	c := Watching
	if !watches {
		c = carrierOf(stream.Context())
	}
	if len(srv.cfg.Transports) > 0 && !slices.Contains(srv.cfg.Transports, c) {
		return errCarrierOff
	}
	return nil
}
