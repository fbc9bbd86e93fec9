package presence

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/router"
)

const room event.Room = "testcase:1"

var anna = &pb.UserRef{Id: "anna", Name: "Anna"}

// log writes down what a hub publishes, a line an event.
type log struct {
	t  *testing.T
	mu sync.Mutex // timers publish too

	lines []string
}

func (l *log) Publish(events []event.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range events {
		ev, err := e.Decode()
		if err != nil {
			l.t.Errorf("published something that can't be decoded: %v", err)
			continue
		}
		switch p := ev.Payload.(type) {
		case *pb.Event_Presence:
			l.lines = append(l.lines, fmt.Sprintf("%s %s %d", ev.Key, p.Presence.GetPresence().State.String()[15:], p.Presence.GetPresence().Sessions))
		case *pb.Event_Activity:
			l.lines = append(l.lines, fmt.Sprintf("%s %s %s", p.Activity.User.Id, p.Activity.State.String()[15:], p.Activity.Field))
		}
	}
}

func (l *log) want(lines ...string) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if fmt.Sprint(l.lines) != fmt.Sprint(lines) {
		l.t.Errorf("the room heard\n%q, want\n%q", l.lines, lines)
	}
	l.lines = nil
}

func inBubble(t *testing.T, fn func(*testing.T, *Hub, *log)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &log{t: t}
		h := New(l, Options{Grace: 5 * time.Second, Typing: 5 * time.Second})
		defer h.Close()
		fn(t, h, l)
	})
}

func TestAUserIsThereWhileOneOfTheUsersTabsIs(t *testing.T) {
	inBubble(t, func(t *testing.T, h *Hub, l *log) {
		h.Enter(room, anna, "tab1", false)
		h.Enter(room, anna, "tab2", false)
		pass()
		h.Leave(room, anna.Id, "tab1")
		pass()
		l.want("anna ONLINE 1", "anna ONLINE 2", "anna ONLINE 1")
		h.Leave(room, anna.Id, "tab2")
		l.want("anna OFFLINE 0")
		if people, _, _ := h.Room(room, ""); len(people) != 0 {
			t.Errorf("the room still shows %v", people)
		}
	})
}

// pass lets the time pass after which rooms are told of numbers of sessions.
func pass() { rest(countsEvery) }

// rest lets time pass, and what the timers of that time do.
func rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestARoomIsToldOfManyTabsTogether(t *testing.T) {
	inBubble(t, func(t *testing.T, h *Hub, l *log) {
		other := event.Room("testcase:2")
		for i := range 1000 {
			h.Enter(room, anna, fmt.Sprint(i), false)
		}
		l.want("anna ONLINE 1")
		if people, _, _ := h.Room(room, ""); people[0].Sessions != 1000 {
			t.Errorf("who comes now is shown %v", people)
		}
		h.Enter(other, anna, "0", false)
		h.Enter(other, anna, "1", false)
		pass()
		l.want("anna ONLINE 1", "anna ONLINE 1000", "anna ONLINE 2")

		// A change of state goes at once, with the number as it is then.
		h.Leave(room, anna.Id, "0")
		for i := 1; i < 1000; i++ {
			h.SetIdle(room, anna.Id, fmt.Sprint(i), true)
		}
		l.want("anna IDLE 999")
		pass()
		l.want()

		// Who left and came back meanwhile is no ghost.
		h.Leave(room, anna.Id, "1")
		for i := 2; i < 1000; i++ {
			h.Leave(room, anna.Id, fmt.Sprint(i))
		}
		h.Enter(room, anna, "1", false)
		l.want("anna OFFLINE 0", "anna ONLINE 1")
		pass()
		l.want()
		h.Enter(room, anna, "2", false)
		h.Leave(room, anna.Id, "2")
		pass()
		l.want()
		h.Enter(room, anna, "2", false)
		h.Close()
		pass()
		l.want()
	})
}

func TestAReloadIsNoLeaveAndJoin(t *testing.T) {
	inBubble(t, func(t *testing.T, h *Hub, l *log) {
		h.Enter(room, anna, "tab1", false)
		l.want("anna ONLINE 1")
		h.Lose(room, anna.Id, "tab1")
		time.Sleep(4 * time.Second)
		h.Enter(room, anna, "tab1", false)
		time.Sleep(time.Minute)
		synctest.Wait()
		l.want("anna RECONNECTING 1", "anna ONLINE 1")
	})
}

func TestAUserIsAsPresentAsTheMostPresentTab(t *testing.T) {
	inBubble(t, func(t *testing.T, h *Hub, l *log) {
		h.Enter(room, anna, "tab1", false)
		h.SetIdle(room, anna.Id, "tab1", true)
		h.SetIdle(room, anna.Id, "tab1", true)
		l.want("anna ONLINE 1", "anna IDLE 1")
		h.Enter(room, anna, "tab2", true)
		pass()
		l.want("anna IDLE 2")
		h.SetIdle(room, anna.Id, "tab2", false)
		h.Lose(room, anna.Id, "tab2")
		l.want("anna ONLINE 2", "anna IDLE 2")
		h.Lose(room, anna.Id, "tab1")
		l.want("anna RECONNECTING 2")
		h.SetIdle(room, anna.Id, "nobody", true)
		h.SetIdle("testcase:2", anna.Id, "tab1", true)
		l.want()
	})
}

func TestASessionThatRestsLooksAsItWasUntilTheGraceTimeIsOver(t *testing.T) {
	inBubble(t, func(t *testing.T, h *Hub, l *log) {
		h.Enter(room, anna, "tab1", false)
		h.Update(room, anna.Id, "tab1", "title", pb.ActivityState_ACTIVITY_STATE_FOCUSED, nil)
		l.want("anna ONLINE 1", "anna FOCUSED title")
		for range 3 {
			h.Rest(room, anna.Id, "tab1", 0)
			time.Sleep(4 * time.Second)
			h.Enter(room, anna, "tab1", false)
		}
		l.want()
		h.Rest(room, anna.Id, "tab1", 0)
		time.Sleep(time.Minute)
		synctest.Wait()
		l.want("anna LEFT title", "anna OFFLINE 0")
		h.Rest(room, anna.Id, "tab1", 0)
		l.want()
	})
}

func TestWhoMayNoLongerWriteIsTakenOutOfTheField(t *testing.T) {
	inBubble(t, func(t *testing.T, h *Hub, l *log) {
		h.Enter(room, anna, "tab1", false)
		h.Update(room, anna.Id, "tab1", "title", pb.ActivityState_ACTIVITY_STATE_TYPING, nil)
		h.Settle(room, anna.Id, "tab1")
		h.Settle(room, anna.Id, "tab1")
		h.Settle(room, "nobody", "tab1")
		time.Sleep(time.Minute)
		synctest.Wait()
		l.want("anna ONLINE 1", "anna TYPING title", "anna LEFT title")
	})
}

func TestALostSessionIsGoneAfterTheGraceTime(t *testing.T) {
	inBubble(t, func(t *testing.T, h *Hub, l *log) {
		h.Enter(room, anna, "tab1", false)
		h.Lose(room, anna.Id, "tab1")
		time.Sleep(5*time.Second - 1)
		l.want("anna ONLINE 1", "anna RECONNECTING 1")
		time.Sleep(2 * time.Nanosecond)
		synctest.Wait()
		l.want("anna OFFLINE 0")
	})
}

func TestTypingEndsByItselfAndIsProlongedByMore(t *testing.T) {
	inBubble(t, func(t *testing.T, h *Hub, l *log) {
		h.Enter(room, anna, "tab1", false)
		l.want("anna ONLINE 1")
		h.Update(room, anna.Id, "tab1", "title", pb.ActivityState_ACTIVITY_STATE_TYPING, nil)
		time.Sleep(4 * time.Second)
		h.Update(room, anna.Id, "tab1", "title", pb.ActivityState_ACTIVITY_STATE_TYPING, nil)
		time.Sleep(4 * time.Second)
		l.want("anna TYPING title", "anna TYPING title")
		time.Sleep(time.Second + 1)
		synctest.Wait()
		l.want("anna FOCUSED title")
	})
}

func TestTypingThatWentOnElsewhereEndsThere(t *testing.T) {
	inBubble(t, func(t *testing.T, h *Hub, l *log) {
		h.Enter(room, anna, "tab1", false)
		h.Update(room, anna.Id, "tab1", "title", pb.ActivityState_ACTIVITY_STATE_TYPING, nil)
		time.Sleep(2 * time.Second)
		h.Update(room, anna.Id, "tab1", "title", pb.ActivityState_ACTIVITY_STATE_LEFT, nil)
		time.Sleep(2 * time.Second)
		h.Update(room, anna.Id, "tab1", "steps", pb.ActivityState_ACTIVITY_STATE_TYPING, nil)
		l.want("anna ONLINE 1", "anna TYPING title", "anna LEFT title", "anna TYPING steps")
		time.Sleep(5*time.Second - 1)
		l.want()
		time.Sleep(2 * time.Nanosecond)
		synctest.Wait()
		l.want("anna FOCUSED steps")
		time.Sleep(time.Minute)
		h.Update(room, anna.Id, "tab1", "steps", pb.ActivityState_ACTIVITY_STATE_TYPING, nil)
		time.Sleep(5*time.Second + 1)
		synctest.Wait()
		l.want("anna TYPING steps", "anna FOCUSED steps")
	})
}

func TestWhatNobodyElseHearsIsFoundByWhoComesLater(t *testing.T) {
	inBubble(t, func(t *testing.T, h *Hub, l *log) {
		h.Enter(room, anna, "tab1", false)
		others := false
		heard := func() bool {
			if h.mu.TryLock() { // who comes between the question and the change would miss it
				h.mu.Unlock()
				t.Error("it was asked who hears without the lock")
			}
			return others
		}
		h.Update(room, anna.Id, "tab1", "title", pb.ActivityState_ACTIVITY_STATE_FOCUSED, heard)
		h.Update(room, anna.Id, "tab1", "steps", pb.ActivityState_ACTIVITY_STATE_FOCUSED, heard)
		l.want("anna ONLINE 1")
		if _, doing, _ := h.Room(room, ""); len(doing) != 1 || doing[0].Field != "steps" {
			t.Errorf("the room shows %v", doing)
		}
		others = true
		h.Update(room, anna.Id, "tab1", "title", pb.ActivityState_ACTIVITY_STATE_FOCUSED, heard)
		h.Update(room, anna.Id, "tab1", "title", pb.ActivityState_ACTIVITY_STATE_LEFT, heard)
		l.want("anna LEFT steps", "anna FOCUSED title", "anna LEFT title")
		if _, doing, _ := h.Room(room, ""); len(doing) != 0 {
			t.Errorf("the room shows %v", doing)
		}
	})
}

// ear keeps the last activity that it hears.
type ear struct {
	t     *testing.T
	field atomic.Value
}

func (e *ear) Offer(b *router.Batch) {
	ev, err := b.Events[0].Decode()
	if err != nil {
		e.t.Error(err)
	}
	if a := ev.GetActivity(); a.GetState() == pb.ActivityState_ACTIVITY_STATE_FOCUSED {
		e.field.Store(a.Field)
	}
}

// TestWhoComesMeanwhileMissesNothing lets somebody come into a room in the order that
// a session does, while another one who was alone moves about.
func TestWhoComesMeanwhileMissesNothing(t *testing.T) {
	for range 200 {
		r := router.New()
		h := New(r, Options{})
		own, other := &ear{t: t}, &ear{t: t}
		r.Subscribe(room, own)
		h.Enter(room, anna, "tab1", false)
		others := r.Others(room, own)
		var moving sync.WaitGroup
		moving.Go(func() {
			for i := range 20 {
				h.Update(room, anna.Id, "tab1", fmt.Sprint("f", i), pb.ActivityState_ACTIVITY_STATE_FOCUSED, others)
			}
		})
		r.Subscribe(room, other)
		_, doing, _ := h.Room(room, "")
		moving.Wait()
		last, heard := other.field.Load().(string)
		if !heard && len(doing) == 1 {
			last = doing[0].Field
		}
		if last != "f19" {
			t.Fatalf("who came saw %v, then heard %q", doing, last)
		}
		h.Close()
	}
}

func TestASessionIsInOneFieldAndLeavesItWithTheRoom(t *testing.T) {
	inBubble(t, func(t *testing.T, h *Hub, l *log) {
		h.Enter(room, anna, "tab1", false)
		h.Update(room, anna.Id, "tab1", "title", pb.ActivityState_ACTIVITY_STATE_FOCUSED, nil)
		h.Update(room, anna.Id, "tab1", "description", pb.ActivityState_ACTIVITY_STATE_TYPING, nil)
		if _, doing, _ := h.Room(room, ""); len(doing) != 1 || doing[0].Field != "description" || doing[0].ExpiresIn.AsDuration() != 5*time.Second {
			t.Errorf("the room shows %v, want typing in description for 5 s", doing)
		}
		h.Leave(room, anna.Id, "tab1")
		time.Sleep(time.Minute)
		synctest.Wait()
		l.want("anna ONLINE 1", "anna FOCUSED title", "anna LEFT title", "anna TYPING description", "anna LEFT description", "anna OFFLINE 0")
	})
}

func TestWhoIsNotInTheRoomCanNotActInIt(t *testing.T) {
	inBubble(t, func(t *testing.T, h *Hub, l *log) {
		h.Enter(room, anna, "tab1", false)
		l.want("anna ONLINE 1")
		if h.Update(room, "mallory", "tab1", "title", pb.ActivityState_ACTIVITY_STATE_TYPING, nil) {
			t.Error("an outsider was taken for a member of the room")
		}
		if h.Update("testcase:2", anna.Id, "tab1", "title", pb.ActivityState_ACTIVITY_STATE_TYPING, nil) {
			t.Error("a session acted in a room that it isn't in")
		}
		l.want()
	})
}
