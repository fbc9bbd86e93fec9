package websocket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// chunk is what is read at once. It is taken when there is something to read and
// given back when that was understood: a connection that rests holds none.
type chunk [16 << 10]byte

var chunks = sync.Pool{New: func() any { return new(chunk) }}

// maxPending is how much may wait to be written before those who send have to
// wait too, in bytes. Who asks Flushed never gets there.
const maxPending = 1 << 20

// errWouldBlock says that there is nothing to read. It is a net.Error that will
// pass, so that crypto/tls goes on where it was.
var errWouldBlock error = wouldBlockError{}

type wouldBlockError struct{}

func (wouldBlockError) Error() string   { return "nothing to read yet" }
func (wouldBlockError) Timeout() bool   { return true }
func (wouldBlockError) Temporary() bool { return true }

// errOver is what writers get when the call is over.
var errOver = errors.New("the call is over")

// socket is a TCP connection whose writes never wait: what the kernel doesn't
// take is kept, and a goroutine that lives as long as something is kept sends it.
type socket struct {
	mu       sync.Mutex
	draining atomic.Bool // a goroutine sends what is pending; it is changed under mu
	headed   atomic.Bool // the call's headers are sent: messages may follow
	over     bool        // nobody may begin to write a message; guarded by mu, as the two behind it
	sent     uint32      // messages, since they were counted last
	err      error       // why nothing can be written any more
	poll     poll        // what the platform needs; its parts say what guards them
	pending  [][]byte    // what the kernel didn't take yet; guarded by mu, as all to changed
	size     int         // of pending
	ready    func()      // to be called when nothing is pending any more

	changed sync.Cond // something above has

	conn  net.Conn        // to be closed; limits count it
	raw   syscall.RawConn // of the TCP connection underneath
	clock *atomic.Int64   // the endpoint's

	// restsSince is when the reader went to sleep, by the clock; 0 while it is awake.
	restsSince atomic.Int64
	// stalledSince is when the kernel took something last, by the clock, while
	// something waits for it; 0 otherwise. moved is the same, and stays.
	stalledSince, moved atomic.Int64
}

func (s *socket) init(c net.Conn, clock *atomic.Int64) (err error) {
	tcp := TCP(c)
	if tcp == nil {
		return errors.New("the connection is not one of TCP")
	}
	BoundWriteBuffer(tcp)
	if s.raw, err = tcp.SyscallConn(); err != nil {
		return err
	}
	s.conn, s.clock = c, clock
	s.changed.L = &s.mu
	return s.poll.init(s)
}

// write sends bytes, or keeps them. If they are shared, nobody changes them any
// more; otherwise what is kept is a copy.
func (s *socket) write(b []byte, shared bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writeLocked(b, shared)
}

// send is write for a message, of bytes that nobody changes any more, if somebody
// may still begin one.
func (s *socket) send(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return errOver
	}
	s.sent++
	return s.writeLocked(b, true)
}

// count returns how many messages were sent since it was asked last.
func (s *socket) count() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := int64(s.sent)
	s.sent = 0
	return n
}

func (s *socket) writeLocked(b []byte, shared bool) error {
	if s.err != nil {
		return s.err
	}
	if !s.draining.Load() {
		n, err := s.writeNow(b)
		if err != nil {
			s.err = err
			return err
		}
		if n == len(b) {
			return nil
		}
		b = b[n:]
		s.draining.Store(true)
		s.stalledSince.Store(s.clock.Load())
		go s.drain()
	}
	if !shared {
		b = bytes.Clone(b)
	}
	s.pending = append(s.pending, b)
	s.size += len(b)
	return nil
}

// room waits until somebody may begin to write a message, which counts as sent.
func (s *socket) room() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.size > maxPending && s.err == nil && !s.over {
		s.changed.Wait()
	}
	if s.over {
		return errOver
	}
	s.sent++
	return s.err
}

// drain sends what is pending, then ends.
func (s *socket) drain() {
	buf := chunks.Get().(*chunk) //nolint:forcetypeassert // it is ours
	defer chunks.Put(buf)
	for {
		batch := s.nextBatch(buf)
		if batch == nil {
			return
		}
		n, err := s.writeWaiting(batch)
		s.mu.Lock()
		s.dropLocked(n)
		if err != nil && s.err == nil {
			s.err = err
		}
		now := s.clock.Load()
		s.stalledSince.Store(now)
		s.moved.Store(now)
		s.changed.Broadcast()
		s.mu.Unlock()
	}
}

// nextBatch returns what is to be written next, or nil if there is nothing or no
// point. Small pieces are joined in buf.
func (s *socket) nextBatch(buf *chunk) []byte {
	s.mu.Lock()
	if s.err != nil || len(s.pending) == 0 {
		s.pending, s.size = nil, 0
		s.draining.Store(false)
		s.stalledSince.Store(0)
		ready := s.ready
		s.ready = nil
		s.changed.Broadcast()
		s.mu.Unlock()
		if ready != nil {
			ready()
		}
		return nil
	}
	defer s.mu.Unlock()
	n := 0
	for _, b := range s.pending {
		if n+len(b) > len(buf) {
			break
		}
		n += copy(buf[n:], b)
	}
	if n <= len(s.pending[0]) {
		return s.pending[0]
	}
	return buf[:n]
}

func (s *socket) dropLocked(n int) {
	s.size -= n
	for n > 0 {
		if first := s.pending[0]; n < len(first) {
			s.pending[0] = first[n:]
			return
		}
		n -= len(s.pending[0])
		s.pending[0] = nil
		s.pending = s.pending[1:]
	}
}

// flushed reports whether the kernel has taken everything, and if not, calls ready
// once it has, or once it never will. The last one who asks is called.
func (s *socket) flushed(ready func()) bool {
	if !s.draining.Load() {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() {
		s.ready = ready
	}
	return !s.draining.Load()
}

// finish turns away all who would begin a message.
func (s *socket) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	s.changed.Broadcast()
}

// close closes the connection. It wakes up whoever reads or writes.
func (s *socket) close() {
	s.mu.Lock()
	if s.err == nil {
		s.err = net.ErrClosed
	}
	s.changed.Broadcast()
	s.mu.Unlock()
	_ = s.conn.Close() // nobody is left to tell
}

// wait waits, after close, until nothing of the socket runs any more.
func (s *socket) wait() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.draining.Load() {
		s.changed.Wait()
	}
}

// readChunk waits for something to read and returns it in a chunk, which the
// caller gives back.
func (s *socket) readChunk() (*chunk, int, error) {
	c, n, err := s.receive()
	s.restsSince.Store(0)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil && c != nil {
		chunks.Put(c)
		c = nil
	}
	return c, n, err
}

// rests is called by a reader that goes to sleep.
func (s *socket) rests() { s.restsSince.Store(s.clock.Load()) }
