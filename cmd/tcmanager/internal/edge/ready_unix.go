//go:build unix

package edge

import (
	"errors"
	"io"
	"net"
	"syscall"

	"google.golang.org/grpc/mem"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/websocket"
)

// readyReader is what ReadOnReady needs. The function is made once, so that reading
// doesn't allocate; its arguments and results lie beside it.
type readyReader struct {
	raw  syscall.RawConn
	read func(fd uintptr) bool

	size int
	pool mem.BufferPool
	buf  *[]byte
	n    int
	err  error
}

func newReadyReader(raw syscall.RawConn) *readyReader {
	r := &readyReader{raw: raw}
	r.read = func(fd uintptr) bool {
		r.buf = r.pool.Get(r.size)
		for {
			r.n, r.err = syscall.Read(int(fd), *r.buf)
			if !errors.Is(r.err, syscall.EINTR) {
				break
			}
		}
		if r.err != nil {
			r.pool.Put(r.buf)
			r.buf = nil
		}
		return !errors.Is(r.err, syscall.EAGAIN)
	}
	return r
}

// ReadOnReady waits for something to read, and only then takes a buffer for it from
// the pool: grpc-go asks connections for it, since a connection that rests would else
// hold the buffer that it reads into. The caller gives the buffer back once it has
// looked at the n bytes. One goroutine reads.
func (c *limitedConn) ReadOnReady(size int, pool mem.BufferPool) (buf *[]byte, n int, err error) {
	if c.ready == nil {
		tcp := websocket.TCP(c.Conn)
		if tcp == nil {
			return readWaiting(c.Conn, size, pool)
		}
		raw, err := tcp.SyscallConn()
		if err != nil {
			return nil, 0, err
		}
		c.ready = newReadyReader(raw)
	}
	r := c.ready
	r.size, r.pool, r.buf, r.n, r.err = size, pool, nil, 0, nil
	err = r.raw.Read(r.read)
	buf = r.buf
	r.buf, r.pool = nil, nil
	switch {
	case err == nil && r.n > 0:
		return buf, r.n, nil
	case err == nil && r.err != nil:
		err = r.err
	case err == nil:
		err = io.EOF
	}
	if buf != nil {
		pool.Put(buf)
	}
	return nil, 0, err
}

// readWaiting holds a buffer while it waits: there is no connection of TCP to ask.
func readWaiting(c net.Conn, size int, pool mem.BufferPool) (*[]byte, int, error) {
	buf := pool.Get(size)
	n, err := c.Read(*buf)
	if n == 0 {
		pool.Put(buf)
		return nil, 0, err
	}
	return buf, n, err
}
