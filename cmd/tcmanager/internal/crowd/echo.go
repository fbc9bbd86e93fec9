package crowd

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

// Echo is a connection of this process to itself, by which it is noticed when clients
// hear late what was said in time. When others have the processors, goroutines that
// were sent something wait for each other, and timers are looked at first: so
// history.Recorder.Watch sees nothing of it.
type Echo struct {
	l   net.Listener
	all sync.WaitGroup
}

// NewEcho returns an echo, which is to be closed.
func NewEcho(ctx context.Context) (*Echo, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	e := &Echo{l: l}
	e.all.Go(func() {
		c, err := l.Accept()
		if err != nil {
			return // closed
		}
		_, _ = io.Copy(c, c) // until who listens has gone
		_ = c.Close()
	})
	return e, nil
}

// Addr is where it answers: clients that come over something between listen through
// that too.
func (e *Echo) Addr() string { return e.l.Addr().String() }

// Close ends it. Who listens must have ended.
func (e *Echo) Close() {
	_ = e.l.Close() // who came is heard to the end
	e.all.Wait()
}

// Watch records, until ctx ends, the times in which what was said came late, as
// Paused. It listens at an address that leads to Addr, and may be called once.
func (e *Echo) Watch(ctx context.Context, addr string, rec *history.Recorder) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if ctx.Err() != nil {
		err = nil
	}
	if c == nil {
		return err
	}
	defer func() { _ = c.Close() }() // all was said
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	ticks := time.NewTicker(echoEvery)
	defer ticks.Stop()
	for b := []byte{0}; ; {
		sent := time.Now()
		_, err := c.Write(b)
		if err == nil {
			_, err = io.ReadFull(c, b)
		}
		switch now := time.Now(); {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case now.Sub(sent) > echoLate:
			rec.Add(history.Record{Kind: history.Paused, At: sent, Until: now})
		}
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return nil
		}
	}
}
