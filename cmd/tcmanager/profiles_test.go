package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// httpGet returns what a server answers to GET, from a connection of its own.
func httpGet(t *testing.T, url, host string) (code int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// isProfile reports whether an answer is one of pprof's, which are gzipped.
func isProfile(body string) bool { return strings.HasPrefix(body, "\x1f\x8b") }

func TestProfilesAreServedToThisMachineOnly(t *testing.T) {
	s := startServer(t, testConfig(t, "--pprof-addr", "localhost:0"))
	at := "http://" + s.profiles.listener.Addr().String()
	for _, path := range []string{"/debug/pprof/heap", "/debug/pprof/goroutine", "/debug/pprof/profile?seconds=1"} {
		if code, body := httpGet(t, at+path, ""); code != http.StatusOK || !isProfile(body) {
			t.Errorf("%s: %d %.100q", path, code, body)
		}
	}
	for _, c := range []struct {
		path, host, says string
		code             int
	}{
		{path: "/debug/pprof/", code: 200, says: "goroutine"},
		{path: "/debug/pprof/heap", host: "pages.example.org", code: 403, says: "127.0.0.1"},
		{path: "/debug/pprof/profile?seconds=3600", code: 400, says: "0 to 120"},
		{path: "/debug/pprof/cmdline", code: 404},
		{path: "/metrics", code: 404},
		{path: "/", code: 404},
	} {
		if code, body := httpGet(t, at+c.path, c.host); code != c.code || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %.100q, want %d %q", c.path, code, body, c.code, c.says)
		}
	}
}

// trace asks for a trace of 100 s and reads it to its end. It returns whether it began.
func trace(at string) (began bool, err error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, at+"/debug/pprof/trace?seconds=100", http.NoBody)
	if err != nil {
		return false, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode == http.StatusOK, errors.Join(err, resp.Body.Close())
}

func TestOneProfileIsMadeAtATimeAndAStopDoesNotWaitForIt(t *testing.T) {
	s := startServer(t, testConfig(t, "--pprof-addr", "127.0.0.1:0"))
	at := "http://" + s.profiles.listener.Addr().String()
	ended := make(chan error, 1)
	go func() {
		for {
			began, err := trace(at)
			if began || err != nil {
				ended <- err
				return
			}
		}
	}()
	eventually(t, "the second is refused", func() bool {
		code, body := httpGet(t, at+"/debug/pprof/heap", "")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "another profile")
	})
	if err := s.stop(t); err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the trace ended well")
		}
	case <-time.After(20 * time.Second):
		t.Error("the trace outlives the server")
	}
}

func TestTheWebListenerHasNoProfiles(t *testing.T) {
	for _, args := range [][]string{nil, {"--pprof-addr", "127.0.0.1:0"}} {
		s := startServer(t, testConfig(t, args...))
		if (s.profiles != nil) != (args != nil) {
			t.Errorf("%v: profiles are served: %v", args, s.profiles != nil)
		}
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/goroutine?debug=1", "/debug/pprof/cmdline"} {
			_, body := httpGet(t, "http://"+s.httpL.Addr().String()+path, "")
			if isProfile(body) || strings.Contains(body, "goroutine") || strings.Contains(body, "profile") {
				t.Errorf("%v: %s: %.100q", args, path, body)
			}
		}
		if err := s.stop(t); err != nil {
			t.Error(err)
		}
	}
}
