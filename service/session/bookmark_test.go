package session_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/scene"
	"github.com/tcmanager/tcmanager/service/session"
)

// looking lets the server compare rooms with their logs while fn runs.
func (st *stage) looking(fn func()) {
	st.t.Helper()
	ctx, cancel := context.WithCancel(st.t.Context())
	done := make(chan error, 1)
	go func() { done <- st.server.Run(ctx) }()
	fn()
	cancel()
	if err := <-done; err != nil {
		st.t.Error(err)
	}
}

func TestAnIdleRoomIsBookmarkedOnceBehindItsEvents(t *testing.T) {
	onStage(t, session.Config{HeartbeatInterval: 25 * time.Second, HeartbeatTimeout: time.Hour}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		at := c.join(&pb.JoinRoom{Room: room}).Position // before the first event
		st.looking(func() {
			want := func(offset uint64) {
				t.Helper()
				var seen uint64
				for f := c.next(); ; f = c.next() {
					for _, ev := range f.Events {
						seen = max(seen, ev.Offset)
					}
					if b := f.GetBookmark(); b != nil {
						if b.Room != room || b.Position.Epoch != at.Epoch || b.Position.Offset != at.Offset+offset || seen > 0 && seen != at.Offset+offset {
							t.Errorf("bookmark %v behind event %d", b, seen)
						}
						return
					}
				}
			}
			want(0)
			time.Sleep(5 * time.Minute)
			c.quiet() // one is enough
			st.say(3)
			want(3)
			time.Sleep(5 * time.Minute)
			c.quiet()
		})
	})
}

func TestABookmarkIsNeverAheadOfWhatASlowReaderWasSent(t *testing.T) {
	onStage(t, session.Config{QueueBytes: 1, HeartbeatInterval: time.Second, HeartbeatTimeout: time.Hour}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		at := c.join(&pb.JoinRoom{Room: room}).Position
		st.looking(func() {
			st.say(3000)
			time.Sleep(10 * time.Second) // bookmarks come by while the reader sleeps
			seen := at.Offset
			for seen < at.Offset+3000 {
				f := c.next()
				for _, ev := range f.Events {
					seen = max(seen, ev.Offset)
				}
				if b := f.GetBookmark(); b != nil && b.Position.Offset > seen {
					t.Fatalf("bookmark %d ahead of event %d", b.Position.Offset, seen)
				}
			}
			for f := c.next(); f.GetBookmark() == nil; f = c.next() {
				t.Logf("before the bookmark: %v", f)
			}
		})
	})
}

func TestWhatTheRouterLostIsReadFromTheLog(t *testing.T) {
	onStage(t, session.Config{HeartbeatInterval: 25 * time.Second, HeartbeatTimeout: time.Hour}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		at := c.join(&pb.JoinRoom{Room: room}).Position
		st.looking(func() {
			st.deaf.Store(true)
			st.say(4)
			st.deaf.Store(false)
			c.quiet()
			time.Sleep(25 * time.Second)
			consecutive(t, at.Offset, c.durable(4))
		})
	})
}

func TestWhoIsTooFarBehindStartsAnewFromASnapshot(t *testing.T) {
	onStageWithoutQueues(t, session.Config{QueueBytes: 1, ReplayEvents: 10}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		at := c.join(&pb.JoinRoom{Room: room}).Position
		st.say(100) // the reader sleeps; a frame or two is on its way
		synctest.Wait()
		for f := c.next(); ; f = c.next() {
			if r := f.GetReset_(); r != nil {
				if r.Reason != "TOO_FAR_BEHIND" || r.Room != room {
					t.Errorf("the reset is %v", r)
				}
				break
			}
		}
		if j := c.answer().GetJoined(); j == nil || j.Recovered || j.Position.Offset != at.Offset+100 {
			t.Errorf("the reset was followed by %v", j)
		}
		st.say(2)
		consecutive(t, at.Offset+100, c.durable(2))

		back := st.connect(scene.Manager)
		back.hello("")
		back.ask(&pb.JoinRoom{Room: room, Position: at})
		if r := back.answer().GetReset_(); r.GetReason() != "TOO_FAR_BEHIND" {
			t.Errorf("a join that far behind was answered with %v", r)
		}
		near := &pb.Position{Epoch: at.Epoch, Offset: at.Offset + 92}
		if j := back.answer().GetJoined(); j.GetRecovered() {
			t.Errorf("%v", j)
		}
		if j := back.join(&pb.JoinRoom{Room: room, Position: near}); !j.Recovered {
			t.Errorf("10 events behind: %v", j)
		}
		consecutive(t, at.Offset+92, back.durable(10))
	})
}

func TestADrainAnswersWhatIsInHandAndThenSaysWhereTheClientIs(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		at := c.join(&pb.JoinRoom{Room: room}).Position
		c.command("wait", &pb.StartRunRequest{Project: scene.Key})
		<-st.working
		st.server.Drain()
		synctest.Wait()
		st.say(3)
		synctest.Wait()
		st.working <- true
		acked := false
		seen := at.Offset
		for {
			f := c.next()
			for _, ev := range f.Events {
				seen = max(seen, ev.Offset)
			}
			acked = acked || f.GetAck() != nil
			g := f.GetGoingAway()
			if g == nil {
				continue
			}
			if !acked {
				t.Error("the client was sent away before its command was answered")
			}
			if len(g.Cursors) != 1 || g.Cursors[0].Room != room || g.Cursors[0].Position.Offset != seen || seen < at.Offset+3 {
				t.Errorf("the cursors are %v, the last event was %d", g.Cursors, seen)
			}
			err := c.ended()
			if e := fault.Of(err); !fault.IsReason(err, "GOING_AWAY") || e.RetryAfter != g.ReconnectAfter.AsDuration() {
				t.Errorf("told %s, ended with %v", g.ReconnectAfter.AsDuration(), err)
			}
			return
		}
	})
}

func TestTheLastSessionOfADrainIsNotTheFirstToComeBack(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		delays := map[time.Duration]bool{}
		var clients []*client
		for range 20 {
			c := st.connect(scene.Tester)
			c.hello("")
			clients = append(clients, c)
		}
		st.server.Drain()
		for _, c := range clients {
			delays[c.answer().GetGoingAway().GetReconnectAfter().AsDuration()] = true
		}
		if len(delays) < 15 {
			t.Errorf("20 clients were given %d delays", len(delays))
		}
	})
}

func TestAPositionIsGoodAfterDaysAlsoBeforeTheFirstEvent(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		for _, events := range []int{0, 3} {
			c := st.connect(scene.Tester)
			c.hello("")
			at := c.join(&pb.JoinRoom{Room: room}).Position
			st.say(events)
			if events > 0 {
				last := c.durable(events)[events-1]
				at = &pb.Position{Epoch: last.Epoch, Offset: last.Offset}
			}
			c.cancel()
			<-c.done
			time.Sleep(10 * 24 * time.Hour)
			st.say(2) // what is missed
			back := st.connect(scene.Tester)
			back.hello("")
			if j := back.join(&pb.JoinRoom{Room: room, Position: at}); !j.Recovered {
				t.Errorf("after days and %d events: %v", events, j)
			}
			consecutive(t, at.Offset, back.durable(2))
			back.cancel()
		}
	})
}
