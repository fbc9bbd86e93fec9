package session_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/scene"
	"github.com/tcmanager/tcmanager/service/session"
	"github.com/tcmanager/tcmanager/service/store"
)

const (
	streaming = pb.WatchMode_WATCH_MODE_STREAM
	longPoll  = pb.WatchMode_WATCH_MODE_LONG_POLL
	poll      = pb.WatchMode_WATCH_MODE_POLL
)

// welcomed returns the answer to the hello of a Watch.
func (c *client) welcomed() *pb.Welcome {
	c.st.t.Helper()
	w := c.answer()
	if w.GetWelcome() == nil || w.ReplyTo != 1 {
		c.st.t.Fatalf("the hello was answered with %v", w)
	}
	return w.GetWelcome()
}

// endsWell returns the frames up to the end of a Watch, which must be a good one.
func (c *client) endsWell() (frames []*pb.SubscribeResponse) {
	c.st.t.Helper()
	for {
		select {
		case err := <-c.done:
			if err != nil {
				c.st.t.Fatalf("the Watch ended with %v", err)
			}
			return frames
		case b := <-c.out:
			frames = append(frames, decode(c.st.t, b))
		case <-time.After(time.Hour):
			c.st.t.Fatal("the Watch did not end")
		}
	}
}

func joinedOf(frames []*pb.SubscribeResponse) *pb.Joined {
	for _, f := range frames {
		if j := f.GetJoined(); j != nil {
			return j
		}
	}
	return nil
}

func eventsOf(frames []*pb.SubscribeResponse) (events []*pb.Event) {
	for _, f := range frames {
		for _, ev := range f.Events {
			if ev.Offset > 0 {
				events = append(events, ev)
			}
		}
	}
	return events
}

func TestAWatchHearsWhatASubscriptionHearsAndGoesOnAcrossCarriers(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		sub := st.connect(scene.Tester)
		id := sub.hello("").SessionId
		at := sub.join(&pb.JoinRoom{Room: room}).Position
		st.say(3)
		consecutive(t, at.Offset, sub.durable(3))
		sub.cancel()
		st.say(2) // missed

		w := st.watch(scene.Tester, streaming, hello(id), joining(&pb.JoinRoom{Room: room, Position: &pb.Position{Epoch: at.Epoch, Offset: at.Offset + 3}}))
		if got := w.welcomed(); got.SessionId != id {
			t.Errorf("the Watch is session %s, want %s", got.SessionId, id)
		}
		if j := w.answer(); j.ReplyTo != 2 || !j.GetJoined().GetRecovered() {
			t.Fatalf("the join was answered with %v", j)
		}
		consecutive(t, at.Offset+3, w.durable(2))
		st.say(1)
		last := w.durable(1)
		consecutive(t, at.Offset+5, last)

		back := st.connect(scene.Tester)
		back.hello(id)
		if err := w.ended(); !fault.IsReason(err, "SESSION_RESUMED_ELSEWHERE") {
			t.Errorf("the Watch ended with %v", err)
		}
		st.say(2)
		if j := back.join(&pb.JoinRoom{Room: room, Position: &pb.Position{Epoch: last[0].Epoch, Offset: last[0].Offset}}); !j.Recovered {
			t.Errorf("came back to a snapshot: %v", j)
		}
		consecutive(t, at.Offset+6, back.durable(2))
	})
}

func TestAWatchEndsAfterTheHeartbeatTimeoutAndNobodySeesItGo(t *testing.T) {
	onStage(t, session.Config{HeartbeatTimeout: 60 * time.Second}, func(t *testing.T, st *stage) {
		other := st.connect(scene.Manager)
		other.hello("")
		other.join(&pb.JoinRoom{Room: room})
		begun := time.Now()
		w := st.watch(scene.Tester, streaming, hello(""), joining(&pb.JoinRoom{Room: room}))
		id := w.welcomed().SessionId
		for seen := false; !seen; { // that the tester has come
			for _, ev := range other.next().Events {
				seen = seen || ev.Key == scene.Tester
			}
		}
		for range 3 {
			time.AfterFunc(25*time.Second, other.ping)
			time.AfterFunc(50*time.Second, other.ping)
			pulses := 0
			for _, f := range w.endsWell() {
				if f.GetPong() != nil {
					pulses++
				}
			}
			if took := time.Since(begun); took != 60*time.Second || pulses != 2 {
				t.Errorf("the Watch ended after %s with %d signs of life", took, pulses)
			}
			begun = time.Now()
			w = st.watch(scene.Tester, streaming, hello(id), joining(&pb.JoinRoom{Room: room}))
			w.welcomed()
			synctest.Wait()
			for frame := range other.waiting() {
				for _, ev := range frame.Events {
					t.Errorf("the others were told %v", ev)
				}
			}
		}
		w.cancel()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := st.present(); !strings.Contains(got, "manager") || strings.Contains(got, "tester") {
			t.Errorf("the room shows %s", got)
		}
	})
}

func TestAWatchIsGivenUpForAnotherAndNobodySeesIt(t *testing.T) {
	for name, between := range map[string]func(*client){
		"before the other begins": func(w *client) { w.cancel(); <-w.done; time.Sleep(time.Second) },
		"when the other begins":   func(*client) {},
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, session.Config{}, func(t *testing.T, st *stage) {
				other := st.connect(scene.Manager)
				other.hello("")
				other.join(&pb.JoinRoom{Room: room})
				w := st.watch(scene.Tester, streaming, hello(""), joining(&pb.JoinRoom{Room: room}))
				id := w.welcomed().SessionId
				w.answer()
				st.presence.Update(event.Room(room), scene.Tester, id, "title", pb.ActivityState_ACTIVITY_STATE_FOCUSED, nil)
				for range other.waiting() { // the tester came
				}
				between(w)
				w = st.watch(scene.Tester, streaming, hello(id), joining(&pb.JoinRoom{Room: "user:" + scene.Tester}), joining(&pb.JoinRoom{Room: room}))
				for w.welcomed(); w.answer().ReplyTo < 3; {
				}
				for frame := range other.waiting() {
					t.Errorf("the others were told %v", frame)
				}
			})
		})
	}
}

func TestAWatchWhoseClientDoesNotComeBackIsGoneAfterTheGraceTime(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		st.watch(scene.Tester, longPoll, hello(""), joining(&pb.JoinRoom{Room: room})).endsWell()
		if got := st.present(); got != "tester ONLINE" {
			t.Errorf("between two polls the room shows %q", got)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := st.present(); got != "" {
			t.Errorf("the room still shows %q", got)
		}
	})
}

func TestATabThatAsksSeldomDoesNotComeAndGo(t *testing.T) {
	onStage(t, session.Config{HeartbeatTimeout: time.Hour}, func(t *testing.T, st *stage) {
		other := st.connect(scene.Manager)
		other.hello("")
		other.join(&pb.JoinRoom{Room: room})
		ask := func(id string) string {
			frames := st.watch(scene.Tester, poll, hello(id), joining(&pb.JoinRoom{Room: room})).endsWell()
			return frames[0].GetWelcome().GetSessionId()
		}
		id := ask("")
		time.Sleep(time.Second)
		for range other.waiting() { // the tester came
		}
		for range 4 {
			time.Sleep(15 * time.Second) // a tab that nobody looks at
			for frame := range other.waiting() {
				t.Errorf("the others were told %v", frame)
			}
			ask(id)
		}
		time.Sleep(25 * time.Second)
		synctest.Wait()
		if got := st.present(); got != "manager ONLINE" {
			t.Errorf("the room still shows %q", got)
		}
	})
}

func TestAPollTellsAllThatThereIsAndEnds(t *testing.T) {
	onStage(t, session.Config{QueueBytes: 1}, func(t *testing.T, st *stage) {
		first := joinedOf(st.watch(scene.Tester, poll, hello(""), joining(&pb.JoinRoom{Room: room})).endsWell())
		if first.GetProject() == nil {
			t.Fatalf("the first poll told %v", first)
		}
		at := first.Position
		st.say(1500) // several frames' worth
		begun := time.Now()
		frames := st.watch(scene.Tester, poll, hello(""), joining(&pb.JoinRoom{Room: room, Position: at})).endsWell()
		events := eventsOf(frames)
		consecutive(t, at.Offset, events)
		if len(events) != 1500 || time.Since(begun) != 0 {
			t.Errorf("%d events in %s", len(events), time.Since(begun))
		}
	})
}

func TestALongPollEndsWithTheFirstNews(t *testing.T) {
	onStage(t, session.Config{HeartbeatInterval: 25 * time.Second}, func(t *testing.T, st *stage) {
		frames := st.watch(scene.Tester, longPoll, hello(""), joining(&pb.JoinRoom{Room: room})).endsWell()
		at := joinedOf(frames).Position // a snapshot is news
		begun := time.Now()
		again := func() *client {
			return st.watch(scene.Tester, longPoll, hello(frames[0].GetWelcome().SessionId), joining(&pb.JoinRoom{Room: room, Position: at}))
		}
		if got := eventsOf(again().endsWell()); len(got) > 0 || time.Since(begun) != 25*time.Second {
			t.Errorf("without news it ended after %s with %v", time.Since(begun), got)
		}
		begun = time.Now()
		w := again()
		w.welcomed()
		w.answer()
		time.Sleep(7 * time.Second)
		st.say(1)
		events := eventsOf(w.endsWell())
		consecutive(t, at.Offset, events)
		if len(events) != 1 || time.Since(begun) != 7*time.Second {
			t.Errorf("it ended after %s with %v", time.Since(begun), events)
		}
	})
}

func TestAFrameOfAWatchThatIsWrongIsAnsweredAndTheOthersCount(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		frames := st.watch(scene.Viewer, poll, hello(""), joining(&pb.JoinRoom{Room: "nonsense"}),
			joining(&pb.JoinRoom{Room: "user:" + scene.Owner}), joining(&pb.JoinRoom{Room: room}), &pb.SubscribeRequest{}).endsWell()
		got := map[uint64]string{}
		for _, f := range frames {
			switch {
			case f.GetError() != nil:
				got[f.ReplyTo] = f.GetError().Reason
			case f.ReplyTo > 0:
				got[f.ReplyTo] = "good"
			}
		}
		want := map[uint64]string{1: "good", 2: "INVALID_FIELD", 3: access.ErrDenied.Reason, 4: "good", 5: "INVALID_FIELD"}
		for id, reason := range want {
			if got[id] != reason {
				t.Errorf("frame %d was answered with %q, want %q", id, got[id], reason)
			}
		}
		none := st.watch(scene.Viewer, poll)
		if err := none.ended(); err == nil {
			t.Error("a Watch without a hello ended well")
		}
		many := make([]*pb.SubscribeRequest, 1001)
		for i := range many {
			many[i] = hello("")
		}
		if err := st.watch(scene.Viewer, poll, many...).ended(); !fault.IsReason(err, "INVALID_FIELD") {
			t.Errorf("too many frames: %v", err)
		}
	})
}

func TestWhoIsRemovedIsPutOutOfAWatchToo(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		w := st.watch(scene.Tester, streaming, hello(""), joining(&pb.JoinRoom{Room: room}))
		w.welcomed()
		at := w.answer().GetJoined().GetPosition()
		st.Update(func(tx store.Tx) error { return tx.DeleteMember(scene.ProjectID, scene.Tester) })
		st.say(1)
		st.server.Recheck(scene.Tester)
		for f := w.answer(); f.GetEvicted() == nil; f = w.answer() {
			t.Logf("before the eviction: %v", f)
		}
		st.say(1)
		w.quiet()
		frames := st.watch(scene.Tester, poll, hello(""), joining(&pb.JoinRoom{Room: room, Position: at})).endsWell()
		if len(eventsOf(frames)) > 0 || frames[1].GetError().GetReason() != access.ErrDenied.Reason {
			t.Errorf("who came back was told %v", frames)
		}
	})
}

func TestWhoWatchesActsByCalls(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		other := st.connect(scene.Manager)
		other.hello("")
		other.join(&pb.JoinRoom{Room: room})
		w := st.watch(scene.Tester, streaming, hello(""), joining(&pb.JoinRoom{Room: room}))
		id := w.welcomed().SessionId
		w.answer()

		typing := &pb.ExecuteRequest{SessionId: id, Command: &pb.Command{Command: &pb.Command_UpdateActivity{UpdateActivity: &pb.UpdateActivityRequest{
			Room: room, Field: "title", State: pb.ActivityState_ACTIVITY_STATE_TYPING,
		}}}}
		if _, err := st.server.Execute(st.As(scene.Tester), typing); err != nil {
			t.Fatal(err)
		}
		for told := false; !told; {
			for _, ev := range other.next().Events {
				told = told || ev.GetActivity().GetUser().GetId() == scene.Tester
			}
		}
		if _, err := st.server.Execute(st.As(scene.Owner), typing); fault.Of(err) != access.ErrDenied {
			t.Errorf("typing in another's session: %v", err)
		}

		start := &pb.ExecuteRequest{Command: &pb.Command{RequestId: "r1", Command: &pb.Command_StartRun{
			StartRun: &pb.StartRunRequest{Project: scene.Key, RequestId: "r1"},
		}}}
		resp, err := st.server.Execute(st.As(scene.Tester), start)
		if err != nil || resp.Ack.RequestId != "r1" || resp.Ack.Result.GetStartRun().GetRun().GetId() == "" {
			t.Fatalf("%v, %v", resp, err)
		}
		again, err := st.server.Execute(st.As(scene.Tester), start)
		if err != nil || again.Ack.Result.GetStartRun().GetRun().GetId() != resp.Ack.Result.GetStartRun().GetRun().GetId() {
			t.Errorf("the repeat: %v, %v", again, err)
		}
		if _, err := st.server.Execute(t.Context(), start); fault.Of(err) == nil {
			t.Errorf("nobody: %v", err)
		}
	})
}

func TestACarrierThatIsSwitchedOffIsRefusedAndRealTimeAsAWhole(t *testing.T) {
	onStage(t, session.Config{Transports: []session.Carrier{session.Watching}}, func(t *testing.T, st *stage) {
		if err := st.connect(scene.Tester).ended(); !fault.IsReason(err, "TRANSPORT_OFF") {
			t.Errorf("native: %v", err)
		}
		st.watch(scene.Tester, streaming, hello("")).welcomed()
	})
	onStage(t, session.Config{Transports: []session.Carrier{session.Native}}, func(t *testing.T, st *stage) {
		if err := st.watch(scene.Tester, poll, hello("")).ended(); !fault.IsReason(err, "TRANSPORT_OFF") {
			t.Errorf("watch: %v", err)
		}
		st.connect(scene.Tester).hello("")
	})
	onStage(t, session.Config{RealtimeOff: true}, func(t *testing.T, st *stage) {
		if err := st.connect(scene.Tester).ended(); !fault.IsReason(err, "REALTIME_OFF") {
			t.Errorf("native: %v", err)
		}
		for _, mode := range []pb.WatchMode{streaming, longPoll} {
			if err := st.watch(scene.Tester, mode, hello("")).ended(); !fault.IsReason(err, "REALTIME_OFF") {
				t.Errorf("%s: %v", mode, err)
			}
		}
		frames := st.watch(scene.Tester, poll, hello(""), joining(&pb.JoinRoom{Room: room})).endsWell()
		if joinedOf(frames).GetProject() == nil || st.present() != "" {
			t.Errorf("a poll was told %v, and the room shows %q", frames, st.present())
		}
	})
}
