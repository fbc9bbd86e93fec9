// Package metrics counts calls for Prometheus, by method and code:
//
//	grpc_server_started_total        calls and streams begun
//	grpc_server_handled_total        calls and streams over, by grpc_code
//	grpc_server_msg_received_total   messages received
//	grpc_server_msg_sent_total       messages sent
//	grpc_server_handling_seconds     how long calls and streams took, as a histogram
//
// The labels are grpc_type, grpc_service and grpc_method. Only methods that
// exist are counted, so the number of series is bounded. The names and labels are
// those of go-grpc-middleware, which dashboards know.
package metrics

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/tcmanager/tcmanager/interceptors/layer"
)

// buckets are in seconds: from an answer out of memory to a commit on a slow
// disk; streams, which last for hours, all fall into the last one.
var buckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10}

// Metrics are the counters of one server.
type Metrics struct {
	started, handled, received, sent *prometheus.CounterVec
	seconds                          *prometheus.HistogramVec

	methods sync.Map // by full name, of *method
}

// method has the counters of one method, so that a message costs no search for them.
type method struct {
	labels                  []string
	handled                 *prometheus.CounterVec
	started, received, sent prometheus.Counter
	seconds                 prometheus.Observer
}

// New makes the counters and registers them.
func New(r prometheus.Registerer) (*Metrics, error) {
	labels := []string{"grpc_type", "grpc_service", "grpc_method"}
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, slices.Concat(labels, more))
	}
	m := &Metrics{
		started:  counter("grpc_server_started_total", "Total number of RPCs started on the server."),
		handled:  counter("grpc_server_handled_total", "Total number of RPCs completed on the server, regardless of success or failure.", "grpc_code"),
		received: counter("grpc_server_msg_received_total", "Total number of RPC stream messages received on the server."),
		sent:     counter("grpc_server_msg_sent_total", "Total number of gRPC stream messages sent by the server."),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "grpc_server_handling_seconds", Help: "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.", Buckets: buckets,
		}, labels),
	}
	for _, c := range []prometheus.Collector{m.started, m.handled, m.received, m.sent, m.seconds} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the counters of calls: %w", err)
		}
	}
	return m, nil
}

// of returns the counters of a method.
func (m *Metrics) of(name, kind string) *method {
	if known, ok := m.methods.Load(name); ok {
		return known.(*method) //nolint:forcetypeassert // it is ours
	}
	service, short, _ := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	labels := []string{kind, service, short}
	known, _ := m.methods.LoadOrStore(name, &method{
		labels: labels, handled: m.handled,
		started:  m.started.WithLabelValues(labels...),
		received: m.received.WithLabelValues(labels...),
		sent:     m.sent.WithLabelValues(labels...),
		seconds:  m.seconds.WithLabelValues(labels...),
	})
	return known.(*method) //nolint:forcetypeassert // it is ours
}

// over counts a call's end.
func (m *method) over(began time.Time, err error) {
	m.handled.WithLabelValues(m.labels[0], m.labels[1], m.labels[2], status.Code(err).String()).Inc()
	m.seconds.Observe(time.Since(began).Seconds())
}

// Unary counts calls.
func (m *Metrics) Unary() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		counters, began := m.of(info.FullMethod, "unary"), time.Now()
		counters.started.Inc()
		counters.received.Inc()
		resp, err := handler(ctx, req)
		if err == nil {
			counters.sent.Inc()
		}
		counters.over(began, err)
		return resp, err
	}
}

// Stream counts streams and their messages.
func (m *Metrics) Stream(ss grpc.ServerStream, info *grpc.StreamServerInfo) (grpc.ServerStream, func(error) error, error) {
	counters, began := m.of(info.FullMethod, KindOf(info)), time.Now()
	counters.started.Inc()
	return &stream{ServerStream: ss, counters: counters}, func(err error) error {
		counters.over(began, err)
		return err
	}, nil
}

// KindOf names the type of a streaming method as the labels do.
func KindOf(info *grpc.StreamServerInfo) string {
	switch {
	case !info.IsServerStream:
		return "client_stream"
	case !info.IsClientStream:
		return "server_stream"
	default:
		return "bidi_stream"
	}
}

type stream struct {
	grpc.ServerStream
	counters *method
}

func (s *stream) SendMsg(m any) error {
	err := s.ServerStream.SendMsg(m)
	if err == nil {
		s.counters.sent.Inc()
	}
	return err
}

func (s *stream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil {
		s.counters.received.Inc()
	}
	return err
}

var _ layer.Layer = (*Metrics)(nil).Stream
