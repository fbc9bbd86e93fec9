package metrics

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tcmanager/tcmanager/interceptors/layer"
)

// carrier is a stream on which so many messages come.
type carrier struct {
	grpc.ServerStream
	messages int
	full     bool
}

func (c *carrier) RecvMsg(any) error {
	if c.messages == 0 {
		return io.EOF
	}
	c.messages--
	return nil
}

func (c *carrier) SendMsg(any) error {
	if c.full {
		return errors.New("full")
	}
	return nil
}

func TestCallsAndMessagesAreCountedByMethodAndCode(t *testing.T) {
	registry := prometheus.NewRegistry()
	m, err := New(registry)
	if err != nil {
		t.Fatal(err)
	}
	call := func(fails error) {
		_, err := m.Unary()(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "/s.S/Get"}, func(context.Context, any) (any, error) { return nil, fails })
		if !errors.Is(err, fails) {
			t.Errorf("%v became %v", fails, err)
		}
	}
	call(nil)
	call(status.Error(codes.NotFound, "gone"))
	call(context.Canceled)
	for _, info := range []grpc.StreamServerInfo{
		{FullMethod: "/s.S/Talk", IsClientStream: true, IsServerStream: true},
		{FullMethod: "/s.S/Say", IsClientStream: true},
		{FullMethod: "/s.S/Hear", IsServerStream: true},
	} {
		c := &carrier{messages: 3}
		layers := layer.Layers{All: []layer.Layer{m.Stream}}
		err := layers.Open(c, &info).Serve(nil, func(_ any, ss grpc.ServerStream) error {
			for ss.RecvMsg(nil) == nil {
				if err := ss.SendMsg(nil); err != nil {
					return err
				}
				c.full = c.messages == 1
			}
			return nil
		})
		if status.Code(err) != codes.Unknown {
			t.Errorf("it ended with %v", err)
		}
	}
	const want = `
		# HELP grpc_server_handled_total Total number of RPCs completed on the server, regardless of success or failure.
		# TYPE grpc_server_handled_total counter
		grpc_server_handled_total{grpc_code="Canceled",grpc_method="Get",grpc_service="s.S",grpc_type="unary"} 1
		grpc_server_handled_total{grpc_code="NotFound",grpc_method="Get",grpc_service="s.S",grpc_type="unary"} 1
		grpc_server_handled_total{grpc_code="OK",grpc_method="Get",grpc_service="s.S",grpc_type="unary"} 1
		grpc_server_handled_total{grpc_code="Unknown",grpc_method="Hear",grpc_service="s.S",grpc_type="server_stream"} 1
		grpc_server_handled_total{grpc_code="Unknown",grpc_method="Say",grpc_service="s.S",grpc_type="client_stream"} 1
		grpc_server_handled_total{grpc_code="Unknown",grpc_method="Talk",grpc_service="s.S",grpc_type="bidi_stream"} 1
		# HELP grpc_server_msg_received_total Total number of RPC messages received on the server.
		# TYPE grpc_server_msg_received_total counter
		grpc_server_msg_received_total{grpc_method="Get",grpc_service="s.S",grpc_type="unary"} 3
		grpc_server_msg_received_total{grpc_method="Hear",grpc_service="s.S",grpc_type="server_stream"} 3
		grpc_server_msg_received_total{grpc_method="Say",grpc_service="s.S",grpc_type="client_stream"} 3
		grpc_server_msg_received_total{grpc_method="Talk",grpc_service="s.S",grpc_type="bidi_stream"} 3
		# HELP grpc_server_msg_sent_total Total number of RPC messages sent by the server.
		# TYPE grpc_server_msg_sent_total counter
		grpc_server_msg_sent_total{grpc_method="Get",grpc_service="s.S",grpc_type="unary"} 1
		grpc_server_msg_sent_total{grpc_method="Hear",grpc_service="s.S",grpc_type="server_stream"} 2
		grpc_server_msg_sent_total{grpc_method="Say",grpc_service="s.S",grpc_type="client_stream"} 2
		grpc_server_msg_sent_total{grpc_method="Talk",grpc_service="s.S",grpc_type="bidi_stream"} 2
	`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want),
		"grpc_server_handled_total", "grpc_server_msg_received_total", "grpc_server_msg_sent_total"); err != nil {
		t.Error(err)
	}
	if n := testutil.CollectAndCount(m.seconds); n != 4 {
		t.Errorf("%d methods were timed, want 4", n)
	}
}

func TestCountersAreRegisteredOnce(t *testing.T) {
	registry := prometheus.NewRegistry()
	if _, err := New(registry); err != nil {
		t.Fatal(err)
	}
	if _, err := New(registry); err == nil {
		t.Error("they were registered twice")
	}
}
