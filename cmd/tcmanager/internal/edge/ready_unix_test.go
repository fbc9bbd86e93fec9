//go:build unix

package edge

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// countingPool counts what is taken and not given back.
type countingPool struct{ out atomic.Int64 }

func (p *countingPool) Get(n int) *[]byte {
	p.out.Add(1)
	b := make([]byte, n)
	return &b
}

func (p *countingPool) Put(*[]byte) { p.out.Add(-1) }

// accept returns both ends of a connection, and nothing that reads from it yet.
func accept(t *testing.T) (client net.Conn, c *limitedConn) {
	t.Helper()
	inner, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = inner.Close() }()
	m, err := NewListenerMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	client, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := m.Limit(inner, "test", 1).Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = client.Close(), accepted.Close() })
	return client, accepted.(*limitedConn)
}

func TestAConnectionThatRestsHoldsNoBufferToReadInto(t *testing.T) {
	client, c := accept(t)
	pool := &countingPool{}

	// Nothing comes: the deadline passes, and the pool has every buffer.
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, _, err := c.ReadOnReady(8, pool); !errors.Is(err, os.ErrDeadlineExceeded) || pool.out.Load() != 0 {
		t.Fatalf("%v, %d buffers are out", err, pool.out.Load())
	}
	_ = c.SetReadDeadline(time.Time{})
	said := "more than a buffer holds"
	if _, err := client.Write([]byte(said)); err != nil {
		t.Fatal(err)
	}
	var heard []byte
	for len(heard) < len(said) {
		b, n, err := c.ReadOnReady(8, pool)
		if err != nil || pool.out.Load() != 1 {
			t.Fatalf("%v, %d buffers are out", err, pool.out.Load())
		}
		heard = append(heard, (*b)[:n]...)
		pool.Put(b)
	}
	if string(heard) != said {
		t.Errorf("heard %q", heard)
	}
	_ = client.Close()
	if _, _, err := c.ReadOnReady(8, pool); !errors.Is(err, io.EOF) || pool.out.Load() != 0 {
		t.Errorf("after the end: %v, %d buffers are out", err, pool.out.Load())
	}
	_ = c.Close()
	if _, _, err := c.ReadOnReady(8, pool); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
