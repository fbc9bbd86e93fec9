package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/certificate/certtest"
	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/config"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// trusting is the TLS of a client that knows the server's certificate; nil if
// the server speaks plain text.
func trusting(c config.Config) *tls.Config {
	if !c.TLS() {
		return nil
	}
	pool := x509.NewCertPool()
	if pem, err := os.ReadFile(c.TLSCertFile); err == nil {
		pool.AppendCertsFromPEM(pem) // without it the first handshake fails, and says why
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
}

// transportFor is how a client of gRPC speaks to a server with this configuration.
func transportFor(c config.Config) credentials.TransportCredentials {
	if known := trusting(c); known != nil {
		return credentials.NewTLS(known)
	}
	return insecure.NewCredentials()
}

func startTLS(t *testing.T, args ...string) *testServer {
	t.Helper()
	pair := certtest.NewAuthority(t).Issue(t)
	return startServer(t, testConfig(t, append([]string{"--tls-cert", pair.Cert, "--tls-key", pair.Key}, args...)...))
}

func TestBothListenersSpeakTLS(t *testing.T) {
	s := startTLS(t)
	if !strings.HasPrefix(s.publicURL, "https://127.0.0.1:") {
		t.Error(s.publicURL)
	}
	in, err := pb.NewIdentityServiceClient(s.conn).SignInDev(t.Context(), &pb.SignInDevRequest{UserId: "demo-tester"})
	if err != nil {
		t.Fatal(err)
	}
	if code, _ := s.grpcWeb(t, pb.IdentityService_GetMe_FullMethodName, in.Token); code != "0" {
		t.Errorf("by grpc-web: %s", code)
	}
	session, err := pb.NewRealtimeServiceClient(s.conn).Subscribe(bearerContext(t, in.Token))
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Send(&pb.SubscribeRequest{Id: 1, Frame: &pb.SubscribeRequest_Hello{Hello: &pb.Hello{}}}); err != nil {
		t.Fatal(err)
	}
	if resp, err := session.Recv(); err != nil || resp.GetWelcome() == nil {
		t.Error(resp, err)
	}
	for _, addr := range []string{s.grpcL.Addr().String(), s.httpL.Addr().String()} {
		old := trusting(s.cfg)
		old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		if conn, err := (&tls.Dialer{Config: old}).DialContext(t.Context(), "tcp", addr); err == nil {
			_ = conn.Close()
			t.Errorf("%s speaks TLS 1.1", addr)
		}
	}
}

func TestPlainTextIsNotSpokenWhereTLSIs(t *testing.T) {
	s := startTLS(t)
	conn, err := grpc.NewClient(s.grpcL.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := pb.NewIdentityServiceClient(conn).GetServerInfo(t.Context(), &pb.GetServerInfoRequest{}); status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.httpL.Addr().String()+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Error(resp.Status)
	}
}

func TestAStrangerAtTheTLSDoorFillsNoLog(t *testing.T) {
	pair := certtest.NewAuthority(t).Issue(t)
	c := testConfig(t, "--tls-cert", pair.Cert, "--tls-key", pair.Key)
	var log lockedBuffer
	ctx, end := context.WithCancel(t.Context())
	s, err := newServer(ctx, c, slog.New(slog.NewTextHandler(&log, nil))) // level info
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx) }()
	for _, addr := range []string{s.grpcL.Addr().String(), s.httpL.Addr().String()} {
		for range 5 {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			_, err = conn.Write(bytes.Repeat([]byte("nonsense "), 10))
			_, _ = io.Copy(io.Discard, conn) // until the server has had enough
			if err = errors.Join(err, conn.Close()); err != nil {
				t.Error(err)
			}
		}
	}
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if lines := strings.Count(log.String(), "\n"); lines != 3 { // serving, stopping, stopped
		t.Errorf("%d lines:\n%s", lines, log.String())
	}
}

func TestADubiousCertificateIsToldOfAtTheStart(t *testing.T) {
	authority := certtest.NewAuthority(t)
	pair := authority.Issue(t)
	until := time.Now().Add(-time.Hour)
	authority.Renew(t, pair, until.Add(-time.Hour), until)
	var log lockedBuffer
	ctx, end := context.WithCancel(t.Context())
	defer end()
	s, err := newServer(ctx, testConfig(t, "--tls-cert", pair.Cert, "--tls-key", pair.Key), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	end()
	if err := s.run(ctx); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"level=WARN", "has expired", until.UTC().Format(time.RFC3339), pair.Cert} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is not in %s", want, log.String())
		}
	}
}

func TestTheBannerOfAServerWithTLS(t *testing.T) {
	s := startTLS(t)
	_, port, err := net.SplitHostPort(s.grpcL.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b := s.banner()
	for _, want := range []string{"open      https://127.0.0.1:", "gRPC      https://127.0.0.1:" + port, "--server https://127.0.0.1:" + port + " --ca-file " + s.cfg.TLSCertFile} {
		if !strings.Contains(b, want) {
			t.Errorf("%q is not in %q", want, b)
		}
	}
}
