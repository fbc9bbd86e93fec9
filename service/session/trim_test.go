package session_test

import (
	"testing"
	"testing/synctest"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/scene"
	"github.com/tcmanager/tcmanager/service/session"
	"github.com/tcmanager/tcmanager/service/store"
)

// trim drops all but the newest events of each room.
func (st *stage) trim(keep int) {
	st.t.Helper()
	for more := true; more; {
		st.Update(func(tx store.Tx) error {
			done, err := tx.TrimLogs(store.History{Events: keep})
			more = done.More
			return err
		})
	}
}

// startsAnew reads up to the next answer to a join and makes sure that it is a
// snapshot, after a reset because what comes next is no longer kept.
func (c *client) startsAnew() *pb.Joined {
	c.st.t.Helper()
	reset := c.answer().GetReset_()
	if reset.GetRoom() != room || reset.GetReason() != "POSITION_TRIMMED" {
		c.st.t.Fatalf("the reset was %v, want POSITION_TRIMMED", reset)
	}
	j := c.answer().GetJoined()
	if j == nil || j.Recovered || j.GetProject() == nil {
		c.st.t.Fatalf("joined with %v, want a snapshot", j)
	}
	return j
}

func TestAPositionOlderThanWhatIsKeptGetsAResetAndASnapshot(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		st.say(50)
		epoch := st.Store.Epoch()
		st.trim(30) // 1 to 20 are gone
		for i, at := range []uint64{0, 1, 10, 19} {
			newest := 50 + uint64(i)
			c := st.connect(scene.Tester)
			c.hello("")
			c.ask(&pb.JoinRoom{Room: room, Position: &pb.Position{Epoch: epoch, Offset: at}})
			if j := c.startsAnew(); j.Position.Offset != newest || len(j.Recent) != 20 {
				t.Errorf("a resume at %d gave %v with %d recent events, want 20 at %d", at, j.Position, len(j.Recent), newest)
			}
			st.say(1)
			consecutive(t, newest, c.durable(1))
			c.cancel()
			<-c.done
		}
	})
}

func TestAPositionAtTheTrimMarkOrLaterIsContinued(t *testing.T) {
	onStage(t, session.Config{}, func(t *testing.T, st *stage) {
		st.say(50)
		epoch := st.Store.Epoch()
		st.trim(30)
		for _, at := range []uint64{20, 21, 35, 49, 50} {
			c := st.connect(scene.Tester)
			c.hello("")
			j := c.join(&pb.JoinRoom{Room: room, Position: &pb.Position{Epoch: epoch, Offset: at}})
			if !j.Recovered || j.Snapshot != nil {
				t.Fatalf("a resume at %d gave %v, want recovered and no snapshot", at, j)
			}
			consecutive(t, at, c.durable(int(50-at)))
			c.quiet()
			c.cancel()
			<-c.done
		}
		c := st.connect(scene.Tester)
		c.hello("")
		c.ask(&pb.JoinRoom{Room: room, Position: &pb.Position{Epoch: epoch + 1, Offset: 20}})
		if reset := c.answer().GetReset_(); reset.GetReason() != "EPOCH_CHANGED" {
			t.Errorf("a position of another history at the trim mark got %v", reset)
		}
	})
}

func TestASlowReaderWhoseNextEventIsTrimmedStartsAnew(t *testing.T) {
	onStage(t, session.Config{QueueBytes: 4 << 10}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		c.join(&pb.JoinRoom{Room: room})
		st.say(500) // most of it waits in the log
		synctest.Wait()
		st.trim(20)
		var heard []*pb.Event
		for {
			frame := c.next()
			for _, ev := range frame.Events {
				if ev.Offset > 0 {
					heard = append(heard, ev)
				}
			}
			if reset := frame.GetReset_(); reset != nil {
				if reset.Reason != "POSITION_TRIMMED" || reset.Room != room {
					t.Errorf("the reset was %v", reset)
				}
				break
			}
		}
		consecutive(t, 0, heard) // what came before the reset has no gap
		if j := c.answer().GetJoined(); j.GetProject() == nil || j.Recovered || j.Position.Offset != 500 {
			t.Errorf("joined anew with %v, want a snapshot at 500", j)
		}
		st.say(3)
		consecutive(t, 500, c.durable(3))
	})
}
