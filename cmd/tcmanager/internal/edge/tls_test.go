package edge

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

func withTLS(c *Config) { c.TLS = true }

func TestCallsOverTLSComeByHTTP2(t *testing.T) {
	r := start(t, echo, withTLS)
	resp, body := r.post(t, "Origin", origin)
	if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
		t.Fatal(resp.Proto, resp.Status)
	}
	b, _, err := frame(bytes.NewReader(body))
	var info pb.GetServerInfoResponse
	if err = errors.Join(err, proto.Unmarshal(b, &info)); err != nil || !strings.HasPrefix(info.Version, "127.0.0.1:") {
		t.Error(info.Version, err)
	}
	if resp, _ := r.do(t, http.MethodGet, "/", nil); resp.StatusCode != http.StatusOK || resp.TLS.Version < tls.VersionTLS12 {
		t.Error(resp.Status)
	}
}

func TestASessionOverAWebsocketOverTLS(t *testing.T) {
	bothWays(t, func(t *testing.T, start starter) {
		r := start(t, echo, withTLS)
		c := r.open(t)
		for id := range uint64(10) {
			c.send(&pb.SubscribeRequest{Id: id + 1})
			if id == 0 {
				if _, headers, err := frame(c.in); err != nil || headers == nil {
					t.Fatal("no headers first:", err)
				}
			}
			b, _, err := frame(c.in)
			var resp pb.SubscribeResponse
			if err = errors.Join(err, proto.Unmarshal(b, &resp)); err != nil || resp.ReplyTo != id+1 {
				t.Fatal(&resp, err)
			}
		}
		c.write(websocket.MessageBinary, []byte{1}) // the client has finished
		if _, trailers, err := frame(c.in); err != nil || trailers.Get("Grpc-Status") != "0" {
			t.Error(trailers, err)
		}
		// The goodbye is TLS's own too: a peer can tell it from a connection that was cut.
		if _, _, err := c.conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
			t.Error(err)
		}
		r.endedBecause(t, "closed", 1)
	})
}

func TestAStreamByHTTP2ThatIsNotReadIsEnded(t *testing.T) {
	ended := make(chan error, 1)
	r := start(t, func(s stream) error {
		if _, err := s.Recv(); err != nil {
			return err
		}
		m := &pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Reset_{Reset_: &pb.Reset{Reason: strings.Repeat("x", 100_000)}}}
		for {
			if err := s.Send(m); err != nil {
				ended <- err
				return err
			}
		}
	}, withTLS, func(c *Config) { c.WriteStall = 200 * time.Millisecond })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url("http", "https", subscribePath), bytes.NewReader(framed(t, &pb.SubscribeRequest{Id: 1})))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc-web+proto")
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.ProtoMajor != 2 {
		t.Fatal(resp.Proto)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("it goes on for somebody who reads nothing")
	}
}

func TestStoppingDoesNotWaitForThoseWhoDoNotRead(t *testing.T) {
	bothWays(t, func(t *testing.T, start starter) {
		full := make(chan struct{})
		r := start(t, func(s stream) error {
			m := &pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Reset_{Reset_: &pb.Reset{Reason: strings.Repeat("x", 1_000_000)}}}
			go func() {
				time.Sleep(300 * time.Millisecond) // until the kernel's buffers are full; it is not wrong if they aren't
				full <- struct{}{}
			}()
			for {
				if err := s.Send(m); err != nil {
					return err
				}
			}
		}, withTLS)
		for range 3 {
			r.raw(t, masked(opBinary, []byte(headerBlockOK)))
			<-full
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := r.Close(ctx); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestThePagesOfThisMachineHaveTheSchemeOfTheListener(t *testing.T) {
	r := start(t, echo, withTLS)
	_, port, err := net.SplitHostPort(r.addr)
	if err != nil {
		t.Fatal(err)
	}
	for o, allowed := range map[string]bool{"https://localhost:" + port: true, "http://localhost:" + port: false} {
		_, resp, err := r.dial(t, r.path, http.Header{"Origin": {o}})
		if (err == nil) != allowed || err != nil && resp.StatusCode != http.StatusForbidden {
			t.Errorf("from %q: %v", o, err)
		}
	}
}

func TestOriginsAreWrittenAsBrowsersDo(t *testing.T) {
	for _, c := range []struct {
		config Config
		origin string
	}{
		{Config{PublicURL: "https://tests.example.org:443", HTTPAddr: "0.0.0.0:443", TLS: true}, "https://tests.example.org"},
		{Config{PublicURL: "http://tests.example.org:80", HTTPAddr: "0.0.0.0:80"}, "http://tests.example.org"},
		{Config{PublicURL: "https://127.0.0.1:443", HTTPAddr: "127.0.0.1:443", TLS: true}, "https://localhost"},
		{Config{PublicURL: "https://x", AllowedOrigins: []string{"https://y:443"}, HTTPAddr: "0.0.0.0:1"}, "https://y"},
		{Config{PublicURL: "http://x:443", HTTPAddr: "0.0.0.0:1"}, "http://x:443"},
	} {
		if g := (&gateway{origins: allowedOrigins(c.config)}); !g.allowed(c.origin) {
			t.Errorf("%+v: %s is not in %v", c.config, c.origin, g.origins)
		}
	}
}

func TestPlainTextIsRefusedOnceTLSWasSeen(t *testing.T) {
	encrypted, plain := start(t, echo, withTLS), start(t, echo)
	for _, c := range []struct {
		r    *rig
		host string
		want string
	}{
		{encrypted, "tests.example.org", "max-age=2592000"},
		{encrypted, "tests.example.org:8443", "max-age=2592000"},
		{encrypted, "localhost:8443", ""},
		{encrypted, "127.0.0.1", ""},
		{encrypted, "[::1]:8443", ""},
		{encrypted, "a.localhost", ""},
		{plain, "tests.example.org", ""}, // a browser ignores it in plain text, and a proxy adds its own
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.r.url("http", "https", "/"), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = c.host
		resp, err := c.r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if got := resp.Header.Get("Strict-Transport-Security"); got != c.want {
			t.Errorf("%s: %q", c.host, got)
		}
	}
}

func TestWebsocketsCanBeSwitchedOff(t *testing.T) {
	r := start(t, echo, func(c *Config) { c.NoWebsockets = true })
	if _, resp, err := r.dial(t, r.path, nil); err == nil || resp.StatusCode != http.StatusForbidden {
		t.Error(err)
	}
	if resp, _ := r.post(t); resp.StatusCode != http.StatusOK {
		t.Error("calls are off too:", resp.Status)
	}
}
