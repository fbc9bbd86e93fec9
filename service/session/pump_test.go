package session_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/presence"
	"github.com/tcmanager/tcmanager/service/router"
	"github.com/tcmanager/tcmanager/service/scene"
	"github.com/tcmanager/tcmanager/service/session"
	"github.com/tcmanager/tcmanager/service/store"
)

// heard returns the durable events that come until the client was quiet for a while.
func (c *client) heard(quiet time.Duration) (frames int, events []*pb.Event) {
	for {
		select {
		case b := <-c.out:
			n := len(events)
			for _, ev := range decode(c.st.t, b).Events {
				if ev.Offset > 0 {
					events = append(events, ev)
				}
			}
			if len(events) > n {
				frames++
			}
		case <-time.After(quiet):
			return frames, events
		}
	}
}

func TestManyPublishersAndASlowReaderLeaveNothingLying(t *testing.T) {
	onStage(t, session.Config{QueueBytes: 2 << 10}, func(t *testing.T, st *stage) {
		const publishers, each = 8, 25
		var clients []*client
		for range 4 { // so that workers have several
			c := st.connect(scene.Tester)
			c.hello("")
			c.join(&pb.JoinRoom{Room: room})
			clients = append(clients, c)
		}
		var done sync.WaitGroup
		for range publishers {
			done.Go(func() {
				for range each {
					st.say(1)
				}
			})
		}
		for i, c := range clients {
			done.Go(func() {
				var events []*pb.Event
				for len(events) < publishers*each {
					for _, ev := range c.next().Events {
						if ev.Offset > 0 {
							events = append(events, ev)
						}
					}
					time.Sleep(time.Duration(i) * time.Millisecond)
				}
				consecutive(t, 0, events)
			})
		}
		done.Wait()
		for _, c := range clients {
			c.quiet()
		}
	})
}

func TestAStreamThatHasNotFlushedIsNotWrittenTo(t *testing.T) {
	onStageOf(t, session.Config{Linger: -1}, direct, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		c.join(&pb.JoinRoom{Room: room})
		st.say(50)
		for range 5 {
			c.ping()
		}
		synctest.Wait()
		for events, pongs := 0, 0; events < 50 || pongs < 5; {
			frame := c.next()
			if frame.GetPong() != nil {
				pongs++
			}
			for _, ev := range frame.Events {
				if ev.Offset > 0 {
					events++
				}
			}
		}
		if c.lane.most > 1 {
			t.Errorf("%d frames were in the carrier at once", c.lane.most)
		}
	})
}

func TestAReaderOverHTTP2KeepsLittleInTheTransportAndDelaysNobody(t *testing.T) {
	onStageOf(t, session.Config{Linger: -1, QueueBytes: 1 << 20}, queued, func(t *testing.T, st *stage) {
		var clients []*client
		for range 2*runtime.GOMAXPROCS(0) + 1 { // some share the worker of the first
			c := st.connect(scene.Tester)
			c.hello("")
			c.join(&pb.JoinRoom{Room: room})
			clients = append(clients, c)
		}
		const n = 2000
		st.say(n)
		read := func(c *client) {
			for events := 0; events < n; {
				for _, ev := range c.next().Events {
					if ev.Offset > 0 {
						events++
					}
				}
			}
		}
		for _, c := range clients[1:] {
			read(c)
		}
		synctest.Wait()
		slow := clients[0]
		if slow.lane.large < 40<<10 || slow.lane.large > 100<<10 {
			t.Errorf("%d bytes waited in the transport of one that did not read", slow.lane.large)
		}
		read(slow)
	})
}

func TestTheFirstEventGoesAtOnceAndThoseAfterItTogether(t *testing.T) {
	onStage(t, session.Config{Linger: 12 * time.Millisecond}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		c.join(&pb.JoinRoom{Room: room})
		c.quiet()
		time.Sleep(time.Second)
		start := time.Now()
		st.say(1)
		c.durable(1)
		if d := time.Since(start); d != 0 {
			t.Errorf("the first event came after %v", d)
		}
		for range 5 { // all come within the linger
			time.Sleep(time.Millisecond)
			st.say(1)
		}
		synctest.Wait()
		select {
		case b := <-c.out:
			t.Errorf("after %v came %v", time.Since(start), decode(t, b))
		default:
		}
		c.ping()
		if frame := c.next(); frame.GetPong() == nil || time.Since(start) != 5*time.Millisecond {
			t.Errorf("after %v a ping was answered with %v", time.Since(start), frame)
		}
		c.durable(5) // in one frame
		if d := time.Since(start); d != 12*time.Millisecond {
			t.Errorf("the others came after %v", d)
		}
	})
}

func TestAFullFrameDoesNotLinger(t *testing.T) {
	onStage(t, session.Config{Linger: time.Minute, HeartbeatTimeout: time.Hour}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		c.join(&pb.JoinRoom{Room: room})
		time.Sleep(2 * time.Minute)
		c.quiet()
		st.say(1)
		c.durable(1)
		const n = 300 // of about 130 bytes
		st.say(n)
		if _, events := c.heard(time.Second); len(events) < n/2 {
			t.Errorf("%d events came within a second", len(events))
		}
	})
}

func TestAClientMayAskForNoDelay(t *testing.T) {
	onStage(t, session.Config{Linger: time.Hour}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		req := hello("")
		req.GetHello().NoDelay = true
		c.in <- req
		if c.next().GetWelcome() == nil {
			t.Fatal("no welcome")
		}
		c.join(&pb.JoinRoom{Room: room})
		start := time.Now()
		for range 5 {
			st.say(1)
			c.durable(1)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("five events took %v", d)
		}
	})
}

// stuckStore is a store that reads nothing for one caller of View at a time.
type stuckStore struct {
	store.Store
	hold atomic.Pointer[chan struct{}] // the next View waits until it is closed
}

func (s *stuckStore) View(ctx context.Context, fn func(store.Reader) error) error {
	if hold := s.hold.Swap(nil); hold != nil {
		<-*hold
	}
	return s.Store.View(ctx, fn)
}

func TestAReaderWhoseLogIsReadDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := router.New()
		st := &stage{t: t, over: direct, presence: presence.New(rt, presence.Options{})}
		st.Scene = scene.Listening(t, rt.Publish)
		stuck := &stuckStore{Store: st.Store}
		st.serve(session.Config{QueueBytes: 1 << 10, Linger: -1}, rt, stuck)
		var clients []*client
		for range 2*runtime.GOMAXPROCS(0) + 1 { // some share the worker of the first
			c := st.connect(scene.Viewer)
			c.hello("")
			c.join(&pb.JoinRoom{Room: room})
			clients = append(clients, c)
		}
		for _, c := range clients {
			c.quiet()
		}
		release := make(chan struct{})
		stuck.hold.Store(&release)
		st.server.Recheck(scene.Viewer) // one of them looks at its rights, and waits
		synctest.Wait()
		st.say(3)
		served := 0
		for _, c := range clients {
			if _, events := c.heard(time.Second); len(events) == 3 {
				served++
			}
		}
		if served != len(clients)-1 {
			t.Errorf("%d of %d were served while one waits for the store", served, len(clients))
		}
		close(release)
		for _, c := range clients {
			if _, events := c.heard(time.Second); len(events) == 3 {
				served++
			}
		}
		if served != len(clients) {
			t.Errorf("%d of %d were served", served, len(clients))
		}
		st.presence.Close()
	})
}

func TestAPanicOfACarrierEndsItsSessionAlone(t *testing.T) {
	onStage(t, session.Config{Linger: -1}, func(t *testing.T, st *stage) {
		var clients []*client
		for range 2*runtime.GOMAXPROCS(0) + 1 {
			c := st.connect(scene.Tester)
			c.hello("")
			c.join(&pb.JoinRoom{Room: room})
			clients = append(clients, c)
		}
		for _, c := range clients {
			c.quiet()
		}
		clients[0].broken.Store(true)
		st.say(3)
		if err := clients[0].ended(); err == nil || fault.Of(err) != nil || !strings.Contains(err.Error(), "a carrier that panics") {
			t.Errorf("the session ended with %v, want an internal error that says what panicked", err)
		}
		for _, c := range clients[1:] {
			consecutive(t, 0, c.durable(3))
		}
	})
}

func TestASessionEndsWhileItIsSentTo(t *testing.T) {
	onStage(t, session.Config{Linger: -1}, func(t *testing.T, st *stage) {
		for i := range 8 {
			c := st.connect(scene.Tester)
			id := c.hello("").SessionId
			c.join(&pb.JoinRoom{Room: room})
			var done sync.WaitGroup
			done.Go(func() { st.say(10) })
			if i%2 == 0 {
				done.Go(func() { st.connect(scene.Tester).hello(id) })
			} else {
				done.Go(c.cancel)
			}
			if err := c.ended(); err == nil {
				t.Error("the session ended well")
			}
			done.Wait()
		}
	})
}

func TestNobodyIsAtWorkForAnIdleServer(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		const n = 10
		var clients []*client
		for range n {
			c := st.connect(scene.Tester)
			c.hello("")
			c.join(&pb.JoinRoom{Room: room})
			clients = append(clients, c)
		}
		st.say(3)
		for _, c := range clients {
			if _, events := c.heard(time.Second); len(events) != 3 {
				t.Fatalf("heard %d events", len(events))
			}
		}
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		want := map[string]int{"session.(*Server).Serve": n, "session.(*Session).receive": n, "session.(*hands).work": 0}
		if st.over == direct {
			want["session.(*Session).receive"] = 0 // the handler's goroutine waits
		}
		for what, n := range want {
			if got := strings.Count(string(stacks), "service/"+what+"("); got != n {
				t.Errorf("%d goroutines are in %s, want %d", got, what, n)
			}
		}
	})
}

func TestSignalsAreAcknowledgedTogether(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		c.join(&pb.JoinRoom{Room: room})
		say := func(id uint64, field string) {
			c.in <- &pb.SubscribeRequest{Id: id, Frame: &pb.SubscribeRequest_Command{Command: signal(room, field)}}
		}
		synctest.Wait()
		for id := uint64(10); id <= 20; id++ {
			field := "title"
			if id == 15 {
				field = "No such field"
			}
			say(id, field)
		}
		say(0, "title") // its client doesn't care
		var answered []uint64
		for frame := range c.waiting() {
			if frame.ReplyTo == 0 {
				continue
			}
			refused := frame.GetError() != nil
			if refused != (frame.ReplyTo == 15) || !refused && (frame.GetAck() == nil || frame.GetAck().Result != nil || frame.GetAck().RequestId != "") {
				t.Errorf("answered with %v", frame)
			}
			answered = append(answered, frame.ReplyTo)
		}
		refused := slices.Index(answered, 15)
		acks := slices.DeleteFunc(slices.Clone(answered), func(id uint64) bool { return id == 15 })
		if refused < 0 || !slices.IsSorted(acks) || acks[len(acks)-1] != 20 {
			t.Errorf("the answers were to %v, want them in order and the last to 20", answered)
		}
		if i := slices.IndexFunc(answered, func(id uint64) bool { return id > 15 }); i < refused {
			t.Errorf("the answers were to %v, want the refusal before what stands for it", answered)
		}
	})
}

// While nobody else is in the way, a right that is lost is lost for the next signal.
func TestWhoComesFindsWhatNobodyElseHeard(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		first := st.connect(scene.Tester)
		first.hello("")
		first.join(&pb.JoinRoom{Room: room})
		for _, field := range []string{"title", "steps", "title"} {
			first.do(signal(room, field))
			if frame := first.answer(); frame.GetAck() == nil {
				t.Fatalf("answered with %v", frame)
			}
		}
		second := st.connect(scene.Tester)
		second.hello("")
		joined := second.join(&pb.JoinRoom{Room: room})
		if doing := joined.Activity; len(doing) != 1 || doing[0].Field != "title" {
			t.Fatalf("who came found %v", doing)
		}
		first.do(signal(room, "steps"))
		var told []string
		for frame := range second.waiting() {
			for _, ev := range frame.Events {
				if a := ev.GetActivity(); a != nil {
					told = append(told, a.State.String()[15:]+" "+a.Field)
				}
			}
		}
		if want := []string{"LEFT title", "FOCUSED steps"}; !slices.Equal(told, want) {
			t.Errorf("who came was told %q, want %q", told, want)
		}
	})
}

func TestASignalNeedsTheRightOfItsMoment(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		c.join(&pb.JoinRoom{Room: room})
		role := []pb.Role{pb.Role_ROLE_VIEWER, pb.Role_ROLE_TESTER}
		for i := range 6 {
			c.do(signal(room, fmt.Sprintf("f%d", i)))
			frame := c.answer()
			if may := i%2 == 0; may != (frame.GetAck() != nil) || may == (frame.GetError() != nil) {
				t.Fatalf("signal %d was answered with %v", i, frame)
			}
			st.Update(func(tx store.Tx) error { return tx.PutMember(scene.ProjectID, scene.Tester, role[i%2]) })
			st.server.Recheck(scene.Tester)
		}
	})
}
