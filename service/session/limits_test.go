package session_test

import (
	"slices"
	"testing"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/limit"
	"github.com/tcmanager/tcmanager/service/scene"
	"github.com/tcmanager/tcmanager/service/session"
	"github.com/tcmanager/tcmanager/service/store"
)

func signal(room, field string) *pb.Command {
	return &pb.Command{Command: &pb.Command_UpdateActivity{UpdateActivity: &pb.UpdateActivityRequest{
		Room: room, Field: field, State: pb.ActivityState_ACTIVITY_STATE_FOCUSED,
	}}}
}

func (c *client) do(cmd *pb.Command) {
	c.in <- &pb.SubscribeRequest{Id: 7, Frame: &pb.SubscribeRequest_Command{Command: cmd}}
}

// pong returns the answer to a ping, and skips all before it.
func (c *client) pong() {
	c.st.t.Helper()
	c.ping()
	for c.answer().GetPong() == nil {
	}
}

// refused returns the next error.
func (c *client) refused() *pb.Error {
	c.st.t.Helper()
	for {
		if f := c.answer(); f.GetError() != nil {
			return f.GetError()
		}
	}
}

func TestTooManyFramesOfAKindAreRefusedWithATimeToWaitAndOthersGoOn(t *testing.T) {
	limits := session.Limits{Commands: limit.Rate{PerSecond: 1, Burst: 3}, Signals: limit.Rate{PerSecond: 10, Burst: 5}}
	onStage(t, session.Config{Limits: limits}, func(t *testing.T, st *stage) {
		c, tab := st.connect(scene.Tester), st.connect(scene.Tester)
		c.hello("")
		tab.hello("")
		for range 2 {
			c.join(&pb.JoinRoom{Room: room})
		}
		tab.join(&pb.JoinRoom{Room: room}) // the third of this user, from another tab
		c.ask(&pb.JoinRoom{Room: room})
		e := c.refused()
		if e.Reason != "RATE_LIMITED" || e.RetryAfter.AsDuration() <= 0 || e.RetryAfter.AsDuration() > time.Second {
			t.Errorf("got %v", e)
		}
		c.pong() // signals have buckets of their own
		c.command("r", &pb.StartRunRequest{Project: scene.Key})
		for c.answer().GetAck() == nil { // and so has each kind of command
		}
		other := st.connect(scene.Manager)
		other.hello("")
		other.join(&pb.JoinRoom{Room: room})
		time.Sleep(e.RetryAfter.AsDuration())
		c.ask(&pb.JoinRoom{Room: room})
		if f := c.answer(); f.GetJoined() == nil {
			t.Errorf("after the wait: %v", f)
		}

		if _, err := st.server.Execute(st.As(scene.Tester), &pb.ExecuteRequest{Command: &pb.Command{
			Command: &pb.Command_StartRun{StartRun: &pb.StartRunRequest{Project: scene.Key}},
		}}); err != nil {
			t.Error(err)
		}
		for range 5 {
			_, _ = st.server.Execute(st.As(scene.Tester), &pb.ExecuteRequest{Command: &pb.Command{
				Command: &pb.Command_StartRun{StartRun: &pb.StartRunRequest{Project: scene.Key}},
			}})
		}
		_, err := st.server.Execute(st.As(scene.Tester), &pb.ExecuteRequest{Command: &pb.Command{
			Command: &pb.Command_StartRun{StartRun: &pb.StartRunRequest{Project: scene.Key}},
		}})
		if e := fault.Of(err); e == nil || e.Reason != "RATE_LIMITED" || e.RetryAfter <= 0 {
			t.Errorf("a call too many: %v", err)
		}
	})
}

func TestSignalsAreLimitedAlsoWhenTheRightIsKnown(t *testing.T) {
	limits := session.Limits{Signals: limit.Rate{PerSecond: 1, Burst: 5}}
	onStage(t, session.Config{Limits: limits}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		c.join(&pb.JoinRoom{Room: room})
		for id := uint64(10); id < 18; id++ {
			c.in <- &pb.SubscribeRequest{Id: id, Frame: &pb.SubscribeRequest_Command{Command: signal(room, "title")}}
		}
		var refused []uint64
		var acked uint64
		for frame := range c.waiting() {
			if e := frame.GetError(); e != nil {
				refused = append(refused, frame.ReplyTo)
				if e.Reason != "RATE_LIMITED" || e.RetryAfter.AsDuration() <= 0 {
					t.Errorf("refused with %v", e)
				}
			}
			if frame.GetAck() != nil {
				acked = frame.ReplyTo
			}
		}
		if !slices.Equal(refused, []uint64{15, 16, 17}) || acked != 14 {
			t.Errorf("%d were refused and those up to %d acknowledged, want 15 to 17, and 14", refused, acked)
		}
	})
}

func TestAFloodEndsTheSessionForAWhile(t *testing.T) {
	for name, frame := range map[string]*pb.SubscribeRequest{
		"too many": {Id: 1, Frame: &pb.SubscribeRequest_Ping{Ping: &pb.Ping{}}},
		"invalid":  joining(&pb.JoinRoom{Room: "nonsense"}),
		"empty":    {},
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, session.Config{Limits: session.Limits{Signals: limit.Rate{PerSecond: 10, Burst: 10}}}, func(t *testing.T, st *stage) {
				c := st.connect(scene.Tester)
				c.hello("")
				go func() {
					for range 1000 {
						select {
						case c.in <- frame:
						case <-c.ctx.Done():
							return
						}
					}
				}()
				e := fault.Of(c.ended())
				if e == nil || e.Reason != "FLOOD" || e.Kind != fault.Exhausted || e.RetryAfter < 10*time.Second {
					t.Errorf("it ended with %v", e)
				}
			})
		})
	}
}

func TestWhoMayOnlyWatchShowsNothingOfWhatOneDoes(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		viewer, tester := st.connect(scene.Viewer), st.connect(scene.Tester)
		for _, c := range []*client{viewer, tester} {
			c.hello("")
			c.join(&pb.JoinRoom{Room: room})
			c.do(signal(room, "title"))
		}
		if e := viewer.refused(); e.Reason != access.ErrDenied.Reason {
			t.Errorf("the viewer got %v", e)
		}
		tester.pong()
		doing := func() int { _, doing, _ := st.presence.Room("project:"+scene.ProjectID, ""); return len(doing) }
		if doing() != 1 {
			t.Fatalf("%d are doing something, want the tester alone", doing())
		}
		st.Update(func(tx store.Tx) error { return tx.PutMember(scene.ProjectID, scene.Tester, pb.Role_ROLE_VIEWER) })
		st.server.Recheck(scene.Tester)
		tester.pong()
		if doing() != 0 {
			t.Error("who was made a viewer is still shown in the field")
		}
		tester.do(signal(room, "title"))
		if e := tester.refused(); e.Reason != access.ErrDenied.Reason {
			t.Errorf("who was made a viewer got %v", e)
		}
		st.say(1)
		tester.durable(1) // and goes on hearing
	})
}

func TestAUserHasAsManySessionsAsOneMay(t *testing.T) {
	onStage(t, session.Config{MaxUserSessions: 2}, func(t *testing.T, st *stage) {
		first := st.connect(scene.Tester)
		id := first.hello("").SessionId
		second := st.connect(scene.Tester)
		second.hello("")
		third := st.connect(scene.Tester)
		third.in <- hello("")
		if err := third.ended(); !fault.IsReason(err, "TOO_MANY_SESSIONS") {
			t.Errorf("the third got %v", err)
		}
		st.connect(scene.Manager).hello("")
		st.connect(scene.Tester).hello(id) // a session that comes back is no other
		second.cancel()
		<-second.done
		st.connect(scene.Tester).hello("")
	})
}
