package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience is how long a process may take to start or to stop. Only what fails
// uses it up.
const patience = 30 * time.Second

// process is a server as its users have it: a program that is started, stopped and
// killed.
type process struct {
	program []string // and the arguments that come first
	args    []string
	env     []string
	log     *os.File
	grpc    string // where it listens
	http    string

	mu      sync.Mutex // guards the rest
	cmd     *exec.Cmd  // nil while none runs
	exited  chan error
	stopped bool      // by SIGSTOP
	born    time.Time // the newest start
	since   time.Time // likewise, or the end of a pause
}

// start starts the program where it was and waits until it takes connections.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	args := slices.Concat(p.program[1:], p.args, []string{"--grpc-addr", p.grpc, "--http-addr", p.http})
	cmd := exec.Command(p.program[0], args...) //nolint:gosec,noctx // what was built here; it is ended by end
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = p.log, p.log
	// It must not outlive this process, also if that is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	p.cmd, p.exited, p.stopped, p.born = cmd, exited, false, time.Now()
	err := p.awaitLocked()
	p.since = time.Now()
	return err
}

func (p *process) awaitLocked() error {
	for deadline := time.Now().Add(patience); ; {
		if listens(p.grpc) && listens(p.http) {
			return nil
		}
		select {
		case err := <-p.exited:
			p.cmd = nil
			return fmt.Errorf("the server ended at once (%w):\n%s", err, p.lastWords())
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the server takes no connections:\n%s", p.lastWords())
		}
	}
}

func listens(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second) //nolint:noctx // it has a timeout
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was said
	return true
}

// lastWords is the end of the server's log.
func (p *process) lastWords() string {
	text, err := os.ReadFile(p.log.Name())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(text), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// signal sends a signal to the server, if it runs.
func (p *process) signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil
	}
	switch s {
	case syscall.SIGSTOP:
		p.stopped = true
	case syscall.SIGCONT:
		p.stopped, p.since = false, time.Now()
	default:
	}
	return p.cmd.Process.Signal(s)
}

// kill ends the server without a word.
func (p *process) kill() error {
	_, err := p.end(syscall.SIGKILL)
	return err
}

// stop asks the server to stop, and returns what it ended with.
func (p *process) stop() error {
	how, err := p.end(syscall.SIGTERM)
	return errors.Join(how, err)
}

// end sends the last signal and waits for the end.
func (p *process) end(s syscall.Signal) (how, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil, nil
	}
	if p.stopped {
		err = p.cmd.Process.Signal(syscall.SIGCONT)
	}
	err = errors.Join(err, p.cmd.Process.Signal(s))
	select {
	case how = <-p.exited:
	case <-time.After(patience):
		err = errors.Join(err, fmt.Errorf("the server did not end after %s:\n%s", s, p.lastWords()), p.cmd.Process.Kill())
		how = <-p.exited
	}
	p.cmd = nil
	return how, err
}

// gone returns what the server ended with by itself, if it did.
func (p *process) gone() (error, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil, false
	}
	select {
	case err := <-p.exited:
		p.cmd = nil
		return fmt.Errorf("the server ended by itself (%w):\n%s", err, p.lastWords()), true
	default:
		return nil, false
	}
}

// calm is how long the server has run undisturbed; negative while it doesn't.
func (p *process) calm() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || p.stopped {
		return -1
	}
	return time.Since(p.since)
}

// started is when the server that runs was started.
func (p *process) started() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.born
}

// The ports below which the system takes those of outgoing connections begin: a
// server that is away gets its port back.
const (
	lowestPort  = 21000
	highestPort = 31000
)

// freeAddr finds an address of the loopback that nobody listens on.
func freeAddr(ctx context.Context, choose func(n int) int) (string, error) {
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", lowestPort+choose(highestPort-lowestPort))
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err == nil {
			return addr, l.Close()
		}
	}
	return "", errors.New("no port of the loopback is free")
}
