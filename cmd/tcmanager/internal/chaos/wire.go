package chaos

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// wire is a network between one client and one door: what connects to it is
// connected to the door, and harmed when asked for.
//
// It is our own, and not toxiproxy, because it has to tell the two ends of a
// connection apart: one of them may believe in it after the other is gone, and what
// a client said last may arrive after the client has left and come back.
type wire struct {
	l    net.Listener
	to   string
	done chan struct{} // closed by close

	mu      sync.Mutex    // guards the rest
	changed chan struct{} // closed when harm changes
	harm    harm
	links   map[*link]bool
	closed  bool

	all sync.WaitGroup
}

// harm is what a wire does to what passes. The zero value does none.
type harm struct {
	stalled bool          // nothing passes; it waits
	lost    bool          // nothing passes; it is thrown away, and no side hears of the other's end
	refused bool          // new connections are reset
	pace    int           // bytes a hundredth of a second, each way; 0 for all there are
	late    time.Duration // what is said arrives so much later, also when the one who said it has gone
}

// link is a connection through a wire: to its client, and to the door.
type link struct {
	near, far net.Conn
	linger    time.Duration // how long far is left open after near; guarded by wire.mu
}

// wireTo returns a wire to an address. It works until it is closed.
func wireTo(ctx context.Context, to string) (*wire, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &wire{l: l, to: to, done: make(chan struct{}), changed: make(chan struct{}), links: map[*link]bool{}}
	w.all.Go(w.accept)
	return w, nil
}

func (w *wire) addr() string { return w.l.Addr().String() }

// set changes the harm. Connections that have lost something are cut when that
// harm ends: nobody could go on with them.
func (w *wire) set(h harm) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.harm.lost && !h.lost {
		w.cutLocked()
	}
	w.harm = h
	close(w.changed)
	w.changed = make(chan struct{})
}

// cut resets all connections.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cutLocked()
}

func (w *wire) cutLocked() {
	for k := range w.links {
		reset(k.near)
		reset(k.far)
	}
}

// hangUp ends all connections in good order.
func (w *wire) hangUp() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k := range w.links {
		_ = k.near.Close() // it may be closed already, as may the next
		_ = k.far.Close()
	}
}

// abandon resets the clients' ends of all connections and leaves the others open
// for a while, as when a machine loses its power.
func (w *wire) abandon(linger time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k := range w.links {
		k.linger = linger
		reset(k.near)
	}
}

// close cuts everything off, takes nothing any more, and waits until all is over.
func (w *wire) close() {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.done)
		w.cutLocked()
	}
	w.mu.Unlock()
	_ = w.l.Close()
	w.all.Wait()
}

func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // it may be closed already, as may the next
	}
	_ = c.Close()
}

func (w *wire) accept() {
	for {
		near, err := w.l.Accept()
		if err != nil {
			return // it was closed
		}
		w.all.Go(func() { w.connect(near) })
	}
}

// dialWait is how long a door may take to accept a connection.
const dialWait = 5 * time.Second

func (w *wire) connect(near net.Conn) {
	w.mu.Lock()
	refused := w.harm.refused || w.closed
	w.mu.Unlock()
	if refused {
		reset(near)
		return
	}
	far, err := net.DialTimeout("tcp", w.to, dialWait) //nolint:noctx // it has a timeout
	if err != nil {
		reset(near)
		return
	}
	k := &link{near: near, far: far}
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		reset(near)
		reset(far)
		return
	}
	w.links[k] = true
	w.mu.Unlock()
	var halves sync.WaitGroup
	halves.Go(func() { w.up(k) })
	halves.Go(func() { w.down(k) })
	halves.Wait()
	_ = near.Close() // both have ended
	_ = far.Close()
	w.mu.Lock()
	delete(w.links, k)
	w.mu.Unlock()
}

// pieceSize is how much is read at once.
const pieceSize = 32 << 10

// up copies what the client says. When the client has gone, the door hears of it
// when the last of that has arrived, or later.
func (w *wire) up(k *link) {
	piece := make([]byte, pieceSize)
	for {
		n, err := k.near.Read(piece)
		if n > 0 && w.pass(n) {
			if _, err := k.far.Write(piece[:n]); err != nil {
				_ = k.near.Close() // the door has gone; down knows how
				return
			}
		}
		if err == nil {
			continue
		}
		w.mu.Lock()
		linger := max(k.linger, w.harm.late)
		w.mu.Unlock()
		w.wait(linger)
		w.whileLost()
		end(k.far, err)
		return
	}
}

// down copies what the door says. What a client that has gone doesn't hear is
// thrown away.
func (w *wire) down(k *link) {
	piece := make([]byte, pieceSize)
	for gone := false; ; {
		n, err := k.far.Read(piece)
		if n > 0 && !gone && w.pass(n) {
			_, wrong := k.near.Write(piece[:n])
			gone = wrong != nil
		}
		if err != nil {
			w.whileLost()
			end(k.near, err)
			return
		}
	}
}

// end tells one side that the other has ended, and how.
func end(c net.Conn, why error) {
	if tcp, ok := c.(*net.TCPConn); ok && errors.Is(why, io.EOF) {
		_ = tcp.CloseWrite() // it may have gone too
		return
	}
	reset(c)
}

// pass waits until n bytes may pass, and reports whether they do.
func (w *wire) pass(n int) bool {
	for {
		w.mu.Lock()
		h, changed := w.harm, w.changed
		w.mu.Unlock()
		switch {
		case h.lost:
			return false
		case h.stalled:
			select {
			case <-changed:
				continue
			case <-w.done:
				return false
			}
		case h.pace > 0:
			w.wait(time.Duration(n) * 10 * time.Millisecond / time.Duration(h.pace))
		default:
		}
		w.wait(h.late)
		return true
	}
}

// whileLost waits as long as nobody hears anything.
func (w *wire) whileLost() {
	for {
		w.mu.Lock()
		lost, changed := w.harm.lost, w.changed
		w.mu.Unlock()
		if !lost {
			return
		}
		select {
		case <-changed:
		case <-w.done:
			return
		}
	}
}

func (w *wire) wait(d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-w.done:
	}
}
