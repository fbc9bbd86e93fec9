// Package flow bounds what a browser may send ahead of the handler that reads it.
//
// On a native connection HTTP/2 pushes back on the sender. Behind net/http,
// which grpc-web needs, grpc-go reads the request body as fast as it comes and
// queues it without a limit (grpc-go issue 7261): one client took 230 to 539 MB
// in 5 s. So the HTTP edge wraps the body with a Window that counts what was
// read, Stream here counts what the handler took, and a stream that gets too far
// ahead is ended. Waiting instead would stop the reader from noticing that the
// peer has gone.
//
// # Concurrency
//
// The body is read by one goroutine and messages are received by another; the
// window's mutex stands between them.
package flow

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"

	"github.com/tcmanager/tcmanager/interceptors/layer"
	"github.com/tcmanager/tcmanager/service/fault"
)

// ErrExceeded is why a stream that sent too far ahead was ended.
var ErrExceeded = fault.New(fault.Exhausted, "SENT_TOO_FAR_AHEAD",
	"the client sends faster than the server reads; wait for answers before sending more")

// readCost is what one read of the body holds at least: grpc-go reads into
// pooled buffers of 16 KiB and keeps each until its message was received,
// however little is in it.
const readCost = 16 << 10

// headerLen is the length of the prefix of a gRPC message: a flag and the size.
const headerLen = 5

type windowKey struct{}

// Window counts the bytes of one request that were read and not yet received.
type Window struct {
	limit  int64
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	pending int64   // what unreceived messages hold
	partial int64   // of pending: reads since the last complete message
	costs   []int64 // of pending: one entry for each complete message, oldest first

	// The place in the sequence of messages; touched by the reader only.
	header    [headerLen]byte
	headerPos int
	bodyLeft  uint32
}

// NewWindow returns a context for a request and the window that ends it with
// ErrExceeded once more than limit bytes are pending. The limit has to leave
// room for the largest message twice. The caller must call stop.
func NewWindow(ctx context.Context, limit int64) (_ context.Context, w *Window, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	w = &Window{limit: limit, cancel: cancel}
	return context.WithValue(ctx, windowKey{}, w), w, func() { cancel(context.Canceled) }
}

// Body counts the reads of a request body.
func (w *Window) Body(body io.ReadCloser) io.ReadCloser {
	return &countedBody{ReadCloser: body, window: w}
}

type countedBody struct {
	io.ReadCloser
	window *Window
}

// errBodyExceeded ends the reader; the client never sees it.
var errBodyExceeded = errors.New("inbound window exceeded")

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 && !b.window.took(p[:n]) {
		b.window.cancel(ErrExceeded)
		return 0, errBodyExceeded
	}
	return n, err
}

// took charges one read and reports whether the window still holds.
func (w *Window) took(p []byte) bool {
	complete := w.advance(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	cost := max(int64(len(p)), readCost)
	w.pending += cost
	w.partial += cost
	if complete > 0 {
		// The read is charged to the first message that it completes; the others
		// share its buffer and cost nothing more.
		w.costs = append(w.costs, w.partial)
		w.partial = 0
		for range complete - 1 {
			w.costs = append(w.costs, 0)
		}
	}
	return w.pending <= w.limit
}

// advance follows the framing of gRPC and returns how many messages end in p.
func (w *Window) advance(p []byte) (complete int) {
	for len(p) > 0 {
		if w.headerPos < headerLen {
			n := copy(w.header[w.headerPos:], p)
			w.headerPos += n
			p = p[n:]
			if w.headerPos < headerLen {
				return complete
			}
			w.bodyLeft = binary.BigEndian.Uint32(w.header[1:])
		}
		n := min(uint64(w.bodyLeft), uint64(len(p)))
		w.bodyLeft -= uint32(n)
		p = p[n:]
		if w.bodyLeft == 0 {
			w.headerPos = 0
			complete++
		}
	}
	return complete
}

// received gives back what the oldest message held.
func (w *Window) received() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.costs) == 0 {
		return
	}
	w.pending -= w.costs[0]
	w.costs = w.costs[1:]
}

// Stream gives back the room of each message that the handler receives, and says
// why a stream ended that sent too far ahead. Streams on native connections have
// no window and pass.
func Stream(ss grpc.ServerStream, _ *grpc.StreamServerInfo) (grpc.ServerStream, func(error) error, error) {
	w, ok := ss.Context().Value(windowKey{}).(*Window)
	if !ok {
		return nil, nil, nil
	}
	return &countedStream{ServerStream: ss, window: w}, func(err error) error {
		if err != nil && errors.Is(context.Cause(ss.Context()), ErrExceeded) {
			return ErrExceeded
		}
		return err
	}, nil
}

var _ layer.Layer = Stream

type countedStream struct {
	grpc.ServerStream
	window *Window
}

func (s *countedStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil {
		s.window.received()
	}
	return err
}
