package websocket

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/certificate/certtest"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/wire"
)

const method = "/tcmanager.v1.RealtimeService/Subscribe"

// call is what a handler of these tests gets.
type testCall struct {
	grpc.ServerStream
	conn *Conn
}

func (c testCall) recv() (*pb.SubscribeRequest, error) {
	req := &pb.SubscribeRequest{}
	return req, c.RecvMsg(req)
}

// echo answers each request with its number.
func echo(c testCall) error {
	for {
		req, err := c.recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.SendMsg(&pb.SubscribeResponse{ReplyTo: req.Id}); err != nil {
			return err
		}
	}
}

type connKey struct{}

type rig struct {
	*Endpoint
	addr string
	tls  *tls.Config // of clients; nil in plain text

	opened atomic.Int32
	sent   atomic.Int64
	mu     sync.Mutex
	ended  []string
}

// start serves an endpoint on a port of the loopback interface.
func start(t testing.TB, handle func(testCall) error, encrypted bool, change ...func(*Config)) *rig {
	t.Helper()
	r := &rig{}
	c := Config{
		Method: method, Log: slog.New(slog.DiscardHandler),
		Open: func(ss grpc.ServerStream) func() error {
			return func() error {
				return handle(testCall{ss, ss.Context().Value(connKey{}).(*Conn)})
			}
		},
		Context: func(ctx context.Context, c *Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		Opened:  func() { r.opened.Add(1) },
		Sent:    func(n int64) { r.sent.Add(n) },
		Ended: func(reason string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.ended = append(r.ended, reason)
		},
		MaxMessageBytes: 1 << 20, HeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, PingInterval: 25 * time.Second, WriteStall: 10 * time.Second,
	}
	for _, f := range change {
		f(&c)
	}
	r.Endpoint = New(c)
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	server := &http.Server{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if err := r.Upgrade(w, q); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})}
	serve := server.Serve
	if encrypted {
		authority := certtest.NewAuthority(t)
		pair := authority.Issue(t)
		serve = func(l net.Listener) error { return server.ServeTLS(l, pair.Cert, pair.Key) }
		r.tls = authority.TLS()
		r.tls.ServerName = "localhost"
	}
	served := make(chan error, 1)
	go func() { served <- serve(Listener(l)) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(r.Close(ctx), server.Shutdown(ctx)); err != nil {
			t.Error(err)
		}
		<-served
	})
	return r
}

// bothWays tests what is true in plain text and under TLS.
func bothWays(t *testing.T, test func(t *testing.T, encrypted bool)) {
	t.Helper()
	t.Run("in plain text", func(t *testing.T) { test(t, false) })
	t.Run("under TLS", func(t *testing.T) { test(t, true) })
}

// endedBecause waits for the next connection to end.
func (r *rig) endedBecause(t *testing.T, want string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		r.mu.Lock()
		if len(r.ended) > 0 {
			got := r.ended[0]
			r.ended = r.ended[1:]
			r.mu.Unlock()
			if got != want {
				t.Errorf("ended because %q, not %q", got, want)
			}
			return
		}
		r.mu.Unlock()
		if time.Now().After(deadline) {
			t.Fatal("not ended")
		}
	}
}

const okHeaders = "content-type: application/grpc-web+proto\r\n"

// client is one by hand.
type client struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

// readBuffer is how much the kernel holds for a client that is slow. Below twice
// what the loopback device sends at once it makes one wait that does read.
const readBuffer = 128 << 10

// dial opens a websocket and sends then right behind the request.
func (r *rig) dial(t testing.TB, readBuffer int, then []byte) *client {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if readBuffer > 0 {
		if err := conn.(*net.TCPConn).SetReadBuffer(readBuffer); err != nil {
			t.Fatal(err)
		}
	}
	if r.tls != nil {
		conn = tls.Client(conn, r.tls)
	}
	c := &client{t: t, conn: conn, in: bufio.NewReader(conn)}
	c.send("GET " + method + " HTTP/1.1\r\nHost: " + r.addr + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: grpc-websockets\r\n\r\n" + string(then))
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	return c
}

// open opens a call.
func (r *rig) open(t testing.TB, headers ...string) *client {
	t.Helper()
	return r.dial(t, 0, frame(0x82, []byte(okHeaders+strings.Join(headers, ""))))
}

func (c *client) send(b string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, b); err != nil {
		c.t.Fatal(err)
	}
}

// request sends a request.
func (c *client) request(id uint64) { c.t.Helper(); c.send(string(request(id))) }

func request(id uint64) []byte { return frame(0x82, append([]byte{0}, requestFrame(id)...)) }

func requestFrame(id uint64) []byte {
	b, err := proto.Marshal(&pb.SubscribeRequest{Id: id})
	if err != nil {
		panic(err)
	}
	return grpcFrame(string(b))
}

// next reads a frame of the server.
func (c *client) next() (kind Kind, payload []byte, err error) {
	var head [10]byte
	if _, err := io.ReadFull(c.in, head[:2]); err != nil {
		return None, nil, err
	}
	size := uint64(head[1])
	switch size {
	case 126:
		_, err = io.ReadFull(c.in, head[2:4])
		size = uint64(binary.BigEndian.Uint16(head[2:]))
	case 127:
		_, err = io.ReadFull(c.in, head[2:10])
		size = binary.BigEndian.Uint64(head[2:])
	}
	if err != nil || head[0]&0xf0 != 0x80 || size > 16<<20 {
		return None, nil, errors.Join(err, errors.New("a bad frame"))
	}
	payload = make([]byte, size)
	_, err = io.ReadFull(c.in, payload)
	return Kind(head[0] & 0xf), payload, err
}

func (c *client) want(kind Kind) []byte {
	c.t.Helper()
	got, payload, err := c.next()
	if err != nil || got != kind {
		c.t.Fatalf("%x %q %v, not %x", byte(got), payload, err, byte(kind))
	}
	return payload
}

// headers reads a block of headers or trailers.
func (c *client) headers() string {
	c.t.Helper()
	b := c.want(Data)
	if b[0] != headerFlag || int(binary.BigEndian.Uint32(b[1:])) != len(b)-5 {
		c.t.Fatalf("%q", b)
	}
	return string(b[5:])
}

func (c *client) response() *pb.SubscribeResponse {
	c.t.Helper()
	b := c.want(Data)
	resp := &pb.SubscribeResponse{}
	if err := proto.Unmarshal(b[5:], resp); err != nil || b[0] != 0 || int(binary.BigEndian.Uint32(b[1:])) != len(b)-5 {
		c.t.Fatalf("%q %v", b, err)
	}
	return resp
}

func (c *client) reply(id uint64) {
	c.t.Helper()
	if got := c.response().ReplyTo; got != id {
		c.t.Fatalf("%d, not %d", got, id)
	}
}

// status reads the trailers and the goodbye, and answers it.
func (c *client) status(code codes.Code) string {
	c.t.Helper()
	trailers := c.headers()
	if !strings.HasPrefix(trailers, "grpc-status: "+itoa(code)+"\r\n") {
		c.t.Fatalf("%q, not %d", trailers, code)
	}
	c.closed(closeNormal)
	c.send(string(frame(0x88, []byte{0x03, 0xe8})))
	c.gone()
	return trailers
}

func itoa(c codes.Code) string {
	if c >= 10 {
		return "1" + string(rune('0'+c-10))
	}
	return string(rune('0' + c))
}

func (c *client) closed(code uint16) {
	c.t.Helper()
	if got := c.want(Close); binary.BigEndian.Uint16(got) != code {
		c.t.Fatalf("%q, not %d", got, code)
	}
}

// gone waits for the connection to end well.
func (c *client) gone() {
	c.t.Helper()
	if _, _, err := c.next(); !errors.Is(err, io.EOF) {
		c.t.Fatal(err)
	}
}

func TestACall(t *testing.T) {
	bothWays(t, func(t *testing.T, encrypted bool) {
		r := start(t, echo, encrypted)
		c := r.open(t)
		for id := range uint64(50) {
			c.request(id + 1)
			if id == 0 {
				if h := c.headers(); !strings.HasPrefix(h, "content-type: application/grpc-web+proto\r\n") {
					t.Errorf("%q", h)
				}
			}
			c.reply(id + 1)
		}
		c.send(string(frame(0x82, []byte{1})))
		c.status(codes.OK)
		r.endedBecause(t, endClosed)
	})
}

func TestRequestsMayBeCutIntoMessagesFramesAndPacketsAnywhere(t *testing.T) {
	bothWays(t, func(t *testing.T, encrypted bool) {
		r := start(t, echo, encrypted)
		c := r.open(t)
		c.request(1)
		c.headers()
		c.reply(1)
		a, b := requestFrame(1000), requestFrame(2000)
		data := func(b ...[]byte) []byte { return append([]byte{0}, join(b...)...) }
		for name, in := range map[string][]byte{
			"two in a message":         frame(0x82, data(a, b)),
			"one and a half":           join(frame(0x82, data(a, b[:3])), frame(0x82, data(b[3:]))),
			"one in three messages":    join(frame(0x82, data(a[:2])), frame(0x82, data(a[2:6])), frame(0x82, data(a[6:], b))),
			"fragments":                join(frame(0x02, data(a[:2])), frame(0x00, a[2:6]), frame(0x00, nil), frame(0x80, join(a[6:], b))),
			"the byte is a fragment":   join(frame(0x02, []byte{0}), frame(0x80, join(a, b))),
			"nothing, and then a byte": join(frame(0x02, nil), frame(0x00, []byte{0}), frame(0x80, a), frame(0x82, nil), frame(0x82, data(b))),
			"a pong in between":        join(frame(0x02, data(a[:2])), frame(0x8a, []byte("pong")), frame(0x80, a[2:]), frame(0x82, data(b))),
		} {
			c.send(string(in))
			if got := []uint64{c.response().ReplyTo, c.response().ReplyTo}; got[0] != 1000 || got[1] != 2000 {
				t.Error(name, got)
			}
			for i := range in {
				c.send(string(in[i : i+1]))
			}
			if got := []uint64{c.response().ReplyTo, c.response().ReplyTo}; got[0] != 1000 || got[1] != 2000 {
				t.Error(name, "byte by byte", got)
			}
		}
	})
}

func TestWhatClientsDoWrongIsAStatus(t *testing.T) {
	r := start(t, echo, false)
	for name, c := range map[string]struct {
		headers string
		in      []byte
		want    codes.Code
	}{
		"a message that says it is large": {"", frame(0x82, []byte{0, 0, 0, 0x10, 0, 1}), codes.ResourceExhausted},
		"a large websocket message":       {"", frame(0x82, make([]byte, 1<<20+7)), codes.ResourceExhausted},
		"a large one in fragments":        {"", join(frame(0x02, make([]byte, 6)), frame(0x80, make([]byte, 1<<20+1))), codes.ResourceExhausted},
		"compressed, without a word":      {"", frame(0x82, []byte{0, 1, 0, 0, 0, 0}), codes.Internal},
		"compressed":                      {"grpc-encoding: gzip\r\n", frame(0x82, []byte{0, 1, 0, 0, 0, 0}), codes.Unimplemented},
		"flags of no sense":               {"", frame(0x82, []byte{0, 2, 0, 0, 0, 0}), codes.Internal},
		"no message of the method":        {"", frame(0x82, append([]byte{0}, grpcFrame("\xff\xff")...)), codes.Internal},
		"an end within a message":         {"", join(frame(0x82, []byte{0, 0, 0, 0, 0, 9}), frame(0x82, []byte{1})), codes.Internal},
		"a timeout of no sense":           {"grpc-timeout: soon\r\n", nil, codes.Internal},
		"binary metadata of no sense":     {"x-bin: ?\r\n", nil, codes.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			k := r.open(t, c.headers)
			k.send(string(c.in))
			for { // what came before is answered
				b := k.want(Data)
				if b[0] == headerFlag {
					break
				}
			}
			for {
				b := k.want(Data)
				if b[0] != headerFlag {
					continue
				}
				if !strings.HasPrefix(string(b[5:]), "grpc-status: "+itoa(c.want)+"\r\n") {
					t.Errorf("%q", b)
				}
				break
			}
			k.closed(closeNormal)
			k.send(string(frame(0x88, []byte{0x03, 0xe8})))
			k.gone()
			r.endedBecause(t, endClosed)
		})
	}
}

func TestIrregularFramesEndACall(t *testing.T) {
	bothWays(t, func(t *testing.T, encrypted bool) {
		failed := make(chan error, 1)
		r := start(t, func(c testCall) error {
			_, err := c.recv()
			<-c.Context().Done()
			failed <- err
			return err
		}, encrypted)
		for name, c := range map[string]struct {
			in   []byte
			code uint16
		}{
			"text":                   {frame(0x81, []byte("hello")), closeUnsupported},
			"unmasked":               {[]byte{0x82, 1, 0}, closeProtocol},
			"a message of kind 2":    {frame(0x82, []byte{2}), closeProtocol},
			"an end and more":        {frame(0x82, []byte{1, 1}), closeProtocol},
			"an end in fragments":    {frame(0x02, []byte{1}), closeProtocol},
			"half a close code":      {frame(0x88, []byte{3}), closeProtocol},
			"a reason of no charset": {frame(0x88, []byte("\x03\xe8\xff")), closeInvalid},
		} {
			k := r.open(t)
			k.send(string(c.in))
			k.closed(c.code)
			if err := <-failed; status.Code(err) != codes.InvalidArgument {
				t.Error(name, err)
			}
			r.endedBecause(t, endMalformed)
		}
	})
}

func TestACloseIsAnsweredAndEndsTheCall(t *testing.T) {
	bothWays(t, func(t *testing.T, encrypted bool) {
		failed := make(chan error, 1)
		r := start(t, func(c testCall) error {
			_, err := c.recv()
			<-c.Context().Done()
			failed <- err
			return err
		}, encrypted)
		for _, payload := range []string{"", "\x03\xe9", "\x0f\xa8too slow"} {
			k := r.open(t)
			k.send(string(frame(0x88, []byte(payload))))
			if got := k.want(Close); !strings.HasPrefix(payload, string(got)) || len(payload) > 0 && len(got) == 0 {
				t.Errorf("%q for %q", got, payload)
			}
			k.gone()
			if err := <-failed; status.Code(err) != codes.Canceled {
				t.Error(err)
			}
			r.endedBecause(t, endClosed)
		}
	})
}

func TestACutConnectionEndsTheCall(t *testing.T) {
	failed := make(chan error, 1)
	r := start(t, func(c testCall) error {
		_, err := c.recv()
		failed <- errors.Join(err, c.Context().Err())
		return err
	}, false)
	k := r.open(t)
	_ = k.conn.(*net.TCPConn).SetLinger(0)
	_ = k.conn.Close()
	if err := <-failed; !errors.Is(err, context.Canceled) || !errors.Is(err, errGone) {
		t.Error(err)
	}
	r.endedBecause(t, endClosed)
}

func TestHandlersKnowTheCallAndItsPeer(t *testing.T) {
	bothWays(t, func(t *testing.T, encrypted bool) {
		failed := make(chan error, 1)
		var md metadata.MD
		r := start(t, func(c testCall) error {
			ctx := c.Context()
			_, kept := metadata.FromIncomingContext(ctx)
			p, _ := peer.FromContext(ctx)
			name, _ := grpc.Method(ctx)
			info, isTLS := p.AuthInfo.(credentials.TLSInfo)
			if kept || md.Get("authorization")[0] != "Bearer x" || md.Get("raw-bin")[0] != "\x00\x01" || !strings.HasPrefix(p.Addr.String(), "127.0.0.1:") ||
				name != method || isTLS != encrypted || isTLS && (!info.State.HandshakeComplete || info.SecurityLevel != credentials.PrivacyAndIntegrity) {
				return status.Errorf(codes.Unknown, "%v %v %v", md, p, name)
			}
			err := errors.Join(grpc.SetHeader(ctx, metadata.Pairs("a", "1")), c.SetHeader(metadata.Pairs("b", "2")), grpc.SendHeader(ctx, metadata.Pairs("c-bin", "3")))
			if grpc.SetHeader(ctx, metadata.Pairs("late", "x")) == nil || c.SendHeader(nil) == nil {
				err = errors.New("headers may follow the headers")
			}
			c.SetTrailer(metadata.Pairs("d", "4"))
			failed <- errors.Join(err, grpc.SetTrailer(ctx, metadata.Pairs("e", "5")))
			return status.Error(codes.NotFound, "no such thing")
		}, encrypted, func(c *Config) {
			open := c.Open
			c.Open = func(ss grpc.ServerStream) func() error {
				md, _ = metadata.FromIncomingContext(ss.Context())
				return open(ss)
			}
		})
		c := r.open(t, "Authorization: Bearer x\r\nRaw-Bin: AAE\r\n")
		if h := c.headers(); h != "content-type: application/grpc-web+proto\r\na: 1\r\nb: 2\r\nc-bin: Mw\r\n" {
			t.Errorf("%q", h)
		}
		if h := c.status(codes.NotFound); h != "grpc-status: 5\r\ngrpc-message: no such thing\r\nd: 4\r\ne: 5\r\n" {
			t.Errorf("%q", h)
		}
		if err := <-failed; err != nil {
			t.Error(err)
		}
	})
}

func TestATimeoutIsKept(t *testing.T) {
	for name, handle := range map[string]func(testCall) error{
		"receiving": echo,
		"sending": func(c testCall) error {
			for {
				if err := c.SendMsg(large(0)); err != nil {
					return err
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, handle, false)
			k := r.open(t, "grpc-timeout: 100m\r\n")
			time.Sleep(200 * time.Millisecond) // whoever sends is stuck by then, and it isn't wrong if not
			for {
				b := k.want(Data)
				if strings.Contains(string(b), "grpc-status: 4\r\n") {
					return
				}
			}
		})
	}
}

func TestPingsAreAnsweredAndAFloodOfThemIsNot(t *testing.T) {
	r := start(t, echo, false)
	c := r.dial(t, 0, frame(0x89, []byte("before the headers")))
	if got := c.want(Pong); string(got) != "before the headers" {
		t.Errorf("%q", got)
	}
	c.send(string(frame(0x82, []byte(okHeaders))))
	for range 10 {
		c.send(string(frame(0x89, []byte("hello"))))
		if got := c.want(Pong); string(got) != "hello" {
			t.Errorf("%q", got)
		}
	}
	for _, flood := range [][]byte{frame(0x89, []byte("x")), frame(0x8a, nil), frame(0x82, nil)} {
		c := r.open(t)
		go func() {
			for {
				if _, err := c.conn.Write(bytes.Repeat(flood, 100)); err != nil {
					return
				}
			}
		}()
		_, _ = io.Copy(io.Discard, c.conn)
		r.endedBecause(t, endFlood)
	}
}

// large is a response with a number and many bytes.
func large(n uint64) *pb.SubscribeResponse {
	return &pb.SubscribeResponse{ReplyTo: n, Frame: &pb.SubscribeResponse_Reset_{Reset_: &pb.Reset{Reason: strings.Repeat("x", 20_000)}}}
}

func TestASlowReaderGetsEverythingInOrderAtBoundedCost(t *testing.T) {
	bothWays(t, func(t *testing.T, encrypted bool) {
		const messages = 500 // of 20 kB
		var most atomic.Int64
		r := start(t, func(c testCall) error {
			frames := map[bool]any{}
			for n := range uint64(messages) {
				f, err := wire.Encode(large(n))
				if err != nil {
					return err
				}
				frames[true], frames[false] = f, large(n)
				if err := c.SendMsg(frames[n%2 == 0]); err != nil { // knows nothing of Flushed
					return err
				}
				c.conn.socket.mu.Lock()
				most.Store(max(most.Load(), int64(c.conn.socket.size)))
				c.conn.socket.mu.Unlock()
			}
			return nil
		}, encrypted, func(c *Config) { c.WriteStall = 2 * time.Second })
		c := r.dial(t, readBuffer, frame(0x82, []byte(okHeaders)))
		c.headers()
		for n := range uint64(messages) {
			if n%100 == 0 {
				time.Sleep(20 * time.Millisecond)
			}
			c.reply(n)
		}
		c.status(codes.OK)
		r.endedBecause(t, endClosed)
		if m := most.Load(); m > maxPending+100_000 {
			t.Errorf("%d kB were kept", m>>10)
		}
	})
}

func TestAReaderThatTakesNothingIsCutOff(t *testing.T) {
	bothWays(t, func(t *testing.T, encrypted bool) {
		sent := make(chan int, 1)
		r := start(t, func(c testCall) error {
			for n := 0; ; n++ {
				if err := c.SendMsg(large(0)); err != nil {
					sent <- n
					return err
				}
			}
		}, encrypted, func(c *Config) { c.WriteStall = 200 * time.Millisecond })
		r.dial(t, 4096, frame(0x82, []byte(okHeaders)))
		if n := <-sent; n > 200 {
			t.Errorf("%d messages of 20 kB were taken", n)
		}
		r.endedBecause(t, endStalled)
	})
}

func TestOneFrameGoesToMany(t *testing.T) {
	bothWays(t, func(t *testing.T, encrypted bool) {
		frame, err := wire.Encode(large(7))
		if err != nil {
			t.Fatal(err)
		}
		before := bytes.Clone(frame.Websocket())
		r := start(t, func(c testCall) error {
			for range 10 {
				if err := c.SendMsg(frame); err != nil {
					return err
				}
				if err := c.conn.Send(frame); err != nil {
					return err
				}
			}
			return nil
		}, encrypted)
		var all sync.WaitGroup
		for range 20 {
			c := r.open(t)
			all.Go(func() {
				c.headers()
				for range 20 {
					c.reply(7)
				}
			})
		}
		all.Wait()
		if !bytes.Equal(before, frame.Websocket()) {
			t.Error("it was changed")
		}
		for deadline := time.Now().Add(10 * time.Second); r.sent.Load() < 400 && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond) // they are counted when a connection is looked at
		}
		if n := r.sent.Load(); n != 400 {
			t.Errorf("%d messages are counted", n)
		}
	})
}

func TestWhatASessionIsPromised(t *testing.T) {
	bothWays(t, func(t *testing.T, encrypted bool) {
		problems := make(chan string, 20)
		ready, interrupted := make(chan struct{}), make(chan struct{})
		conns := make(chan *Conn, 1)
		r := start(t, func(c testCall) error {
			conns <- c.conn
			if c.conn.Pending() {
				problems <- "something is pending before anything came"
			}
			if err := c.conn.Wait(); err != nil {
				problems <- "wait: " + err.Error()
			}
			for id := range uint64(3) { // they came at once
				if !c.conn.Pending() {
					problems <- "nothing is pending"
				}
				if req, err := c.recv(); err != nil || req.Id != id+1 {
					problems <- "a wrong request"
				}
			}
			if c.conn.Pending() {
				problems <- "something is still pending"
			}
			if !c.conn.Flushed(func() { problems <- "called though all was flushed" }) {
				problems <- "not flushed, with nothing sent"
			}
			for n := uint64(0); ; n++ {
				f, err := wire.Encode(large(n))
				if err == nil {
					err = c.conn.Send(f)
				}
				if err != nil {
					problems <- err.Error()
				}
				if !c.conn.Flushed(func() { close(ready) }) {
					break
				}
			}
			<-ready
			if !c.conn.Flushed(func() {}) {
				problems <- "not flushed after all"
			}
			go func() {
				<-interrupted
				c.conn.Interrupt()
				c.conn.Interrupt()
			}()
			close(interrupted)
			if err := c.conn.Wait(); status.Code(err) != codes.Canceled || c.Context().Err() != nil {
				problems <- "an interrupted wait waits"
			}
			if _, err := c.recv(); status.Code(err) != codes.Canceled {
				problems <- "an interrupted call receives"
			}
			return status.Error(codes.Aborted, "enough")
		}, encrypted)
		c := r.dial(t, readBuffer, frame(0x82, []byte(okHeaders)))
		c.send(string(join(request(1), request(2), request(3))))
		c.headers()
		for n := uint64(0); ; n++ {
			b := c.want(Data)
			if b[0] == headerFlag {
				break
			}
		}
		c.closed(closeNormal)
		if (<-conns).Send(wire.Frame{}) == nil {
			t.Error("a message may follow the end")
		}
		c.send(string(request(9))) // what crosses the end is thrown away
		c.send(string(frame(0x88, []byte{0x03, 0xe8})))
		c.gone()
		r.endedBecause(t, endClosed)
		for len(problems) > 0 {
			t.Error(<-problems)
		}
	})
}

func TestReadyIsCalledWhenTheConnectionEnds(t *testing.T) {
	ready := make(chan struct{})
	r := start(t, func(c testCall) error {
		for c.conn.Flushed(func() { close(ready) }) {
			if err := c.SendMsg(large(0)); err != nil {
				return err
			}
		}
		<-c.Context().Done()
		return nil
	}, false)
	c := r.dial(t, 4096, frame(0x82, []byte(okHeaders)))
	c.headers()
	time.Sleep(50 * time.Millisecond)
	_ = c.conn.Close()
	_ = r.Close(t.Context())
	<-ready
}

// TestAHandlerMayLeaveItsGoroutinesBehind: one that ends a session doesn't wait
// for those that receive and send for it.
func TestAHandlerMayLeaveItsGoroutinesBehind(t *testing.T) {
	bothWays(t, func(t *testing.T, encrypted bool) {
		var left sync.WaitGroup
		r := start(t, func(c testCall) error {
			began := make(chan struct{}, 2)
			left.Go(func() {
				began <- struct{}{}
				for {
					if _, err := c.recv(); err != nil {
						return
					}
				}
			})
			left.Go(func() {
				began <- struct{}{}
				for {
					if c.SendMsg(large(0)) != nil {
						return
					}
				}
			})
			<-began
			<-began
			time.Sleep(20 * time.Millisecond)
			return status.Error(codes.Aborted, "enough")
		}, encrypted)
		c := r.open(t)
		c.headers()
		for {
			if b := c.want(Data); b[0] == headerFlag {
				if !strings.HasPrefix(string(b[5:]), "grpc-status: 10\r\n") {
					t.Errorf("%q", b)
				}
				break
			}
		}
		c.closed(closeNormal)
		c.send(string(frame(0x88, nil)))
		c.gone()
		left.Wait()
	})
}

func TestAPeerThatIsNotListenedToIsNotSilent(t *testing.T) {
	r := start(t, func(c testCall) error {
		if _, err := c.recv(); err != nil {
			return err
		}
		time.Sleep(2 * time.Second) // a request that takes long
		return echo(c)
	}, false, func(c *Config) { c.IdleTimeout, c.PingInterval = time.Second, 100*time.Millisecond })
	c := r.open(t)
	c.request(1)
	c.request(2)
	c.headers()
	c.reply(2)
	for range 10 { // and one that answers pings isn't either
		c.want(Ping)
		c.send(string(frame(0x8a, nil)))
	}
	r.endedBecause(t, endSilent)
}

func TestAPanicEndsOneConnection(t *testing.T) {
	r := start(t, func(c testCall) error {
		if _, err := c.recv(); err != nil {
			return err
		}
		panic("a bug")
	}, false)
	c := r.open(t)
	c.request(1)
	if _, _, err := c.next(); err == nil {
		t.Error("still open")
	}
	r.endedBecause(t, endClosed)
}

func TestCloseWaitsForHandlers(t *testing.T) {
	release := make(chan struct{})
	var running atomic.Int32
	r := start(t, func(c testCall) error {
		running.Add(1)
		defer running.Add(-1)
		err := echo(c)
		<-release // it takes its time
		return err
	}, false)
	for range 20 {
		c := r.open(t)
		c.request(1)
		c.headers()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if running.Load() != 20 {
		t.Error(running.Load())
	}
	close(release)
	r.Wait()
	if running.Load() != 0 {
		t.Error(running.Load())
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
}

func TestClosingUnderLoadLeavesNothing(t *testing.T) {
	bothWays(t, func(t *testing.T, encrypted bool) {
		r := start(t, func(c testCall) error {
			for n := uint64(0); ; n++ {
				if err := c.SendMsg(large(n)); err != nil {
					return err
				}
			}
		}, encrypted)
		var readers sync.WaitGroup
		for i := range 20 {
			c := r.dial(t, readBuffer, frame(0x82, []byte(okHeaders)))
			if i%2 == 0 { // the others read nothing
				readers.Go(func() { _, _ = io.Copy(io.Discard, c.conn) })
			}
		}
		time.Sleep(50 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := r.Close(ctx); err != nil {
			t.Error(err)
		}
		readers.Wait()
	})
}

func TestAConnectionAtRestIsOneGoroutine(t *testing.T) {
	bothWays(t, func(t *testing.T, encrypted bool) {
		r := start(t, echo, encrypted)
		before := runtime.NumGoroutine()
		const connections = 50
		for range connections {
			c := r.open(t)
			c.request(1)
			c.headers()
			c.reply(1)
		}
		for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before+connections; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal(runtime.NumGoroutine() - before)
			}
		}
	})
}

func FuzzConn(f *testing.F) {
	f.Add(join(request(1), frame(0x82, []byte{1})))
	f.Add(join(frame(0x89, []byte("x")), request(300), frame(0x88, []byte{3, 0xe8})))
	f.Add(frame(0x82, []byte{0, 0, 0xff, 0xff, 0xff, 0xff}))
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = l.Close() })
	e := New(Config{MaxMessageBytes: 1000, HeaderTimeout: time.Second, IdleTimeout: time.Second, PingInterval: time.Second, WriteStall: time.Second})
	f.Fuzz(func(t *testing.T, b []byte) {
		peer, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Skip(err)
		}
		defer func() { _ = peer.Close() }()
		accepted, err := Listener(l).Accept()
		if err != nil {
			t.Fatal(err)
		}
		c, err := newConn(e, accepted)
		if err != nil {
			t.Fatal(err)
		}
		defer c.release()
		c.frames.Limit = 1000
		b = bytes.Clone(b)
		for len(b) > 0 {
			n := min(len(b), len(chunk{}))
			c.chunk = chunks.Get().(*chunk)
			c.rest = c.chunk[:copy(c.chunk[:], b[:n])]
			b = b[n:]
			for c.Pending() {
				if err := c.receive(func(m []byte) error { return nil }); err != nil {
					return
				}
			}
			if len(c.messages.buf) > 1000 {
				t.Errorf("%d bytes are held", len(c.messages.buf))
			}
		}
	})
}

func TestToSendAllocatesNothing(t *testing.T) {
	calls := make(chan testCall)
	r := start(t, func(c testCall) error {
		if err := c.SendHeader(nil); err != nil {
			return err
		}
		calls <- c
		<-c.Context().Done()
		return nil
	}, false)
	r.open(t)
	call := <-calls
	frame, err := wire.Encode(&pb.SubscribeResponse{ReplyTo: 1})
	if err != nil {
		t.Fatal(err)
	}
	allocated := testing.AllocsPerRun(100, func() { err = errors.Join(err, call.conn.Send(frame)) })
	if allocated > 0 || err != nil {
		t.Errorf("%v times memory was allocated for a frame; %v", allocated, err)
	}
}
