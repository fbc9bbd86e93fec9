package run

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/scene"
)

func TestProgressIsToldTenTimesASecondAndTheNewestInTheEnd(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Bot)
		id := r.hello(&pb.PublishHello{RunKey: "k"}).Run.Id
		for i := range 300 {
			r.report(testOf(fmt.Sprint(i), passed))
			time.Sleep(7 * time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		st.mu.Lock()
		defer st.mu.Unlock()
		last, perRoom := map[event.Room]told{}, map[event.Room]int{}
		for _, p := range st.told {
			if before, ok := last[p.room]; ok {
				if gap := p.at.Sub(before.at); gap < 100*time.Millisecond {
					t.Errorf("%s was told again after %v", p.room, gap)
				}
				if p.Counts.Total < before.Counts.Total {
					t.Errorf("progress went back from %v to %v", before.Counts, p.Counts)
				}
			}
			last[p.room] = p
			perRoom[p.room]++
		}
		for _, room := range []event.Room{event.RunRoom(id), event.ProjectRoom(scene.ProjectID)} {
			if last[room].RunProgress == nil || last[room].Counts.Passed != 300 || last[room].RunId != id {
				t.Errorf("%s was last told %v", room, last[room])
			}
			if n := perRoom[room]; n < 18 || n > 23 {
				t.Errorf("%s was told %d times in 2.1 s, want about 21", room, n)
			}
		}
	})
}

func TestProgressThatIsNotedLateDoesNotGoBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []uint32
		p := newProgress(func(evs []event.Event) {
			ev, err := evs[0].Decode()
			if err != nil {
				t.Fatal(err)
			}
			told = append(told, ev.GetRunProgress().Counts.Total)
		})
		note := func(n uint32) {
			p.note(progressOf{RunProgress: &pb.RunProgress{RunId: "r", Counts: &pb.Counts{Total: n}}, projectID: "p", at: uint64(n)}, false)
		}
		note(1)
		note(3)
		note(2) // committed before 3, and noted after it
		time.Sleep(time.Second)
		synctest.Wait()
		if fmt.Sprint(told) != "[1 3]" {
			t.Errorf("told %v, want 1, then 3", told)
		}
		note(4)
		note(5)
		p.close()
		note(6)
		time.Sleep(time.Second)
		if fmt.Sprint(told) != "[1 3 4]" {
			t.Errorf("told %v after the close", told)
		}
	})
}
