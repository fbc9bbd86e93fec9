package edge

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/certificate/certtest"
	lane "github.com/tcmanager/tcmanager/cmd/tcmanager/internal/websocket"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/interceptors/flow"
	"github.com/tcmanager/tcmanager/interceptors/layer"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/wire"
)

const origin = "https://tests.example.org"

type service struct {
	pb.UnimplementedIdentityServiceServer
	pb.UnimplementedRealtimeServiceServer
	subscribe func(grpc.BidiStreamingServer[pb.SubscribeRequest, pb.SubscribeResponse]) error
}

// GetServerInfo says who it thinks is asking.
func (s *service) GetServerInfo(ctx context.Context, _ *pb.GetServerInfoRequest) (*pb.GetServerInfoResponse, error) {
	p, _ := peer.FromContext(ctx)
	return &pb.GetServerInfoResponse{Version: p.Addr.String()}, nil
}

func (s *service) Subscribe(stream grpc.BidiStreamingServer[pb.SubscribeRequest, pb.SubscribeResponse]) error {
	return s.subscribe(stream)
}

// echo answers each request with its number.
func echo(s grpc.BidiStreamingServer[pb.SubscribeRequest, pb.SubscribeResponse]) error {
	for {
		req, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.Send(&pb.SubscribeResponse{ReplyTo: req.Id}); err != nil {
			return err
		}
	}
}

// wrapped is Subscribe under a name that has no lane of its own, so that it comes
// through grpc-web's wrapper as every other method does.
var wrapped = grpc.ServiceDesc{
	ServiceName: "test.Wrapped", HandlerType: (*pb.RealtimeServiceServer)(nil),
	Streams: []grpc.StreamDesc{{StreamName: "Subscribe", ServerStreams: true, ClientStreams: true, Handler: func(srv any, ss grpc.ServerStream) error {
		return srv.(*service).Subscribe(&grpc.GenericServerStream[pb.SubscribeRequest, pb.SubscribeResponse]{ServerStream: ss})
	}}},
}

type starter func(*testing.T, func(grpc.BidiStreamingServer[pb.SubscribeRequest, pb.SubscribeResponse]) error, ...func(*Config)) *rig

// bothWays tests what is true of websockets to Subscribe and to any other method.
func bothWays(t *testing.T, test func(*testing.T, starter)) {
	t.Helper()
	for name, path := range map[string]string{"by its own lane": subscribePath, "through the wrapper": wrappedPath} {
		t.Run(name, func(t *testing.T) {
			test(t, func(t *testing.T, subscribe func(grpc.BidiStreamingServer[pb.SubscribeRequest, pb.SubscribeResponse]) error, change ...func(*Config)) *rig {
				t.Helper()
				r := start(t, subscribe, change...)
				r.path = path
				return r
			})
		})
	}
}

type rig struct {
	*Edge
	path     string // of websockets
	addr     string
	registry *prometheus.Registry
	client   *http.Client
	sockets  *http.Client // for websockets, which need HTTP/1.1
	tls      *tls.Config  // of clients; nil in plain text
}

// start serves an edge on a port of the loopback interface.
func start(t *testing.T, subscribe func(grpc.BidiStreamingServer[pb.SubscribeRequest, pb.SubscribeResponse]) error, change ...func(*Config)) *rig {
	t.Helper()
	layers := &layer.Layers{Recover: func(_ context.Context, _ string, p any) error { return fmt.Errorf("panic: %v", p) }, All: []layer.Layer{flow.Stream}}
	s := grpc.NewServer(grpc.ForceServerCodecV2(wire.NewCodec()), grpc.ChainStreamInterceptor(layers.Stream()), grpc.WaitForHandlers(true))
	impl := &service{subscribe: subscribe}
	pb.RegisterIdentityServiceServer(s, impl)
	pb.RegisterRealtimeServiceServer(s, impl)
	s.RegisterService(&wrapped, impl)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := Config{
		GRPC: s, Realtime: impl, Streams: layers, Log: slog.New(slog.DiscardHandler), Pages: page(), Registry: prometheus.NewRegistry(),
		Ready:     func(context.Context) error { return nil },
		Verify:    func(string) (identity.Caller, error) { return identity.Caller{}, identity.ErrUnauthenticated },
		PublicURL: origin, HTTPAddr: l.Addr().String(),
		MaxMessageBytes: 1 << 20, AuthTimeout: 5 * time.Second, IdleTimeout: time.Minute, PingInterval: 25 * time.Second, WriteStall: 10 * time.Second,
	}
	for _, f := range change {
		f(&c)
	}
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := NewListenerMetrics(c.Registry)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Edge: e, path: subscribePath, addr: l.Addr().String(), registry: c.Registry}
	server := &http.Server{Handler: e, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	serve := server.Serve
	if c.TLS {
		authority := certtest.NewAuthority(t)
		pair := authority.Issue(t)
		serve = func(l net.Listener) error { return server.ServeTLS(l, pair.Cert, pair.Key) }
		r.tls = authority.TLS()
	}
	r.client = &http.Client{Transport: &http.Transport{DisableCompression: true, TLSClientConfig: r.tls, ForceAttemptHTTP2: true}}
	r.sockets = &http.Client{Transport: &http.Transport{TLSClientConfig: r.tls, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}}
	served := make(chan error, 1)
	go func() { served <- serve(lane.Listener(metrics.Limit(l, "http", 1000))) }()
	t.Cleanup(func() {
		r.client.CloseIdleConnections()
		r.sockets.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		s.Stop()
		if err := errors.Join(e.Close(ctx), server.Shutdown(ctx)); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return r
}

func page() fs.FS {
	return fstest.MapFS{
		"index.html":         {Data: []byte("<!doctype html><title>page</title>" + strings.Repeat("<p>text</p>", 500))},
		"assets/app-1234.js": {Data: []byte(strings.Repeat("console.log('text');", 500))},
		"icon.svg":           {Data: []byte("<svg xmlns='http://www.w3.org/2000/svg'/>")},
		".keep":              {Data: []byte{}},
	}
}

// url is the address of a path, with the scheme for plain text or that for TLS.
func (r *rig) url(plain, secure, path string) string {
	if r.tls != nil {
		return secure + "://" + r.addr + path
	}
	return plain + "://" + r.addr + path
}

// do makes a request and returns the answer, read.
func (r *rig) do(t *testing.T, method, path string, body []byte, headers ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.url("http", "https", path), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return resp, got
}

// framed is a gRPC message.
func framed(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(b))), b...)
}

// frame reads a frame of grpc-web: a message, or headers when text is set.
func frame(r io.Reader) (message []byte, headers textproto.MIMEHeader, err error) {
	var prefix [5]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return nil, nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(prefix[1:]))
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, nil, err
	}
	if prefix[0]&0x80 == 0 {
		return body, nil, nil
	}
	headers, err = textproto.NewReader(bufio.NewReader(io.MultiReader(bytes.NewReader(body), strings.NewReader("\r\n")))).ReadMIMEHeader()
	return nil, headers, err
}

// Opcodes of RFC 6455, 5.2.
const (
	opBinary = 0x2
	opPing   = 0x9
)

const (
	infoPath      = "/tcmanager.v1.IdentityService/GetServerInfo"
	subscribePath = "/tcmanager.v1.RealtimeService/Subscribe"
	wrappedPath   = "/test.Wrapped/Subscribe"
	headerBlockOK = "content-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\n"
)

func (r *rig) post(t *testing.T, headers ...string) (*http.Response, []byte) {
	t.Helper()
	headers = append([]string{"Content-Type", "application/grpc-web+proto", "X-Grpc-Web", "1"}, headers...)
	return r.do(t, http.MethodPost, infoPath, framed(t, &pb.GetServerInfoRequest{}), headers...)
}

// socket is a client of the grpc-websockets subprotocol, by hand.
type client struct {
	t    *testing.T
	conn *websocket.Conn
	in   io.Reader
}

func (r *rig) dial(t *testing.T, path string, headers http.Header) (*client, *http.Response, error) {
	t.Helper()
	if headers == nil {
		headers = http.Header{"Origin": {origin}}
	}
	conn, resp, err := websocket.Dial(t.Context(), r.url("ws", "wss", path), &websocket.DialOptions{
		HTTPClient: r.sockets, Subprotocols: []string{"grpc-websockets"}, HTTPHeader: headers,
	})
	if err != nil {
		return nil, resp, err
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	conn.SetReadLimit(-1)
	c := &client{t: t, conn: conn}
	c.in = &messages{ctx: t.Context(), conn: conn}
	return c, resp, nil
}

func (r *rig) open(t *testing.T, extra ...string) *client {
	t.Helper()
	c, _, err := r.dial(t, r.path, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.write(websocket.MessageBinary, []byte(headerBlockOK+strings.Join(extra, "")))
	return c
}

func (c *client) write(kind websocket.MessageType, b []byte) {
	c.t.Helper()
	if err := c.conn.Write(c.t.Context(), kind, b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) send(m proto.Message) {
	c.t.Helper()
	c.write(websocket.MessageBinary, append([]byte{0}, framed(c.t, m)...))
}

// messages reads the messages of a websocket as one stream of bytes.
type messages struct {
	ctx  context.Context
	conn *websocket.Conn
	rest []byte
}

func (m *messages) Read(p []byte) (int, error) {
	for len(m.rest) == 0 {
		_, b, err := m.conn.Read(m.ctx)
		if err != nil {
			return 0, err
		}
		m.rest = b
	}
	n := copy(p, m.rest)
	m.rest = m.rest[n:]
	return n, nil
}

// eventually waits for a counter, which is set a moment after the peer notices.
func (r *rig) eventually(t *testing.T, want string, name string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := testutil.GatherAndCompare(r.registry, strings.NewReader(want), name)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (r *rig) endedBecause(t *testing.T, reason string, n int) {
	t.Helper()
	r.eventually(t, fmt.Sprintf(`
		# HELP tcmanager_websockets_ended_total Websockets that ended, by reason.
		# TYPE tcmanager_websockets_ended_total counter
		tcmanager_websockets_ended_total{reason=%q} %d
	`, reason, n), "tcmanager_websockets_ended_total")
}
