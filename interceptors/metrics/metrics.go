// Package metrics counts calls for Prometheus, by method and code:
//
//	grpc_server_started_total        calls and streams begun
//	grpc_server_handled_total        calls and streams over, by grpc_code
//	grpc_server_msg_received_total   messages received
//	grpc_server_msg_sent_total       messages sent
//	grpc_server_handling_seconds     how long calls and streams took, as a histogram
//
// The labels are grpc_type, grpc_service and grpc_method: the names and labels that
// dashboards for gRPC servers know. Only methods that exist are counted, so the
// number of series is bounded. A message costs no more than adding to a counter.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
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

	methods sync.Map // from a full method and its type to its *method
}

// kind is a method and what grpc_type calls its form.
type kind struct{ fullMethod, form string }

// method holds the counters of one method, found once.
type method struct {
	started, received, sent prometheus.Counter
	handled                 *prometheus.CounterVec // by code
	seconds                 prometheus.Observer
}

// New makes the counters and registers them.
func New(r prometheus.Registerer) (*Metrics, error) {
	labels := []string{"grpc_type", "grpc_service", "grpc_method"}
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append(more, labels...))
	}
	m := &Metrics{
		started:  counter("grpc_server_started_total", "Total number of RPCs started on the server."),
		handled:  counter("grpc_server_handled_total", "Total number of RPCs completed on the server, regardless of success or failure.", "grpc_code"),
		received: counter("grpc_server_msg_received_total", "Total number of RPC messages received on the server."),
		sent:     counter("grpc_server_msg_sent_total", "Total number of RPC messages sent by the server."),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "grpc_server_handling_seconds", Help: "How long RPCs took on the server, in seconds.", Buckets: buckets,
		}, labels),
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.started, m.handled, m.received, m.sent, m.seconds} {
		errs = append(errs, r.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("register the counters of calls: %w", err)
	}
	return m, nil
}

// of returns the counters of a method.
func (m *Metrics) of(fullMethod, form string) *method {
	key := kind{fullMethod, form}
	if found, ok := m.methods.Load(key); ok {
		return found.(*method) //nolint:forcetypeassert // nothing else is put there
	}
	service, name, _ := strings.Cut(strings.TrimPrefix(fullMethod, "/"), "/")
	labels := prometheus.Labels{"grpc_type": form, "grpc_service": service, "grpc_method": name}
	found, _ := m.methods.LoadOrStore(key, &method{
		started: m.started.With(labels), received: m.received.With(labels), sent: m.sent.With(labels),
		handled: m.handled.MustCurryWith(labels), seconds: m.seconds.With(labels),
	})
	return found.(*method) //nolint:forcetypeassert // likewise
}

// begin counts a call, and returns what counts its end.
func (c *method) begin() (end func(error)) {
	c.started.Inc()
	began := time.Now()
	return func(err error) {
		c.handled.WithLabelValues(codeOf(err).String()).Inc()
		c.seconds.Observe(time.Since(began).Seconds())
	}
}

// codeOf is the code that gRPC tells a client.
func codeOf(err error) codes.Code {
	if s, ok := status.FromError(err); ok {
		return s.Code()
	}
	return status.FromContextError(err).Code()
}

// Unary counts calls.
func (m *Metrics) Unary() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		c := m.of(info.FullMethod, "unary")
		end := c.begin()
		c.received.Inc()
		resp, err := handler(ctx, req)
		if err == nil {
			c.sent.Inc()
		}
		end(err)
		return resp, err
	}
}

// Stream counts streams and their messages.
func (m *Metrics) Stream(ss grpc.ServerStream, info *grpc.StreamServerInfo) (grpc.ServerStream, func(error) error, error) {
	c := m.of(info.FullMethod, FormOf(info))
	end := c.begin()
	return &stream{ServerStream: ss, method: c}, func(err error) error {
		end(err)
		return err
	}, nil
}

var _ layer.Layer = (*Metrics)(nil).Stream

// FormOf names the form of a streaming method as the label grpc_type does.
func FormOf(info *grpc.StreamServerInfo) string {
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
	method *method
}

func (s *stream) SendMsg(m any) error {
	err := s.ServerStream.SendMsg(m)
	if err == nil {
		s.method.sent.Inc()
	}
	return err
}

func (s *stream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil {
		s.method.received.Inc()
	}
	return err
}
