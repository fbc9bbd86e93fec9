package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// server is a running bin/tcmanager with a store of its own.
type server struct {
	bin  string
	addr string
	dir  string
	cmd  *exec.Cmd
	log  *os.File
}

// startServer starts a development server on free ports of loopback and waits
// until it answers.
func startServer(ctx context.Context, bin string) (*server, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	grpcAddr, err := freeAddr(ctx)
	if err != nil {
		return nil, err
	}
	httpAddr, err := freeAddr(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "verify-inputs-server-")
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	s := &server{bin: bin, addr: grpcAddr, dir: dir, log: log}
	s.cmd = exec.CommandContext(ctx, filepath.Join(bin, "tcmanager"), "serve", "--dev", "--grpc-addr", grpcAddr, "--http-addr", httpAddr, "--data-dir", filepath.Join(dir, "data")) //nolint:gosec // a development tool runs what was built here
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w (was it built? see make build)", err)
	}
	return s, s.await(ctx)
}

// freeAddr finds an address of loopback that nobody listens on.
func freeAddr(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// await waits until the server answers.
func (s *server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		_, err := s.tcm(ctx, "whoami").Output()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			text, readErr := os.ReadFile(s.log.Name())
			return errors.Join(fmt.Errorf("the server doesn't answer: %w\n%s", err, text), readErr, s.stop())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// stop ends the server and removes its store.
func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	err := s.cmd.Wait()
	return errors.Join(err, s.log.Close(), os.RemoveAll(s.dir))
}

// tcm is a command of bin/tcm for this server.
func (s *server) tcm(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "tcm"), args...) //nolint:gosec // as above
	cmd.Env = append(os.Environ(), "TCM_SERVER="+s.addr, "TCM_TOKEN=", "TCM_TOKEN_FILE=")
	return cmd
}

// stream sends a recording, and returns what that took.
func (s *server) stream(ctx context.Context, name, recording string) (used string, err error) {
	f, err := os.Open(recording)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	var said strings.Builder
	cmd := s.tcm(ctx, "stream", "--project", "demo", "--name", name, "--upload-timeout", "5m")
	cmd.Stdin, cmd.Stderr = f, &said
	begun := time.Now()
	err = cmd.Run()
	if failed, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || failed.ExitCode() != 1) {
		return "", fmt.Errorf("tcm stream: %w\n%s", err, said.String())
	}
	if text := said.String(); strings.Contains(text, "not uploaded") || strings.Contains(text, "refused") {
		return "", fmt.Errorf("tcm stream: %s", text)
	}
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	memory := ""
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		memory = fmt.Sprintf(", %d MiB", usage.Maxrss>>10)
	}
	return fmt.Sprintf("tcm: %.2fs of CPU%s, %.1fs in all", cpu.Seconds(), memory, time.Since(begun).Seconds()), nil
}

// report is the part of "tcm runs show --json" that is compared.
type report struct {
	Counts        counts `json:"counts"`
	PackageCounts counts `json:"package_counts"`
	Packages      []struct {
		Name   string `json:"name"`
		Status string `json:"status"`
		Counts counts `json:"counts"`
	} `json:"packages"`
}

// show returns the newest run as the store has it.
func (s *server) show(ctx context.Context) (*report, error) {
	out, err := s.tcm(ctx, "runs", "show", "last", "--project", "demo", "--json").Output()
	if err != nil {
		return nil, fmt.Errorf("tcm runs show: %w", err)
	}
	r := &report{}
	if err := json.Unmarshal(out, r); err != nil {
		return nil, fmt.Errorf("tcm runs show: %w", err)
	}
	return r, nil
}

// find describes a stored package.
func (r *report) find(name string) string {
	for _, p := range r.Packages {
		if p.Name == name {
			return describe(p.Status, p.Counts)
		}
	}
	return "not stored"
}
