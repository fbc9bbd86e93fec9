package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/tap"

	"github.com/tcmanager/tcmanager/clients/web"
	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/certificate"
	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/config"
	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/edge"
	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/reclaim"
	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/websocket"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/interceptors"
	"github.com/tcmanager/tcmanager/interceptors/auth"
	"github.com/tcmanager/tcmanager/interceptors/layer"
	"github.com/tcmanager/tcmanager/interceptors/ratelimit"
	"github.com/tcmanager/tcmanager/service/batch"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/limit"
	"github.com/tcmanager/tcmanager/service/session"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/wire"
)

// Deps is what newServices gets from the server.
type Deps struct {
	Log        *slog.Logger
	Registerer prometheus.Registerer // for the services' own metrics
	Verifier   *identity.Verifier    // checks tokens
	Identity   *identity.Service     // to be registered
	PublicURL  string                // without a trailing slash; links are built from it
	Version    string
}

// Services are the nouns behind the listeners, and what they stand on.
type Services struct {
	// Store is closed by the server after everything else has ended.
	Store store.Store
	// Authenticator turns tokens into callers; the auth interceptor uses it.
	Authenticator auth.Authenticator
	// Register registers the services; it is called once, before any request.
	Register func(grpc.ServiceRegistrar)
	// Realtime is one of them, which browsers reach another way too.
	Realtime pb.RealtimeServiceServer
	// Run does the background work until ctx ends, and waits for all of it. An
	// error stops the server.
	Run func(ctx context.Context) error
	// Drain tells clients of long streams to come back later and ends the streams.
	// It returns when they have ended, or when ctx has.
	Drain func(ctx context.Context)
}

// server is a running server.
type server struct {
	cfg       config.Config
	log       *slog.Logger
	services  *Services
	grpc      *grpc.Server
	streams   *layer.Layers // around what doesn't come through grpc
	health    *watchedHealth
	edge      *edge.Edge
	http      *http.Server
	grpcL     net.Listener
	httpL     net.Listener
	profiles  *profiles           // nil for none
	cert      *certificate.Keeper // nil without TLS
	publicURL string
}

// serve runs the server until ctx ends and it has stopped. Logs go to errs. The
// banner goes to out, where a person reads it: in a terminal, and in development
// also through a pipe, since it says what to do next.
func serve(ctx context.Context, c config.Config, out, errs io.Writer) error {
	log := newLogger(errs, c)
	captureGRPCLog(log)
	s, err := newServer(ctx, c, log)
	if err != nil {
		return err
	}
	if c.Dev || isTerminal(out) {
		// A terminal that is gone is no reason not to serve.
		_, _ = io.WriteString(out, s.banner())
	}
	return s.run(ctx)
}

// newServer opens the listeners and the store. It serves nothing yet.
func newServer(ctx context.Context, c config.Config, log *slog.Logger) (_ *server, err error) {
	s := &server{cfg: c, log: log, health: newWatchedHealth()}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := s.readCertificate(registry); err != nil {
		return nil, err
	}
	if err := s.listen(ctx, registry); err != nil {
		return nil, err
	}
	// From here on a failure gives back what is open.
	defer func() {
		if err != nil {
			s.closeListeners()
			if s.services != nil {
				err = errors.Join(err, s.services.Store.Close())
			}
		}
	}()
	s.publicURL = c.BaseURL(s.httpL.Addr().String())
	verifier, identities, err := newIdentity(c, s.publicURL)
	if err != nil {
		return nil, err
	}
	deps := Deps{Log: log, Registerer: registry, Verifier: verifier, Identity: identities, PublicURL: s.publicURL, Version: version}
	if s.services, err = newServices(ctx, c, deps); err != nil {
		return nil, err
	}
	if c.Dev {
		if err := identity.Bootstrap(ctx, s.services.Store); err != nil {
			return nil, err
		}
	}
	if err := s.newGRPC(registry); err != nil {
		return nil, err
	}
	return s, s.newHTTP(registry, verifier) //nolint:contextcheck // calls come with contexts of their own
}

// newIdentity makes what checks and signs tokens. With --dev the secret of the
// data directory serves where none is configured.
func newIdentity(c config.Config, publicURL string) (*identity.Verifier, *identity.Service, error) {
	keys := c.Keys()
	var signer *identity.Signer
	if c.Dev {
		var err error
		if signer, err = signerOf(c); err != nil {
			return nil, nil, err
		}
		if keys.HS256Secret == nil {
			if keys.HS256Secret, err = identity.DevSecret(c.DataDir); err != nil {
				return nil, nil, err
			}
		}
	}
	verifier, err := identity.NewVerifier(keys)
	if err != nil {
		return nil, nil, err
	}
	return verifier, identity.NewService(identity.Info{Version: version, PublicURL: publicURL}, signer), nil
}

// readCertificate reads the pair for TLS, if there is one.
func (s *server) readCertificate(r prometheus.Registerer) (err error) {
	if !s.cfg.TLS() {
		return nil
	}
	if s.cert, err = certificate.New(s.cfg.TLSCertFile, s.cfg.TLSKeyFile, s.log); err != nil {
		return err
	}
	return r.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "tcmanager", Name: "certificate_expires_timestamp_seconds", Help: "When the TLS certificate in use expires, in seconds since 1970.",
	}, func() float64 { return float64(s.cert.Leaf().NotAfter.Unix()) }))
}

func (s *server) listen(ctx context.Context, r prometheus.Registerer) error {
	metrics, err := edge.NewListenerMetrics(r)
	if err != nil {
		return err
	}
	grpcL, grpcErr := listen(ctx, "grpc-addr", s.cfg.GRPCAddr)
	httpL, httpErr := listen(ctx, "http-addr", s.cfg.HTTPAddr)
	if grpcErr == nil {
		s.grpcL = metrics.Limit(grpcL, "grpc", s.cfg.MaxConnections)
	}
	if httpErr == nil {
		s.httpL = websocket.Listener(metrics.Limit(httpL, "http", s.cfg.MaxConnections))
	}
	var pprofErr error
	if s.cfg.PprofAddr != "" {
		var l net.Listener
		if l, pprofErr = listenForProfiles(ctx, s.cfg.PprofAddr); pprofErr == nil {
			s.profiles = newProfiles(metrics.Limit(l, "pprof", profileConnections), s.log)
		}
	}
	if err := errors.Join(grpcErr, httpErr, pprofErr); err != nil {
		s.closeListeners()
		return err
	}
	return nil
}

func listen(ctx context.Context, flag, addr string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use, perhaps by another tcmanager: stop that, or choose another port with --%s", addr, flag)
	}
	if err != nil {
		return nil, fmt.Errorf("listen at --%s %s: %w", flag, addr, err)
	}
	return l, nil
}

func (s *server) closeListeners() {
	for _, l := range []net.Listener{s.grpcL, s.httpL} {
		if l != nil {
			_ = l.Close() // nothing was accepted yet
		}
	}
	if s.profiles != nil {
		_ = s.profiles.listener.Close() // likewise
	}
}

const (
	maxHeaderBytes    = 32 << 10 // metadata of one call: a token and little else
	maxStreams        = 1000     // calls at once on one connection
	connectionTimeout = 10 * time.Second
	// writeBufferSize lets the transport join the frames of many small events
	// into one write. While it sends a connection holds one: a storm of those that
	// come back would be as many.
	writeBufferSize = 32 << 10
	readBufferSize  = 16 << 10
	// streamWindow and connWindow are what a peer may send unread. They don't follow
	// the bandwidth: grpc-go measures that by a ping for each small message, which is
	// a write, an answer to read and so two wake-ups more. A stream over 100 ms still
	// brings 10 MB a second.
	streamWindow = 1 << 20
	connWindow   = 4 << 20
)

func (s *server) newGRPC(r prometheus.Registerer) error {
	chain, err := interceptors.Chain(interceptors.Config{
		Log: s.log, Registerer: r, Authenticator: s.services.Authenticator,
		Limits: ratelimit.Config{
			Calls:    limit.Rate{PerSecond: s.cfg.CallRate, Burst: s.cfg.CallBurst},
			Messages: limit.Rate{PerSecond: s.cfg.MessageRate, Burst: s.cfg.MessageBurst},
		},
	})
	if err != nil {
		return err
	}
	s.streams = chain.Layers
	options := chain.Options
	if s.cert != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(s.cert.TLS())))
	}
	s.grpc = grpc.NewServer(append(options,
		grpc.ForceServerCodecV2(batch.NewCodec(wire.NewCodec())),
		grpc.MaxRecvMsgSize(s.cfg.MaxMessageBytes),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.ConnectionTimeout(connectionTimeout),
		grpc.WriteBufferSize(writeBufferSize),
		grpc.ReadBufferSize(readBufferSize),
		grpc.InTapHandle(tapped),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connWindow),
		grpc.WaitForHandlers(true), // Stop returns when no handler can touch the store any more
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: s.cfg.HeartbeatInterval, Timeout: 10 * time.Second}),
	)...)
	s.services.Register(s.grpc)
	healthpb.RegisterHealthServer(s.grpc, s.health)
	for name := range s.grpc.GetServiceInfo() {
		s.health.SetServingStatus(name, healthpb.HealthCheckResponse_SERVING)
	}
	if s.cfg.Reflection {
		reflection.Register(s.grpc)
	}
	return nil
}

// tapped marks the streams of sessions; only those of grpc-go's own transport come
// by here.
func tapped(ctx context.Context, call *tap.Info) (context.Context, error) {
	if call.FullMethodName == pb.RealtimeService_Subscribe_FullMethodName {
		ctx = session.OverHTTP2(ctx)
	}
	return ctx, nil
}

func (s *server) newHTTP(r *prometheus.Registry, verifier *identity.Verifier) (err error) {
	s.edge, err = edge.New(edge.Config{
		GRPC: s.grpc, Realtime: s.services.Realtime, Streams: s.streams, Log: s.log,
		Pages: web.FS(), Registry: r, Ready: (&readiness{store: s.services.Store, log: s.log}).check, Verify: verifier.Verify,
		PublicURL: s.publicURL, AllowedOrigins: s.cfg.AllowedOrigins, HTTPAddr: s.httpL.Addr().String(),
		TLS: s.cert != nil, NoWebsockets: s.cfg.Realtime && !s.cfg.Allows(session.Websocket),
		MaxMessageBytes: s.cfg.MaxMessageBytes, AuthTimeout: s.cfg.AuthTimeout,
		IdleTimeout: s.cfg.HeartbeatTimeout, PingInterval: s.cfg.HeartbeatInterval, WriteStall: writeStall,
	})
	if err != nil {
		return err
	}
	s.http = &http.Server{
		Handler:           s.edge,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // what clients do wrong at the level of TCP
	}
	if s.cert != nil {
		s.http.TLSConfig = s.cert.TLS()
		// Records that begin small would be a write each: a page or a frame is more than one.
		s.http.TLSConfig.DynamicRecordSizingDisabled = true
		s.http.HTTP2 = &http.HTTP2Config{SendPingTimeout: s.cfg.HeartbeatInterval, PingTimeout: writeStall, WriteByteTimeout: writeStall}
	}
	return nil
}

// serveHTTP serves the web listener until it is stopped.
func (s *server) serveHTTP() error {
	var err error
	if s.cert != nil {
		err = s.http.ServeTLS(s.httpL, "", "") // the pair is the keeper's
	} else {
		err = s.http.Serve(s.httpL)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// writeStall is how long a browser may take to read what the kernel can't hold.
const writeStall = 10 * time.Second

// run serves until ctx ends or something breaks, then stops.
func (s *server) run(ctx context.Context) error {
	s.log.InfoContext(ctx, "serving", "version", version, "grpc.addr", s.grpcL.Addr().String(), "http.addr", s.httpL.Addr().String(),
		"public_url", s.publicURL, "data_dir", s.cfg.DataDir, "store", s.cfg.StoreName(), "dev", s.cfg.Dev, "tls", s.cert != nil)
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBackground()
	group, broken := errgroup.WithContext(ctx)
	group.Go(func() error { return s.services.Run(background) })
	group.Go(func() error {
		reclaim.New().Run(background)
		return nil
	})
	group.Go(func() error {
		// A signal may come before the first connection is waited for.
		if err := s.grpc.Serve(s.grpcL); !errors.Is(err, grpc.ErrServerStopped) {
			return err
		}
		return nil
	})
	group.Go(s.serveHTTP)
	if s.profiles != nil {
		s.log.InfoContext(ctx, "serving profiles to this machine", "url", "http://"+s.profiles.listener.Addr().String()+"/debug/pprof/")
		group.Go(s.profiles.serve)
	}
	<-broken.Done() // a signal, or one of them ended with an error
	s.stop(context.WithoutCancel(ctx))
	if s.profiles != nil {
		_ = s.profiles.close() // nothing is left to tell anyone
	}
	stopBackground()
	err := group.Wait()
	if closeErr := s.services.Store.Close(); closeErr != nil {
		err = errors.Join(err, fmt.Errorf("close the store: %w", closeErr))
	}
	s.log.InfoContext(ctx, "stopped")
	return err
}

// stop ends the doors: it says that the server is going, lets clients of streams
// know, waits for calls, and then closes what is left.
func (s *server) stop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StopTimeout)
	defer cancel()
	s.log.InfoContext(ctx, "stopping", "timeout", s.cfg.StopTimeout.String())
	s.health.Shutdown()
	s.edge.Stopping()
	// Streams first: GracefulStop waits for those of native clients, and cuts
	// those of browsers without a status.
	s.services.Drain(ctx)
	s.health.stop()
	graceful := make(chan struct{})
	go func() {
		defer close(graceful)
		s.grpc.GracefulStop()
	}()
	httpErr := s.http.Shutdown(ctx)
	edgeErr := s.edge.Close(ctx)
	select {
	case <-graceful:
	case <-ctx.Done():
		s.log.WarnContext(ctx, "some calls did not end in time and are cut off")
		s.grpc.Stop()
		<-graceful
	}
	s.edge.Wait() // as grpc does: until no handler can touch the store any more
	if err := errors.Join(httpErr, edgeErr); err != nil {
		s.log.WarnContext(ctx, "some connections of browsers are cut off", "error", err)
		_ = s.http.Close() // nothing is left to tell anyone
	}
}

// banner says where the server is and what to do next.
func (s *server) banner() string {
	b := fmt.Sprintf("\n  TCManager %s\n\n  open      %s\n  gRPC      %s\n  data      %s\n", version, s.publicURL, s.grpcURL(), s.cfg.StoreName())
	if s.cfg.Dev {
		b += "\n  Anyone on this machine can sign in: development mode.\n\n  next, in a Go project:\n\n    go test -json ./... | " + s.streamCommand() + "\n\n"
	}
	return b
}

// clientDefault is where tcm looks for a server that it isn't told of.
const clientDefault = "127.0.0.1:9090"

// streamCommand is what brings results to this server, from any directory: tcm is
// named by its path if it was built beside the server.
func (s *server) streamCommand() string {
	tcm := "tcm"
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), tcm)
		if _, err := os.Stat(beside); err == nil {
			tcm = beside
		}
	}
	command := tcm + " stream --project " + identity.DemoProject
	if addr := s.grpcURL(); addr != clientDefault {
		command += " --server " + addr
	}
	if s.cert != nil {
		// A development server's certificate is seldom one that everybody trusts.
		if _, err := s.cert.Leaf().Verify(x509.VerifyOptions{}); errors.As(err, new(x509.UnknownAuthorityError)) {
			file, err := filepath.Abs(s.cfg.TLSCertFile)
			if err != nil {
				file = s.cfg.TLSCertFile // the working directory is gone
			}
			command += " --ca-file " + file
		}
	}
	return command
}

// grpcURL is where clients of gRPC find the server: by a name that its
// certificate has, if there is one.
func (s *server) grpcURL() string {
	addr := s.grpcL.Addr().String()
	if s.cert == nil {
		return addr
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "https://" + addr
	}
	leaf := s.cert.Leaf()
	for _, name := range append([]string{host, "localhost"}, leaf.DNSNames...) {
		if leaf.VerifyHostname(name) == nil {
			return "https://" + net.JoinHostPort(name, port)
		}
	}
	return "https://" + addr
}
