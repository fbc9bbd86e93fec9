// Package carrier opens sessions on a running server over each of the carriers
// that clients use: native gRPC, grpc-websockets, and Watch over HTTP. It is the
// client's side as plain as can be, for proofs that drive a server from outside:
// no retry, no buffer of its own, one connection a stream, and an end without a
// word when one is asked for.
//
// # Concurrency
//
// Of a Stream, one goroutine sends and one receives; Close and Cut may be called
// by any. Cut makes both return, and must be called in the end: it waits for
// nothing and leaves nothing behind.
package carrier

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// Server is where a server listens.
type Server struct {
	GRPC string // host:port
	HTTP string // host:port
	// Origin is the address of the page that a browser's client would be of; empty
	// means the HTTP one. They differ where something stands in between.
	Origin string
	// ReadBuffer is how many bytes the kernel may hold for a client that doesn't
	// read; 0 means what it likes, which is megabytes. Below 128 KiB, twice what the
	// loopback device sends at once, the kernel makes a client wait that does read,
	// for parts of a second.
	ReadBuffer int
}

// origin returns the Origin that a browser would send.
func (s Server) origin() string {
	return cmp.Or(s.Origin, "http://"+s.HTTP)
}

// Carrier is a way to bring frames to a client.
type Carrier interface {
	String() string
	// Duplex reports whether a stream takes requests after the first ones.
	Duplex() bool
	// Open begins a stream with some requests. It ends when ctx does.
	Open(ctx context.Context, to Server, token string, first ...*pb.SubscribeRequest) (Stream, error)
}

// Stream is an open session.
type Stream interface {
	// Send sends a request, or returns ErrOneWay.
	Send(req *pb.SubscribeRequest) error
	// Recv returns the next frame; io.EOF after a good end, or a status.
	Recv() (*pb.SubscribeResponse, error)
	// Close says that the client has finished. Where it can't be said, it does what
	// Cut does.
	Close() error
	// Cut ends the connection at once, as a network does that breaks.
	Cut()
}

// ErrOneWay is the answer of a stream that takes no more requests.
var ErrOneWay = errors.New("this carrier takes requests only when a stream is opened")

// All are the carriers.
var All = []Carrier{Native{}, Websocket{}, Watch{}}

// Methods, as they stand in an address.
const (
	subscribe = "/tcmanager.v1.RealtimeService/Subscribe"
	watch     = "/tcmanager.v1.RealtimeService/Watch"
)

// maxFrame bounds a frame from the server, which sends none as large.
const maxFrame = 64 << 20

// wires are the connections of a stream, so that they can be cut.
type wires struct {
	readBuffer int

	mu    sync.Mutex // guards the rest
	conns []net.Conn
	isCut bool
}

func (w *wires) dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok && w.readBuffer > 0 {
		if err := tcp.SetReadBuffer(w.readBuffer); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.isCut {
		return nil, errors.Join(net.ErrClosed, conn.Close())
	}
	w.conns = append(w.conns, conn)
	return conn, nil
}

// cut resets the connections, so that the peer hears of it at once.
func (w *wires) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = true
	for _, conn := range w.conns {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // it may be closed already, as may the next
		}
		_ = conn.Close()
	}
}

// framed is a message as gRPC frames it.
func framed(m proto.Message) ([]byte, error) {
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(b))), b...), nil
}

// readFrames reads the frames of grpc-web until there is a response or the end,
// which is io.EOF or a status.
func readFrames(r io.Reader) (*pb.SubscribeResponse, error) {
	for {
		text, body, err := readFrame(r)
		if err != nil {
			return nil, err
		}
		if !text {
			resp := &pb.SubscribeResponse{}
			return resp, proto.Unmarshal(body, resp)
		}
		if code, message, ok := statusOf(string(body)); ok {
			return nil, statusError(code, message)
		}
	}
}

func readFrame(r io.Reader) (text bool, body []byte, err error) {
	var prefix [5]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return false, nil, fmt.Errorf("the stream ended without a status: %w", noEOF(err))
	}
	n := binary.BigEndian.Uint32(prefix[1:])
	if n > maxFrame {
		return false, nil, fmt.Errorf("a frame of %d bytes", n)
	}
	body = make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return false, nil, fmt.Errorf("the stream ended within a frame: %w", noEOF(err))
	}
	return prefix[0]&0x80 != 0, body, nil
}

// noEOF keeps an end without a status from looking like a good one.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// statusOf looks for a status in lines of headers.
func statusOf(headers string) (code, message string, ok bool) {
	for line := range strings.SplitSeq(headers, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(name) {
		case "grpc-status":
			code, ok = strings.TrimSpace(value), true
		case "grpc-message":
			message = strings.TrimSpace(value)
		default:
		}
	}
	return code, message, ok
}

func statusError(code, message string) error {
	if code == "0" {
		return io.EOF
	}
	var n uint32
	if _, err := fmt.Sscan(code, &n); err != nil {
		return fmt.Errorf("a status of %q: %s", code, message)
	}
	return status.Error(codes.Code(n), message)
}
