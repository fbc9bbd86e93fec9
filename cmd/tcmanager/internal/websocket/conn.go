package websocket

import (
	"context"
	"crypto/tls"
	"errors"
	"math"
	"net"
	"net/textproto"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tcmanager/tcmanager/service/wire"
)

// Why connections end, as they are counted.
const (
	endClosed    = "closed"
	endSilent    = "silent"
	endStalled   = "stalled"
	endLate      = "late"
	endMalformed = "malformed"
	endFlood     = "flood"
)

// phase is how far a connection is.
type phase int32

const (
	greeting phase = iota // the header block is awaited
	serving               // the handler runs
	closing               // all was said; the peer's close is awaited
)

// closeGrace is how long a peer may take to answer a close frame: longer than ours
// waits for the server to go first. Browsers report an error if the connection ends
// before they have answered. hurriedGrace is how long it may take when the server stops.
const (
	closeGrace   = 5 * time.Second
	hurriedGrace = time.Second
)

// maxIdleFrames is how many frames that bring nothing a client may send between
// two looks of the endpoint, which are at most a second apart.
const maxIdleFrames = 200

// Why calls end whose client is at fault, or gone.
var (
	errGone        = status.Error(codes.Canceled, "the client's connection ended")
	errInterrupted = status.Error(codes.Canceled, "the call is over")
	errTooManyIdle = status.Error(codes.ResourceExhausted, "too many websocket frames that bring nothing; ping once in a while")
)

// Conn is one websocket with one call. See session.Direct for what its methods
// promise; those that receive are for one goroutine.
type Conn struct {
	// What Flushed and Send need stands together, in one line of memory: with thousands
	// of connections, each that is touched costs as much as a hundred instructions.
	tls    *tls.Conn // nil in plain text
	socket socket

	endpoint *Endpoint
	link     *link   // under tls
	call     *stream // set before the handler runs

	ctx    context.Context // ends with the connection
	cancel context.CancelCauseFunc

	phase      atomic.Int32
	until      atomic.Int64 // by the clock, when the phase must be over, if it is bounded
	idleFrames atomic.Int32
	pinged     int64 // by the clock, when the peer was pinged last; only the sweep is here

	reading  sync.Mutex // guards what the reader has, up to readErr
	frames   Frames
	messages messages
	chunk    *chunk
	rest     []byte // of chunk, not looked at yet
	data     []byte // of a websocket message, in chunk, not looked at yet
	lead     bool   // the byte that says what a websocket message is comes next
	message  []byte // that was not received yet
	whole    bool   // there is one
	readErr  error  // why no more come

	interrupted atomic.Bool

	mu      sync.Mutex // guards the rest
	reason  string     // why it ended
	lingers bool       // the reader waits for the peer's close
}

func newConn(e *Endpoint, c net.Conn) (*Conn, error) {
	conn := &Conn{endpoint: e}
	under := c
	if encrypted, ok := c.(*tls.Conn); ok {
		conn.tls, under = encrypted, encrypted.NetConn()
	}
	l, ok := under.(*link)
	if !ok {
		return nil, errors.New("the connection is not one of a websocket.Listener")
	}
	if err := conn.socket.init(l.Conn, &e.clock); err != nil {
		return nil, err
	}
	if conn.tls != nil {
		conn.link = l
		l.socket.Store(&conn.socket)
	}
	conn.ctx, conn.cancel = context.WithCancelCause(context.Background())
	conn.until.Store(e.clock.Load() + int64(e.cfg.HeaderTimeout))
	conn.frames.Limit = MaxHeaderBlock
	conn.messages.limit = e.cfg.MaxMessageBytes
	return conn, nil
}

// open opens the call. What the client sent behind its request has come already. To
// read headers and to look at a token takes a deep stack, so what lasts as long as
// the connection is a goroutine of its own.
func (c *Conn) open(accepted, authority string) {
	opened := false
	defer func() {
		if !opened {
			c.leave(recover())
		}
	}()
	// The client learns the outcome from what follows.
	_ = c.write(switching(accepted))
	headers, err := c.readHeaders()
	if err != nil {
		return
	}
	c.frames.Limit = 1 + prefixLen + uint64(c.endpoint.cfg.MaxMessageBytes)
	c.phase.Store(int32(serving))
	c.call = newStream(c)
	run := c.call.open(headers, authority)
	opened = true
	go c.serve(run)
}

// serve runs the call.
func (c *Conn) serve(run func() error) {
	defer func() { c.leave(recover()) }()
	c.call.finish(run())
}

// leave ends the connection; panicked is what was recovered, if anything.
func (c *Conn) leave(panicked any) {
	defer c.endpoint.leave(c)
	if panicked != nil {
		c.endpoint.panicked(c, panicked)
		c.end(endClosed, errGone)
	}
	c.release()
}

// release gives back what the connection holds, and waits for what sends.
func (c *Conn) release() {
	c.end(endClosed, errGone)
	c.reading.Lock()
	c.giveBack()
	if c.link != nil {
		c.link.drop()
	}
	c.reading.Unlock()
	c.socket.wait()
}

// end ends the connection. The first reason counts.
func (c *Conn) end(reason string, cause error) {
	c.mu.Lock()
	if c.reason == "" {
		c.reason = reason
	}
	c.mu.Unlock()
	c.cancel(cause)
	c.socket.close()
}

// stop ends the connection when the server stops: at once, but for one whose peer
// was told all and has a moment to say so.
func (c *Conn) stop() {
	by := c.endpoint.clock.Load() + int64(hurriedGrace)
	if phase(c.phase.Load()) != closing || c.socket.stalledSince.Load() != 0 {
		c.end(endClosed, ErrClosing)
	} else if c.until.Load() > by {
		c.until.Store(by)
	}
}

func (c *Conn) why() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}

// look is called by the endpoint about every second.
func (c *Conn) look(now int64) {
	cfg := &c.endpoint.cfg
	c.idleFrames.Store(0)
	stalled := c.socket.stalledSince.Load()
	if stalled != 0 && now-stalled > int64(cfg.WriteStall) {
		c.end(endStalled, errGone)
		return
	}
	rests := c.socket.restsSince.Load()
	alive := max(rests, c.socket.moved.Load())
	switch phase(c.phase.Load()) {
	case greeting:
		if now > c.until.Load() {
			c.end(endLate, errGone)
		}
	case closing:
		if now > c.until.Load() {
			c.end(endClosed, errGone)
		}
	case serving:
		switch {
		case rests == 0: // nobody listens, so it can't be heard
		case stalled != 0: // and it has taken something since
		case now-alive > int64(cfg.IdleTimeout):
			c.end(endSilent, errGone)
		case now-max(alive, c.pinged) >= int64(cfg.PingInterval):
			c.pinged = now
			c.writeControl(Ping, nil)
		}
	}
}

// Send sends a frame as the stream's SendMsg does, without the interceptors in
// between. It never waits for who sends nothing before Flushed says so.
func (c *Conn) Send(f wire.Frame) error {
	if c.tls != nil || !c.socket.headed.Load() {
		moved := f // to the heap, and only here
		return c.call.SendMsg(&moved)
	}
	err := c.socket.send(f.Websocket())
	if err == nil {
		return nil
	}
	if !errors.Is(err, errOver) {
		c.end(endClosed, errGone)
	}
	return c.call.ended(errGone)
}

// write sends bytes that nobody changes any more.
func (c *Conn) write(b []byte) error {
	var err error
	if c.tls != nil {
		_, err = c.tls.Write(b)
	} else {
		err = c.socket.write(b, true)
	}
	if err != nil {
		c.end(endClosed, errGone)
		return errGone
	}
	return nil
}

func (c *Conn) writeControl(kind Kind, payload []byte) {
	// It has ended if that fails.
	_ = c.write(append(appendHeader(make([]byte, 0, 2+len(payload)), kind, len(payload)), payload...))
}

// readHeaders reads the header block, or ends the connection.
func (c *Conn) readHeaders() (textproto.MIMEHeader, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	var block []byte
	for {
		piece, err := c.next(true)
		if err != nil {
			return nil, c.refuse(err)
		}
		block = append(block, piece.Payload...)
		if piece.Last {
			headers, err := ParseHeaderBlock(block)
			if err != nil {
				return nil, c.refuse(err)
			}
			return headers, nil
		}
	}
}

// refuse ends the connection of a client that doesn't keep to the protocol, and
// returns what the handler is told.
func (c *Conn) refuse(err error) error {
	irregular := (*FrameError)(nil)
	if !errors.As(err, &irregular) {
		return err
	}
	_ = c.write(closeFrame(irregular.Code)) // it ends in any case
	c.end(endMalformed, err)
	return status.Error(codes.InvalidArgument, irregular.Text)
}

// next returns the next piece of a websocket message, and sees to control frames
// on the way. If it may not wait, the piece's kind is None when there is none.
func (c *Conn) next(wait bool) (Piece, error) {
	for {
		for len(c.rest) > 0 {
			n, piece, err := c.frames.Next(c.rest)
			c.rest = c.rest[n:]
			switch {
			case err != nil:
				return piece, err
			case piece.Kind == None:
				continue
			case piece.Kind == Data && len(piece.Payload) > 0:
				return piece, nil
			}
			if err := c.idle(piece); err != nil {
				return piece, err
			}
			if piece.Kind == Data {
				return piece, nil
			}
		}
		c.giveBack()
		if !wait {
			return Piece{Kind: None}, nil
		}
		if c.interrupted.Load() && !c.isLingering() {
			return Piece{Kind: None}, errInterrupted
		}
		if err := c.fill(); err != nil {
			return Piece{Kind: None}, c.readFailed()
		}
	}
}

// readFailed tells an interruption from the end of the connection.
func (c *Conn) readFailed() error {
	if c.interrupted.Load() && !c.isLingering() && c.ctx.Err() == nil {
		return errInterrupted
	}
	c.end(endClosed, errGone)
	return errGone
}

// idle takes a frame that brings nothing: a control frame, or an empty one.
func (c *Conn) idle(piece Piece) error {
	if c.idleFrames.Add(1) > maxIdleFrames {
		c.end(endFlood, errTooManyIdle)
		return errTooManyIdle
	}
	switch piece.Kind {
	case Ping:
		if phase(c.phase.Load()) != closing {
			c.writeControl(Pong, piece.Payload)
		}
	case Close:
		code, err := closeCode(piece.Payload)
		if err != nil {
			return err
		}
		if phase(c.phase.Load()) != closing {
			_ = c.write(closeFrame(code)) // it ends in any case
		}
		if c.tls != nil { // a goodbye of TLS's own: nothing was cut off
			_ = c.tls.CloseWrite() // it doesn't wait: see link
		}
		c.end(endClosed, errGone)
		return errGone
	default: // a pong has done all by coming
	}
	return nil
}

// fill waits for more to look at.
func (c *Conn) fill() error {
	if c.tls == nil {
		chunk, n, err := c.socket.readChunk()
		if err == nil {
			c.chunk, c.rest = chunk, chunk[:n]
		}
		return err
	}
	for {
		buf := chunks.Get().(*chunk) //nolint:forcetypeassert // it is ours
		n, err := c.tls.Read(buf[:])
		if n > 0 {
			c.chunk, c.rest = buf, buf[:n]
			return nil // an error comes again
		}
		chunks.Put(buf)
		if errors.Is(err, errWouldBlock) {
			err = c.link.fill()
		}
		if err != nil {
			return err
		}
	}
}

// giveBack gives the chunk back once all in it was looked at.
func (c *Conn) giveBack() {
	if c.chunk != nil {
		chunks.Put(c.chunk)
		c.chunk, c.rest, c.data = nil, nil, nil
	}
}

// advance looks for the next message of gRPC, and waits for it if it may.
func (c *Conn) advance(wait bool) error {
	if c.interrupted.Load() {
		return errInterrupted
	}
	for c.readErr == nil && !c.whole {
		if len(c.data) > 0 {
			var n int
			n, c.message, c.whole, c.readErr = c.messages.next(c.data)
			c.data = c.data[n:]
			continue
		}
		piece, err := c.next(wait)
		switch {
		case errors.Is(err, errInterrupted):
			return err
		case errors.Is(err, ErrTooLong):
			c.readErr = status.Errorf(codes.ResourceExhausted, "a websocket message is larger than max (%d)", c.frames.Limit)
		case err != nil:
			c.readErr = c.refuse(err)
		case piece.Kind == None:
			return nil
		default:
			c.readErr = c.take(piece)
		}
	}
	return c.readErr
}

// take takes a piece of a websocket message: a zero and bytes of gRPC, or a one
// if the client has finished.
func (c *Conn) take(piece Piece) error {
	if piece.First {
		c.lead = true
	}
	c.data = piece.Payload
	if !c.lead || len(c.data) == 0 {
		return nil
	}
	c.lead = false
	kind := c.data[0]
	c.data = c.data[1:]
	switch {
	case kind == 0:
		return nil
	case kind == 1 && piece.Last && len(c.data) == 0:
		return c.messages.end()
	}
	return c.refuse(irregular("a message of kind %d, or more than that", kind))
}

// Wait returns once there is a message to receive, or with the reason why there
// never will be.
func (c *Conn) Wait() error {
	c.reading.Lock()
	defer c.reading.Unlock()
	return c.advance(true)
}

// Pending reports whether a message has come, or the end has, so that receiving
// would not wait.
func (c *Conn) Pending() bool {
	c.reading.Lock()
	defer c.reading.Unlock()
	return c.advance(false) != nil || c.whole
}

// receive hands the next message to decode, which must not keep it.
func (c *Conn) receive(decode func([]byte) error) error {
	c.reading.Lock()
	defer c.reading.Unlock()
	if err := c.advance(true); err != nil {
		return err
	}
	err := decode(c.message)
	c.message, c.whole = nil, false
	if len(c.data) == 0 && len(c.rest) == 0 {
		c.giveBack() // its handling may take long
	}
	return err
}

// Flushed reports whether the network has taken all that was sent. If it has not,
// ready is called once it has, or once it never will.
func (c *Conn) Flushed(ready func()) bool { return c.socket.flushed(ready) }

// Interrupt makes Wait and what receives return, now and from then on.
func (c *Conn) Interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.interrupted.Swap(true) || c.lingers {
		return
	}
	_ = c.socket.conn.SetReadDeadline(time.Unix(1, 0)) // an error means that it is closed
}

func (c *Conn) isLingering() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lingers
}

// linger waits for the peer's close frame once ours is sent. Closing at once would
// make a reset of it if the peer has sent something, and lose what it hasn't read.
func (c *Conn) linger() {
	wait := closeGrace
	if c.socket.stalledSince.Load() != 0 {
		wait = c.endpoint.cfg.WriteStall
	}
	c.until.Store(c.endpoint.clock.Load() + int64(wait))
	c.phase.Store(int32(closing))
	c.Interrupt()
	c.reading.Lock() // whoever still receives has been woken up
	defer c.reading.Unlock()
	c.mu.Lock()
	c.lingers = true
	_ = c.socket.conn.SetReadDeadline(time.Time{}) // as in Interrupt
	c.mu.Unlock()
	c.message, c.whole, c.data, c.messages.buf = nil, false, nil, nil
	c.frames.Limit = math.MaxUint64
	for {
		if _, err := c.next(true); err != nil {
			return // it has ended, in one way or another
		}
	}
}
