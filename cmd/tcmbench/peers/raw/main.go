// Command raw is the limit that servers are compared with: TCP, a goroutine a connection, a length before each message, and nothing
// else. It writes each event to each reader at once or, with --batched, all events that a read brought in one write.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/peer"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "where to listen")
	batched := flag.Bool("batched", false, "write the events that a read brought together")
	flag.Parse()
	if err := run(*addr, *batched); err != nil {
		log.Fatal(err)
	}
}

func run(addr string, batched bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	go func() {
		<-ctx.Done()
		_ = listener.Close()
	}()
	fmt.Println("listening", listener.Addr())
	s := &server{batched: batched, rooms: map[string]*room{}}
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go s.serve(conn)
	}
}

type server struct {
	batched bool

	mu    sync.RWMutex
	rooms map[string]*room // guarded by mu
}

type room struct {
	mu      sync.Mutex
	readers []net.Conn // guarded by mu; elements never change, so that a copy of the slice may be walked without it
}

func (s *server) room(name []byte) *room {
	s.mu.RLock()
	r := s.rooms[string(name)]
	s.mu.RUnlock()
	if r != nil {
		return r
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r = s.rooms[string(name)]; r == nil {
		r = &room{}
		s.rooms[string(name)] = r
	}
	return r
}

func (r *room) join(conn net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.readers = append(r.readers, conn)
}

func (r *room) leave(conn net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var rest []net.Conn
	for _, c := range r.readers {
		if c != conn {
			rest = append(rest, c)
		}
	}
	r.readers = rest
}

// send writes to all readers. A reader whose connection is gone leaves by itself, and one that is slow is waited for: this is a
// limit, not a server.
func (r *room) send(p []byte) {
	r.mu.Lock()
	readers := r.readers
	r.mu.Unlock()
	for _, c := range readers {
		_, _ = c.Write(p)
	}
}

// connection is what one reads and has still to write.
type connection struct {
	*server
	net.Conn

	joined  []*room
	events  map[*room][]byte // to write, by room
	pending []*room          // those that have any
	acks    []byte           // to write to this one
}

// A connection that says little costs little, and a publisher's events come many at a time.
const (
	leastBuffer = 512
	mostBuffer  = peer.RawHead + peer.RawMax
)

func (s *server) serve(conn net.Conn) {
	c := &connection{server: s, Conn: conn}
	defer func() {
		for _, r := range c.joined {
			r.leave(conn)
		}
		_ = conn.Close()
	}()
	if _, err := conn.Write(peer.AppendRawHead(nil, peer.RawReady, 0)); err != nil {
		return
	}
	buffer, filled := make([]byte, leastBuffer), 0
	for {
		n, err := conn.Read(buffer[filled:])
		if err != nil {
			return
		}
		filled += n
		consumed, err := c.handle(buffer[:filled])
		if err != nil {
			log.Print(err)
			return
		}
		full := filled == len(buffer) && len(buffer) < mostBuffer
		filled = copy(buffer, buffer[consumed:filled])
		if full {
			larger := make([]byte, min(4*len(buffer), mostBuffer))
			copy(larger, buffer[:filled])
			buffer = larger
		}
	}
}

// handle does what whole messages of a read say.
func (c *connection) handle(p []byte) (consumed int, err error) {
	for {
		kind, body, n, err := peer.CutRaw(p[consumed:])
		if err != nil {
			return consumed, err
		}
		if n == 0 {
			return consumed, c.flush()
		}
		consumed += n
		if err := c.message(kind, body); err != nil {
			return consumed, err
		}
		if !c.batched {
			if err := c.flush(); err != nil {
				return consumed, err
			}
		}
	}
}

func (c *connection) message(kind byte, body []byte) error {
	switch kind {
	case peer.RawJoin:
		// First in, then answered: who has the answer may count on what is published from then on.
		r := c.room(body)
		r.join(c.Conn)
		c.joined = append(c.joined, r)
		c.acks = peer.AppendRawHead(c.acks, peer.RawJoin, 0)
	case peer.RawPublish:
		if len(body) == 0 || len(body) <= int(body[0]) {
			return errors.New("an event without a room")
		}
		c.publish(c.room(body[1:1+body[0]]), body[1+body[0]:])
	case peer.RawUpdate:
		c.acks = append(peer.AppendRawHead(c.acks, peer.RawUpdate, len(body)), body...)
	default:
		return fmt.Errorf("a message of the unknown kind %q", kind)
	}
	return nil
}

func (c *connection) publish(r *room, payload []byte) {
	if c.events == nil {
		c.events = map[*room][]byte{}
	}
	p := c.events[r]
	if len(p) == 0 {
		c.pending = append(c.pending, r)
	}
	c.events[r] = append(peer.AppendRawHead(p, peer.RawPublish, len(payload)), payload...)
}

// flush writes what there is to write.
func (c *connection) flush() error {
	for _, r := range c.pending {
		r.send(c.events[r])
		c.events[r] = c.events[r][:0]
	}
	c.pending = c.pending[:0]
	if len(c.acks) == 0 {
		return nil
	}
	_, err := c.Write(c.acks)
	c.acks = c.acks[:0]
	return err
}
