package session_test

import (
	"fmt"
	"strings"
	"sync/atomic"
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

// present returns who is in the project's room.
func (st *stage) present() string {
	people, _, _ := st.presence.Room(event.Room(room), "")
	var out []string
	for _, p := range people {
		out = append(out, p.User.Id+" "+p.State.String()[len("PRESENCE_STATE_"):])
	}
	return strings.Join(out, ", ")
}

func (c *client) command(requestID string, start *pb.StartRunRequest) {
	c.in <- &pb.SubscribeRequest{Id: 5, Frame: &pb.SubscribeRequest_Command{Command: &pb.Command{
		RequestId: requestID, Command: &pb.Command_StartRun{StartRun: start},
	}}}
}

func (c *client) ping() {
	c.in <- &pb.SubscribeRequest{Id: 9, Frame: &pb.SubscribeRequest_Ping{Ping: &pb.Ping{}}}
}

func TestASessionThatIsTakenOverIsNotLeftBehindInOtherRooms(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		old := st.connect(scene.Tester)
		id := old.hello("").SessionId
		old.join(&pb.JoinRoom{Room: room})
		fresh := st.connect(scene.Tester)
		fresh.hello(id)
		if err := old.ended(); !fault.IsReason(err, "SESSION_RESUMED_ELSEWHERE") {
			t.Errorf("the older stream ended with %v", err)
		}
		fresh.join(&pb.JoinRoom{Room: "user:" + scene.Tester}) // and not the project's room
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := st.present(); got != "" {
			t.Errorf("the room shows %s, want nobody", got)
		}
	})
}

func TestASessionThatIsTakenOverStaysInTheRoomsOfItsNewerStream(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		old := st.connect(scene.Tester)
		id := old.hello("").SessionId
		old.join(&pb.JoinRoom{Room: room})
		st.say(100) // the older stream is stuck and ends late
		synctest.Wait()
		fresh := st.connect(scene.Tester)
		fresh.hello(id)
		fresh.join(&pb.JoinRoom{Room: room})
		if err := <-old.done; !fault.IsReason(err, "SESSION_RESUMED_ELSEWHERE") {
			t.Errorf("the older stream ended with %v", err)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := st.present(); got != "tester ONLINE" {
			t.Errorf("the room shows %q, want the tester online", got)
		}
	})
}

func TestARoomThatIsJoinedAnewIsNotLeftForAnOldReason(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		reached, release := make(chan bool), make(chan bool)
		var looks atomic.Int32
		st.entering = func(string) {
			if looks.Add(1) == 3 { // two for the join, the third sees that the right is lost
				reached <- true
				<-release
			}
		}
		c := st.connect(scene.Tester)
		c.hello("")
		c.join(&pb.JoinRoom{Room: room})
		st.Update(func(tx store.Tx) error { return tx.DeleteMember(scene.ProjectID, scene.Tester) })
		st.server.Recheck(scene.Tester)
		for blocked := false; !blocked; {
			select {
			case blocked = <-reached:
			case <-c.out: // news of who is there
			}
		}
		st.Update(func(tx store.Tx) error { return tx.PutMember(scene.ProjectID, scene.Tester, pb.Role_ROLE_TESTER) })
		c.ask(&pb.JoinRoom{Room: room})
		synctest.Wait()
		release <- true
		if frame := c.answer(); frame.GetJoined() == nil {
			t.Fatalf("the join was answered with %v", frame)
		}
		st.say(3)
		consecutive(t, 0, c.durable(3))
	})
}

func TestAClientThatLeavesWhileItJoinsIsNotLeftBehind(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		reached, release := make(chan bool), make(chan bool)
		looks := 0
		st.entering = func(string) {
			if looks++; looks == 2 { // the second look is in the snapshot
				reached <- true
				<-release
			}
		}
		c := st.connect(scene.Tester)
		c.hello("")
		c.ask(&pb.JoinRoom{Room: room})
		<-reached
		c.cancel()
		<-c.done
		release <- true
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := st.present(); got != "" {
			t.Errorf("the room shows %s, want nobody", got)
		}
	})
}

func TestARightThatIsLostWhileARoomIsJoinedIsNoJoin(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		reached, release := make(chan bool), make(chan bool)
		looks := 0
		st.entering = func(string) {
			if looks++; looks == 2 {
				reached <- true
				<-release
			}
		}
		c := st.connect(scene.Tester)
		c.hello("")
		c.ask(&pb.JoinRoom{Room: room})
		<-reached // its snapshot still shows the right
		st.Update(func(tx store.Tx) error { return tx.DeleteMember(scene.ProjectID, scene.Tester) })
		st.server.Recheck(scene.Tester)
		for c.next().GetEvicted() == nil {
		}
		release <- true
		frame := c.answer()
		if frame.GetError().GetReason() != "ROOM_LEFT" || frame.ReplyTo != 2 {
			t.Errorf("the join was answered with %v, want ROOM_LEFT", frame)
		}
		st.say(2)
		c.quiet()
	})
}

func TestARightThatIsLostStopsALongLog(t *testing.T) {
	onStage(t, session.Config{QueueBytes: 4 << 10}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		c.join(&pb.JoinRoom{Room: room})
		st.say(5000)
		synctest.Wait()
		st.Update(func(tx store.Tx) error { return tx.DeleteMember(scene.ProjectID, scene.Tester) })
		st.server.Recheck(scene.Tester)
		for frames := 0; ; frames++ {
			frame := c.next()
			if frame.GetEvicted() != nil {
				break
			}
			if frames > 1 {
				t.Fatalf("after the right was lost came frame %d, with %d events", frames+1, len(frame.Events))
			}
		}
		c.quiet()
	})
}

func TestARightThatCanNotBeLookedAtIsLookedAtAgain(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		c.join(&pb.JoinRoom{Room: room})
		st.Update(func(tx store.Tx) error { return tx.DeleteMember(scene.ProjectID, scene.Tester) })
		st.broken.Store(true)
		st.server.Recheck(scene.Tester)
		time.Sleep(10 * time.Second)
		c.quiet()
		st.broken.Store(false)
		at := time.Now()
		if c.answer().GetEvicted() == nil || time.Since(at) > time.Second {
			t.Errorf("after %v the client was not put out", time.Since(at))
		}
	})
}

func TestADrainDoesNotWaitForAClientThatReadsNothing(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		c.join(&pb.JoinRoom{Room: room})
		st.say(100)
		at := time.Now()
		st.server.Drain()
		if err := <-c.done; !fault.IsReason(err, "GOING_AWAY") || time.Since(at) > 3*time.Second {
			t.Errorf("after %v the stream ended with %v", time.Since(at), err)
		}
	})
}

func TestAClientThatReadsNothingIsLetGo(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		c.join(&pb.JoinRoom{Room: room})
		st.say(1000) // more than grpc-go's transport takes for one that doesn't read
		start := time.Now()
		for range 10 { // it is alive, and sends
			select {
			case err := <-c.done:
				if !fault.IsReason(err, "TOO_SLOW") {
					t.Errorf("the stream ended with %v", err)
				}
				if d := time.Since(start); d > 70*time.Second {
					t.Errorf("it ended after %v", d)
				}
				synctest.Wait()
				if n := st.server.Count(); n != 0 {
					t.Errorf("%d sessions are left", n)
				}
				time.Sleep(10 * time.Second)
				if got := st.present(); got != "" {
					t.Errorf("the room shows %s, want nobody", got)
				}
				return
			case <-time.After(20 * time.Second):
				c.ping()
			}
		}
		t.Error("a client that reads nothing was kept")
	})
}

func TestAClientThatReadsSlowlyIsKept(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		c.join(&pb.JoinRoom{Room: room})
		for range 10 {
			st.say(1)
			time.Sleep(50 * time.Second)
			c.ping()
			for events, pong := 0, false; events == 0 || !pong; {
				frame := c.next()
				pong = pong || frame.GetPong() != nil
				for _, ev := range frame.Events {
					if ev.Offset > 0 {
						events++
					}
				}
			}
		}
	})
}

func TestAPanicEndsOneSessionOnly(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		other := st.connect(scene.Viewer)
		other.hello("")
		other.join(&pb.JoinRoom{Room: room})
		c := st.connect(scene.Tester)
		c.hello("")
		c.join(&pb.JoinRoom{Room: room})
		c.command("panic", &pb.StartRunRequest{Project: scene.Key})
		if err := c.ended(); err == nil || fault.Of(err) != nil || !strings.Contains(err.Error(), "a command that panics") {
			t.Errorf("the session ended with %v, want an internal error that says what panicked", err)
		}
		st.say(1)
		other.durable(1)
	})
}

func TestACommandThatMeetsAStoreThatIsAwayIsToldToComeBack(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		c.command("away", &pb.StartRunRequest{Project: scene.Key})
		if e := c.answer().GetError(); e.GetReason() != "OUTCOME_UNKNOWN" || e.GetRetryAfter().AsDuration() <= 0 {
			t.Errorf("got %v", e)
		}
		if st.logged.Len() > 0 {
			t.Errorf("logged %s", st.logged.String())
		}
	})
}

func TestWhatAClientCanNotActOnIsLoggedAndNotTold(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		c.command("break", &pb.StartRunRequest{Project: scene.Key})
		if e := c.answer().GetError(); e.GetReason() != "INTERNAL" || strings.Contains(e.Message, "disk") {
			t.Errorf("answered with %v", e)
		}
		if !strings.Contains(st.logged.String(), "the disk is full") {
			t.Errorf("the log has %q", st.logged.String())
		}
	})
}

func TestWhoLeavesAProjectNoLongerFollowsItsRuns(t *testing.T) {
	for name, req := range map[string]*pb.SubscribeRequest{
		"by leaving":              {Frame: &pb.SubscribeRequest_Leave{Leave: &pb.LeaveRoom{Room: room}}},
		"by asking for less":      {Frame: &pb.SubscribeRequest_Join{Join: &pb.JoinRoom{Room: room}}},
		"by asking for a summary": {Frame: &pb.SubscribeRequest_Join{Join: &pb.JoinRoom{Room: room, Detail: pb.Detail_DETAIL_SUMMARY}}},
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, session.Config{}, func(t *testing.T, st *stage) {
				const n = 5
				rooms := map[string]bool{}
				for i := range n {
					resp, err := st.runs.StartRun(st.As(scene.Tester), &pb.StartRunRequest{Project: scene.Key, RunKey: fmt.Sprint(i)})
					if err != nil {
						t.Fatal(err)
					}
					rooms[string(event.RunRoom(resp.Run.Id))] = true
				}
				c := st.connect(scene.Viewer)
				c.hello("")
				c.join(&pb.JoinRoom{Room: room, Detail: pb.Detail_DETAIL_ALL})
				for joined := 0; joined < n; {
					if r := c.next().GetJoined().GetRoom(); rooms[r] {
						joined++
					}
				}
				c.in <- req
				for left := 0; left < n; {
					if r := c.next().GetLeft().GetRoom(); rooms[r] {
						left++
					}
				}
			})
		})
	}
}

func TestWhoFollowsAProjectHearsEveryEventOfTheRunsThatStart(t *testing.T) {
	for name, wait := range map[string]func(){"at once": func() {}, "after the client read all": synctest.Wait} {
		t.Run(name, func(t *testing.T) {
			onStage(t, session.Config{}, func(t *testing.T, st *stage) {
				start := func(key string) (string, string) {
					resp, err := st.runs.StartRun(st.As(scene.Tester), &pb.StartRunRequest{Project: scene.Key, RunKey: key})
					if err != nil {
						t.Fatal(err)
					}
					return resp.Run.Id, string(event.RunRoom(resp.Run.Id))
				}
				_, old := start("old")
				c := st.connect(scene.Viewer)
				c.hello("")
				c.join(&pb.JoinRoom{Room: room, Detail: pb.Detail_DETAIL_ALL})
				id, fresh := start("fresh")
				wait()
				for i := range 3 {
					if _, err := st.runs.ReportResult(st.As(scene.Tester), &pb.ReportResultRequest{RunId: id, Update: &pb.TestExecutionUpdate{
						Test: &pb.TestRef{Suite: "s", Name: fmt.Sprint(i)}, Status: pb.Status_STATUS_PASSED,
					}}); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := st.runs.FinishRun(st.As(scene.Tester), &pb.FinishRunRequest{RunId: id}); err != nil {
					t.Fatal(err)
				}
				// Started, three results, the suite's end, ended.
				// Rooms have no order between them: the run that was running may join last.
				heard, snapshot := uint64(0), false
				for heard < 6 || !snapshot {
					frame := c.next()
					snapshot = snapshot || frame.GetJoined().GetRoom() == old && frame.GetJoined().GetRun() != nil
					for _, ev := range frame.Events {
						if ev.Room == fresh && ev.Offset > 0 {
							if heard++; ev.Offset != heard {
								t.Fatalf("heard event %d of the run, want %d", ev.Offset, heard)
							}
						}
					}
				}
			})
		})
	}
}

func TestARunThatOneJoinedByOneselfStaysWhenItEnds(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		resp, err := st.runs.StartRun(st.As(scene.Tester), &pb.StartRunRequest{Project: scene.Key})
		if err != nil {
			t.Fatal(err)
		}
		runRoom := string(event.RunRoom(resp.Run.Id))
		c := st.connect(scene.Viewer)
		c.hello("")
		c.join(&pb.JoinRoom{Room: room, Detail: pb.Detail_DETAIL_ALL})
		for c.next().GetJoined().GetRoom() != runRoom {
		}
		c.join(&pb.JoinRoom{Room: runRoom})
		if _, err := st.runs.FinishRun(st.As(scene.Tester), &pb.FinishRunRequest{RunId: resp.Run.Id}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		c.ping()
		for ended, pong := false, false; !ended || !pong; {
			frame := c.next()
			if frame.GetLeft() != nil {
				t.Fatal("the room was left for the client")
			}
			pong = pong || frame.GetPong() != nil
			for _, ev := range frame.Events {
				ended = ended || ev.Room == runRoom && ev.GetRunChanged().GetChange() == pb.RunChange_RUN_CHANGE_ENDED
			}
		}
	})
}

func TestNoStateIsToldAfterARightIsLost(t *testing.T) {
	left := &pb.SubscribeRequest{Id: 7, Frame: &pb.SubscribeRequest_Leave{Leave: &pb.LeaveRoom{Room: room}}}
	for name, then := range map[string][]*pb.SubscribeRequest{
		"of a room that the client is in": nil,
		"of a room that it left":          {left},
		"of a room that it joined again":  {joining(&pb.JoinRoom{Room: room})},
	} {
		t.Run(name, func(t *testing.T) {
			onStageWithoutQueues(t, session.Config{}, func(t *testing.T, st *stage) {
				c := st.connect(scene.Tester)
				c.hello("")
				c.ping() // the pong is on its way, and the client reads nothing
				synctest.Wait()
				c.ask(&pb.JoinRoom{Room: room})
				for _, req := range then {
					c.in <- req
				}
				synctest.Wait()
				st.Update(func(tx store.Tx) error { return tx.DeleteMember(scene.ProjectID, scene.Tester) })
				st.server.Recheck(scene.Tester)
				synctest.Wait()
				answers := map[uint64]string{}
				for frame := range c.waiting() {
					if frame.GetJoined() != nil {
						t.Errorf("the client was told %v", frame)
					}
					if frame.ReplyTo > 0 {
						answers[frame.ReplyTo] = frame.GetError().GetReason()
					}
				}
				if got := answers[2]; got != "ACCESS_DENIED" {
					t.Errorf("the join was answered with %q", got)
				}
				if _, answered := answers[7]; len(then) > 0 && then[0] == left && !answered {
					t.Error("the leave was not answered")
				}
			})
		})
	}
}

func TestNothingIsCarriedOutWithATokenThatEnded(t *testing.T) {
	onStage(t, session.Config{HeartbeatInterval: 20 * time.Minute, HeartbeatTimeout: 90 * time.Minute}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		c.ping() // the pong is on its way, and the client reads nothing
		time.Sleep(time.Hour + time.Second)
		c.command("late", &pb.StartRunRequest{Project: scene.Key})
		synctest.Wait()
		st.View(func(r store.Reader) error {
			runs, err := r.Runs(scene.ProjectID, 0, 1)
			if len(runs) > 0 {
				t.Errorf("a second after the end of the token was started: %v", runs)
			}
			return err
		})
		if err := <-c.done; !fault.IsReason(err, "TOKEN_EXPIRED") {
			t.Errorf("the session ended with %v", err)
		}
	})
}

func TestARunThatOneLeftByOneselfStillComesWithItsProject(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		resp, err := st.runs.StartRun(st.As(scene.Tester), &pb.StartRunRequest{Project: scene.Key})
		if err != nil {
			t.Fatal(err)
		}
		runRoom := string(event.RunRoom(resp.Run.Id))
		c := st.connect(scene.Viewer)
		c.hello("")
		c.join(&pb.JoinRoom{Room: runRoom})
		c.join(&pb.JoinRoom{Room: room, Detail: pb.Detail_DETAIL_ALL})
		c.quiet()
		c.in <- &pb.SubscribeRequest{Id: 7, Frame: &pb.SubscribeRequest_Leave{Leave: &pb.LeaveRoom{Room: runRoom}}}
		left, back := false, false
		for frame := range c.waiting() {
			left = left || frame.GetLeft().GetRoom() == runRoom
			back = back || left && frame.GetJoined().GetRoom() == runRoom
		}
		if !left || !back {
			t.Errorf("left: %v, and came along again: %v", left, back)
		}
	})
}

func TestWhatAnOlderStreamStillSaysDoesNotTouchTheNewerOne(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		old := st.connect(scene.Tester)
		id := old.hello("").SessionId
		old.join(&pb.JoinRoom{Room: room})
		st.say(100) // the older stream is stuck and ends late
		synctest.Wait()
		fresh := st.connect(scene.Tester)
		fresh.hello(id)
		fresh.join(&pb.JoinRoom{Room: room})
		old.in <- &pb.SubscribeRequest{Frame: &pb.SubscribeRequest_Leave{Leave: &pb.LeaveRoom{Room: room}}} // sent before, it comes only now
		synctest.Wait()
		if got := st.present(); got != "tester ONLINE" {
			t.Errorf("the room shows %q, want the tester online", got)
		}
	})
}
