package session_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/scene"
	"github.com/tcmanager/tcmanager/service/session"
	"github.com/tcmanager/tcmanager/service/store"
)

func TestTheFirstRequestMustBeAHelloAndComeInTime(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.ask(&pb.JoinRoom{Room: room})
		if err := c.ended(); !fault.IsReason(err, "HELLO_FIRST") {
			t.Errorf("a stream that began with a join ended with %v, want HELLO_FIRST", err)
		}
		late := st.connect(scene.Tester)
		start := time.Now()
		if err := late.ended(); !fault.IsReason(err, "HELLO_LATE") {
			t.Errorf("a stream that said nothing ended with %v, want HELLO_LATE", err)
		}
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("it ended after %v, want 5s", d)
		}
		if n := st.server.Count(); n != 0 {
			t.Errorf("%d sessions are left, want 0", n)
		}
	})
}

func TestJoinGivesTheStateAndThenEveryEventAfterIt(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		st.say(3)
		c := st.connect(scene.Tester)
		c.hello("")
		j := c.join(&pb.JoinRoom{Room: "project:" + scene.Key})
		if j.Room != room {
			t.Errorf("joined %q, want the canonical %q", j.Room, room)
		}
		if j.GetProject().GetProject().GetMyRole() != pb.Role_ROLE_TESTER || len(j.Recent) != 3 || j.Position.Offset != 3 || j.Recovered {
			t.Errorf("joined with %v, want the project as a tester sees it, 3 recent events, at 3", j)
		}
		if len(j.Presence) != 1 || j.Presence[0].User.Id != scene.Tester || j.Present != 1 {
			t.Errorf("present are %d: %v, want the tester", j.Present, j.Presence)
		}
		st.say(2)
		consecutive(t, 3, c.durable(2))
	})
}

func TestNothingIsMissedBetweenTheStateAndTheEvents(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		stop := make(chan struct{})
		said := make(chan int)
		go func() {
			n := 0
			for {
				select {
				case <-stop:
					said <- n
					return
				default:
					st.say(1)
					n++
				}
			}
		}()
		for range 20 {
			c := st.connect(scene.Tester)
			c.hello("")
			j := c.join(&pb.JoinRoom{Room: room})
			var events []*pb.Event
			for len(events) < 5 {
				for _, ev := range c.next().Events {
					if ev.Offset > 0 {
						events = append(events, ev)
					}
				}
			}
			consecutive(t, j.Position.Offset, events)
			c.cancel()
		}
		close(stop)
		if n := <-said; n == 0 {
			t.Error("nothing was said while the clients joined")
		}
	})
}

func TestAResumeGivesExactlyWhatWasMissed(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		st.say(5)
		epoch := st.Store.Epoch()
		for at := range uint64(6) {
			c := st.connect(scene.Tester)
			c.hello("")
			j := c.join(&pb.JoinRoom{Room: room, Position: &pb.Position{Epoch: epoch, Offset: at}})
			if !j.Recovered || j.Snapshot != nil {
				t.Fatalf("a resume at %d gave %v, want recovered and no snapshot", at, j)
			}
			consecutive(t, at, c.durable(int(5-at)))
			c.quiet()
			c.cancel()
			<-c.done
		}
	})
}

func TestAPositionOfAnotherHistoryGetsAResetAndASnapshot(t *testing.T) {
	for name, pos := range map[string]struct {
		shift  uint64
		offset uint64
		reason string
	}{
		"another epoch":  {1, 2, "EPOCH_CHANGED"},
		"the future":     {0, 99, "POSITION_UNKNOWN"},
		"an empty place": {1, 0, "EPOCH_CHANGED"},
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, session.Config{}, func(t *testing.T, st *stage) {
				st.say(3)
				c := st.connect(scene.Tester)
				c.hello("")
				c.ask(&pb.JoinRoom{Room: room, Position: &pb.Position{Epoch: st.Store.Epoch() + pos.shift, Offset: pos.offset}})
				var reset *pb.Reset
				for {
					frame := c.next()
					if frame.GetReset_() != nil {
						reset = frame.GetReset_()
					}
					j := frame.GetJoined()
					if j == nil {
						continue
					}
					if reset == nil || reset.Reason != pos.reason {
						t.Errorf("the reset was %v, want %s before the answer", reset, pos.reason)
					}
					if j.Recovered || j.GetProject() == nil || j.Position.Offset != 3 {
						t.Errorf("joined with %v, want a snapshot at 3", j)
					}
					return
				}
			})
		})
	}
}

func TestARoomThatIsNotOnesOwnLooksLikeOneThatDoesNotExist(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Stranger)
		c.hello("")
		var answers []string
		for _, name := range []string{room, "project:nothing", "user:" + scene.Tester, "testrun:0190b0c0-0000-7000-8000-00000000dead"} {
			c.ask(&pb.JoinRoom{Room: name})
			e := c.next().GetError()
			if e == nil || e.Reason != "ACCESS_DENIED" {
				t.Fatalf("joining %s was answered with %v, want ACCESS_DENIED", name, e)
			}
			answers = append(answers, e.Message)
		}
		for _, a := range answers[1:] {
			if a != answers[0] {
				t.Errorf("the answers differ: %q and %q", answers[0], a)
			}
		}
		st.say(1)
		c.quiet()
	})
}

func TestAWrongRequestIsAnsweredAndTheStreamGoesOn(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		for want, req := range map[string]*pb.SubscribeRequest{
			"INVALID_FIELD": {Id: 7, Frame: &pb.SubscribeRequest_Join{Join: &pb.JoinRoom{Room: "no room"}}},
			"HELLO_TWICE":   {Id: 7, Frame: &pb.SubscribeRequest_Hello{Hello: &pb.Hello{}}},
			"ACCESS_DENIED": {Id: 7, Frame: &pb.SubscribeRequest_Command{Command: &pb.Command{Command: &pb.Command_UpdateActivity{
				UpdateActivity: &pb.UpdateActivityRequest{Room: room, Field: "title", State: pb.ActivityState_ACTIVITY_STATE_TYPING},
			}}}},
		} {
			c.in <- req
			frame := c.next()
			if frame.GetError().GetReason() != want || frame.ReplyTo != 7 {
				t.Errorf("%v was answered with %v, want %s to 7", req, frame, want)
			}
		}
		c.in <- &pb.SubscribeRequest{Id: 8} // no frame at all
		if frame := c.next(); frame.GetError().GetCode() != uint32(fault.Invalid) {
			t.Errorf("an empty request was answered with %v", frame)
		}
		c.join(&pb.JoinRoom{Room: room})
	})
}

func TestASlowReaderLosesNothingCostsLittleAndDelaysNobody(t *testing.T) {
	onStage(t, session.Config{QueueBytes: 4 << 10}, func(t *testing.T, st *stage) {
		slow, fast := st.connect(scene.Tester), st.connect(scene.Viewer)
		for _, c := range []*client{slow, fast} {
			c.hello("")
			c.join(&pb.JoinRoom{Room: room})
		}
		const n = 2000
		got := make(chan []*pb.Event)
		go func() { got <- fast.durable(n) }()
		st.say(n)
		consecutive(t, 0, <-got)
		if waiting := st.server.Waiting(); waiting > 2*4<<10 {
			t.Errorf("%d bytes wait for a slow reader that may keep %d waiting", waiting, 4<<10)
		}
		consecutive(t, 0, slow.durable(n))
	})
}

func TestWhoIsRemovedIsPutOutAndHearsNoMore(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		c.join(&pb.JoinRoom{Room: room})
		st.Update(func(tx store.Tx) error { return tx.DeleteMember(scene.ProjectID, scene.Tester) })
		st.server.Recheck(scene.Tester)
		for {
			frame := c.next()
			if e := frame.GetEvicted(); e != nil {
				if e.Room != room || e.Error.GetReason() != "ACCESS_DENIED" {
					t.Errorf("evicted with %v", e)
				}
				break
			}
		}
		st.say(3)
		c.quiet()
		if people, _, _ := st.presence.Room(event.Room(room), ""); len(people) != 0 {
			t.Errorf("the room still shows %v", people)
		}
		c.ask(&pb.JoinRoom{Room: room, Position: &pb.Position{Epoch: st.Store.Epoch()}})
		if e := c.answer().GetError(); e.GetReason() != "ACCESS_DENIED" {
			t.Errorf("a resume was answered with %v, want ACCESS_DENIED", e)
		}
	})
}

func TestASilentClientIsGoneAfterTheTimeoutAndPingsKeepItAlive(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		start := time.Now()
		for range 3 {
			time.Sleep(50 * time.Second)
			c.in <- &pb.SubscribeRequest{Id: 9, Frame: &pb.SubscribeRequest_Ping{Ping: &pb.Ping{}}}
			if frame := c.next(); frame.GetPong() == nil || frame.ReplyTo != 9 {
				t.Fatalf("a ping was answered with %v", frame)
			}
		}
		if err := c.ended(); !fault.IsReason(err, "HEARTBEAT_TIMEOUT") {
			t.Errorf("the stream ended with %v, want HEARTBEAT_TIMEOUT", err)
		}
		if d := time.Since(start); d != 210*time.Second {
			t.Errorf("it ended after %v, want 60 s after the last ping", d)
		}
	})
}

func TestASessionEndsWithItsTokenUnlessItIsRefreshed(t *testing.T) {
	onStage(t, session.Config{HeartbeatTimeout: 3 * time.Hour}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		start := time.Now()
		if f := c.next(); f.GetTokenExpiring() == nil || time.Since(start) != 59*time.Minute {
			t.Fatalf("after %v came %v, want a warning after 59m", time.Since(start), f)
		}
		refresh := func(token string) {
			c.in <- &pb.SubscribeRequest{Id: 3, Frame: &pb.SubscribeRequest_RefreshToken{RefreshToken: &pb.RefreshToken{Token: token}}}
		}
		refresh("forged")
		if e := c.next().GetError(); e.GetReason() != "UNAUTHENTICATED" {
			t.Errorf("a forged token was answered with %v", e)
		}
		if logged := st.logged.String(); !strings.Contains(logged, "session token refused") || strings.Contains(logged, "forged") {
			t.Errorf("the log has %q", logged)
		}
		refresh(scene.Manager)
		if e := c.next().GetError(); e.GetReason() != "INVALID_FIELD" {
			t.Errorf("another user's token was answered with %v", e)
		}
		refresh(scene.Tester)
		if f := c.next(); f.GetTokenExpiring() == nil || time.Since(start) != 118*time.Minute {
			t.Fatalf("after %v came %v, want the next warning after 1h58m", time.Since(start), f)
		}
		if err := c.ended(); !fault.IsReason(err, "TOKEN_EXPIRED") || time.Since(start) != 119*time.Minute {
			t.Errorf("after %v it ended with %v, want TOKEN_EXPIRED after 1h59m", time.Since(start), err)
		}
	})
}

func TestANewerStreamTakesASessionOverAtOnce(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		old := st.connect(scene.Tester)
		id := old.hello("").SessionId
		old.join(&pb.JoinRoom{Room: room})
		fresh := st.connect(scene.Tester)
		if got := fresh.hello(id).SessionId; got != id {
			t.Errorf("the session is %s, want %s", got, id)
		}
		if err := old.ended(); !fault.IsReason(err, "SESSION_RESUMED_ELSEWHERE") {
			t.Errorf("the older stream ended with %v", err)
		}
		fresh.join(&pb.JoinRoom{Room: room})
		time.Sleep(time.Minute / 2)
		synctest.Wait()
		if people, _, _ := st.presence.Room(event.Room(room), ""); len(people) != 1 || people[0].State != pb.PresenceState_PRESENCE_STATE_ONLINE {
			t.Errorf("the room shows %v, want the tester online", people)
		}
		// Everybody in the room has seen the id. It is good for its own user only.
		thief := st.connect(scene.Manager)
		thief.hello(id)
		thief.join(&pb.JoinRoom{Room: room})
		if n := st.server.Count(); n != 2 {
			t.Errorf("there are %d sessions, want that of the tester and that of the manager", n)
		}
		select {
		case err := <-fresh.done:
			t.Errorf("another user's session was taken: %v", err)
		default:
		}
	})
}

func TestADrainTellsEveryClientToComeBackAndRefusesNewOnes(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		st.server.Drain()
		if g := c.next().GetGoingAway(); g.GetReconnectAfter().AsDuration() < time.Second {
			t.Errorf("the client was told %v, want to come back after a second or more", g)
		}
		if err := c.ended(); !fault.IsReason(err, "GOING_AWAY") {
			t.Errorf("the stream ended with %v", err)
		}
		late := st.connect(scene.Tester)
		late.in <- &pb.SubscribeRequest{Frame: &pb.SubscribeRequest_Hello{Hello: &pb.Hello{}}}
		if err := late.ended(); !fault.IsReason(err, "GOING_AWAY") {
			t.Errorf("a late stream ended with %v", err)
		}
	})
}

func TestTheServerAndASessionHaveAsManyAsTheyMay(t *testing.T) {
	onStage(t, session.Config{MaxSessions: 1, MaxRooms: 1}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		c.join(&pb.JoinRoom{Room: room})
		c.ask(&pb.JoinRoom{Room: "user:" + scene.Tester})
		if e := c.answer().GetError(); e.GetReason() != "TOO_MANY_ROOMS" {
			t.Errorf("a second room was answered with %v", e)
		}
		c.in <- &pb.SubscribeRequest{Frame: &pb.SubscribeRequest_Leave{Leave: &pb.LeaveRoom{Room: room}}}
		if f := c.answer(); f.GetLeft().GetRoom() != room {
			t.Errorf("leaving was answered with %v", f)
		}
		if j := c.join(&pb.JoinRoom{Room: "user:" + scene.Tester}); j.GetUser() == nil {
			t.Errorf("joined with %v", j)
		}
		second := st.connect(scene.Viewer)
		second.in <- &pb.SubscribeRequest{Frame: &pb.SubscribeRequest_Hello{Hello: &pb.Hello{}}}
		if err := second.ended(); !fault.IsReason(err, "TOO_MANY_SESSIONS") || fault.Of(err).RetryAfter == 0 {
			t.Errorf("a session too many ended with %v", err)
		}
	})
}

func TestOthersComeAndGoInTheRoom(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		c.join(&pb.JoinRoom{Room: room})
		other := st.connect(scene.Viewer)
		other.hello("")
		other.join(&pb.JoinRoom{Room: room})
		states := func(want pb.PresenceState) {
			t.Helper()
			for {
				for _, ev := range c.next().Events {
					if p := ev.GetPresence().GetPresence(); p.GetUser().GetId() == scene.Viewer {
						if p.State != want {
							t.Fatalf("the viewer is %v, want %v", p.State, want)
						}
						return
					}
				}
			}
		}
		states(pb.PresenceState_PRESENCE_STATE_ONLINE)
		other.cancel()
		states(pb.PresenceState_PRESENCE_STATE_RECONNECTING)
		states(pb.PresenceState_PRESENCE_STATE_OFFLINE)
	})
}

func TestWhoComesToACrowdIsToldOfSomeAndTheNumber(t *testing.T) {
	const crowd = 1000
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		for i := range crowd {
			id := fmt.Sprint("user", i)
			st.presence.Enter(event.Room(room), &pb.UserRef{Id: id, Name: id}, id, false)
		}
		c := st.connect(scene.Tester)
		c.hello("")
		j := c.join(&pb.JoinRoom{Room: room})
		self := slices.ContainsFunc(j.Presence, func(p *pb.Presence) bool { return p.User.Id == scene.Tester })
		if len(j.Presence) != 201 || !self || j.Present != crowd+1 {
			t.Errorf("told of %d, itself among them: %v, of %d", len(j.Presence), self, j.Present)
		}
		counts := func(want uint32) {
			for {
				for _, ev := range c.next().Events {
					if n := ev.GetHeadcount(); n != nil && n.Present == want {
						return
					}
				}
			}
		}
		counts(crowd + 1)
		for i := range 10 {
			id := fmt.Sprint("user", i)
			st.presence.Leave(event.Room(room), id, id)
		}
		counts(crowd - 9)
	})
}

func TestACommandIsAckedAndWithAllDetailTheRunsOfAProjectComeAlong(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		c.join(&pb.JoinRoom{Room: room, Detail: pb.Detail_DETAIL_ALL})
		c.in <- &pb.SubscribeRequest{Id: 5, Frame: &pb.SubscribeRequest_Command{Command: &pb.Command{
			RequestId: "r1", Command: &pb.Command_StartRun{StartRun: &pb.StartRunRequest{Project: scene.Key, RunKey: "k"}},
		}}}
		var runID string
		var joined bool
		for runID == "" || !joined {
			frame := c.next()
			if a := frame.GetAck(); a != nil {
				if a.RequestId != "r1" || frame.ReplyTo != 5 {
					t.Errorf("the command was acked with %v", frame)
				}
				runID = a.Result.GetStartRun().GetRun().GetId()
			}
			joined = joined || strings.HasPrefix(frame.GetJoined().GetRoom(), string(event.KindRun))
		}
		runRoom := string(event.RunRoom(runID))
		if _, err := st.runs.ReportResult(st.As(scene.Tester), &pb.ReportResultRequest{RunId: runID, Update: &pb.TestExecutionUpdate{
			Test: &pb.TestRef{Suite: "s", Name: "TestOne"}, Status: pb.Status_STATUS_PASSED,
		}}); err != nil {
			t.Fatal(err)
		}
		for heard := false; !heard; {
			for _, ev := range c.next().Events {
				heard = heard || ev.Room == runRoom && ev.GetTestExecution().GetTest().GetName() == "TestOne"
			}
		}
		if _, err := st.runs.FinishRun(st.As(scene.Tester), &pb.FinishRunRequest{RunId: runID}); err != nil {
			t.Fatal(err)
		}
		ended := false
		for {
			frame := c.next()
			for _, ev := range frame.Events {
				ended = ended || ev.Room == runRoom && ev.GetRunChanged().GetChange() == pb.RunChange_RUN_CHANGE_ENDED
			}
			if frame.GetLeft().GetRoom() == runRoom {
				break
			}
		}
		if !ended {
			t.Error("the run's room was left before its end was told")
		}
		c.cancel()
		<-c.done
		synctest.Wait()
		time.Sleep(time.Second) // the last progress of the run is told
	})
}

func TestAProjectIsLeftByItsKeyToo(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		c.join(&pb.JoinRoom{Room: "project:" + scene.Key})
		c.in <- &pb.SubscribeRequest{Id: 7, Frame: &pb.SubscribeRequest_Leave{Leave: &pb.LeaveRoom{Room: "project:" + scene.Key}}}
		if f := c.answer(); f.ReplyTo != 7 || f.GetLeft().GetRoom() != room {
			t.Errorf("the leave was answered with %v", f)
		}
		st.say(1)
		c.quiet()
	})
}

func TestALeavingClientEndsWell(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		close(c.in)
		if err := c.ended(); err != nil {
			t.Errorf("a client that closed its side ended with %v", err)
		}
	})
}
