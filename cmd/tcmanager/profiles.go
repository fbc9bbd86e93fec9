package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/config"
)

// profiles serves what net/http/pprof makes of this process, on a listener of its
// own that only this machine reaches. The package registers itself with
// http.DefaultServeMux too, which no listener of ours serves.
type profiles struct {
	listener net.Listener
	server   *http.Server
}

const (
	// profileSeconds bounds how long one may be made: meanwhile no other can be.
	profileSeconds = 120
	// profileSend is how long it may take to be sent.
	profileSend = time.Minute
	// profileConnections is how many connections may be open: people's few.
	profileConnections = 8
)

// newProfiles returns nothing that serves yet. It owns the listener.
func newProfiles(l net.Listener, log *slog.Logger) *profiles {
	return &profiles{l, &http.Server{
		Handler:           profileHandler(),
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      profileSend, // the handlers add what they take
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
}

// listenForProfiles listens, and makes sure that only this machine is heard: a name
// may mean another address than it says.
func listenForProfiles(ctx context.Context, addr string) (net.Listener, error) {
	l, err := listen(ctx, "pprof-addr", addr)
	if err != nil {
		return nil, err
	}
	if !config.IsLoopback(l.Addr().String()) {
		return nil, errors.Join(fmt.Errorf("--pprof-addr %s is %s, which other machines can reach: give 127.0.0.1:PORT", addr, l.Addr()), l.Close())
	}
	return l, nil
}

// profileHandler serves one request at a time: profiles cost what they measure. The
// command line isn't among them, since it may hold a password.
func profileHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	free := make(chan struct{}, 1)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A web page may have a name of its own that leads here.
		if !isThisMachine(r.Host) {
			http.Error(w, "profiles are for 127.0.0.1 and localhost", http.StatusForbidden)
			return
		}
		if text := r.FormValue("seconds"); text != "" {
			if n, err := strconv.ParseFloat(text, 64); err != nil || !(n >= 0 && n <= profileSeconds) { // NaN is refused too
				http.Error(w, fmt.Sprintf("seconds must be a number from 0 to %d", profileSeconds), http.StatusBadRequest)
				return
			}
		}
		select {
		case free <- struct{}{}:
			defer func() { <-free }()
			mux.ServeHTTP(w, r)
		default:
			http.Error(w, "another profile is being made; try again when that is done", http.StatusServiceUnavailable)
		}
	})
}

// isThisMachine reports whether a Host header names the loopback.
func isThisMachine(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func (p *profiles) serve() error {
	if err := p.server.Serve(p.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// close ends them without waiting: a profile can be made again.
func (p *profiles) close() error { return p.server.Close() }
