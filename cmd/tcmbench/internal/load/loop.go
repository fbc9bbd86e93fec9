// Package load holds thousands of client connections to one server, cheaply enough
// not to be what is measured.
//
// A Loop is an epoll and the connections it watches. All of them are non-blocking
// and read into one buffer that the loop owns; only what is left of a frame that
// was cut is kept by the connection. What the bytes mean is the affair of a
// peer.Protocol. A read costs one system call and no allocation.
//
// # Concurrency
//
// A Loop and its connections belong to the goroutine that calls its methods. The
// loop is stepped by its owner, who looks at what has come in between:
// nothing is handed to another goroutine.
package load

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/peer"
)

const (
	readBytes = 1 << 20 // one read at most, and what may be left of a frame
	events    = 512     // taken from epoll at once
	// slack is left of the descriptors for all that is not a connection.
	slack = 256
)

// Loop watches connections. Make one with New and Close it.
type Loop struct {
	epoll  int
	timer  int
	conns  map[int32]*Conn
	buffer []byte
	events [events]unix.EpollEvent
	now    int64
	failed error
}

// Now is when the bytes came that a handler is told of, in nanoseconds since 1970:
// the clock is read once a read.
func (l *Loop) Now() int64 { return l.now }

// New returns a loop without connections.
func New() (*Loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	timer, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a timer: %w", err), unix.Close(epoll))
	}
	l := &Loop{epoll: epoll, timer: timer, conns: map[int32]*Conn{}, buffer: make([]byte, readBytes)}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, timer, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(timer)}); err != nil {
		return nil, errors.Join(fmt.Errorf("watch the timer: %w", err), l.Close())
	}
	return l, nil
}

// Raise lets this process, and those it starts, have as many files open as n
// connections need. It returns an error that says what to do if it may not.
func Raise(n int) error {
	need := uint64(n + slack)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	if limit.Cur >= need {
		return nil
	}
	limit.Cur, limit.Max = need, max(limit.Max, need)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("open %d files: %w (raise the hard limit: ulimit -Hn %d)", need, err, need)
	}
	return nil
}

// Close closes all connections and the loop.
func (l *Loop) Close() error {
	for _, c := range l.conns {
		c.Cut()
	}
	return errors.Join(unix.Close(l.timer), unix.Close(l.epoll))
}

// Dial begins a connection to a server. Its protocol's first bytes go out once it
// is connected; its handler hears what comes back.
func (l *Loop) Dial(to netip.AddrPort, host string, p peer.Protocol, on Handler) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a socket: %w", err)
	}
	c := &Conn{loop: l, fd: int32(fd), Protocol: p, on: on, connecting: true}
	l.conns[c.fd] = c
	c.wants = unix.EPOLLIN | unix.EPOLLOUT
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: c.wants, Fd: c.fd}); err != nil {
		c.Cut()
		return nil, fmt.Errorf("watch a socket: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		c.Cut()
		return nil, fmt.Errorf("set a socket's options: %w", err)
	}
	c.out = append(c.out, p.Open(host)...)
	err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		c.Cut()
		return nil, fmt.Errorf("connect to %s: %w", to, err)
	}
	return c, nil
}

// Wake makes the next Step return at a time, if nothing else does earlier. A time
// that has passed makes it return at once.
func (l *Loop) Wake(at time.Time) error {
	d := max(time.Until(at), 1)
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	if err := unix.TimerfdSettime(l.timer, 0, &spec, nil); err != nil {
		return fmt.Errorf("set the timer: %w", err)
	}
	return nil
}

// take serves one connection. One that fails is closed.
func (l *Loop) take(c *Conn, events uint32) {
	err := c.ready(events)
	if err == nil || c.cut {
		return
	}
	c.Cut()
	if err := c.on.Broken(err); err != nil && l.failed == nil {
		l.failed = err
	}
}

// Step waits until something comes, a time set by Wake is there, or for most, and
// takes what there is. It returns the first error of any handler.
func (l *Loop) Step(most time.Duration) error {
	n, err := unix.EpollWait(l.epoll, l.events[:], int((most+time.Millisecond-1)/time.Millisecond))
	if errors.Is(err, unix.EINTR) {
		return l.failed
	}
	if err != nil {
		return fmt.Errorf("wait for the server: %w", err)
	}
	for i := range l.events[:n] {
		ev := &l.events[i]
		if int(ev.Fd) == l.timer {
			var b [8]byte
			_, _ = unix.Read(l.timer, b[:]) // it is only there to wake
			continue
		}
		// One that was cut by what came before in the same step is gone.
		if c := l.conns[ev.Fd]; c != nil {
			l.take(c, ev.Events)
		}
	}
	return l.failed
}
