package session_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/wire"
)

// lane makes a client's stream direct: what is sent waits in it until the client
// reads it.
type lane struct {
	*client
	interrupted chan struct{}
	once        sync.Once

	ahead *pb.SubscribeRequest // received and not asked for yet, by the one who receives
	eof   bool

	mu     sync.Mutex // guards the rest
	unread []laden
	most   int // unread at once
	size   int // of what is unread
	large  int // the most of that at once
	moving bool
	ready  func()
}

// laden is what waits in a lane.
type laden struct {
	b     []byte
	taken func() // nil for nothing
}

var errInterrupted = errors.New("interrupted")

func newLane(c *client) *lane {
	return &lane{client: c, interrupted: make(chan struct{})}
}

func (l *lane) Send(f wire.Frame) error { return l.load(laden{b: f.Bytes()}) }

func (l *lane) load(x laden) error {
	if l.ctx.Err() != nil {
		return l.ctx.Err()
	}
	if l.broken.Load() {
		panic("a carrier that panics")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unread = append(l.unread, x)
	l.size += len(x.b)
	l.most, l.large = max(l.most, len(l.unread)), max(l.large, l.size)
	if !l.moving {
		l.moving = true
		go l.move()
	}
	return nil
}

// move brings the client what was sent.
func (l *lane) move() {
	for {
		l.mu.Lock()
		if len(l.unread) == 0 {
			ready := l.ready
			l.ready, l.moving = nil, false
			l.mu.Unlock()
			if ready != nil {
				ready()
			}
			return
		}
		x := l.unread[0]
		l.mu.Unlock()
		select {
		case l.out <- x.b:
		case <-l.ctx.Done():
		}
		l.mu.Lock()
		l.unread = l.unread[1:]
		l.size -= len(x.b)
		l.mu.Unlock()
		if x.taken != nil {
			x.taken()
		}
	}
}

func (l *lane) Flushed(ready func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.unread) > 0 {
		l.ready = ready
		return false
	}
	return true
}

func (l *lane) Wait() error {
	if l.ahead != nil || l.eof {
		return nil
	}
	select {
	case req, ok := <-l.in:
		l.ahead, l.eof = req, !ok
		return nil
	case <-l.interrupted:
		return errInterrupted
	case <-l.ctx.Done():
		return l.ctx.Err()
	}
}

func (l *lane) Pending() bool {
	if l.ahead == nil && !l.eof {
		select {
		case req, ok := <-l.in:
			l.ahead, l.eof = req, !ok
		default:
		}
	}
	return l.ahead != nil || l.eof
}

func (l *lane) Recv() (*pb.SubscribeRequest, error) {
	if err := l.Wait(); err != nil {
		return nil, err
	}
	if l.ahead == nil {
		return nil, io.EOF
	}
	req := l.ahead
	l.ahead = nil
	return req, nil
}

func (l *lane) Interrupt() { l.once.Do(func() { close(l.interrupted) }) }

// finish lets the client have what was sent when its session has ended, if it reads.
func (l *lane) finish() {
	for range 100 {
		if l.Flushed(func() {}) {
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-l.ctx.Done():
			return
		}
	}
}

// http2Stream is a lane as grpc-go's transport has it: it tells that it has taken a
// frame only of those whose sender asks for it.
type http2Stream struct {
	grpc.BidiStreamingServer[pb.SubscribeRequest, pb.SubscribeResponse]
	lane *lane
}

func (s *http2Stream) Context() context.Context { return s.lane.ctx }

func (s *http2Stream) SendMsg(m any) error {
	switch m := m.(type) {
	case wire.Frame:
		return s.lane.load(laden{b: m.Bytes()})
	case *wire.Told:
		return s.lane.load(laden{b: m.Frame.Bytes(), taken: m.Taken})
	}
	return errors.New("a message that isn't encoded")
}

func (s *http2Stream) RecvMsg(m any) error {
	req, err := s.lane.client.Recv()
	if err != nil {
		return err
	}
	b, err := proto.Marshal(req)
	if err != nil {
		return err
	}
	return wire.DecodeAny(b, m)
}
