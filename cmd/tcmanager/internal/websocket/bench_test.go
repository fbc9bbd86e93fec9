package websocket

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/wire"
)

// each is how many messages of BenchmarkSend a connection gets: the kernel takes
// them all, though nobody reads.
const each = 200

// BenchmarkSend sends an event of about 210 bytes to many readers over the loopback
// device, beside writes of as many bytes. Run it with -benchtime=20000x or so.
func BenchmarkSend(b *testing.B) {
	frame, err := wire.Encode(&pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Reset_{Reset_: &pb.Reset{Reason: strings.Repeat("x", 200)}}})
	if err != nil {
		b.Fatal(err)
	}
	for name, encrypted := range map[string]bool{"plain": false, "TLS": true} {
		b.Run(name, func(b *testing.B) {
			calls := make(chan testCall)
			r := start(b, func(c testCall) error {
				if err := c.SendHeader(nil); err != nil {
					return err
				}
				calls <- c
				<-c.Context().Done()
				return nil
			}, encrypted)
			var streams []testCall
			for range 1 + b.N/each {
				r.open(b)
				streams = append(streams, <-calls)
			}
			var boxed any = &frame
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if err := streams[i/each].SendMsg(boxed); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			for _, c := range streams {
				if !c.conn.Flushed(nil) {
					b.Error("the kernel did not take all")
				}
			}
		})
	}
	b.Run("bare write", func(b *testing.B) {
		l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		var conns []net.Conn
		for range 1 + b.N/each {
			reader, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", l.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = reader.Close() }()
			c, err := l.Accept()
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			conns = append(conns, c)
		}
		p := frame.Websocket()
		b.ReportAllocs()
		b.ResetTimer()
		for i := range b.N {
			if _, err := conns[i/each].Write(p); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkReceive receives requests of a few bytes as fast as they come.
func BenchmarkReceive(b *testing.B) {
	done := make(chan struct{})
	r := start(b, func(c testCall) error {
		defer close(done)
		req := &pb.SubscribeRequest{}
		if err := c.RecvMsg(req); err != nil {
			return err
		}
		b.ReportAllocs()
		b.ResetTimer()
		for range b.N {
			if err := c.RecvMsg(req); err != nil {
				b.Error(err)
				return err
			}
		}
		b.StopTimer()
		return nil
	}, false)
	c := r.open(b)
	go func() {
		many := strings.Repeat(string(request(1)), 1000)
		for {
			if _, err := io.WriteString(c.conn, many); err != nil {
				return
			}
		}
	}()
	<-done
}

// BenchmarkIdle opens connections whose handlers wait, and reports what one holds
// of the server's memory: run it with -benchtime=1x. Each costs two descriptors.
func BenchmarkIdle(b *testing.B) {
	const connections = 5000
	for name, encrypted := range map[string]bool{"plain": false, "TLS": true} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				r := start(b, func(c testCall) error {
					_, err := c.recv()
					return err
				}, encrypted)
				goroutines, before := runtime.NumGoroutine(), held()
				files := make([]io.Closer, 0, connections)
				for range connections {
					files = append(files, r.bare(b))
				}
				time.Sleep(time.Second)
				b.ReportMetric(float64(held()-before)/connections/1024, "KB/connection")
				b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/connections, "goroutines/connection")
				for _, f := range files {
					_ = f.Close()
				}
			}
		})
	}
}

// bare opens a call and keeps nothing of the client but its descriptor.
func (r *rig) bare(b *testing.B) io.Closer {
	b.Helper()
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", r.addr)
	if err != nil {
		b.Fatal(err)
	}
	file, err := conn.(*net.TCPConn).File()
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	talk := conn
	if r.tls != nil {
		talk = tls.Client(conn, r.tls)
	}
	if _, err := io.WriteString(talk, "GET "+method+" HTTP/1.1\r\nHost: "+r.addr+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: grpc-websockets\r\n\r\n"); err != nil {
		b.Fatal(err)
	}
	if _, err := talk.Read(make([]byte, 1000)); err != nil {
		b.Fatal(err)
	}
	headers := okHeaders + "authorization: Bearer " + strings.Repeat("t", 400) + "\r\n"
	if _, err := talk.Write(frame(0x82, []byte(headers))); err != nil {
		b.Fatal(err)
	}
	return file
}

// held is what the process holds for objects and stacks.
func held() int64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
