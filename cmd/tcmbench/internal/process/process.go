// Package process runs the servers that are measured, each as a process of its
// own, and says what they used.
//
// CPU time is read from the process's CPU clock (clock_gettime with the clock that
// clock_getcpuclockid names), which the kernel keeps in nanoseconds for all threads,
// those that ended included. /proc/PID/stat has the same figure in steps of 10 ms,
// too coarse for short rounds, and /proc/PID/schedstat is of one thread.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// patience is how long a server may take to start or to stop.
	patience = 60 * time.Second
	// lastWords is how much of what a server said is shown if it failed.
	lastWords = 4 << 10
)

// Command is a server to start.
type Command struct {
	Path string
	Args []string
	Env  []string // added to this process's own
	Dir  string   // where it runs; empty means here
}

// Process is a server that runs. Stop it.
type Process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has ended
	said   *tail
}

// Start starts a server and waits until listening finds in a line of what it
// prints where it listens.
func Start(ctx context.Context, c Command, listening func(line string) bool) (*Process, error) {
	p := &Process{exited: make(chan struct{}), said: &tail{}}
	p.cmd = exec.Command(c.Path, c.Args...) //nolint:gosec,noctx // a development tool runs what was built here; Stop ends it
	p.cmd.Env, p.cmd.Dir = append(os.Environ(), c.Env...), c.Dir
	// It must not outlive this process, also if that is killed; and a Ctrl-C is for
	// this process, which then stops it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	serves := make(chan struct{})
	p.said.line = func(line string) bool {
		found := listening(line)
		if found {
			close(serves)
		}
		return found
	}
	p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
	p.cmd.WaitDelay = time.Second // a child of it that lives on keeps its output open
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // how it ended is of interest only to those who waited for it to serve
	}()
	select {
	case <-serves:
		return p, nil
	case <-p.exited:
		return nil, fmt.Errorf("%s ended before it served:\n%s", c.Path, p.said)
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), p.Stop())
	case <-time.After(patience):
		return nil, errors.Join(fmt.Errorf("%s did not serve within %s:\n%s", c.Path, patience, p.said), p.Stop())
	}
}

// Stop asks the server to stop, waits until it has, and kills it if it doesn't.
func (p *Process) Stop() error {
	select {
	case <-p.exited:
		return fmt.Errorf("the server ended by itself:\n%s", p.said)
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // if it has just ended, so much the better
	select {
	case <-p.exited:
		return nil
	case <-time.After(patience):
	}
	_ = p.cmd.Process.Kill()
	<-p.exited
	return fmt.Errorf("the server did not stop within %s and was killed:\n%s", patience, p.said)
}

// Said is the end of what the server printed.
func (p *Process) Said() string { return p.said.String() }

// CPU is the time that the process has used on all processors.
func (p *Process) CPU() (time.Duration, error) {
	const scheduled = 2 // CPUCLOCK_SCHED: what the scheduler counted, in nanoseconds
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^p.cmd.Process.Pid<<3|scheduled), &t); err != nil {
		return 0, fmt.Errorf("read the CPU clock of process %d: %w", p.cmd.Process.Pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// Resident is how many bytes of memory the process holds (VmRSS).
func (p *Process) Resident() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(b, []byte("VmRSS:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(string(line)), " kB"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read VmRSS of process %d: %w", p.cmd.Process.Pid, err)
	}
	return kb << 10, nil
}

// Listening returns a function for Start that takes the address of a line
// "listening HOST:PORT" into at.
func Listening(at *netip.AddrPort) func(string) bool {
	return func(line string) bool {
		text, ok := strings.CutPrefix(strings.TrimSpace(line), "listening ")
		if !ok {
			return false
		}
		addr, err := netip.ParseAddrPort(text)
		if err != nil {
			return false
		}
		*at = addr
		return true
	}
}

// tail keeps the end of what is written to it, and looks for a line.
type tail struct {
	mu   sync.Mutex // guards the rest
	text []byte
	part []byte                 // of a line
	line func(line string) bool // nil once it has found what it looks for
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if over := len(t.text) - lastWords; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	if t.line == nil {
		return len(p), nil
	}
	t.part = append(t.part, p...)
	for {
		line, rest, whole := bytes.Cut(t.part, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		if t.part = rest; t.line(string(line)) {
			t.line, t.part = nil, nil
			return len(p), nil
		}
	}
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
