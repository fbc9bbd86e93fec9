package edge

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	lane "github.com/tcmanager/tcmanager/cmd/tcmanager/internal/websocket"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

type stream = grpc.BidiStreamingServer[pb.SubscribeRequest, pb.SubscribeResponse]

func TestACallByPOST(t *testing.T) {
	r := start(t, echo)
	resp, body := r.post(t, "Origin", origin)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Access-Control-Allow-Origin") != origin {
		t.Fatal(resp.Status, resp.Header)
	}
	in := bytes.NewReader(body)
	b, _, err := frame(in)
	if err != nil {
		t.Fatal(err)
	}
	var info pb.GetServerInfoResponse
	if err := proto.Unmarshal(b, &info); err != nil || !strings.HasPrefix(info.Version, "127.0.0.1:") {
		t.Error(info.Version, err)
	}
	if _, trailers, err := frame(in); err != nil || trailers.Get("Grpc-Status") != "0" {
		t.Error(trailers, err)
	}
}

func TestASessionOverAWebsocket(t *testing.T) {
	bothWays(t, func(t *testing.T, start starter) {
		r := start(t, echo)
		c := r.open(t)
		for id := range uint64(100) { // each answered before the next is sent: it is full duplex
			c.send(&pb.SubscribeRequest{Id: id + 1})
			if id == 0 {
				if _, headers, err := frame(c.in); err != nil || headers == nil {
					t.Fatal("no headers first:", err)
				}
			}
			b, _, err := frame(c.in)
			var resp pb.SubscribeResponse
			if err = errors.Join(err, proto.Unmarshal(b, &resp)); err != nil || resp.ReplyTo != id+1 {
				t.Fatal(&resp, err)
			}
		}
		c.write(websocket.MessageBinary, []byte{1}) // the client has finished
		if _, trailers, err := frame(c.in); err != nil || trailers.Get("Grpc-Status") != "0" {
			t.Error(trailers, err)
		}
		if _, _, err := c.conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
			t.Error(err)
		}
		r.endedBecause(t, "closed", 1)
	})
}

func TestForeignPagesAreRefused(t *testing.T) {
	bothWays(t, func(t *testing.T, start starter) {
		r := start(t, echo, func(c *Config) { c.AllowedOrigins = []string{"https://host.example.org"} })
		_, port, err := net.SplitHostPort(r.addr)
		if err != nil {
			t.Fatal(err)
		}
		for o, allowed := range map[string]bool{
			origin:                               true,
			"https://host.example.org":           true,
			"http://127.0.0.1:" + port:           true,
			"http://localhost:" + port:           true,
			"http://[::1]:" + port:               true,
			"":                                   false,
			"null":                               false,
			"https://evil.example.org":           false,
			"https://tests.example.org.evil.org": false,
			"http://tests.example.org":           false,
			"https://tests.example.org:444":      false,
			"http://localhost:1":                 false,
		} {
			h := http.Header{}
			if o != "" {
				h.Set("Origin", o)
			}
			_, resp, err := r.dial(t, r.path, h)
			if (err == nil) != allowed || err != nil && resp.StatusCode != http.StatusForbidden {
				t.Errorf("websocket from %q: %v", o, err)
			}
			var headers []string
			if o != "" {
				headers = []string{"Origin", o}
			}
			resp, _ = r.post(t, headers...)
			if want := allowed || o == ""; (resp.StatusCode == http.StatusOK) != want { // a program has no origin
				t.Errorf("POST from %q: %s", o, resp.Status)
			}
		}
		resp, _ := r.do(t, http.MethodOptions, infoPath, nil, "Origin", "https://evil.example.org",
			"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "x-grpc-web,content-type,authorization")
		if resp.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Error("a foreign page may ask:", resp.Header)
		}
		resp, _ = r.do(t, http.MethodOptions, infoPath, nil, "Origin", "https://host.example.org",
			"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "x-grpc-web,content-type,authorization")
		if resp.Header.Get("Access-Control-Allow-Origin") != "https://host.example.org" {
			t.Error("an allowed page may not ask:", resp.Status, resp.Header)
		}
	})
}

func TestAMethodThatDoesNotExistHasNoWebsocket(t *testing.T) {
	r := start(t, echo)
	_, resp, err := r.dial(t, "/tcmanager.v1.RealtimeService/Nothing", nil)
	if err == nil || resp.StatusCode != http.StatusNotFound {
		t.Error(err)
	}
}

func TestForwardedHeadersAreNotBelieved(t *testing.T) {
	r := start(t, echo)
	_, body := r.post(t, "X-Forwarded-For", "203.0.113.9", "Forwarded", "for=203.0.113.9", "X-Real-Ip", "203.0.113.9")
	if strings.Contains(string(body), "203.0.113.9") || !strings.Contains(string(body), "127.0.0.1:") {
		t.Errorf("%q", body)
	}
}

func TestASocketThatNeverSendsItsHeaderBlockIsClosed(t *testing.T) {
	bothWays(t, func(t *testing.T, start starter) {
		r := start(t, echo, func(c *Config) { c.AuthTimeout = 150 * time.Millisecond })
		c, _, err := r.dial(t, r.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, _, err := c.conn.Read(t.Context()); err == nil {
			t.Error("an answer to nothing")
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Error("closed after", took)
		}
		r.endedBecause(t, "late", 1)
	})
}

func TestPingsDoNotExtendTheTimeForTheHeaderBlock(t *testing.T) {
	bothWays(t, func(t *testing.T, start starter) {
		r := start(t, echo, func(c *Config) { c.AuthTimeout = 150 * time.Millisecond })
		c, _, err := r.dial(t, r.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx := c.conn.CloseRead(t.Context())
		for ctx.Err() == nil {
			_ = c.conn.Ping(ctx)
			time.Sleep(time.Millisecond) // a flood of them would be one
		}
		r.endedBecause(t, "late", 1)
	})
}

func TestWhatIsNoHeaderBlockLeavesNothingBehind(t *testing.T) {
	bothWays(t, func(t *testing.T, start starter) {
		r := start(t, echo)
		attempts := map[string]func(*client){
			"text":            func(c *client) { c.write(websocket.MessageText, []byte(headerBlockOK)) },
			"no content type": func(c *client) { c.write(websocket.MessageBinary, []byte("x-grpc-web: 1\r\n")) },
			"base64": func(c *client) {
				c.write(websocket.MessageBinary, []byte("content-type: application/grpc-web-text\r\n"))
			},
			"no headers":   func(c *client) { c.write(websocket.MessageBinary, []byte("\x00\x01 no headers")) },
			"nothing":      func(c *client) { c.write(websocket.MessageBinary, nil) },
			"far too long": func(c *client) { _ = c.conn.Write(c.t.Context(), websocket.MessageBinary, make([]byte, 200_000)) },
			"a ping, then text": func(c *client) {
				ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Millisecond)
				defer cancel()
				_ = c.conn.Ping(ctx) // nobody reads the pong
				c.write(websocket.MessageText, []byte("x"))
			},
		}
		for name, attempt := range attempts {
			c, _, err := r.dial(t, r.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			attempt(c)
			if _, _, err := c.conn.Read(t.Context()); err == nil {
				t.Error(name, "was answered")
			}
		}
		r.endedBecause(t, "malformed", len(attempts))
		// goleak sees whether the library's goroutines have ended.
	})
}

// raw opens a websocket without a client behind it that would answer pings.
func (r *rig) raw(t *testing.T, then []byte) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.(*net.TCPConn).SetReadBuffer(4096); err != nil { // so that whoever reads nothing is noticed soon
		t.Fatal(err)
	}
	if r.tls != nil {
		config := r.tls.Clone()
		config.ServerName = "localhost"
		conn = tls.Client(conn, config)
	}
	request := "GET " + r.path + " HTTP/1.1\r\nHost: " + r.addr + "\r\nOrigin: " + origin + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: grpc-websockets\r\n\r\n"
	if _, err := conn.Write(append([]byte(request), then...)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// masked is a frame as clients send it, with a mask of zeroes.
func masked(opcode byte, payload []byte) []byte {
	f := []byte{0x80 | opcode, 0x80 | 126, byte(len(payload) >> 8), byte(len(payload)), 0, 0, 0, 0}
	return append(f, payload...)
}

func TestFramesOfNoKnownKindLeaveNothingBehind(t *testing.T) {
	bothWays(t, func(t *testing.T, start starter) {
		r := start(t, echo)
		for i, f := range [][]byte{
			{0x82, 0x01, 'x'},       // not masked
			masked(0x3, []byte("")), // an opcode nobody has defined
			{0xf2, 0x80, 0, 0, 0, 0},
			masked(0x0, []byte("a continuation of nothing")),
		} {
			conn := r.raw(t, f)
			if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
				t.Error(err)
			}
			r.endedBecause(t, "malformed", i+1)
		}
	})
}

func TestAHeaderBlockRightBehindTheUpgradeIsRead(t *testing.T) {
	bothWays(t, func(t *testing.T, start starter) {
		r := start(t, echo)
		conn := r.raw(t, append(masked(opBinary, []byte(headerBlockOK)), masked(opBinary, append([]byte{0}, framed(t, &pb.SubscribeRequest{Id: 7})...))...))
		br := bufio.NewReader(conn)
		resp, err := http.ReadResponse(br, nil)
		if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatal(resp, err)
		}
		b := make([]byte, 2+5)
		if _, err := io.ReadFull(br, b); err != nil || b[2] != 0x80 {
			t.Error(b, err)
		}
	})
}

func TestAPeerThatHasGoneSilentIsNoticed(t *testing.T) {
	bothWays(t, func(t *testing.T, start starter) {
		r := start(t, echo, func(c *Config) { c.IdleTimeout = 200 * time.Millisecond })
		conn := r.raw(t, masked(opBinary, []byte(headerBlockOK)))
		r.endedBecause(t, "silent", 1)
		_, _ = io.Copy(io.Discard, conn) // what was sent before is of no interest
	})
}

func TestPongsKeepAQuietPeerConnected(t *testing.T) {
	bothWays(t, func(t *testing.T, start starter) {
		// The shortest interval between pings is a second.
		r := start(t, echo, func(c *Config) { c.PingInterval, c.IdleTimeout = time.Second, 1800*time.Millisecond })
		pinged := make(chan struct{}, 10)
		conn, _, err := websocket.Dial(t.Context(), "ws://"+r.addr+r.path, &websocket.DialOptions{
			HTTPClient: r.sockets, Subprotocols: []string{"grpc-websockets"}, HTTPHeader: http.Header{"Origin": {origin}},
			OnPingReceived: func(context.Context, []byte) bool { pinged <- struct{}{}; return true }, // and answer it
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.CloseNow() }()
		if err := conn.Write(t.Context(), websocket.MessageBinary, []byte(headerBlockOK)); err != nil {
			t.Fatal(err)
		}
		ctx := conn.CloseRead(t.Context())
		for range 3 { // the third comes later than the deadline without the first two
			select {
			case <-pinged:
			case <-ctx.Done():
				t.Fatal("closed")
			}
		}
	})
}

func TestASlowReaderIsCutOff(t *testing.T) {
	bothWays(t, func(t *testing.T, start starter) {
		for name, encrypted := range map[string]bool{"in plain text": false, "over TLS": true} {
			t.Run(name, func(t *testing.T) { slowReaderIsCutOff(t, start, encrypted) })
		}
	})
}

func slowReaderIsCutOff(t *testing.T, start starter, encrypted bool) {
	sent := make(chan int, 1)
	r := start(t, func(s stream) error {
		n := 0
		defer func() { sent <- n }()
		m := &pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Reset_{Reset_: &pb.Reset{Reason: strings.Repeat("x", 100_000)}}}
		for {
			if err := s.Send(m); err != nil {
				return err
			}
			n++
		}
	}, func(c *Config) { c.WriteStall, c.TLS = 200*time.Millisecond, encrypted })
	r.raw(t, masked(opBinary, []byte(headerBlockOK)))
	began := time.Now()
	n := <-sent
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it took %s: something was said to somebody who doesn't listen", took)
	}
	// Some hundreds are thrown away between the cut and the handler's hearing of it.
	if n > 1000 {
		t.Errorf("%d messages of 100 kB were taken for somebody who reads nothing", n)
	}
	r.endedBecause(t, "stalled", 1)
}

// unread sends to a handler that receives nothing until the server, or ctx, ends it,
// and returns how much went in and how much the heap grew by that.
func (c *client) unread(ctx context.Context) (sent, grown int64) {
	before := heap()
	frame := append([]byte{0}, framed(c.t, &pb.SubscribeRequest{Frame: &pb.SubscribeRequest_Leave{Leave: &pb.LeaveRoom{Room: strings.Repeat("x", 100_000)}}})...)
	peak := before
	for {
		if err := c.conn.Write(ctx, websocket.MessageBinary, frame); err != nil {
			break
		}
		if sent += int64(len(frame)); sent%(5*int64(len(frame))) == 0 {
			peak = max(peak, heap())
		}
		if sent > 1<<30 {
			c.t.Fatal("a gigabyte went in")
		}
	}
	grown = max(peak, heap()) - before
	c.t.Logf("%d kB sent, heap grew by %d kB", sent>>10, grown>>10)
	return sent, grown
}

func TestSendingWithoutBeingReadIsHeldBack(t *testing.T) {
	r := start(t, func(s stream) error {
		<-s.Context().Done() // receives nothing
		return s.Context().Err()
	})
	c := r.open(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, grown := c.unread(ctx); grown > 2<<20 || ctx.Err() == nil {
		t.Errorf("the heap grew by %d kB; %v", grown>>10, ctx.Err())
	}
}

func TestSendingWithoutBeingReadIsBounded(t *testing.T) {
	release := make(chan struct{})
	r := start(t, func(s stream) error {
		<-s.Context().Done() // receives nothing
		<-release
		return s.Context().Err()
	})
	r.path = wrappedPath
	_, grown := r.open(t).unread(t.Context())
	close(release)
	if grown > 32<<20 {
		t.Errorf("the heap grew by %d MB for a window of 2 MB", grown>>20)
	}
	r.endedBecause(t, "flood", 1)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestAMessageOverTheLimitEndsTheSocket(t *testing.T) {
	bothWays(t, func(t *testing.T, start starter) {
		r := start(t, echo)
		c := r.open(t)
		big := append([]byte{0}, make([]byte, 1<<20+readLimitSlack)...)
		_ = c.conn.Write(t.Context(), websocket.MessageBinary, big) // fails if the server is quicker
		if _, err := io.Copy(io.Discard, c.in); err == nil {
			t.Error("still open")
		}
	})
}

func TestTheLargestMessageGetsThrough(t *testing.T) {
	bothWays(t, func(t *testing.T, start starter) {
		r := start(t, echo, func(c *Config) { c.MaxMessageBytes = 4 << 20 })
		c := r.open(t)
		room := strings.Repeat("x", 4<<20-30)
		for id := range uint64(5) {
			c.send(&pb.SubscribeRequest{Id: id + 1, Frame: &pb.SubscribeRequest_Leave{Leave: &pb.LeaveRoom{Room: room}}})
			if id == 0 {
				if _, headers, err := frame(c.in); err != nil || headers == nil {
					t.Fatal(err)
				}
			}
			if _, headers, err := frame(c.in); err != nil || headers != nil {
				t.Fatal(headers, err)
			}
		}
	})
}

func TestCloseEndsWebsockets(t *testing.T) {
	bothWays(t, func(t *testing.T, start starter) {
		began, ended := make(chan struct{}), make(chan struct{})
		r := start(t, func(s stream) error {
			close(began)
			defer close(ended)
			<-s.Context().Done()
			return s.Context().Err()
		})
		c := r.open(t)
		c.send(&pb.SubscribeRequest{Id: 1})
		<-began
		r.eventually(t, "# HELP tcmanager_websockets Open websockets.\n# TYPE tcmanager_websockets gauge\ntcmanager_websockets 1\n", "tcmanager_websockets")
		r.Stopping()
		if _, resp, err := r.dial(t, r.path, nil); err == nil || resp.StatusCode != http.StatusServiceUnavailable {
			t.Error("a stopping server takes more:", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := r.Close(ctx); err != nil {
			t.Fatal(err)
		}
		<-ended
		if _, _, err := c.conn.Read(t.Context()); err == nil {
			t.Error("still open")
		}
	})
}

func FuzzHeaderBlock(f *testing.F) {
	f.Add(masked(opBinary, []byte(headerBlockOK)), uint8(1))
	f.Add(append(masked(opPing, []byte("hi")), masked(opBinary, []byte("a: b\r\n"))...), uint8(3))
	f.Add([]byte{0x82, 0xff, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 1, 2, 3, 4}, uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		whole, pieces := &headerBlock{}, &headerBlock{}
		wantErr := whole.feed(b)
		var gotErr error
		for rest := b; len(rest) > 0 && gotErr == nil; {
			n := min(int(step)+1, len(rest))
			gotErr = pieces.feed(rest[:n])
			rest = rest[n:]
		}
		if (wantErr == nil) != (gotErr == nil) || whole.complete != pieces.complete {
			t.Errorf("at once %v %v, in pieces %v %v", whole.complete, wantErr, pieces.complete, gotErr)
		}
		if len(whole.message) > lane.MaxHeaderBlock {
			t.Errorf("%d bytes are kept", len(whole.message))
		}
	})
}

func TestABodyThatComesInSmallPiecesIsReadInWholeBuffers(t *testing.T) {
	want := []byte(strings.Repeat("0123456789", 5000))
	small := io.NopCloser(iotest.HalfReader(io.LimitReader(iotest.OneByteReader(bytes.NewReader(want)), int64(len(want)))))
	body := &postBody{ReadCloser: small, control: http.NewResponseController(httptest.NewRecorder())}
	var got []byte
	for reads := 0; ; reads++ {
		p := make([]byte, 16<<10)
		n, err := body.Read(p)
		got = append(got, p[:n]...)
		if err != nil {
			if !errors.Is(err, io.EOF) || !bytes.Equal(got, want) || reads > 3 {
				t.Errorf("%d bytes in %d reads: %v", len(got), reads, err)
			}
			return
		}
	}
}
