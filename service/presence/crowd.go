package presence

import (
	"cmp"
	"container/list"
	"slices"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
)

// listed is how many people a room is told of one by one. If 5,000 come to a room and
// each is told of each, that is 25 million messages; and nobody reads 5,000 names.
const listed = 200

// moves is how many free places of a list are given away at a time, while there are
// more people than places: a room that many leave at once would else be told of all.
const moves = 20

// crowd is who is in a room.
//
// The room is told of those in the list, and of how many there are once that isn't
// everybody. Who has a place in the list keeps it, until it is free or needed: who
// comes while there is room for it has one; of the others, who goes into a field gets
// one at once, and the newest to come gets one each time that the room is told of its
// number. If none is free, that of the one who has had one for longest and is in no
// field. So whatever many people do costs each reader a bounded number of events a
// second, and who comes is told of 200 people and not of all.
type crowd struct {
	room    event.Room
	users   map[string]*user // by id
	list    []*user          // those whom the room is told of, by how long that has been so
	others  list.List        // of *user: the rest, the newest to come last
	newest  *user            // who came last to a full list since the room was told of its number
	told    int              // of how many people the room was last told; 0 if of each, unsure if that is not known
	counted bool             // among the hub's counts
}

// headcount is how many people a room has to be told of; 0 if it is told of each.
func (c *crowd) headcount() int {
	if c.others.Len() == 0 {
		return 0
	}
	return len(c.users)
}

// admitLocked takes somebody in who wasn't there.
func (h *Hub) admitLocked(c *crowd, u *user) {
	c.users[u.ref.Id] = u
	if len(c.list) < listed {
		c.list = append(c.list, u)
	} else {
		u.unlisted = c.others.PushBack(u)
		c.newest = u
	}
	h.countLocked(c)
}

// dismissLocked lets somebody go who has no session left. The place is given to
// another one with the room's next number.
func (h *Hub) dismissLocked(c *crowd, u *user) {
	delete(c.users, u.ref.Id)
	if u.unlisted == nil {
		c.vacate(slices.Index(c.list, u))
	} else {
		c.others.Remove(u.unlisted)
		u.unlisted = nil
	}
	h.countLocked(c)
}

// vacate frees a place in the list.
func (c *crowd) vacate(i int) { c.list = slices.Delete(c.list, i, i+1) }

// countLocked has a room told how many people there are, if it isn't told of each.
func (h *Hub) countLocked(c *crowd) {
	if c.others.Len() == 0 && c.told == 0 || c.counted {
		return
	}
	c.counted = true
	h.tellSoonLocked(count{room: c})
}

// tellCrowdLocked gives places in the list to the newest, and tells the room how many
// people there are.
func (h *Hub) tellCrowdLocked(c *crowd) {
	c.counted = false
	free := listed - len(c.list)
	if len(c.users) > listed {
		free = min(free, moves)
	}
	for ; free > 0 && c.others.Len() > 0; free-- {
		h.listLocked(c, c.others.Back().Value.(*user)) //nolint:forcetypeassert // nothing else is in it
	}
	if u := c.newest; u != nil && u.unlisted != nil && len(c.list) == listed {
		h.listLocked(c, u)
	}
	c.newest = nil
	if n := c.headcount(); n != c.told {
		c.told = n
		h.publishLocked(c.room, time.Now(), nil, &pb.Event{Key: c.room.ID(), Payload: &pb.Event_Headcount{Headcount: &pb.Headcount{Present: uint32(n)}}})
	}
	if len(c.list) < listed {
		h.countLocked(c) // there are free places still
	}
}

// listLocked gives somebody a place in the list and tells the room, also of who has to
// go for it. It does nothing if all in the list are in a field.
func (h *Hub) listLocked(c *crowd, u *user) {
	if len(c.list) >= listed {
		i := slices.IndexFunc(c.list, func(other *user) bool { return !other.acts() })
		if i < 0 {
			return
		}
		other := c.list[i]
		c.vacate(i)
		other.unlisted = c.others.PushFront(other)
		h.showUserLocked(c, &pb.Presence{User: other.ref, State: pb.PresenceState_PRESENCE_STATE_UNLISTED})
	}
	c.others.Remove(u.unlisted)
	u.unlisted = nil
	c.list = append(c.list, u)
	h.tellLocked(c, u)
}

// acts reports whether one of the user's sessions is in a field.
func (u *user) acts() bool {
	for _, s := range u.sessions {
		if s.field != "" {
			return true
		}
	}
	return false
}

// Room returns whom who comes into a room now is told of, by name: those in the list
// and the caller, if that user is there; what they are doing; and how many people there
// are in all.
func (h *Hub) Room(room event.Room, caller string) (people []*pb.Presence, doing []*pb.Activity, present int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.rooms[room]
	if c == nil {
		return nil, nil, 0
	}
	seen := c.list
	if own := c.users[caller]; own != nil && own.unlisted != nil {
		seen = append(slices.Clip(seen), own)
	}
	for _, u := range seen {
		people = append(people, u.proto())
		for id, s := range u.sessions {
			if s.field != "" {
				doing = append(doing, h.activity(u, id, s.field, s.state))
			}
		}
		if len(u.sessions) != u.told {
			u.told = unsure // the next number is news to the caller, even if it is the last that the room was told
		}
	}
	if c.others.Len() > 0 || c.told != 0 {
		c.told = unsure // likewise
		h.countLocked(c)
	}
	slices.SortFunc(people, func(a, b *pb.Presence) int {
		return cmp.Or(cmp.Compare(a.User.Name, b.User.Name), cmp.Compare(a.User.Id, b.User.Id))
	})
	slices.SortFunc(doing, func(a, b *pb.Activity) int { return cmp.Compare(a.SessionId, b.SessionId) })
	return people, doing, len(c.users)
}
