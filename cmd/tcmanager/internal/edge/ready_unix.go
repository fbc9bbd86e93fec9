//go:build unix

package edge

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

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

	moderation moderation
	every      time.Duration  // moderateEvery
	written    *atomic.Uint32 // how often the connection was written to
	came       int            // bytes since all had been read
	raised     bool           // the low-water mark was; the timer lowers it
	timer      *time.Timer    // made by the first read that waits
	lower      func(fd uintptr)
}

func newReadyReader(raw syscall.RawConn, written *atomic.Uint32) *readyReader {
	r := &readyReader{raw: raw, every: moderateEvery, written: written}
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
		if errors.Is(r.err, syscall.EAGAIN) {
			r.drained(fd)
			return false
		}
		r.came += r.n
		return true
	}
	r.lower = func(fd uintptr) { lowWater(fd, 1) }
	return r
}

// drained is called when all that has come is read. If the next read is to wait, the
// kernel is told to wake nobody for less than moderateBytes; the timer takes that back.
// The goroutine waits as always, so that the peer's end, deadlines and Close wake it.
func (r *readyReader) drained(fd uintptr) {
	if r.came == 0 {
		return // it was woken for nothing
	}
	wait := r.moderation.drained(time.Now(), r.came, r.written.Load())
	r.came = 0
	switch {
	case wait:
		if r.raised = lowWater(fd, moderateBytes); r.raised {
			r.lowerLater()
		}
	case r.raised:
		r.timer.Stop()
		lowWater(fd, 1)
		r.raised = false
	}
}

// lowerLater sets the timer, after the mark was raised: it is lowered for certain. One
// that is late from before may do so at once, and a read comes too soon.
func (r *readyReader) lowerLater() {
	if r.timer != nil {
		r.timer.Reset(r.every)
		return
	}
	r.timer = time.AfterFunc(r.every, func() {
		_ = r.raw.Control(r.lower) // it fails if the connection is closed
	})
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
		c.ready = newReadyReader(raw, &c.written)
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
