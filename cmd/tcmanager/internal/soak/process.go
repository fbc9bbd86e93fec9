package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a running server.
type process struct {
	cmd     *exec.Cmd
	data    string // its data directory
	logPath string
	logged  chan error   // its log has been read to the end
	ended   func() error // waits for its end
	http    *http.Client

	grpcAddr, httpAddr string
}

// start starts a server in a directory, on free ports, and waits until it serves.
func start(ctx context.Context, bin, dir string, more ...string) (*process, error) {
	p := &process{
		data: filepath.Join(dir, "data"), logPath: filepath.Join(dir, "log"), logged: make(chan error, 1),
		// A connection that is kept would count among the server's.
		http: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}},
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	args := append([]string{"serve", "--dev", "--data-dir", p.data, "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--log-format", "json"}, more...)
	p.cmd = exec.CommandContext(context.WithoutCancel(ctx), bin, args...) //nolint:gosec // a development tool runs what was built here
	log, err := os.Create(p.logPath)
	if err != nil {
		return nil, err
	}
	stderr, err := p.cmd.StderrPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w (was it built? see make build)", bin, err), log.Close())
	}
	serving := make(chan bool, 1)
	go func() { p.logged <- p.keepLog(stderr, log, serving) }()
	p.ended = sync.OnceValue(func() error {
		logged := <-p.logged // the pipe is read to its end before Wait closes it
		return errors.Join(logged, p.cmd.Wait())
	})
	select {
	case ok := <-serving:
		if ok {
			return p, nil
		}
		err = fmt.Errorf("the server ended before it served; see %s", p.logPath)
	case <-time.After(30 * time.Second):
		err = errors.New("the server did not serve within 30 s")
	case <-ctx.Done():
		err = ctx.Err()
	}
	return nil, errors.Join(err, p.kill())
}

// keepLog copies the log to a file, and says on serving whether it was told where
// the server listens.
func (p *process) keepLog(from io.Reader, to *os.File, serving chan<- bool) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	said := false
	for lines.Scan() {
		if _, err := fmt.Fprintln(to, lines.Text()); err != nil {
			return errors.Join(err, to.Close())
		}
		var line struct {
			Msg  string `json:"msg"`
			GRPC string `json:"grpc.addr"` //nolint:tagliatelle // the log's word
			HTTP string `json:"http.addr"` //nolint:tagliatelle // the log's word
		}
		if !said && json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving" {
			p.grpcAddr, p.httpAddr, said = line.GRPC, line.HTTP, true
			serving <- true
		}
	}
	if !said {
		serving <- false
	}
	return errors.Join(lines.Err(), to.Close())
}

// stop asks the server to stop and waits until it has. It must do so in good order.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the server: %w", err)
	}
	late := time.AfterFunc(30*time.Second, func() { _ = p.cmd.Process.Kill() }) // it may just have ended
	defer late.Stop()
	if err := p.ended(); err != nil {
		return fmt.Errorf("stop the server: %w; see %s", err, p.logPath)
	}
	return nil
}

// kill ends the server at once, if it has not ended.
func (p *process) kill() error {
	err := p.cmd.Process.Kill()
	_ = p.ended() // it was killed, or has told before how it ended
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// sample is what the server says of itself.
type sample struct {
	at         time.Duration // since the beginning
	sessions   int
	goroutines int
	files      int // open file descriptors
	heapInUse  int64
	heapAlloc  int64 // of which; garbage counts until it is collected
	resident   int64
	collected  int // garbage collections so far
}

// sample reads the server's metrics.
func (p *process) sample(ctx context.Context) (sample, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.httpAddr+"/metrics", http.NoBody)
	if err != nil {
		return sample{}, err
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return sample{}, fmt.Errorf("read the metrics: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	values := map[string]float64{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, text, _ := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(text, 64); err == nil {
			values[name] = v
		}
	}
	for _, name := range []string{"tcmanager_sessions", "go_goroutines", "process_open_fds", "go_memstats_heap_alloc_bytes", "go_gc_duration_seconds_count"} {
		if _, ok := values[name]; !ok {
			return sample{}, fmt.Errorf("the server's metrics (%s) have no %s", resp.Status, name)
		}
	}
	return sample{
		sessions: int(values["tcmanager_sessions"]), goroutines: int(values["go_goroutines"]), files: int(values["process_open_fds"]),
		heapInUse: int64(values["go_memstats_heap_inuse_bytes"]), heapAlloc: int64(values["go_memstats_heap_alloc_bytes"]),
		resident: int64(values["process_resident_memory_bytes"]), collected: int(values["go_gc_duration_seconds_count"]),
	}, nil
}

// alone waits until the server has no session and at most so many goroutines and
// files, or for some time.
func (p *process) alone(ctx context.Context, goroutines, files int, most time.Duration) error {
	for deadline := time.Now().Add(most); ; {
		s, err := p.sample(ctx)
		if err != nil {
			return err
		}
		if s.sessions == 0 && s.goroutines <= goroutines && s.files <= files || time.Now().After(deadline) {
			return nil
		}
		if err := wait(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// collected returns what the server says of itself when garbage was collected. It
// takes two collections until what is pooled has gone, and until the next one all
// of the garbage is swept up: the least heap meanwhile is what is in use. To read
// the metrics makes the garbage that it takes, and now and then the connection of
// the reading before is counted, so the least of the rest is taken too.
func (p *process) collected(ctx context.Context) (sample, error) {
	const pooled = 2
	first, err := p.sample(ctx)
	least := sample{heapAlloc: math.MaxInt64, goroutines: math.MaxInt, files: math.MaxInt}
	for s := first; err == nil; s, err = p.sample(ctx) {
		switch n := s.collected - first.collected; {
		case n > pooled:
			return least, nil
		case n == pooled:
			goroutines, files := min(s.goroutines, least.goroutines), min(s.files, least.files)
			if s.heapAlloc < least.heapAlloc {
				least = s
			}
			least.goroutines, least.files = goroutines, files
		}
	}
	return sample{}, err
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
