package edge

import (
	"bufio"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/websocket"
)

// timing are the deadlines of a websocket.
type timing struct {
	header time.Duration // for the header block, from the upgrade on
	idle   time.Duration // between two reads; a pong counts
	stall  time.Duration // for one write
}

// socket is one websocket's connection, from the upgrade on. The library hands
// neither its connection nor its deadlines out, so this stands between it and
// the network.
type socket struct {
	timing timing

	mu     sync.Mutex
	conn   net.Conn // nil before the upgrade
	closed bool
	reason string // why it ended, if not because one side closed it
}

// attach gives the socket its connection.
func (s *socket) attach(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = c
	if s.closed {
		cut(c) // the server closed it while it was being made
	}
}

func (s *socket) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.conn != nil {
		cut(s.conn) // twice is harmless
	}
}

func (s *socket) endedBecause(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason == "" && !s.closed {
		s.reason = reason
	}
}

func (s *socket) whyEnded() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason == "" {
		return "closed"
	}
	return s.reason
}

// hijacker puts a watchedConn where the library expects the plain connection.
type hijacker struct {
	http.ResponseWriter
	socket *socket
}

// Hijack takes the connection over from net/http.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, buffered, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if tcp := websocket.TCP(c); tcp != nil {
		websocket.BoundWriteBuffer(tcp)
	}
	h.socket.attach(c)
	// What the client sent right behind its request lies in net/http's buffer.
	early, err := buffered.Peek(buffered.Reader.Buffered())
	if err != nil {
		return nil, nil, err
	}
	w := &watchedConn{Conn: c, socket: h.socket, early: append([]byte(nil), early...), headerBy: time.Now().Add(h.socket.timing.header)}
	return w, bufio.NewReadWriter(bufio.NewReaderSize(w, connBuffer), bufio.NewWriterSize(w, connBuffer)), nil
}

// cut closes a connection without a word. TLS has one to say, and would wait five
// seconds for a peer that doesn't read, with everyone behind who waits for the
// same lock.
func cut(c net.Conn) {
	if encrypted, ok := c.(*tls.Conn); ok {
		c = encrypted.NetConn()
	}
	_ = c.Close() // nobody is left to tell
}

// connBuffer is the size of the read and of the write buffer of a websocket.
const connBuffer = 4096

// watchedConn is a connection with deadlines. It reads the header block along
// with the library and fails a bad one, because the library would return without
// closing its websocket, which leaves a goroutine and its buffers behind.
type watchedConn struct {
	net.Conn
	socket   *socket
	early    []byte
	headerBy time.Time
	header   headerBlock
}

// Read reads from the connection. It is called by one goroutine at a time.
func (c *watchedConn) Read(p []byte) (n int, err error) {
	if len(c.early) > 0 {
		n = copy(p, c.early)
		c.early = c.early[n:]
	} else if n, err = c.read(p); err != nil {
		return n, err
	}
	if c.header.complete {
		return n, nil
	}
	if err := c.header.feed(p[:n]); err != nil {
		c.socket.endedBecause("malformed")
		return 0, err
	}
	return n, nil
}

func (c *watchedConn) read(p []byte) (int, error) {
	deadline, reason := time.Now().Add(c.socket.timing.idle), "silent"
	if !c.header.complete {
		deadline, reason = c.headerBy, "late"
	}
	if err := c.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.socket.endedBecause(reason)
	}
	return n, err
}

// Write writes to the connection.
func (c *watchedConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.socket.timing.stall)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.socket.endedBecause("stalled")
		// The peer may have got a part of a frame: nothing can follow. Closing wakes
		// the reader, which otherwise would wait for its own deadline.
		cut(c.Conn)
	}
	return n, err
}

type socketMetrics struct {
	open    prometheus.Gauge
	refused *prometheus.CounterVec
	ended   *prometheus.CounterVec
	sent    prometheus.Counter
}

func newSocketMetrics(r prometheus.Registerer) (*socketMetrics, error) {
	m := &socketMetrics{
		open:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "tcmanager_websockets", Help: "Open websockets."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tcmanager_websockets_refused_total", Help: "Websockets refused, by reason."}, []string{"reason"}),
		ended:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tcmanager_websockets_ended_total", Help: "Websockets that ended, by reason."}, []string{"reason"}),
	}
	m.sent = prometheus.NewCounter(prometheus.CounterOpts{Name: "tcmanager_websocket_messages_sent_total", Help: "Messages of Subscribe sent over websockets."})
	return m, register(r, m.open, m.refused, m.ended, m.sent)
}
