package edge

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/identity"
)

func TestThePageAnswersEveryRouteOfTheApplication(t *testing.T) {
	r := start(t, echo)
	for _, path := range []string{"/", "/runs/0190", "/runs/a.b.c", "/projects/demo/cases/TC-1?x=1", "/index.html", "/../../etc/passwd"} {
		resp, body := r.do(t, http.MethodGet, path, nil)
		if resp.StatusCode != http.StatusOK || !bytes.Contains(body, []byte("<title>page</title>")) {
			t.Errorf("%s: %s", path, resp.Status)
		}
		if got := resp.Header.Get("Cache-Control"); got != "no-cache" {
			t.Errorf("%s may be kept without asking: %q", path, got)
		}
	}
}

func TestWhatIsNoPageIsNotFound(t *testing.T) {
	r := start(t, echo)
	for _, path := range []string{"/assets/app-0000.js", "/assets/", "/tcmanager.v1.RealtimeService/Subscribe", "/grpc.health.v1.Health/Check"} {
		if resp, _ := r.do(t, http.MethodGet, path, nil); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	resp, _ := r.do(t, http.MethodPost, "/runs/1", []byte("x"))
	if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") == "" {
		t.Error(resp.Status, resp.Header)
	}
}

func TestAFileWhoseNameChangesIsKeptForEver(t *testing.T) {
	r := start(t, echo)
	resp, body := r.do(t, http.MethodGet, "/assets/app-1234.js", nil)
	if resp.StatusCode != http.StatusOK || !bytes.HasPrefix(body, []byte("console.log")) {
		t.Fatal(resp.Status)
	}
	if got := resp.Header.Get("Cache-Control"); got != "public, max-age=31536000, immutable" {
		t.Error(got)
	}
	if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/javascript") {
		t.Error(got)
	}
}

func TestFilesAreCompressedForThoseWhoAsk(t *testing.T) {
	r := start(t, echo)
	_, plain := r.do(t, http.MethodGet, "/", nil)
	for accept, want := range map[string]bool{
		"gzip": true, "br, gzip;q=0.5": true, "deflate, gzip; q=1": true,
		"": false, "br": false, "gzip;q=0": false, "x-gzip": false,
	} {
		resp, body := r.do(t, http.MethodGet, "/", nil, "Accept-Encoding", accept)
		if resp.Header.Get("Vary") != "Accept-Encoding" {
			t.Error("a cache would mix them up:", resp.Header)
		}
		if got := resp.Header.Get("Content-Encoding") == "gzip"; got != want {
			t.Errorf("Accept-Encoding %q: compressed %v", accept, got)
			continue
		}
		if want {
			z, err := gzip.NewReader(bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if body, err = io.ReadAll(z); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(body, plain) {
			t.Errorf("Accept-Encoding %q: another page", accept)
		}
	}
	if resp, _ := r.do(t, http.MethodGet, "/icon.svg", nil, "Accept-Encoding", "gzip"); resp.Header.Get("Content-Encoding") != "" {
		t.Error("a file that fits one packet is compressed")
	}
}

func TestAnUnchangedPageIsNotSentAgain(t *testing.T) {
	r := start(t, echo)
	for _, accept := range []string{"", "gzip"} {
		resp, _ := r.do(t, http.MethodGet, "/", nil, "Accept-Encoding", accept)
		etag := resp.Header.Get("ETag")
		resp, body := r.do(t, http.MethodGet, "/", nil, "Accept-Encoding", accept, "If-None-Match", etag)
		if resp.StatusCode != http.StatusNotModified || len(body) > 0 {
			t.Error(resp.Status)
		}
	}
	resp, body := r.do(t, http.MethodHead, "/", nil)
	if resp.StatusCode != http.StatusOK || len(body) > 0 || resp.ContentLength <= 0 {
		t.Error(resp.Status, resp.ContentLength)
	}
}

func TestThePageIsFencedIn(t *testing.T) {
	r := start(t, echo)
	resp, _ := r.do(t, http.MethodGet, "/", nil)
	policy := resp.Header.Get("Content-Security-Policy")
	for _, want := range []string{
		"default-src 'self'", "style-src 'self' 'unsafe-inline'", "img-src 'self' data:", "frame-ancestors 'none'", "base-uri 'none'",
		"connect-src 'self' wss://tests.example.org;",
	} {
		if !strings.Contains(policy, want) {
			t.Errorf("%q is not in %q", want, policy)
		}
	}
	if strings.Contains(policy, "unsafe-eval") || strings.Contains(policy, "script-src") {
		t.Error(policy)
	}
	for header, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"} {
		if got := resp.Header.Get(header); got != want {
			t.Errorf("%s: %q", header, got)
		}
	}
	if resp.Header.Get("Permissions-Policy") == "" {
		t.Error("no Permissions-Policy")
	}
}

func TestABinaryWithoutItsPageSaysHowToBuildIt(t *testing.T) {
	r := start(t, echo, func(c *Config) { c.Pages = fstest.MapFS{".keep": {}} })
	resp, body := r.do(t, http.MethodGet, "/", nil)
	if resp.StatusCode != http.StatusServiceUnavailable || !bytes.Contains(body, []byte("make build")) {
		t.Errorf("%s: %s", resp.Status, body)
	}
}

func TestHealth(t *testing.T) {
	ready := error(nil)
	expires := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	r := start(t, echo, func(c *Config) {
		c.Ready = func(context.Context) error { return ready }
		c.Verify = func(token string) (identity.Caller, error) {
			if token != "good" {
				return identity.Caller{}, identity.ErrUnauthenticated
			}
			return identity.Caller{User: &pb.User{Id: "u1"}, ExpiresAt: expires}, nil
		}
	})
	check := func(path string, code int, want map[string]any, headers ...string) {
		t.Helper()
		resp, body := r.do(t, http.MethodGet, path, nil, headers...)
		var got map[string]any
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != code || len(got) != len(want) {
			t.Errorf("%s: %s %s", path, resp.Status, body)
		}
		for k, v := range want {
			if got[k] != v {
				t.Errorf("%s: %s is %v, want %v", path, k, got[k], v)
			}
		}
	}
	check("/healthz", 200, map[string]any{"status": "ok"})
	check("/readyz", 200, map[string]any{"status": "ok"})
	check("/health", 200, map[string]any{"status": "ok", "token": "none"})
	check("/health", 200, map[string]any{"status": "ok", "token": "valid", "user": "u1", "expires_at": "2030-01-02T03:04:05Z"}, "Authorization", "Bearer good")
	check("/health", 401, map[string]any{"status": "ok", "token": "invalid"}, "Authorization", "Bearer bad")
	check("/health", 401, map[string]any{"status": "ok", "token": "invalid"}, "Authorization", "Basic good")
	ready = errors.New("the disk is full")
	check("/readyz", 503, map[string]any{"status": "unavailable"})
	ready = fmt.Errorf("database at 10.0.0.7: %w", fault.New(fault.Unavailable, "STORE_FULL", "free some space"))
	check("/readyz", 503, map[string]any{"status": "unavailable", "why": "free some space"})
	check("/healthz", 200, map[string]any{"status": "ok"})
	ready = nil
	r.Stopping()
	check("/readyz", 503, map[string]any{"status": "stopping"})
	check("/healthz", 200, map[string]any{"status": "ok"})
}

func TestMetricsAreServed(t *testing.T) {
	r := start(t, echo)
	resp, body := r.do(t, http.MethodGet, "/metrics", nil)
	if resp.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(`tcmanager_connections{listener="http"} 1`)) {
		t.Errorf("%s: %s", resp.Status, body)
	}
}

func TestConnectionsOverTheLimitAreRefused(t *testing.T) {
	inner, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewListenerMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	l := m.Limit(inner, "test", 2)
	accepted := make(chan net.Conn, 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	dial()
	dial()
	first, second := <-accepted, <-accepted
	if _, err := dial().Read(make([]byte, 1)); err == nil {
		t.Error("the third is open")
	}
	// Closing twice gives one place back, not two.
	_ = first.Close()
	_ = first.Close()
	dial()
	third := <-accepted
	if _, err := dial().Read(make([]byte, 1)); err == nil {
		t.Error("the fourth is open")
	}
	_ = second.Close()
	_ = third.Close()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	<-done
}
