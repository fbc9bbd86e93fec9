package edge

import (
	"context"

	"google.golang.org/grpc"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/websocket"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/session"
)

// newLane returns what serves Subscribe over websockets: the same service within
// the same interceptors as everywhere, on a carrier that never waits.
func newLane(c Config, m *socketMetrics) *websocket.Endpoint {
	info := &grpc.StreamServerInfo{
		FullMethod: pb.RealtimeService_Subscribe_FullMethodName, IsClientStream: true, IsServerStream: true,
	}
	subscribe := func(_ any, ss grpc.ServerStream) error {
		return c.Realtime.Subscribe(&grpc.GenericServerStream[pb.SubscribeRequest, pb.SubscribeResponse]{ServerStream: ss})
	}
	return websocket.New(websocket.Config{
		Method: info.FullMethod, Log: c.Log,
		Open: func(ss grpc.ServerStream) func() error {
			call := c.Streams.Open(ss, info)
			return func() error { return call.Serve(c.Realtime, subscribe) }
		},
		Context: func(ctx context.Context, conn *websocket.Conn) context.Context {
			return session.WithDirect(session.WithCarrier(ctx, session.Websocket), conn)
		},
		Opened: m.open.Inc,
		Ended: func(reason string) {
			m.open.Dec()
			m.ended.WithLabelValues(reason).Inc()
		},
		Sent:            func(n int64) { m.sent.Add(float64(n)) },
		MaxMessageBytes: c.MaxMessageBytes, HeaderTimeout: c.AuthTimeout, IdleTimeout: c.IdleTimeout,
		PingInterval: c.PingInterval, WriteStall: c.WriteStall,
	})
}
