package chaos

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ends are the two ends of a connection through a wire.
type ends struct {
	testing.TB
	*wire
	near, far net.Conn
}

func connected(t *testing.T) *ends {
	door, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w, err := wireTo(t.Context(), door.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := net.Dial("tcp", w.addr())
	if err != nil {
		t.Fatal(err)
	}
	far, err := door.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = near.Close()
		_ = far.Close()
		_ = door.Close()
		w.close()
	})
	return &ends{t, w, near, far}
}

func (e *ends) say(c net.Conn, text string) {
	e.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		e.Error(err)
	}
}

// hears reads so much and no more than is expected.
func (e *ends) hears(c net.Conn, want string) {
	e.Helper()
	b := make([]byte, len(want))
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := io.ReadFull(c, b); err != nil || string(b) != want {
		e.Errorf("heard %q, %v; want %q", b[:n], err, want)
	}
}

// hearsNothing looks for a moment.
func (e *ends) hearsNothing(c net.Conn) {
	e.Helper()
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	var timeout net.Error
	if n, err := c.Read(make([]byte, 1)); n > 0 || !errors.As(err, &timeout) || !timeout.Timeout() {
		e.Errorf("read %d bytes, %v; want nothing at all", n, err)
	}
}

// ended reads until the end.
func (e *ends) ended(c net.Conn) error {
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, err := io.Copy(io.Discard, c)
	return err
}

func TestAWireBringsWhatIsSaid(t *testing.T) {
	e := connected(t)
	e.say(e.near, "hello")
	e.hears(e.far, "hello")
	e.say(e.far, "welcome")
	e.hears(e.near, "welcome")
	_ = e.near.Close()
	if err := e.ended(e.far); err != nil {
		t.Errorf("a good end came as %v", err)
	}
}

func TestWhatIsStalledComesLater(t *testing.T) {
	e := connected(t)
	e.set(harm{stalled: true})
	e.say(e.near, "hello")
	e.hearsNothing(e.far)
	e.set(harm{})
	e.hears(e.far, "hello")
}

func TestAHalfOpenConnectionLosesAllAndThenEnds(t *testing.T) {
	e := connected(t)
	e.set(harm{lost: true})
	e.say(e.near, "hello")
	_ = e.near.Close()
	e.hearsNothing(e.far)
	e.set(harm{})
	if err := e.ended(e.far); err == nil {
		t.Error("a connection that lost something had a good end")
	}
}

func TestAResetIsNoGoodEnd(t *testing.T) {
	e := connected(t)
	e.cut()
	if e.ended(e.near) == nil || e.ended(e.far) == nil {
		t.Error("a reset looks like a good end")
	}
}

func TestWhatIsLateComesAfterTheClientHasGone(t *testing.T) {
	e := connected(t)
	e.set(harm{late: 100 * time.Millisecond})
	e.say(e.near, "last words")
	reset(e.near)
	e.hears(e.far, "last words")
}

func TestAnAbandonedConnectionIsOpenAtTheOtherEnd(t *testing.T) {
	e := connected(t)
	e.abandon(time.Hour)
	if e.ended(e.near) == nil {
		t.Error("the client was not cut off")
	}
	e.hearsNothing(e.far)
}

func TestARefusedConnectionEndsAtOnce(t *testing.T) {
	e := connected(t)
	e.set(harm{refused: true})
	c, err := net.Dial("tcp", e.addr())
	if err != nil {
		return // the reset came as early as that
	}
	defer c.Close()
	if e.ended(c) == nil {
		t.Error("a refused connection had a good end")
	}
}
