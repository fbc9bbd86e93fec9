package load

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/peer"
)

// frames is a protocol whose frames have a length before them and come back.
type frames struct{ peer.Protocol }

func (frames) Open(string) []byte { return frame([]byte("hello")) }

func (frames) Feed(p []byte, on peer.Handler) (used int, reply []byte, err error) {
	for len(p)-used >= 4 {
		n := int(binary.BigEndian.Uint32(p[used:]))
		if len(p)-used-4 < n {
			break
		}
		on.Event(p[used+4 : used+4+n])
		used += 4 + n
	}
	return used, nil, nil
}

func frame(p []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(p))), p...) }

// heard is a Handler that keeps what it was told.
type heard struct {
	Handler
	sizes  []int
	broken error
}

func (h *heard) Event(p []byte)           { h.sizes = append(h.sizes, len(p)) }
func (h *heard) Broken(cause error) error { h.broken = cause; return nil }

// echo sends everything back and ends after so many bytes.
func echo(t *testing.T, bytes int64) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.CopyN(c, c, bytes)
		_ = c.Close()
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return netip.MustParseAddrPort(l.Addr().String())
}

func stepUntil(t *testing.T, l *Loop, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); {
		if err := l.Step(50 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(end) {
			t.Fatalf("waiting for %s", what)
		}
	}
}

func newLoop(t *testing.T) *Loop {
	t.Helper()
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// TestFramesLargerThanTheSystemsBuffersArrive: what isn't taken at once is sent
// later, and what comes in parts is put together.
func TestFramesLargerThanTheSystemsBuffersArrive(t *testing.T) {
	const size, count = 900_000, 20
	first := frame([]byte("hello"))
	l, h := newLoop(t), &heard{}
	at := echo(t, int64(len(first)+count*(4+size)))
	c, err := l.Dial(at, at.String(), frames{}, h)
	if err != nil {
		t.Fatal(err)
	}
	for range count {
		if err := c.Send(frame(make([]byte, size))); err != nil {
			t.Fatal(err)
		}
	}
	stepUntil(t, l, "all frames", func() bool { return len(h.sizes) == 1+count })
	for i, n := range h.sizes[1:] {
		if n != size {
			t.Errorf("frame %d has %d bytes", i, n)
		}
	}
	if c.Waiting() != 0 {
		t.Errorf("%d bytes wait", c.Waiting())
	}
	stepUntil(t, l, "the end", func() bool { return h.broken != nil })
	if !errors.Is(h.broken, io.ErrUnexpectedEOF) {
		t.Errorf("it ended with %v", h.broken)
	}
}

func TestAServerThatIsNotThereBreaksTheConnection(t *testing.T) {
	l, h := newLoop(t), &heard{}
	gone, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(gone.Addr().String())
	_ = gone.Close()
	if _, err := l.Dial(at, at.String(), frames{}, h); err != nil {
		t.Fatal(err)
	}
	stepUntil(t, l, "a refusal", func() bool { return h.broken != nil })
}

func TestAStepEndsWhenItIsTime(t *testing.T) {
	l := newLoop(t)
	began := time.Now()
	if err := l.Wake(began.Add(2 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if err := l.Step(time.Minute); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d < 2*time.Millisecond || d > 30*time.Second {
		t.Errorf("it took %s", d)
	}
}
