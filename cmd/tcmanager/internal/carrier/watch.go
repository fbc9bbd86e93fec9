package carrier

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// Watch is the session without an upstream: a POST of grpc-web whose answer is
// the stream, as browsers use it where websockets are blocked.
type Watch struct {
	Mode pb.WatchMode // when the server ends it; STREAM if not set
}

func (Watch) String() string { return "watch" }

// Duplex is false: to say more, a client opens another one.
func (Watch) Duplex() bool { return false }

// Open posts the requests. It returns once the server has begun to answer.
func (c Watch) Open(ctx context.Context, to Server, token string, first ...*pb.SubscribeRequest) (Stream, error) {
	s := &watchStream{wires: wires{readBuffer: to.ReadBuffer}}
	ctx, s.cancel = context.WithCancel(ctx)
	body, err := framed(&pb.WatchRequest{Frames: first, Mode: c.Mode})
	if err == nil {
		err = s.post(ctx, to, token, body)
	}
	if err != nil {
		s.Cut()
		return nil, err
	}
	return s, nil
}

type watchStream struct {
	wires
	cancel context.CancelFunc
	body   io.ReadCloser
}

func (s *watchStream) post(ctx context.Context, to Server, token string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+to.HTTP+watch, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/grpc-web+proto")
	req.Header.Set("X-Grpc-Web", "1")
	req.Header.Set("Origin", to.origin())
	req.Header.Set("Authorization", "Bearer "+token)
	transport := &http.Transport{
		DisableKeepAlives: true, DisableCompression: true,
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) { return s.dial(ctx, addr) },
	}
	resp, err := transport.RoundTrip(req) //nolint:bodyclose // Cut closes it
	if err != nil {
		return err
	}
	s.body = resp.Body
	if code := resp.Header.Get("Grpc-Status"); code != "" && code != "0" {
		return statusError(code, resp.Header.Get("Grpc-Message"))
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the watch was answered with %s", resp.Status)
	}
	return nil
}

func (s *watchStream) Send(*pb.SubscribeRequest) error { return ErrOneWay }

func (s *watchStream) Recv() (*pb.SubscribeResponse, error) { return readFrames(s.body) }

func (s *watchStream) Close() error {
	s.Cut()
	return nil
}

func (s *watchStream) Cut() {
	s.cut()
	s.cancel()
	if s.body != nil {
		_ = s.body.Close() // the connection is gone
	}
}
