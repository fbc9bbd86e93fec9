package session

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/test/bufconn"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/wire"
)

// subscribing calls a function for each Subscribe.
type subscribing struct {
	pb.UnimplementedRealtimeServiceServer
	serve func(grpcStream) error
}

func (s subscribing) Subscribe(stream grpc.BidiStreamingServer[pb.SubscribeRequest, pb.SubscribeResponse]) error {
	return s.serve(grpcStream{stream})
}

// raw decodes nothing.
type raw struct{ b []byte }

func (r *raw) DecodeMessage(b []byte) error {
	r.b = slices.Clone(b)
	return nil
}

// overHTTP2 runs a function over a stream of a real server, in a bubble, where a Send that
// waits for ever is found out. The client is given the other end once the function
// has called read, or returned.
func overHTTP2(t *testing.T, serve func(q *queued, read func()), client func(grpc.ClientStream) error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := bufconn.Listen(1 << 10)
		srv := grpc.NewServer(grpc.ForceServerCodecV2(wire.NewCodec()))
		reads := make(chan struct{})
		pb.RegisterRealtimeServiceServer(srv, subscribing{serve: func(s grpcStream) error {
			begun := false
			read := func() {
				if !begun {
					begun = true
					close(reads)
				}
			}
			defer read()
			serve(&queued{to: sender(s.BidiStreamingServer)}, read)
			return nil
		}})
		served := make(chan error)
		go func() { served <- srv.Serve(l) }()
		conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
			grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(64<<10))
		if err != nil {
			t.Fatal(err)
		}
		stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
			pb.RealtimeService_Subscribe_FullMethodName, grpc.ForceCodecV2(encoding.CodecV2(wire.NewCodec())))
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-reads:
			defer time.AfterFunc(time.Minute, func() { _ = conn.Close() }).Stop()
			if err := client(stream); err != nil {
				t.Error(err)
			}
		case <-time.After(time.Minute): // of the bubble's time
			t.Error("a Send waits")
		}
		_ = conn.Close() // nothing is expected of it any more
		srv.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// numbered is a frame of a size that begins with a number.
func numbered(n uint64, size int) wire.Frame {
	return wire.Join(binary.BigEndian.AppendUint64(nil, n), make([]byte, size-8))
}

// TestNoSendOnAnHTTP2StreamWaits sends frames of all sizes to a client that doesn't
// read until no more may be sent, lets it read some, and goes on when that is told.
func TestNoSendOnAnHTTP2StreamWaits(t *testing.T) {
	const total = 2 << 20
	for name, sizeOf := range map[string]func(n uint64) int{
		"small": func(uint64) int { return 200 }, "full": func(uint64) int { return frameBytes },
		"mixed": func(n uint64) int { return 8 + int(n*n*7919%(3*frameBytes)) },
	} {
		t.Run(name, func(t *testing.T) {
			var sent uint64
			overHTTP2(t, func(q *queued, read func()) {
				ready, waited := make(chan struct{}, 1), 0
				for bytes := 0; bytes < total; sent++ {
					for !q.Flushed(func() { ready <- struct{}{} }) {
						waited++
						read()
						select {
						case <-ready:
						case <-q.to.Context().Done():
							t.Error("what may be sent is not told")
							return
						}
					}
					size := sizeOf(sent)
					if err := q.Send(numbered(sent, size)); err != nil {
						t.Error(err)
						return
					}
					bytes += size
				}
				if waited < 10 {
					t.Errorf("the client was waited for %d times", waited)
				}
			}, func(stream grpc.ClientStream) error {
				for n := uint64(0); ; n++ {
					var r raw
					if err := stream.RecvMsg(&r); errors.Is(err, io.EOF) {
						if n != sent {
							t.Errorf("%d of %d frames came", n, sent)
						}
						return nil
					} else if err != nil {
						return err
					}
					if got := binary.BigEndian.Uint64(r.b); got != n || len(r.b) != sizeOf(n) {
						t.Fatalf("frame %d came with %d bytes instead of %d", got, len(r.b), n)
					}
				}
			})
		})
	}
}

// counting counts what is sent.
type counting struct {
	grpc.ServerStream
	n int
}

func (c *counting) SendMsg(any) error {
	c.n++
	return nil
}

// aside has nothing to do with what is sent.
type aside struct{ grpc.ServerStream }

func (a aside) Sends() grpc.ServerStream { return a.ServerStream }

func (a aside) SendMsg(any) error { panic("this way is longer") }

func TestWhatIsSentIsCountedOnTheShortestWay(t *testing.T) {
	c := &counting{}
	q := &queued{to: sender(&grpc.GenericServerStream[pb.SubscribeRequest, pb.SubscribeResponse]{ServerStream: aside{aside{c}}})}
	if err := q.Send(numbered(0, 100)); err != nil || c.n != 1 {
		t.Errorf("%d frames were counted; %v", c.n, err)
	}
}

// TestWhatAnHTTP2StreamHoldsIsBounded looks at what is sent to a client that reads
// nothing.
func TestWhatAnHTTP2StreamHoldsIsBounded(t *testing.T) {
	overHTTP2(t, func(q *queued, _ func()) {
		for q.Flushed(func() {}) {
			if err := q.Send(numbered(0, 1000)); err != nil {
				t.Error(err)
				return
			}
			synctest.Wait()
		}
		if held := q.waiting.Load(); held < maxQueued || held > maxQueued+frameBytes {
			t.Errorf("%d bytes wait", held)
		}
	}, func(grpc.ClientStream) error { return nil })
}
