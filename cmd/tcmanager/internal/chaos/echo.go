package chaos

import (
	"context"
	"io"
	"net"
	"sync"
	"time"

	"github.com/tcmanager/tcmanager/service/history"
)

const (
	echoEvery = 20 * time.Millisecond
	// echoLate is how late an echo may be before it counts: without other load it takes
	// a tenth of a millisecond.
	echoLate = 200 * time.Millisecond
)

// echo is a wire as those of clients, to nobody but this process.
type echo struct {
	l    net.Listener
	wire *wire
	all  sync.WaitGroup
}

func newEcho(ctx context.Context) (*echo, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	e := &echo{l: l}
	e.all.Go(func() {
		c, err := l.Accept()
		if err != nil {
			return // closed
		}
		_, _ = io.Copy(c, c) // until the wire ends
		_ = c.Close()
	})
	if e.wire, err = wireTo(ctx, l.Addr().String()); err != nil {
		_ = l.Close() // nobody has come
		e.all.Wait()
		return nil, err
	}
	return e, nil
}

func (e *echo) close() {
	_ = e.l.Close() // who came is heard to the end
	e.wire.close()
	e.all.Wait()
}

// watch records, until ctx ends, when clients of this process heard late what was
// said in time. All that they hear passes a wire, by goroutines of this process that
// wait for each other when others have the processors; timers are looked at first
// then, so that history.Recorder.Watch sees nothing of it.
func (e *echo) watch(ctx context.Context, rec *history.Recorder) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", e.wire.addr())
	if ctx.Err() != nil {
		err = nil
	}
	if err != nil || c == nil {
		return err
	}
	defer func() { _ = c.Close() }() // all was said
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	for b := []byte{0}; ctx.Err() == nil; pause(ctx, echoEvery) {
		sent := time.Now()
		_, err := c.Write(b)
		if err == nil {
			_, err = io.ReadFull(c, b)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		if now := time.Now(); err == nil && now.Sub(sent) > echoLate {
			rec.Add(history.Record{Kind: history.Paused, At: sent, Until: now})
		}
	}
	return nil
}
