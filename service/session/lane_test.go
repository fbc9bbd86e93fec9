package session_test

import (
	"errors"
	"io"
	"sync"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/session"
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
	unread [][]byte
	most   int // unread at once
	moving bool
	ready  func()
}

var errInterrupted = errors.New("interrupted")

func newLane(c *client) *lane {
	l := &lane{client: c, interrupted: make(chan struct{})}
	c.ctx = session.WithDirect(c.ctx, l)
	return l
}

func (l *lane) Send(f wire.Frame) error {
	if l.ctx.Err() != nil {
		return l.ctx.Err()
	}
	if l.broken.Load() {
		panic("a carrier that panics")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unread = append(l.unread, f.Bytes())
	l.most = max(l.most, len(l.unread))
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
		b := l.unread[0]
		l.mu.Unlock()
		select {
		case l.out <- b:
		case <-l.ctx.Done():
		}
		l.mu.Lock()
		l.unread = l.unread[1:]
		l.mu.Unlock()
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
