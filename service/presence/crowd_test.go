package presence

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
)

const (
	focused = pb.ActivityState_ACTIVITY_STATE_FOCUSED
	typing  = pb.ActivityState_ACTIVITY_STATE_TYPING
	left    = pb.ActivityState_ACTIVITY_STATE_LEFT
)

// audience hands what a hub publishes to the readers of the room, and counts it.
type audience struct {
	t         *testing.T
	mu        sync.Mutex         // timers publish too; guards the rest
	readers   map[string]*reader // by user id
	events    int
	delivered int // events times readers
	bytes     int // likewise
}

func (a *audience) Publish(events []event.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range events {
		a.events++
		a.delivered += len(a.readers)
		a.bytes += len(a.readers) * len(e.Wire)
		ev, err := e.Decode()
		if err != nil {
			a.t.Errorf("published something that can't be decoded: %v", err)
		}
		for _, r := range a.readers {
			r.offer(ev)
		}
	}
}

// reader is a client in the room, as the protocol wants it to be.
type reader struct {
	own     string
	keys    []string // of what waits, in the order in which they came
	waits   map[string]*pb.Event
	people  map[string]pb.PresenceState
	present int // as told; 0 if those in people are to be counted
}

// offer queues an event of class LATEST in the place of an older one of its key.
func (r *reader) offer(ev *pb.Event) {
	if ev.Key == "" || r.waits == nil {
		return
	}
	key := fmt.Sprintf("%T %s", ev.Payload, ev.Key)
	if r.waits[key] == nil {
		r.keys = append(r.keys, key)
	}
	r.waits[key] = ev
}

// heard returns how many events the room heard since it was last asked.
func (a *audience) heard() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.events
	a.events = 0
	return n
}

// join is what a client is told that comes into the room, or back into it.
func (a *audience) join(h *Hub, id string) {
	people, _, present := h.Room(room, id)
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.readers[id]
	r.people, r.present = map[string]pb.PresenceState{}, 0
	for _, p := range people {
		r.people[p.User.Id] = p.State
	}
	if present > len(people) {
		r.present = present
	}
}

// read takes what waits.
func (r *reader) read() {
	for _, key := range r.keys {
		ev := r.waits[key]
		if n := ev.GetHeadcount(); n != nil {
			r.present = int(n.Present)
			continue
		}
		switch p := ev.GetPresence().GetPresence(); p.State {
		case pb.PresenceState_PRESENCE_STATE_OFFLINE:
			delete(r.people, p.User.Id)
		case pb.PresenceState_PRESENCE_STATE_UNLISTED:
			if p.User.Id != r.own {
				delete(r.people, p.User.Id)
			}
		default:
			r.people[p.User.Id] = p.State
		}
	}
	r.keys = nil
	clear(r.waits)
}

func (r *reader) count() int { return max(r.present, len(r.people)) }

// enter brings a user into the room with one session, which hears it.
func (a *audience) enter(h *Hub, id string) {
	a.mu.Lock()
	a.readers[id] = &reader{own: id, waits: map[string]*pb.Event{}}
	a.mu.Unlock()
	h.Enter(room, &pb.UserRef{Id: id, Name: strings.ToUpper(id)}, id, false)
	a.join(h, id)
}

func (a *audience) leave(h *Hub, id string) {
	a.mu.Lock()
	delete(a.readers, id)
	a.mu.Unlock()
	h.Leave(room, id, id)
}

func inCrowd(t *testing.T, fn func(*testing.T, *Hub, *audience)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		a := &audience{t: t, readers: map[string]*reader{}}
		h := New(a, Options{Grace: 5 * time.Second, Typing: 5 * time.Second})
		defer h.Close()
		fn(t, h, a)
	})
}

// settle lets all that was put off be told, and everybody read it.
func (a *audience) settle() {
	for range listed/moves + 2 {
		pass()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.readers {
		r.read()
	}
}

func name(i int) string { return fmt.Sprintf("u%04d", i) }

// check compares what each reader knows with what is so.
func (a *audience) check(h *Hub) {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	c := h.rooms[room]
	if c == nil {
		if len(a.readers) != 0 {
			a.t.Errorf("%d are there and the hub knows of none", len(a.readers))
		}
		return
	}
	if len(c.list) != min(listed, len(c.users)) || len(c.list)+c.others.Len() != len(c.users) {
		a.t.Errorf("%d are listed and %d are not, of %d", len(c.list), c.others.Len(), len(c.users))
	}
	want := map[string]pb.PresenceState{}
	for _, u := range c.list {
		want[u.ref.Id] = u.state
	}
	for id, r := range a.readers {
		if r.count() != len(c.users) {
			a.t.Fatalf("%s counts %d people (told %d, sees %d) of %d", id, r.count(), r.present, len(r.people), len(c.users))
		}
		own, shown := r.people[id]
		if !shown {
			a.t.Fatalf("%s doesn't see itself", id)
		}
		seen := maps.Clone(r.people)
		if _, told := want[id]; !told && own != 0 {
			delete(seen, id)
		}
		if !maps.Equal(seen, want) {
			a.t.Fatalf("%s sees %v, want %v", id, seen, want)
		}
	}
}

func TestARoomOfManyIsToldOfSomeAndTheNumber(t *testing.T) {
	inCrowd(t, func(_ *testing.T, h *Hub, a *audience) {
		for i := range listed {
			a.enter(h, name(i))
		}
		a.settle()
		if n := a.heard(); n != listed {
			a.t.Errorf("%d people came and the room heard %d events", listed, n)
		}
		a.check(h)

		a.enter(h, name(listed)) // 200 become 201, and
		a.settle()
		a.check(h)
		a.leave(h, name(7)) // 200 again: all are told of, and
		a.settle()
		a.check(h)
		if r := a.readers[name(1)]; r.present != 0 || r.count() != listed {
			a.t.Errorf("%d are there, told are %d", r.count(), r.present)
		}
		a.heard()
		a.leave(h, name(8))
		a.enter(h, name(8))
		a.settle()
		if n := a.heard(); n != 2 {
			a.t.Errorf("a small room heard %d events of one who left and came", n)
		}
		a.check(h)
	})
}

// TestManyPeopleCostWhatTheirNumberIs counts what people are told, while many come in
// five seconds, have their connections cut, come back, and go, those first whom the
// room is told of.
func TestManyPeopleCostWhatTheirNumberIs(t *testing.T) {
	type costs struct{ events, delivered, bytes, joined int }
	crowdOf := func(n int) (cost costs) {
		inCrowd(t, func(t *testing.T, h *Hub, a *audience) {
			each := 5 * time.Second / time.Duration(n)
			for i := range n {
				a.mu.Lock()
				a.readers[name(i)] = &reader{}
				a.mu.Unlock()
				h.Enter(room, &pb.UserRef{Id: name(i), Name: name(i)}, name(i), false)
				people, _, present := h.Room(room, name(i))
				cost.joined += len(people)
				if present != i+1 {
					t.Fatalf("%d came, and it is said that %d are there", i+1, present)
				}
				rest(each)
			}
			for i := range n {
				h.Lose(room, name(i), name(i))
			}
			for i := range n {
				h.Enter(room, &pb.UserRef{Id: name(i)}, name(i), false)
			}
			for c := h.rooms[room]; len(c.users) > 0; {
				a.leave(h, c.newestListed())
				rest(each)
			}
			cost.events, cost.delivered, cost.bytes = a.events, a.delivered, a.bytes
		})
		return cost
	}
	small, large := crowdOf(2500), crowdOf(5000)
	t.Logf("2,500 people: %+v; 5,000: %+v", small, large)
	// 200 come; 200 are lost and come back; 200 go; and each 100 ms of ten seconds one
	// changes places with another, and 20 get places and go, and there is a number.
	const most = 4*listed + 100*(1+2+2*moves)
	for n, c := range map[int]costs{2500: small, 5000: large} {
		if c.events > most || c.delivered > most*n || c.joined > (listed+1)*n {
			t.Errorf("%d people cost %+v; they may cost %d events", n, c, most)
		}
	}
	if large.bytes > small.bytes*5/2 || large.delivered > small.delivered*5/2 {
		t.Errorf("twice as many cost more than twice as much: %+v, then %+v", small, large)
	}
}

// newestListed returns who has been told of for the shortest time; if nobody is, the
// newest of the others.
func (c *crowd) newestListed() string {
	if n := len(c.list); n > 0 {
		return c.list[n-1].ref.Id
	}
	return c.others.Back().Value.(*user).ref.Id
}

func TestPlacesThatManyLeaveAreGivenAway(t *testing.T) {
	inCrowd(t, func(_ *testing.T, h *Hub, a *audience) {
		for i := range 3 * listed {
			a.enter(h, name(i))
		}
		a.settle()
		c := h.rooms[room]
		for range listed {
			a.leave(h, c.newestListed())
		}
		a.heard()
		pass()
		if n := a.heard(); n != moves+1 {
			a.t.Errorf("after 100 ms the room heard %d events", n)
		}
		a.settle()
		a.check(h)
		for range listed { // 200 are left: who is there is told at once
			a.leave(h, c.newestListed())
		}
		pass()
		a.settle()
		a.check(h)
	})
}

func TestWhoGoesIntoAFieldIsToldOfInAnyCrowd(t *testing.T) {
	inCrowd(t, func(t *testing.T, h *Hub, a *audience) {
		for i := range 2 * listed {
			a.enter(h, name(i))
		}
		a.settle()
		c := h.rooms[room]
		busy := func(from, to int) {
			for i := from; i < to; i++ {
				h.Update(room, name(i), name(i), "title", typing, nil)
			}
		}
		busy(listed-3, listed)
		for i := range 3 {
			if c.users[name(listed-1-i)].unlisted != nil {
				t.Errorf("%s types and isn't told of", name(listed-1-i))
			}
		}
		a.settle() // typing ends; the field is left by nobody
		for i := range listed {
			a.enter(h, name(2*listed+i))
			pass()
		}
		a.settle()
		a.check(h)
		for i := range 3 {
			if c.users[name(listed-1-i)].unlisted != nil {
				t.Errorf("%s is in a field and had to go", name(listed-1-i))
			}
		}
		busy(0, listed) // all places are taken by those who are in a field
		a.settle()
		a.check(h)
		busy(listed, listed+1)
		if c.users[name(listed)].unlisted == nil {
			t.Error("somebody in a field had to go for somebody in a field")
		}
		h.Update(room, name(0), name(0), "title", left, nil)
		busy(listed, listed+1)
		if c.users[name(listed)].unlisted != nil || c.users[name(0)].unlisted == nil {
			t.Error("who left the field kept the place")
		}
		people, doing, _ := h.Room(room, name(0))
		if len(people) != listed+1 || len(doing) != listed {
			t.Errorf("who comes back is told of %d people and what %d do", len(people), len(doing))
		}
		a.settle()
		a.check(h)
	})
}

// TestTheNewestIsSeenToCome lets people come one after the other into a full room.
func TestTheNewestIsSeenToCome(t *testing.T) {
	inCrowd(t, func(t *testing.T, h *Hub, a *audience) {
		for i := range listed {
			a.enter(h, name(i))
		}
		for i := range 10 {
			a.enter(h, name(listed+i))
			pass()
		}
		a.settle()
		a.check(h)
		for i := range 10 {
			_, old := a.readers[name(50)].people[name(i)]
			_, young := a.readers[name(50)].people[name(listed+i)]
			if old || !young {
				t.Errorf("%s is shown: %v; %s: %v", name(i), old, name(listed+i), young)
			}
		}
	})
}

// TestWhoComesBackToACrowdKnowsItsNumber is about a number that the room was told
// before, and that is news to one of them.
func TestWhoComesBackToACrowdKnowsItsNumber(t *testing.T) {
	inCrowd(t, func(_ *testing.T, h *Hub, a *audience) {
		for i := range listed + 1 {
			a.enter(h, name(i))
		}
		a.settle()
		a.join(h, name(0)) // it had to make room; with itself it sees all, and is told of a number
		h.Update(room, name(0), name(0), "title", focused, nil)
		a.settle()
		a.check(h)

		a.enter(h, "guest")
		a.join(h, name(1))
		a.leave(h, "guest") // 201 as before
		a.settle()
		a.check(h)

		two := name(listed - 1)
		h.Enter(room, &pb.UserRef{Id: two}, "tab2", false)
		people, _, _ := h.Room(room, name(2))
		if !slices.ContainsFunc(people, func(p *pb.Presence) bool { return p.Sessions == 2 }) {
			a.t.Errorf("%s has two tabs, and %v are shown", two, people)
		}
		h.Leave(room, two, "tab2")
		a.heard()
		pass()
		if told := a.heard(); told != 2 { // that it is one tab; and how many there are
			a.t.Errorf("somebody was told of two tabs, and then of %d changes", told)
		}
	})
}

// TestEverybodyIsRightAboutACrowdInTheEnd lets people come, go, break off and type at
// random, around the number at which a room is no longer told of all.
func TestEverybodyIsRightAboutACrowdInTheEnd(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			inCrowd(t, func(t *testing.T, h *Hub, a *audience) {
				rng := rand.New(rand.NewPCG(seed, 1))
				for round := range 8 {
					size := []int{listed - 3, listed, listed + 1, listed + 40, 3 * listed, 5}[rng.IntN(6)]
					for range 300 {
						a.happen(h, rng, size)
					}
					a.settle()
					a.check(h)
					if t.Failed() {
						t.Fatalf("in round %d, towards %d people", round, size)
					}
				}
			})
		})
	}
}

// happen does something at random, so that about size people are there in the end.
func (a *audience) happen(h *Hub, rng *rand.Rand, size int) {
	there := slices.Sorted(maps.Keys(a.readers))
	if len(there) < size && rng.IntN(4) > 0 || len(there) == 0 {
		for range rng.IntN(5) {
			if id := name(rng.IntN(1000)); a.readers[id] == nil {
				a.enter(h, id)
			}
		}
		return
	}
	id := there[rng.IntN(len(there))]
	switch n := rng.IntN(12); {
	case n < 6 && len(there) > size:
		for i := range min(rng.IntN(9), len(there)) {
			a.leave(h, there[i])
		}
	case n < 7:
		h.Update(room, id, id, "title", typing, nil)
	case n < 8:
		h.Update(room, id, id, "title", left, nil)
	case n < 9:
		h.SetIdle(room, id, id, rng.IntN(2) == 0)
	case n < 10:
		h.Lose(room, id, id)
		h.Enter(room, &pb.UserRef{Id: id}, id, false)
		a.join(h, id)
	case n < 11:
		a.mu.Lock()
		a.readers[id].read()
		a.mu.Unlock()
	default:
		rest(time.Duration(rng.IntN(150)) * time.Millisecond)
	}
}
