// Package websocket is an endpoint of its own for one streaming method of gRPC
// over the subprotocol grpc-websockets of improbable-eng/grpc-web: RFC 6455, the
// subprotocol, and the grpc.ServerStream that the handler gets. Behind it stand
// the same interceptors and services as behind any other carrier.
//
// It is made for many connections that rest and are told things. A connection has
// one goroutine, its handler's, and no buffer while it has nothing to read; a
// wire.Frame is written as it is, by whoever sends it. What the kernel doesn't
// take at once is kept, by reference where frames are shared, and a goroutine
// sends it that ends with it. There is no timer for a connection or a write: one
// sweep looks at all connections about every second.
//
// # Protocol
//
// The client's first message is a block of headers. Each message after it is a
// zero byte and bytes of gRPC's framing, or a one when the client has finished.
// The server sends a block of headers, messages, and a block of trailers, framed
// as grpc-web does; then it closes, and gives the client a moment to do so too.
// No extension is agreed on: nothing is compressed.
//
// # Bounds
//
// Reading is on demand, so a client that sends ahead is held back by TCP. Of what
// it sent there are at most a chunk of 16 KiB and one message, which grows by what
// arrived. Frames that bring nothing are bounded in number. A client that takes
// nothing of what waits for it for WriteStall is cut off.
//
// # Concurrency
//
// One goroutine receives at a time; any may send, and sending waits only while
// more than a megabyte is kept, which nobody sees who asks Flushed. The context of
// a call ends with its connection. That a peer has gone is noticed by reading and
// writing: while a handler does neither, nobody looks. Close cuts connections and
// waits for their handlers.
package websocket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
)

// Config is what an endpoint needs. Every field must be set.
type Config struct {
	Method string // /package.Service/Method
	// Open opens a call, and returns what runs it. That is called on a goroutine of
	// its own, whose stack has not grown; the headers that the client sent are in the
	// context until then.
	Open    func(grpc.ServerStream) (run func() error)
	Context func(context.Context, *Conn) context.Context
	Log     *slog.Logger
	Opened  func()               // a connection was accepted
	Ended   func(reason string)  // and has ended: see package edge for the reasons
	Sent    func(messages int64) // were sent since the last call

	MaxMessageBytes int
	HeaderTimeout   time.Duration // for the header block, from the upgrade on
	IdleTimeout     time.Duration // how long a peer that is listened to may say nothing
	PingInterval    time.Duration // how often a quiet one is pinged
	WriteStall      time.Duration // how long one may take nothing of what waits for it
}

// Endpoint accepts websockets.
type Endpoint struct {
	cfg   Config
	every time.Duration // between two looks
	began time.Time
	clock atomic.Int64 // nanoseconds since began, at the last look; never 0
	late  bool         // the last look was far too late; only the sweep is here

	mu      sync.Mutex // guards the rest
	closing bool
	open    map[*Conn]bool
	sweeps  bool          // one is planned or at work
	idle    chan struct{} // closed when closing and nothing is open
}

// New returns an endpoint.
func New(c Config) *Endpoint {
	shortest := min(c.HeaderTimeout, c.IdleTimeout, c.PingInterval, c.WriteStall)
	e := &Endpoint{
		cfg: c, began: time.Now().Add(-1), open: map[*Conn]bool{}, idle: make(chan struct{}),
		every: min(max(shortest/4, 10*time.Millisecond), time.Second),
	}
	e.tick()
	return e
}

// ErrClosing is the answer to a request that came when the endpoint was closing.
var ErrClosing = errors.New("the server is stopping")

// Upgrade makes a websocket of a request and serves it on a goroutine of its own,
// so that what net/http holds for the connection is free. Otherwise it answers
// nothing and returns ErrClosing or a *RefusalError.
func (e *Endpoint) Upgrade(w http.ResponseWriter, r *http.Request) error {
	accepted, err := accept(r)
	if err != nil {
		return err
	}
	if e.isClosing() {
		return ErrClosing
	}
	hijacked, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return &RefusalError{http.StatusNotImplemented, "this connection can't become a websocket"}
	}
	e.tick() // it may have stood still for long
	c, err := newConn(e, hijacked)
	if err != nil {
		e.cfg.Log.ErrorContext(r.Context(), "a websocket can't be served", "error", errors.Join(err, hijacked.Close()))
		return nil
	}
	// What the client sent right behind its request lies in net/http's buffer.
	if early, _ := buffered.Peek(buffered.Reader.Buffered()); len(early) > 0 {
		c.chunk = chunks.Get().(*chunk) //nolint:forcetypeassert // it is ours
		c.rest = c.chunk[:copy(c.chunk[:], early)]
	}
	if !e.enter(c) {
		c.release()
		return nil
	}
	go c.open(accepted, r.Host) //nolint:contextcheck // the call outlives the request
	return nil
}

func (e *Endpoint) isClosing() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closing
}

func (e *Endpoint) enter(c *Conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closing {
		return false
	}
	e.open[c] = true
	e.cfg.Opened()
	if !e.sweeps {
		e.sweeps = true
		time.AfterFunc(e.every, e.sweep)
	}
	return true
}

func (e *Endpoint) leave(c *Conn) {
	e.cfg.Sent(c.socket.count())
	e.cfg.Ended(c.why())
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.open, c)
	e.noteIdleLocked()
}

func (e *Endpoint) noteIdleLocked() {
	if !e.closing || len(e.open) > 0 {
		return
	}
	select {
	case <-e.idle:
	default:
		close(e.idle)
	}
}

// tick sets the clock. Between two looks it stands still, which costs those who
// read it nothing.
func (e *Endpoint) tick() int64 {
	now := int64(time.Since(e.began))
	e.clock.Store(now)
	return now
}

// sweep looks at all connections, and plans the next one while there are any.
func (e *Endpoint) sweep() {
	last := e.clock.Load()
	now := e.tick()
	// A process that didn't run has not heard its peers: they get another moment.
	late := now-last > 4*int64(e.every)
	for _, c := range e.all() {
		e.cfg.Sent(c.socket.count())
		if !late || e.late {
			c.look(now)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.late = late
	if e.sweeps = len(e.open) > 0; e.sweeps {
		time.AfterFunc(e.every, e.sweep)
	}
}

func (e *Endpoint) all() []*Conn {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]*Conn, 0, len(e.open))
	for c := range e.open {
		all = append(all, c)
	}
	return all
}

// RefuseNew makes Upgrade answer ErrClosing from now on.
func (e *Endpoint) RefuseNew() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closing = true
	e.noteIdleLocked()
}

// Close cuts all connections, but for those that only wait for the peer's close,
// and waits until their handlers have returned or ctx ends.
func (e *Endpoint) Close(ctx context.Context) error {
	e.RefuseNew()
	for _, c := range e.all() {
		c.stop()
	}
	select {
	case <-e.idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Wait waits, after Close, for handlers that take longer than it would wait.
func (e *Endpoint) Wait() { <-e.idle }

func (e *Endpoint) panicked(c *Conn, p any) {
	e.cfg.Log.Error("panic", "grpc.full_method", e.cfg.Method, "peer.address", c.socket.conn.RemoteAddr().String(),
		"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
}
