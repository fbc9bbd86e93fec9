package carrier

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"github.com/coder/websocket"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// Websocket is Subscribe over the subprotocol grpc-websockets, as browsers use it:
// the first message is a block of headers; each one after it is a zero and a gRPC
// frame, or a one when the client has finished. What the server sends are frames
// of grpc-web, cut into messages anywhere.
type Websocket struct{}

func (Websocket) String() string { return "websocket" }

// Duplex is true.
func (Websocket) Duplex() bool { return true }

// finished is the message of a client that has said all.
var finished = []byte{1}

// Dial opens a websocket and sends nothing yet.
func (Websocket) Dial(ctx context.Context, to Server) (*WebsocketStream, error) {
	s := &WebsocketStream{wires: wires{readBuffer: to.ReadBuffer}}
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, addr string) (net.Conn, error) { return s.dial(ctx, addr) },
	}
	conn, resp, err := websocket.Dial(ctx, "ws://"+to.HTTP+subscribe, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport}, Subprotocols: []string{"grpc-websockets"},
		HTTPHeader: http.Header{"Origin": {to.origin()}},
	})
	if err != nil {
		if resp != nil && resp.Body != nil {
			_ = resp.Body.Close() // it is in memory
		}
		s.cut()
		return nil, err
	}
	conn.SetReadLimit(maxFrame)
	life, cancel := context.WithCancel(ctx)
	s.conn, s.in, s.cancel = conn, messages{ctx: life, conn: conn}, cancel
	return s, nil
}

// Open opens a websocket, sends the headers, and the requests.
func (c Websocket) Open(ctx context.Context, to Server, token string, first ...*pb.SubscribeRequest) (Stream, error) {
	s, err := c.Dial(ctx, to)
	if err != nil {
		return nil, err
	}
	headers := fmt.Sprintf("content-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\nauthorization: Bearer %s\r\n", token)
	if err := s.Write([]byte(headers)); err != nil {
		s.Cut()
		return nil, err
	}
	for _, req := range first {
		if err := s.Send(req); err != nil {
			s.Cut()
			return nil, err
		}
	}
	return s, nil
}

// WebsocketStream is a Stream, and can send what is no request.
type WebsocketStream struct {
	wires
	conn   *websocket.Conn
	in     messages
	cancel context.CancelFunc
}

// Write sends a message as it is.
func (s *WebsocketStream) Write(message []byte) error {
	return s.conn.Write(s.in.ctx, websocket.MessageBinary, message)
}

// Send sends a request.
func (s *WebsocketStream) Send(req *pb.SubscribeRequest) error {
	b, err := framed(req)
	if err != nil {
		return err
	}
	return s.Write(append([]byte{0}, b...))
}

// Recv returns the next frame.
func (s *WebsocketStream) Recv() (*pb.SubscribeResponse, error) { return readFrames(&s.in) }

// Close says that the client has finished.
func (s *WebsocketStream) Close() error { return s.Write(finished) }

// Cut ends the connection.
func (s *WebsocketStream) Cut() {
	s.cut()
	s.cancel()
	_ = s.conn.CloseNow() // it may be closed already
}

// messages reads the messages of a websocket as one stream of bytes.
type messages struct {
	ctx  context.Context
	conn *websocket.Conn
	rest []byte
}

func (m *messages) Read(p []byte) (int, error) {
	for len(m.rest) == 0 {
		_, b, err := m.conn.Read(m.ctx)
		if err != nil {
			return 0, err
		}
		m.rest = b
	}
	n := copy(p, m.rest)
	m.rest = m.rest[n:]
	return n, nil
}
