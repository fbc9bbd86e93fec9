package interceptors_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/interceptors/layer"
	"github.com/tcmanager/tcmanager/interceptors/logging"
	"github.com/tcmanager/tcmanager/interceptors/metrics"
)

// sink is a stream that takes everything.
type sink struct{ grpc.ServerStream }

func (sink) Context() context.Context { return context.Background() }
func (sink) SendMsg(any) error        { return nil }

// BenchmarkSendThroughTheChain is what one message costs in the interceptors
// that see messages on their way out.
func BenchmarkSendThroughTheChain(b *testing.B) {
	counters, err := metrics.New(prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	info := &grpc.StreamServerInfo{FullMethod: pb.RealtimeService_Subscribe_FullMethodName, IsClientStream: true, IsServerStream: true}
	handler := func(_ any, ss grpc.ServerStream) error {
		m := &pb.SubscribeResponse{}
		for b.Loop() {
			if err := ss.SendMsg(m); err != nil {
				return err
			}
		}
		return nil
	}
	layers := layer.Layers{All: []layer.Layer{counters.Stream, logging.Stream(slog.New(slog.DiscardHandler))}}
	if err := layers.Stream()(nil, sink{}, info, handler); err != nil {
		b.Fatal(err)
	}
}
