package edge

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
	"time"
)

// moderated returns both ends of a connection whose reads wait for so long, whatever comes.
func moderated(t *testing.T, every time.Duration) (client net.Conn, c *limitedConn) {
	t.Helper()
	client, c = accept(t)
	send(t, client, "x")
	hear(t, c, "x")
	c.ready.every = every
	c.ready.moderation.on = true
	return client, c
}

func send(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := c.Write([]byte(s)); err != nil {
		t.Error(err)
	}
}

// hear reads once, and expects that.
func hear(t *testing.T, c *limitedConn, want string) {
	t.Helper()
	pool := &countingPool{}
	b, n, err := c.ReadOnReady(1<<20, pool)
	if err != nil {
		t.Fatal(err)
	}
	if got := (*b)[:n]; string(got) != want {
		t.Errorf("heard %d bytes %.20q, want %d", n, got, len(want))
	}
}

// awaitMark returns once the kernel wakes a reader for n bytes, and no sooner.
func awaitMark(t *testing.T, c *limitedConn, n int) {
	t.Helper()
	raw, err := c.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Error(err)
		return
	}
	mark, end := 0, time.Now().Add(10*time.Second)
	for ; mark != n; time.Sleep(100 * time.Microsecond) { // the kernel tells nobody
		var asked error
		err := raw.Control(func(fd uintptr) {
			mark, asked = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT)
		})
		if err = errors.Join(err, asked); err != nil || time.Now().After(end) {
			t.Errorf("the mark is %d, want %d; %v", mark, n, err)
			return
		}
	}
}

// never is longer than a test takes.
const never = time.Hour

func TestAReadThatWaitsBringsWhatCameMeanwhile(t *testing.T) {
	client, c := moderated(t, 50*time.Millisecond)
	const pieces = 200
	go func() {
		for range pieces {
			time.Sleep(time.Millisecond) // pieces, not one
			send(t, client, "y")
		}
	}()
	reads := 0
	for heard := 0; heard < pieces; reads++ {
		_, n, err := c.ReadOnReady(1<<20, &countingPool{})
		if err != nil {
			t.Fatal(err)
		}
		heard += n
		c.ready.moderation.missed = false // on a machine that is busy less may come
	}
	if reads > pieces/10 {
		t.Errorf("%d pieces, one a millisecond, took %d reads", pieces, reads)
	}
}

func TestReadsOfAConversationDoNotWait(t *testing.T) {
	client, c := accept(t)
	const turns = 20 * moderateRow
	over := make(chan struct{})
	go func() {
		defer close(over)
		answer := make([]byte, 8)
		for range turns {
			send(t, client, "how are you?")
			if _, err := client.Read(answer); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for range turns {
		hear(t, c, "how are you?")
		if c.ready.moderation.on {
			t.Fatal("a read waits")
		}
		if _, err := c.Write([]byte("fine")); err != nil {
			t.Fatal(err)
		}
	}
	<-over
}

func TestAReadThatWaitsForMoreThanItsTimeTakesWhatComes(t *testing.T) {
	client, c := moderated(t, 50*time.Millisecond)
	go func() {
		awaitMark(t, c, moderateBytes)
		awaitMark(t, c, 1)
		send(t, client, "late")
	}()
	hear(t, c, "late")
}

func TestABurstEndsTheWaitAndWhatComesThenIsReadAtOnce(t *testing.T) {
	client, c := moderated(t, never)
	burst := string(bytes.Repeat([]byte("y"), moderateBytes))
	go func() {
		awaitMark(t, c, moderateBytes)
		send(t, client, burst)
	}()
	var heard int
	for heard < len(burst) {
		_, n, err := c.ReadOnReady(1<<20, &countingPool{})
		if err != nil {
			t.Fatal(err)
		}
		heard += n
	}
	c.ready.moderation.on = false
	go func() {
		awaitMark(t, c, 1)
		send(t, client, "at once")
	}()
	hear(t, c, "at once")
}

func TestThePeersEndEndsTheWait(t *testing.T) {
	client, c := moderated(t, never)
	go func() {
		awaitMark(t, c, moderateBytes)
		send(t, client, "bye")
		_ = client.Close()
	}()
	hear(t, c, "bye")
	if _, _, err := c.ReadOnReady(8, &countingPool{}); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}

func TestAResetEndsTheWait(t *testing.T) {
	client, c := moderated(t, never)
	go func() {
		awaitMark(t, c, moderateBytes)
		_ = client.(*net.TCPConn).SetLinger(0)
		_ = client.Close()
	}()
	if _, _, err := c.ReadOnReady(8, &countingPool{}); err == nil {
		t.Error("a reset connection could be read from")
	}
}

func TestClosingEndsTheWait(t *testing.T) {
	client, c := moderated(t, never)
	pool := &countingPool{}
	ended := make(chan error)
	go func() {
		_, _, err := c.ReadOnReady(8, pool)
		ended <- err
	}()
	awaitMark(t, c, moderateBytes)
	send(t, client, "nobody reads this")
	_ = c.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) || pool.out.Load() != 0 {
		t.Errorf("%v, %d buffers are out", err, pool.out.Load())
	}
}

func TestADeadlineEndsTheWait(t *testing.T) {
	client, c := moderated(t, never)
	send(t, client, "x")
	hear(t, c, "x") // it was there before the wait began
	_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
	var timeout net.Error
	if _, _, err := c.ReadOnReady(8, &countingPool{}); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("after the deadline: %v", err)
	}
}

func TestNoByteIsLostWhateverComesWhen(t *testing.T) {
	client, c := accept(t)
	random := rand.New(rand.NewPCG(1, 2))
	said := make([]byte, 1<<20)
	for i := range said {
		said[i] = byte(random.Uint32())
	}
	go func() {
		defer func() { _ = client.Close() }()
		for left, row := said, 0; len(left) > 0; row++ {
			n, pause := 50+random.IntN(100), 300*time.Microsecond // piece after piece
			switch {
			case row%64 == 0:
				n = random.IntN(200_000) // a burst
			case row%200 == 0:
				pause = 50 * time.Millisecond
			}
			n = min(n, len(left))
			if _, err := client.Write(left[:n]); err != nil {
				t.Error(err)
				return
			}
			left = left[n:]
			time.Sleep(pause)
		}
	}()
	pool := &countingPool{}
	var heard []byte
	for {
		b, n, err := c.ReadOnReady(moderateBytes, pool)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		heard = append(heard, (*b)[:n]...)
		pool.Put(b)
	}
	if !bytes.Equal(heard, said) {
		t.Errorf("%d bytes were heard of %d, or others", len(heard), len(said))
	}
	if pool.out.Load() != 0 {
		t.Errorf("%d buffers are out", pool.out.Load())
	}
}
