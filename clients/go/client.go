package tcmanager

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"time"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// maxReceive is the largest answer accepted: a full page of results is a few MiB.
const maxReceive = 32 << 20

// options are what Options set.
type options struct {
	source    TokenSource
	plaintext bool
	tls       *tls.Config
	userAgent string
	grpc      []grpc.DialOption
}

// Option changes how Dial connects.
type Option func(*options)

// WithToken sends a fixed token. An empty one sends none.
func WithToken(token string) Option {
	return func(o *options) {
		if token != "" {
			o.source = StaticToken(token)
		}
	}
}

// WithTokenSource asks source for tokens: before the first call, when the last
// token is about to expire, and when the server no longer accepts it.
func WithTokenSource(source TokenSource) Option {
	return func(o *options) { o.source = source }
}

// WithPlaintext connects without TLS also to an address that isn't loopback.
// Tokens then travel readable by anyone on the way.
func WithPlaintext() Option { return func(o *options) { o.plaintext = true } }

// WithTLS sets the TLS configuration, and uses TLS on loopback too.
func WithTLS(config *tls.Config) Option { return func(o *options) { o.tls = config } }

// WithUserAgent names the calling program to the server.
func WithUserAgent(name string) Option { return func(o *options) { o.userAgent = name } }

// WithDialOptions adds options of grpc itself, after the Client's own.
func WithDialOptions(opts ...grpc.DialOption) Option {
	return func(o *options) { o.grpc = append(o.grpc, opts...) }
}

// Client is a connection to a server. Close it.
type Client struct {
	conn   *grpc.ClientConn
	tokens *tokens
	addr   string
}

// Dial makes a Client for the gRPC listener at addr, "host:port". It doesn't
// wait for the connection, which is made when the first call needs it. A
// loopback address is spoken to in plain text, any other by TLS, unless an
// option or the scheme ("http://", "https://") says otherwise.
func Dial(addr string, opts ...Option) (*Client, error) {
	o := options{userAgent: "tcmanager-go"}
	for _, opt := range opts {
		opt(&o)
	}
	target, scheme := splitScheme(addr)
	if target == "" {
		return nil, fmt.Errorf("connect to %q: want host:port, for example 127.0.0.1:9090", addr)
	}
	secure := o.tls != nil || scheme == "https" || scheme == "" && !o.plaintext && !IsLoopback(target)
	c := &Client{addr: target, tokens: newTokens(o.source)}
	dial := []grpc.DialOption{
		grpc.WithTransportCredentials(transport(secure, o.tls)),
		grpc.WithPerRPCCredentials(c.tokens),
		grpc.WithUnaryInterceptor(c.intercept),
		grpc.WithUserAgent(o.userAgent),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReceive)),
		// The Publisher has its own back-off, and starts each attempt afresh.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           grpcbackoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
	conn, err := grpc.NewClient(target, append(dial, o.grpc...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to %q: %w", addr, err)
	}
	c.conn = conn
	return c, nil
}

// transport returns how bytes travel.
func transport(secure bool, config *tls.Config) credentials.TransportCredentials {
	if !secure {
		return insecure.NewCredentials()
	}
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return credentials.NewTLS(config)
}

// splitScheme takes "http://" or "https://" off addr.
func splitScheme(addr string) (target, scheme string) {
	for _, s := range []string{"http", "https"} {
		if rest, ok := strings.CutPrefix(addr, s+"://"); ok {
			return strings.TrimSuffix(rest, "/"), s
		}
	}
	return addr, ""
}

// IsLoopback reports whether addr, with or without a scheme and a port, is this
// machine's loopback or a unix socket. A name other than localhost isn't looked
// up, and is not.
func IsLoopback(addr string) bool {
	target, _ := splitScheme(addr)
	if strings.HasPrefix(target, "unix:") || strings.HasPrefix(target, "passthrough:") && strings.Contains(target, "bufconn") {
		return true
	}
	host, _, err := net.SplitHostPort(target)
	if err != nil {
		host = target
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback()
}

// Close ends the connection and every call on it.
func (c *Client) Close() error { return c.conn.Close() }

// Addr is the address given to Dial, without a scheme.
func (c *Client) Addr() string { return c.addr }

// Execution is the service of runs and results.
func (c *Client) Execution() tcmv1.ExecutionServiceClient {
	return tcmv1.NewExecutionServiceClient(c.conn)
}

// Identity is the service that tells who and where one is.
func (c *Client) Identity() tcmv1.IdentityServiceClient {
	return tcmv1.NewIdentityServiceClient(c.conn)
}

// Conn is the connection, for the services that have no method here.
func (c *Client) Conn() *grpc.ClientConn { return c.conn }

// Realtime is the service of live sessions; a Session speaks it for you.
func (c *Client) Realtime() tcmv1.RealtimeServiceClient {
	return tcmv1.NewRealtimeServiceClient(c.conn)
}

// intercept repeats a unary call once with a new token, and returns an *Error if
// it fails.
func (c *Client) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	used := c.tokens.current()
	err := invoke(ctx, method, req, reply, cc, opts...)
	if status.Code(err) == codes.Unauthenticated && !anonymous(method) && c.tokens.reject(used) {
		err = invoke(ctx, method, req, reply, cc, opts...)
	}
	return said(err)
}
