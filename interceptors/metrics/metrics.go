// Package metrics counts calls for Prometheus, by method and code:
//
//	grpc_server_started_total        calls and streams begun
//	grpc_server_handled_total        calls and streams over, by grpc_code
//	grpc_server_msg_received_total   messages received
//	grpc_server_msg_sent_total       messages sent
//	grpc_server_handling_seconds     how long calls and streams took, as a histogram
//
// The labels are grpc_type, grpc_service and grpc_method. Only methods that
// exist are counted, so the number of series is bounded.
package metrics

import (
	"fmt"

	prom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
)

// buckets are in seconds: from an answer out of memory to a commit on a slow
// disk; streams, which last for hours, all fall into the last one.
var buckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10}

// Metrics are the counters of one server.
type Metrics struct {
	calls *prom.ServerMetrics
}

// New makes the counters and registers them.
func New(r prometheus.Registerer) (*Metrics, error) {
	calls := prom.NewServerMetrics(prom.WithServerHandlingTimeHistogram(prom.WithHistogramBuckets(buckets)))
	if err := r.Register(calls); err != nil {
		return nil, fmt.Errorf("register the counters of calls: %w", err)
	}
	return &Metrics{calls: calls}, nil
}

// Unary counts calls.
func (m *Metrics) Unary() grpc.UnaryServerInterceptor { return m.calls.UnaryServerInterceptor() }

// Stream counts streams and their messages.
func (m *Metrics) Stream() grpc.StreamServerInterceptor { return m.calls.StreamServerInterceptor() }
