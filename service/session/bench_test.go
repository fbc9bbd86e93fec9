package session_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/presence"
	"github.com/tcmanager/tcmanager/service/project"
	"github.com/tcmanager/tcmanager/service/router"
	"github.com/tcmanager/tcmanager/service/rules"
	"github.com/tcmanager/tcmanager/service/scene"
	"github.com/tcmanager/tcmanager/service/session"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/wire"
)

// sink is a carrier whose network takes everything at once.
type sink struct {
	ctx  context.Context
	said int // of what is said, how much was received
	says []*pb.SubscribeRequest
	more chan struct{} // closed when all of says may be received
	over chan struct{}
	once sync.Once

	frames   atomic.Int64
	events   atomic.Int64 // bytes of frames without presence and answers
	answered atomic.Uint64
}

func (s *sink) Context() context.Context { return s.ctx }

func (s *sink) Send(f wire.Frame) error {
	switch b := f.Bytes(); {
	case len(b) > 1 && b[0] == 0x10: // reply_to
		if to, n := protowire.ConsumeVarint(b[1:]); n > 0 {
			s.answered.Store(to)
		}
	case len(b) > 0 && b[0] == 0x0a:
		s.events.Add(int64(len(b)))
	}
	s.frames.Add(1)
	return nil
}

func (s *sink) Recv() (*pb.SubscribeRequest, error) {
	if err := s.Wait(); err != nil {
		return nil, err
	}
	s.said++
	return s.says[s.said-1], nil
}

const greeting = 2 // a hello and a join

func (s *sink) Wait() error {
	if s.said < greeting {
		return nil
	}
	select {
	case <-s.more:
		if s.said < len(s.says) {
			return nil
		}
		<-s.over
	case <-s.over:
	}
	return errInterrupted
}

func (s *sink) Pending() bool {
	if s.said < greeting {
		return true
	}
	select {
	case <-s.more:
		return s.said < len(s.says)
	default:
		return false
	}
}

func (s *sink) Flushed(func()) bool { return true }
func (s *sink) Interrupt()          { s.once.Do(func() { close(s.over) }) }

// crowd is a server with many sessions in one room, or each in one of its own.
type crowd struct {
	b      *testing.B
	router *router.Router
	server *session.Server
	sinks  []*sink
	ended  sync.WaitGroup
}

// openRoom is a room that everybody may be in.
type openRoom struct{ project.Room }

func (openRoom) Snapshot(store.Reader, string, event.Room, *pb.Joined) error { return nil }

func newCrowd(b *testing.B, n int, direct bool, cfg session.Config, room func(int) string, says ...*pb.SubscribeRequest) *crowd {
	b.Helper()
	sc := scene.New(b)
	c := &crowd{b: b, router: router.New()}
	here := presence.New(c.router, presence.Options{})
	cfg.MaxSessions, cfg.MaxUserSessions = n+1, n+1
	c.server = session.NewServer(cfg, session.Deps{
		Store: sc.Store, Router: c.router, Presence: here,
		Rooms:    map[event.Kind]session.RoomSource{event.KindProject: openRoom{project.NewRoom(func(string) string { return "" })}},
		Validate: func(req *pb.SubscribeRequest) error { return rules.Message(req) },
	})
	for i := range n {
		c.open(i, direct, room(i), says)
	}
	b.Cleanup(func() {
		for _, s := range c.sinks {
			s.Interrupt()
		}
		c.ended.Wait()
		here.Close()
	})
	c.settle(func(s *sink) bool { return s.frames.Load() >= greeting })
	time.Sleep(300 * time.Millisecond) // nobody is at work any more
	return c
}

func (c *crowd) open(i int, direct bool, room string, says []*pb.SubscribeRequest) {
	ctx := identity.WithCaller(c.b.Context(), identity.Caller{
		User: &pb.User{Id: scene.Tester, Name: "Tester"}, ExpiresAt: time.Now().Add(time.Hour),
	})
	s := &sink{more: make(chan struct{}), over: make(chan struct{})}
	s.says = append([]*pb.SubscribeRequest{hello(""), joining(&pb.JoinRoom{Room: room})}, says...)
	s.ctx = ctx
	if direct {
		s.ctx = session.WithDirect(ctx, s)
	}
	c.sinks = append(c.sinks, s)
	c.ended.Go(func() { _ = c.server.Serve(s) })
	if i%100 == 0 {
		c.settle(func(s *sink) bool { return s.frames.Load() >= greeting })
	}
}

// settle waits until something holds for everybody.
func (c *crowd) settle(is func(*sink) bool) {
	c.b.Helper()
	deadline := time.Now().Add(time.Minute)
	for _, s := range c.sinks {
		for !is(s) {
			if time.Now().After(deadline) {
				c.b.Fatal("nothing happens any more")
			}
			time.Sleep(50 * time.Microsecond)
		}
	}
}

// updates are durable events of about 210 bytes, as of a test's execution.
func updates(b *testing.B, room event.Room, n int) []event.Event {
	b.Helper()
	d, err := event.NewDraft(room, time.Now(), nil, &pb.Event{Payload: &pb.Event_MemberChanged{
		MemberChanged: &pb.MemberChanged{ProjectId: fmt.Sprintf("%120d", 1)},
	}})
	if err != nil {
		b.Fatal(err)
	}
	out := make([]event.Event, n)
	for i := range out {
		out[i] = d.At(event.Position{Epoch: 1, Offset: uint64(i + 1)})
	}
	return out
}

func theRoom(int) string { return room }

// BenchmarkPaced brings one event after the other to 1,000 readers, each once all
// have had the one before.
func BenchmarkPaced(b *testing.B) {
	for _, direct := range []bool{true, false} {
		b.Run(fmt.Sprintf("direct=%v", direct), func(b *testing.B) {
			const readers = 1000
			c := newCrowd(b, readers, direct, session.Config{Linger: -1}, theRoom)
			events := updates(b, event.Room(room), b.N)
			base := make(map[*sink]int64, readers)
			for _, s := range c.sinks {
				base[s] = s.frames.Load()
			}
			b.ReportAllocs()
			b.ResetTimer()
			start := cpu()
			for i := range b.N {
				c.router.Publish(events[i : i+1])
				for _, s := range c.sinks {
					for s.frames.Load() < base[s]+int64(i)+1 {
						runtime.Gosched()
					}
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(cpu()-start)/float64(b.N*readers), "cpu-ns/delivery")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*readers), "ns/delivery")
		})
	}
}

// BenchmarkBurst brings 10,000 events to 1,000 readers as fast as they come.
func BenchmarkBurst(b *testing.B) {
	for _, direct := range []bool{true, false} {
		for _, batch := range []int{1, 20} {
			b.Run(fmt.Sprintf("direct=%v/batch=%d", direct, batch), func(b *testing.B) {
				const readers, burst = 1000, 10_000
				c := newCrowd(b, readers, direct, session.Config{QueueBytes: 64 << 20}, theRoom)
				events := updates(b, event.Room(room), b.N*burst)
				base := make(map[*sink]int64, readers)
				for _, s := range c.sinks {
					base[s] = s.events.Load()
				}
				var total int64
				b.ReportAllocs()
				b.ResetTimer()
				start := cpu()
				for n := range b.N {
					part := events[n*burst : (n+1)*burst]
					for i := 0; i < burst; i += batch {
						c.router.Publish(part[i : i+batch])
					}
					for _, ev := range part {
						total += int64(len(ev.Wire))
					}
					c.settle(func(s *sink) bool { return s.events.Load() >= base[s]+total })
				}
				b.StopTimer()
				b.ReportMetric(float64(cpu()-start)/float64(b.N*readers*burst), "cpu-ns/delivery")
				frames := int64(0)
				for _, s := range c.sinks {
					frames += s.frames.Load()
				}
				b.ReportMetric(float64(b.N*readers*burst)/float64(frames), "deliveries/frame")
			})
		}
	}
}

// BenchmarkIdle says what a session takes that does nothing, in a room of its own
// kind.
func BenchmarkIdle(b *testing.B) {
	for _, direct := range []bool{true, false} {
		b.Run(fmt.Sprintf("direct=%v", direct), func(b *testing.B) {
			const n = 5000
			for range b.N {
				before, goroutines := memory()
				c := newCrowd(b, n, direct, session.Config{}, theRoom)
				after, more := memory()
				b.ReportMetric(float64(after.HeapInuse-before.HeapInuse)/n, "heap-B/session")
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "alloc-B/session")
				b.ReportMetric(float64(after.StackInuse-before.StackInuse)/n, "stack-B/session")
				b.ReportMetric(float64(more-goroutines)/n, "goroutines/session")
				runtime.KeepAlive(c)
			}
		})
	}
}

// cpu is the time that this process was at work, in nanoseconds.
func cpu() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

func memory() (m runtime.MemStats, goroutines int) {
	for range 5 { // stacks shrink by half each time
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m, runtime.NumGoroutine()
}

// BenchmarkSignals carries out small updates of what a user does, each acknowledged.
func BenchmarkSignals(b *testing.B) {
	for _, direct := range []bool{true, false} {
		b.Run(fmt.Sprintf("direct=%v", direct), func(b *testing.B) {
			says := make([]*pb.SubscribeRequest, b.N+1)
			for i := range b.N {
				says[i] = &pb.SubscribeRequest{Id: uint64(i + 10), Frame: &pb.SubscribeRequest_Command{Command: signal(room, "title")}}
			}
			says[b.N] = &pb.SubscribeRequest{Id: uint64(b.N + 10), Frame: &pb.SubscribeRequest_Ping{Ping: &pb.Ping{}}}
			c := newCrowd(b, 1, direct, session.Config{}, theRoom, says...)
			b.ReportAllocs()
			b.ResetTimer()
			start := cpu()
			close(c.sinks[0].more)
			c.settle(func(s *sink) bool { return s.answered.Load() == uint64(b.N+10) })
			b.StopTimer()
			b.ReportMetric(float64(cpu()-start)/float64(b.N), "cpu-ns/signal")
		})
	}
}
