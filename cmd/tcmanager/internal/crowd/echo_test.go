package crowd

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/tcmanager/tcmanager/service/history"
)

func TestAnEchoThatIsLateIsNoted(t *testing.T) {
	e, err := NewEcho(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	rec, done := history.NewRecorder(1), make(chan error, 1)
	go func() { done <- e.Watch(ctx, late(t, e.Addr()), rec) }()
	for ctx.Err() == nil && rec.Count(history.Paused) == 0 {
		time.Sleep(time.Millisecond)
	}
	if ctx.Err() != nil {
		t.Error("nothing was noted")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// late is an address that leads to another one, by a way that takes its time.
func late(t *testing.T, to string) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		near, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = near.Close() }()
		far, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", to)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = far.Close() }()
		for b := []byte{0}; err == nil; {
			if _, err = io.ReadFull(near, b); err != nil {
				return
			}
			time.Sleep(2 * echoLate)
			if _, err = far.Write(b); err == nil {
				_, err = io.ReadFull(far, b)
			}
			if err == nil {
				_, err = near.Write(b)
			}
		}
	}()
	return l.Addr().String()
}
