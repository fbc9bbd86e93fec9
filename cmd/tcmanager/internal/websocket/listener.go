package websocket

import (
	"net"
	"sync/atomic"
	"time"
)

// Listener makes the connections of a listener such that an endpoint can take
// them over, also from under TLS. Until then they are what they were.
func Listener(l net.Listener) net.Listener { return listener{l} }

type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &link{Conn: c}, nil
}

// TCP returns the connection of TCP under one of TLS or of a limit; nil if there
// is none.
func TCP(c net.Conn) *net.TCPConn {
	for {
		switch over := c.(type) {
		case *net.TCPConn:
			return over
		case interface{ NetConn() net.Conn }:
			c = over.NetConn()
		default:
			return nil
		}
	}
}

// writeBuffer bounds what the kernel holds for a peer that doesn't read: it is
// then noticed after 64 KiB and not after megabytes.
const writeBuffer = 64 << 10

// BoundWriteBuffer makes the kernel hold little for a peer that doesn't read.
func BoundWriteBuffer(c *net.TCPConn) {
	_ = c.SetWriteBuffer(writeBuffer) // who doesn't read is noticed without it too
}

// link stands between TLS and TCP. Once it has a socket, its reads take what is
// there and its writes never wait, so that those of TLS don't either.
type link struct {
	net.Conn
	socket atomic.Pointer[socket]

	// What was read and TLS hasn't taken yet; only the connection's reader is here.
	chunk *chunk
	at, n int
}

// NetConn returns the connection underneath, as tls.Conn does.
func (l *link) NetConn() net.Conn { return l.Conn }

func (l *link) Read(p []byte) (int, error) {
	if l.socket.Load() == nil {
		return l.Conn.Read(p)
	}
	if l.chunk == nil {
		return 0, errWouldBlock
	}
	n := copy(p, l.chunk[l.at:l.n])
	if l.at += n; l.at == l.n {
		l.drop()
	}
	return n, nil
}

// fill waits for more to read.
func (l *link) fill() (err error) {
	l.chunk, l.n, err = l.socket.Load().readChunk()
	l.at = 0
	return err
}

func (l *link) drop() {
	if l.chunk != nil {
		chunks.Put(l.chunk)
		l.chunk = nil
	}
}

func (l *link) Write(p []byte) (int, error) {
	s := l.socket.Load()
	if s == nil {
		return l.Conn.Write(p)
	}
	if err := s.write(p, false); err != nil { // TLS uses its buffer again
		return 0, err
	}
	return len(p), nil
}

// SetDeadline and SetWriteDeadline do nothing once writes don't wait. TLS, which
// sets them to say goodbye, would end a goroutine that still sends what came before.
func (l *link) SetDeadline(t time.Time) error {
	if l.socket.Load() != nil {
		return nil
	}
	return l.Conn.SetDeadline(t)
}

func (l *link) SetWriteDeadline(t time.Time) error {
	if l.socket.Load() != nil {
		return nil
	}
	return l.Conn.SetWriteDeadline(t)
}

func (l *link) Close() error {
	if s := l.socket.Load(); s != nil {
		s.close()
		return nil
	}
	return l.Conn.Close()
}
