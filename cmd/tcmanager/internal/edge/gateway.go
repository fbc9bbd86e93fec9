package edge

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/improbable-eng/grpc-web/go/grpcweb"
	"google.golang.org/grpc"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/websocket"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/interceptors/flow"
	"github.com/tcmanager/tcmanager/service/session"
)

const (
	// readLimitSlack is what a websocket message may have beside the largest gRPC
	// message: the byte of the subprotocol and the five of the framing.
	readLimitSlack = 64
	// bodyTimeout is how long the body of a POST may take to arrive.
	bodyTimeout = 30 * time.Second
)

// gateway hands grpc-web requests to the gRPC server, and watches over what the
// library does not: see conn.go for connections and package flow for memory.
// Subscribe over a websocket has a lane of its own.
type gateway struct {
	web     *grpcweb.WrappedGrpcServer
	lane    *websocket.Endpoint
	log     *slog.Logger
	origins []string
	off     bool // no websockets
	methods map[string]bool
	timing  timing
	metrics *socketMetrics

	mu      sync.Mutex
	closing bool             // no websocket is accepted any more
	open    map[*socket]bool // websockets whose handler has not returned
	idle    chan struct{}    // closed when closing and nothing is open
}

func newGateway(c Config, m *socketMetrics) *gateway {
	g := &gateway{
		log: c.Log, origins: allowedOrigins(c), off: c.NoWebsockets, methods: map[string]bool{}, metrics: m,
		timing: timing{header: c.AuthTimeout, idle: c.IdleTimeout, stall: c.WriteStall},
		open:   map[*socket]bool{}, idle: make(chan struct{}),
	}
	g.lane = newLane(c, m)
	resources := grpcweb.ListGRPCResources(c.GRPC)
	for _, method := range resources {
		g.methods[method] = true
	}
	g.web = grpcweb.WrapHandler(windowed(c.GRPC, 2*int64(c.MaxMessageBytes)),
		grpcweb.WithWebsockets(true),
		grpcweb.WithWebsocketOriginFunc(func(*http.Request) bool { return true }), // checked before
		grpcweb.WithOriginFunc(g.allowed),
		grpcweb.WithEndpointsFunc(func() []string { return resources }),
		grpcweb.WithWebsocketsMessageReadLimit(int64(c.MaxMessageBytes)+readLimitSlack),
		grpcweb.WithWebsocketPingInterval(c.PingInterval),
	)
	return g
}

// windowed bounds what is read of a request ahead of its handler.
func windowed(s *grpc.Server, limit int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, window, stop := flow.NewWindow(r.Context(), limit)
		defer stop()
		// At once: the library's closing handshake would go on reading for 5 s.
		defer context.AfterFunc(ctx, func() {
			socket, ok := ctx.Value(socketKey{}).(*socket)
			if ok && errors.Is(context.Cause(ctx), flow.ErrExceeded) {
				socket.endedBecause("flood")
				socket.close()
			}
		})()
		r = r.WithContext(ctx)
		r.Body = window.Body(r.Body)
		s.ServeHTTP(w, r)
	})
}

type socketKey struct{}

// allowedOrigins are the public address and the configured ones. A server on
// this machine alone is reached by several names, which all are itself.
func allowedOrigins(c Config) []string {
	var origins []string
	for _, o := range append([]string{c.PublicURL}, c.AllowedOrigins...) {
		origins = append(origins, asOrigin(o))
	}
	host, port, err := net.SplitHostPort(c.HTTPAddr)
	names := []string{"127.0.0.1", "localhost", "::1"}
	if err != nil || !slices.Contains(names, host) {
		return origins
	}
	scheme := "http://"
	if c.TLS {
		scheme = "https://"
	}
	for _, name := range names {
		origins = append(origins, asOrigin(scheme+net.JoinHostPort(name, port)))
	}
	return origins
}

// asOrigin writes an address as browsers do: without the port that its scheme
// stands for.
func asOrigin(address string) string {
	if rest, ok := strings.CutPrefix(address, "https://"); ok {
		return "https://" + strings.TrimSuffix(rest, ":443")
	}
	return strings.TrimSuffix(address, ":80")
}

func (g *gateway) allowed(origin string) bool { return slices.Contains(g.origins, origin) }

// wants reports whether a request is gRPC in one of its web forms.
func (g *gateway) wants(r *http.Request) bool {
	return g.web.IsGrpcWebSocketRequest(r) || g.web.IsGrpcWebRequest(r) || g.web.IsAcceptableGrpcCorsRequest(r)
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g.web.IsGrpcWebSocketRequest(r) {
		g.serveSocket(w, r)
		return
	}
	// A browser sends a foreign page's POST whatever CORS says about the answer,
	// so it is refused here. Programs send no Origin and are welcome.
	if origin := r.Header.Get("Origin"); origin != "" && !g.allowed(origin) {
		http.Error(w, originRefused, http.StatusForbidden)
		return
	}
	c := http.NewResponseController(w)
	// Errors mean that the connection knows no deadlines, or is gone.
	_ = c.SetReadDeadline(time.Now().Add(bodyTimeout))
	r.Body = &postBody{ReadCloser: r.Body, control: c}
	g.web.ServeHTTP(&postWriter{ResponseWriter: w, control: c, stall: g.timing.stall}, r)
}

const originRefused = "this page's origin is not in the server's list; start the server with --allowed-origins or --public-url"

func (g *gateway) serveSocket(w http.ResponseWriter, r *http.Request) {
	switch {
	case g.off:
		g.refuse(w, r, "off", http.StatusForbidden, "websockets are switched off on this server; use Watch, or start it with --transports that names websocket")
		return
	case !g.allowed(r.Header.Get("Origin")):
		g.refuse(w, r, "origin", http.StatusForbidden, originRefused)
		return
	case !g.methods[r.URL.Path]:
		g.refuse(w, r, "method", http.StatusNotFound, "there is no such method")
		return
	}
	if r.URL.Path == pb.RealtimeService_Subscribe_FullMethodName {
		g.serveLane(w, r)
		return
	}
	s := &socket{timing: g.timing}
	if !g.enter(s) {
		g.refuseStopping(w, r)
		return
	}
	defer g.leave(s)
	// net/http cancels the context of a client that is gone before the upgrade is
	// through. The library would then not read at all, and leave its goroutine behind.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	ctx = context.WithValue(session.WithCarrier(ctx, session.Websocket), socketKey{}, s)
	g.web.ServeHTTP(&hijacker{ResponseWriter: w, socket: s}, r.WithContext(ctx))
}

func (g *gateway) serveLane(w http.ResponseWriter, r *http.Request) {
	err := g.lane.Upgrade(w, r)
	if refusal := (*websocket.RefusalError)(nil); errors.As(err, &refusal) {
		w.Header().Set("Sec-WebSocket-Version", "13") // what a client of another one may try
		g.refuse(w, r, "handshake", refusal.Status, refusal.Text)
		return
	}
	if err != nil {
		g.refuseStopping(w, r)
	}
}

func (g *gateway) refuseStopping(w http.ResponseWriter, r *http.Request) {
	g.refuse(w, r, "stopping", http.StatusServiceUnavailable, "the server is stopping; try again in a moment")
}

func (g *gateway) refuse(w http.ResponseWriter, r *http.Request, reason string, code int, text string) {
	g.metrics.refused.WithLabelValues(reason).Inc()
	level := slog.LevelInfo
	if reason == "off" {
		level = slog.LevelDebug // every client tries it, and again from time to time
	}
	g.log.Log(r.Context(), level, "websocket refused", "reason", reason, "peer.address", r.RemoteAddr)
	http.Error(w, text, code)
}

func (g *gateway) enter(s *socket) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing {
		return false
	}
	g.open[s] = true
	g.metrics.open.Inc()
	return true
}

// leave closes what a handler may have left open: the library returns without
// closing when it can't make sense of a header block.
func (g *gateway) leave(s *socket) {
	s.close()
	g.metrics.open.Dec()
	g.metrics.ended.WithLabelValues(s.whyEnded()).Inc()
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.open, s)
	g.noteIdleLocked()
}

func (g *gateway) noteIdleLocked() {
	if !g.closing || len(g.open) > 0 {
		return
	}
	select {
	case <-g.idle:
	default:
		close(g.idle)
	}
}

func (g *gateway) refuseNew() {
	g.lane.RefuseNew()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closing = true
	g.noteIdleLocked()
}

// close closes all websockets and waits until net/http, or the lane, has done with
// them; the gRPC server waits for the handlers behind the former.
func (g *gateway) close(ctx context.Context) error {
	g.refuseNew()
	g.mu.Lock()
	for s := range g.open {
		s.close()
	}
	g.mu.Unlock()
	err := g.lane.Close(ctx)
	select {
	case <-g.idle:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// postBody reads the body of a POST in whole buffers, since grpc-go keeps a
// buffer of 16 KiB for each read, and lifts the deadline at the end, so that the
// answer may be a long stream.
type postBody struct {
	io.ReadCloser
	control *http.ResponseController
}

func (b *postBody) Read(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var more int
		more, err = b.ReadCloser.Read(p[n:])
		n += more
	}
	if errors.Is(err, io.EOF) {
		_ = b.control.SetReadDeadline(time.Time{}) // an error means that the connection is gone
	}
	return n, err
}

// postWriter bounds how long each write of an answer may take.
type postWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration
}

func (w *postWriter) Write(p []byte) (int, error) {
	_ = w.control.SetWriteDeadline(time.Now().Add(w.stall)) // as above
	return w.ResponseWriter.Write(p)
}

// Flush sends what was written.
func (w *postWriter) Flush() {
	_ = w.control.SetWriteDeadline(time.Now().Add(w.stall))
	_ = w.control.Flush()
}
