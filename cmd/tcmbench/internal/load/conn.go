package load

import (
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/peer"
)

// Handler hears what a connection's protocol reports.
type Handler interface {
	peer.Handler
	// Broken says that the connection has ended, and why. It isn't called if the
	// connection was cut on this side. An error that it returns fails the loop.
	Broken(cause error) error
}

// Conn is one connection of a loop.
type Conn struct {
	Protocol peer.Protocol // what it speaks

	loop       *Loop
	fd         int32
	on         Handler
	connecting bool
	cut        bool
	wants      uint32 // what epoll was told to watch
	rest       []byte // read, and not yet a whole frame
	out        []byte // not yet taken by the system
}

// Send writes bytes, or keeps what the system doesn't take until it does.
func (c *Conn) Send(p []byte) error {
	if c.cut || len(p) == 0 {
		return nil
	}
	if c.connecting || len(c.out) > 0 {
		c.out = append(c.out, p...)
		return nil
	}
	n, err := c.write(p)
	if err != nil {
		return err
	}
	if n < len(p) {
		c.out = append(c.out, p[n:]...)
		return c.watch(unix.EPOLLIN | unix.EPOLLOUT)
	}
	return nil
}

// Waiting is how many bytes the system has not taken yet.
func (c *Conn) Waiting() int { return len(c.out) }

// Cut ends the connection without a word, as when a network breaks: the server
// gets a reset.
func (c *Conn) Cut() {
	if c.cut {
		return
	}
	c.cut = true
	delete(c.loop.conns, c.fd)
	// Neither can fail but on a descriptor that isn't there.
	_ = unix.SetsockoptLinger(int(c.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(int(c.fd))
	c.rest, c.out = nil, nil
}

// ready is called when the socket can be read or written.
func (c *Conn) ready(events uint32) error {
	if c.connecting {
		code, err := unix.GetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = unix.Errno(code)
		}
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		c.connecting = false
	}
	if events&unix.EPOLLOUT != 0 {
		if err := c.drain(); err != nil {
			return err
		}
	}
	if events&^unix.EPOLLOUT != 0 {
		return c.read()
	}
	return nil
}

func (c *Conn) drain() error {
	n, err := c.write(c.out)
	if err != nil {
		return err
	}
	c.out = c.out[n:]
	if len(c.out) > 0 {
		return c.watch(unix.EPOLLIN | unix.EPOLLOUT)
	}
	c.out = nil // thousands of connections don't keep what they once needed
	return c.watch(unix.EPOLLIN)
}

func (c *Conn) watch(events uint32) error {
	if c.wants == events {
		return nil
	}
	c.wants = events
	if err := unix.EpollCtl(c.loop.epoll, unix.EPOLL_CTL_MOD, int(c.fd), &unix.EpollEvent{Events: events, Fd: c.fd}); err != nil {
		return fmt.Errorf("watch a socket: %w", err)
	}
	return nil
}

func (c *Conn) write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Write(int(c.fd), p[done:])
		switch {
		case errors.Is(err, unix.EAGAIN):
			return done, nil
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return done, fmt.Errorf("write: %w", err)
		default:
			done += n
		}
	}
	return done, nil
}

// read takes what has come: one read, since a full buffer is told of again.
func (c *Conn) read() error {
	buffer := c.loop.buffer
	had := copy(buffer, c.rest)
	if had == len(buffer) {
		return fmt.Errorf("a frame is larger than %d bytes", len(buffer))
	}
	n, err := unix.Read(int(c.fd), buffer[had:])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("read: %w", err)
	case n == 0:
		return fmt.Errorf("the server closed a connection: %w", io.ErrUnexpectedEOF)
	}
	p := buffer[:had+n]
	c.loop.now = time.Now().UnixNano()
	used, reply, err := c.Protocol.Feed(p, c.on)
	if err != nil || c.cut { // the handler may have cut it
		return err
	}
	if used == len(p) {
		c.rest = nil
	} else {
		c.rest = append(c.rest[:0], p[used:]...)
	}
	return c.Send(reply)
}
