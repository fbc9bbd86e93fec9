//go:build unix

package websocket

import (
	"errors"
	"syscall"
)

// poll is what reading and writing without waiting needs. The function is made
// once, so that reading doesn't allocate; its results stand beside it.
type poll struct {
	fd uintptr // to be written to under the socket's mutex while it has no error: then it is open

	read  func(fd uintptr) bool // the rest is the reader's
	chunk *chunk
	got   int
	bad   error
}

func (p *poll) init(s *socket) error {
	p.read = func(fd uintptr) bool {
		p.chunk = chunks.Get().(*chunk) //nolint:forcetypeassert // it is ours
		p.got, p.bad = again(syscall.Read, fd, p.chunk[:])
		if !errors.Is(p.bad, syscall.EAGAIN) {
			return true
		}
		chunks.Put(p.chunk)
		p.chunk = nil
		s.rests()
		return false
	}
	return s.raw.Control(func(fd uintptr) { p.fd = fd })
}

// again makes a system call that may be interrupted.
func again(call func(fd int, p []byte) (int, error), fd uintptr, b []byte) (int, error) {
	for {
		n, err := call(int(fd), b)
		if err == nil {
			return n, nil
		}
		if !errors.Is(err, syscall.EINTR) {
			return 0, err
		}
	}
}

// receive reads into a chunk that it takes when there is something to read.
func (s *socket) receive() (*chunk, int, error) {
	p := &s.poll
	p.chunk, p.got, p.bad = nil, 0, nil
	err := s.raw.Read(p.read)
	if err == nil {
		err = p.bad
	}
	c := p.chunk
	p.chunk = nil
	return c, p.got, err
}

// writeNow writes what the kernel takes at once. The caller holds the mutex.
func (s *socket) writeNow(b []byte) (int, error) {
	n, err := again(sendNow, s.poll.fd, b)
	if errors.Is(err, syscall.EAGAIN) {
		return 0, nil
	}
	return n, err
}

// writeWaiting waits until the kernel takes a part of b.
func (s *socket) writeWaiting(b []byte) (n int, err error) {
	waited := s.raw.Write(func(fd uintptr) bool {
		n, err = again(syscall.Write, fd, b)
		return !errors.Is(err, syscall.EAGAIN)
	})
	if waited != nil {
		return 0, waited
	}
	return n, err
}
