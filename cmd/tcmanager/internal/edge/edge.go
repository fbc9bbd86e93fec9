// Package edge is the server's web listener: the pages, grpc-web with its
// websocket carrier, health and metrics.
//
//	websocket "grpc-websockets" to Subscribe            gRPC, through package websocket
//	POST, or such a websocket, to any other method      gRPC, through the same grpc.Server
//	/healthz                                            200 while the process serves
//	/readyz                                             200 while the store works and the server isn't stopping
//	/health                                             whether the bearer token is good
//	/metrics                                            for Prometheus
//	everything else                                     the embedded page
//
// Metrics, beside those of the interceptors and of Go itself:
//
//	tcmanager_connections{listener}                 open connections, "grpc", "http" or "pprof"
//	tcmanager_connections_refused_total{listener}   refused because there were too many
//	tcmanager_websockets                            open websockets
//	tcmanager_websockets_refused_total{reason}      "off", "origin", "method", "handshake", "stopping"
//	tcmanager_websocket_messages_sent_total         of Subscribe, counted each second; they pass by the
//	                                          interceptors' grpc_server_msg_sent_total
//	tcmanager_websockets_ended_total{reason}        "closed"; "silent" (nothing read in time), "stalled" (took nothing
//	                                          in time), "late" (no header block in time), "malformed" (the
//	                                          header block, or frames), "flood" (sent too far ahead, or too
//	                                          many frames that bring nothing)
//
// # Trust
//
// Only the connection itself says who the peer is: X-Forwarded-For and its kin
// are not read. Requests of web pages are accepted from the origins in the list
// only. That keeps foreign pages out and is no authorisation: every call is
// authenticated and authorised behind this door like those from any other.
//
// # TLS
//
// The listener may speak TLS; net/http then serves HTTP/2 to those who ask for it,
// and HTTP/1.1 to websockets, for which browsers open connections of their own.
//
// # Concurrency
//
// A websocket to Subscribe is one goroutine, its handler's: see package websocket.
// Any other holds net/http's for its connection, which also writes; grpc-go's for
// reading and for the handler; and those of the two libraries. Close ends them and
// waits.
package edge

import (
	"context"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/interceptors/layer"
	"github.com/tcmanager/tcmanager/service/identity"
)

// Config is what the edge needs. Every field but the flags must be set.
type Config struct {
	GRPC     *grpc.Server             // with all services registered
	Realtime pb.RealtimeServiceServer // one of them
	Streams  *layer.Layers            // around calls of it that don't come through GRPC
	Log      *slog.Logger
	Pages    fs.FS // index.html and what it loads
	Registry *prometheus.Registry
	Ready    func(context.Context) error // of an error that is a fault, /readyz tells the message
	Verify   func(token string) (identity.Caller, error)

	PublicURL      string   // where people open the page; its origin is always allowed
	AllowedOrigins []string // others
	HTTPAddr       string   // where the server listens
	TLS            bool     // whether it speaks TLS there
	NoWebsockets   bool     // refuse them: clients then come by other ways

	MaxMessageBytes int
	AuthTimeout     time.Duration // for a websocket's header block
	IdleTimeout     time.Duration // a websocket that sends nothing for so long is closed; clients ping more often
	PingInterval    time.Duration // how often a quiet websocket is pinged; at least a second
	WriteStall      time.Duration // how long one write may take
}

// Edge is an http.Handler.
type Edge struct {
	handler  http.Handler
	gateway  *gateway
	stopping atomic.Bool
}

// New returns the handler of the web listener.
func New(c Config) (*Edge, error) {
	m, err := newSocketMetrics(c.Registry)
	if err != nil {
		return nil, err
	}
	e := &Edge{}
	e.gateway = newGateway(c, m)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", e.alive)
	mux.HandleFunc("GET /readyz", e.ready(c.Ready))
	mux.HandleFunc("GET /health", e.token(c.Verify))
	mux.Handle("GET /metrics", promhttp.HandlerFor(c.Registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.Handle("/", newPages(c.Pages, c.PublicURL))
	quick := withWriteDeadline(mux)
	e.handler = withHeaders(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if e.gateway.wants(r) {
			e.gateway.ServeHTTP(w, r)
			return
		}
		quick.ServeHTTP(w, r)
	}))
	return e, nil
}

// ServeHTTP serves one request.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) { e.handler.ServeHTTP(w, r) }

// Stopping makes /readyz say so and refuses new websockets; open ones go on.
func (e *Edge) Stopping() {
	e.stopping.Store(true)
	e.gateway.refuseNew()
}

// Close closes all websockets, which http.Server.Shutdown knows nothing about,
// and waits until they are gone or ctx ends. It doesn't wait for the gRPC
// handlers behind grpc-web's: grpc.Server does, when it stops.
func (e *Edge) Close(ctx context.Context) error { return e.gateway.close(ctx) }

// Wait waits, after Close, for the handlers that grpc.Server knows nothing about,
// however long they take.
func (e *Edge) Wait() { e.gateway.lane.Wait() }

// quickWrite is how long an answer that is not a stream may take to be sent; the
// page's largest file takes so long at 100 kbit/s.
const quickWrite = time.Minute

func withWriteDeadline(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A writer without deadlines is one of a test; there is nothing to bound then.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(quickWrite))
		next.ServeHTTP(w, r)
	})
}

// strictTransport makes browsers refuse plain text to this host for 30 days from
// the last visit. It holds for every port of the host, so it isn't for ever, and
// not for this machine's own names, where other servers are tried out.
const strictTransport = "max-age=2592000"

// isLoopback reports whether a host, perhaps with a port, is this machine by name.
func isLoopback(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	ip, err := netip.ParseAddr(name)
	return name == "localhost" || strings.HasSuffix(name, ".localhost") || err == nil && ip.IsLoopback()
}

// withHeaders adds what every answer says to browsers.
func withHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		if r.TLS != nil && !isLoopback(r.Host) {
			h.Set("Strict-Transport-Security", strictTransport)
		}
		next.ServeHTTP(w, r)
	})
}
