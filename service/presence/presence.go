// Package presence knows who is in which room, and what they are doing there.
//
// A user is in a room as long as one of the user's sessions is, and as present
// as the most present of them: online, idle (nobody touches the machine),
// reconnecting. A session whose connection broke keeps its place for a grace
// time, so that a reload or a short break is no leave and join. One that is
// between two connections by design rests: until it is overdue nobody sees a
// difference. Typing ends by itself.
//
// A room of up to 200 people is told of each of them. Of more, it is told of 200 and
// how many there are: see crowd.
//
// # Concurrency
//
// A Hub may be used from any goroutine. Its events are published in the order of
// the changes they tell of, while the hub's lock is held: Publish must not wait.
// Timers are its only goroutines; Close stops them. State changes are told at once; of
// a user's number of sessions alone, and of how many people there are, a room is told
// every 100 ms at most.
package presence

import (
	"cmp"
	"container/list"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
)

// Publisher takes events to the rooms. The router is one.
type Publisher interface{ Publish([]event.Event) }

// Options set the times of a Hub.
type Options struct {
	Grace  time.Duration // how long a broken connection keeps its place; 0 means 5 s
	Typing time.Duration // how long typing holds without another sign of it; 0 means 5 s
}

// Hub holds the presence of all rooms.
type Hub struct {
	pub  Publisher
	opts Options

	mu     sync.Mutex
	rooms  map[event.Room]*crowd
	closed bool
	counts []count     // that changed, and that the rooms will be told
	tells  *time.Timer // runs while there are some; nil before the first
}

// count is the number of a user's sessions in a room; without a user, that of the
// people there.
type count struct {
	room *crowd
	user *user
}

// countsEvery is how long a room waits to be told how many sessions a user has, if
// nothing else has changed. A user whose thousand tabs come back together is then a
// few events to everybody in the room, and not a thousand. So are a thousand people.
const countsEvery = 100 * time.Millisecond

// user is one user in one room.
type user struct {
	ref      *pb.UserRef
	since    time.Time
	state    pb.PresenceState // as the room was last told, and
	told     int              // the number of sessions likewise; unsure if that is not known
	counted  bool             // among the hub's counts
	sessions map[string]*session
	unlisted *list.Element // among those of crowd.others; nil for one whom the room is told of
}

// session is one session of a user in a room.
type session struct {
	lost  *time.Timer // set while there is no connection
	rests bool        // there is none by design: the session counts as present
	idle  bool        // the user is not at the machine
	field string      // the field the session is in; empty for none
	state pb.ActivityState
	quiet *time.Timer // that ends typing; it may be set for longer than somebody types
	types time.Time   // until when the session counts as typing, if nothing else comes
}

// New returns a hub in which nobody is.
func New(pub Publisher, opts Options) *Hub {
	opts.Grace = cmp.Or(opts.Grace, 5*time.Second)
	opts.Typing = cmp.Or(opts.Typing, 5*time.Second)
	return &Hub{pub: pub, opts: opts, rooms: map[event.Room]*crowd{}}
}

// Close stops all timers. Nothing is published any more.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.counts = nil
	if h.tells != nil {
		h.tells.Stop()
	}
	for _, c := range h.rooms {
		for _, u := range c.users {
			for _, s := range u.sessions {
				s.stop()
			}
		}
	}
	h.rooms = map[event.Room]*crowd{}
}

func (s *session) stop() {
	if s.lost != nil {
		s.lost.Stop()
	}
	if s.quiet != nil {
		s.quiet.Stop()
		s.quiet = nil // it may have fired already
	}
}

// Enter brings a session into a room, or back into it. Idle says that its user is
// not at the machine.
func (h *Hub) Enter(room event.Room, ref *pb.UserRef, sessionID string, idle bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	c := h.rooms[room]
	if c == nil {
		c = &crowd{room: room, users: map[string]*user{}}
		h.rooms[room] = c
	}
	u := c.users[ref.Id]
	if u == nil {
		u = &user{ref: ref, since: time.Now(), sessions: map[string]*session{}}
		h.admitLocked(c, u)
	}
	s := u.sessions[sessionID]
	if s == nil {
		s = &session{}
		u.sessions[sessionID] = s
	}
	if s.lost != nil {
		s.lost.Stop()
		s.lost = nil
	}
	s.rests, s.idle = false, idle
	h.refreshLocked(c, u)
}

// SetIdle says whether a session's user is at the machine. A session that is not
// in the room is left alone.
func (h *Hub) SetIdle(room event.Room, userID, sessionID string, idle bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, u, s := h.findLocked(room, userID, sessionID)
	if s == nil {
		return
	}
	s.idle = idle
	h.refreshLocked(c, u)
}

// Leave takes a session out of a room at once.
func (h *Hub) Leave(room event.Room, userID, sessionID string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leaveLocked(room, userID, sessionID)
}

// Lose says that a session's connection broke: it keeps its place in the room
// for the grace time.
func (h *Hub) Lose(room event.Room, userID, sessionID string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, u, s := h.findLocked(room, userID, sessionID)
	if s == nil || s.lost != nil {
		return
	}
	h.settleLocked(room, u, sessionID, s)
	h.expectLocked(room, userID, sessionID, s, h.opts.Grace)
	h.refreshLocked(c, u)
}

// Rest says that a session has no connection for a moment, by design: it keeps
// its place, and what it does there, for so long, but at least for the grace time,
// and nobody is told.
func (h *Hub) Rest(room event.Room, userID, sessionID string, patience time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, _, s := h.findLocked(room, userID, sessionID); s != nil && s.lost == nil {
		s.rests = true
		h.expectLocked(room, userID, sessionID, s, max(patience, h.opts.Grace))
	}
}

// expectLocked takes a session out of the room if it isn't back in time.
func (h *Hub) expectLocked(room event.Room, userID, sessionID string, s *session, patience time.Duration) {
	var timer *time.Timer
	timer = time.AfterFunc(patience, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		// The session may have come back, and been lost again, since the timer fired.
		if _, _, now := h.findLocked(room, userID, sessionID); now == s && s.lost == timer {
			h.leaveLocked(room, userID, sessionID)
		}
	})
	s.lost = timer
}

func (h *Hub) leaveLocked(room event.Room, userID, sessionID string) {
	c, u, s := h.findLocked(room, userID, sessionID)
	if s == nil {
		return
	}
	h.settleLocked(room, u, sessionID, s)
	s.stop()
	delete(u.sessions, sessionID)
	h.refreshLocked(c, u)
	if len(u.sessions) == 0 {
		h.dismissLocked(c, u)
		if len(c.users) == 0 {
			delete(h.rooms, room)
		}
	}
}

func (h *Hub) findLocked(room event.Room, userID, sessionID string) (*crowd, *user, *session) {
	c := h.rooms[room]
	if c == nil {
		return nil, nil, nil
	}
	u := c.users[userID]
	if u == nil {
		return c, nil, nil
	}
	return c, u, u.sessions[sessionID]
}

// refreshLocked tells the room of a user's state if it changed. If only the number of
// the user's sessions did, the room is told in a moment.
func (h *Hub) refreshLocked(c *crowd, u *user) {
	state := u.stateOf()
	changed := state != u.state
	u.state = state
	switch {
	case u.unlisted != nil:
	case changed:
		h.tellLocked(c, u)
	case len(u.sessions) != u.told && !u.counted:
		u.counted = true
		h.tellSoonLocked(count{c, u})
	}
}

// unsure stands for a number that some of a room's readers were told and others not.
const unsure = -1

// tellSoonLocked has a room told of a number that changed.
func (h *Hub) tellSoonLocked(c count) {
	if h.closed {
		return
	}
	h.counts = append(h.counts, c)
	switch {
	case len(h.counts) > 1: // the timer runs
	case h.tells == nil:
		h.tells = time.AfterFunc(countsEvery, h.tellCounts)
	default:
		h.tells.Reset(countsEvery)
	}
}

// tellCounts tells the rooms how many sessions users have, and how many people there
// are. Who has left since has none, and the room knows.
func (h *Hub) tellCounts() {
	h.mu.Lock()
	defer h.mu.Unlock()
	counts := h.counts
	h.counts = nil
	for _, c := range counts {
		u := c.user
		if u == nil {
			h.tellCrowdLocked(c.room)
			continue
		}
		u.counted = false
		if n := len(u.sessions); n != u.told && n != 0 && u.unlisted == nil {
			h.tellLocked(c.room, u)
		}
	}
}

// tellLocked tells the room of a user's state and sessions.
func (h *Hub) tellLocked(c *crowd, u *user) {
	u.told = len(u.sessions)
	h.showUserLocked(c, u.proto())
}

// showUserLocked tells a room of a user.
func (h *Hub) showUserLocked(c *crowd, p *pb.Presence) {
	kind := pb.CollaborationType_COLLABORATION_TYPE_USER_JOINED
	switch p.State {
	case pb.PresenceState_PRESENCE_STATE_OFFLINE, pb.PresenceState_PRESENCE_STATE_UNLISTED:
		kind = pb.CollaborationType_COLLABORATION_TYPE_USER_LEFT
	default:
	}
	now := time.Now()
	h.publishLocked(c.room, now, p.User, &pb.Event{Key: p.User.Id, Payload: &pb.Event_Presence{Presence: &pb.CollaborationUpdate{
		Type: kind, EntityId: c.room.ID(), User: p.User, Timestamp: timestamppb.New(now),
		Data: &pb.CollaborationUpdate_Presence{Presence: p},
	}}})
}

// stateOf is the most present of the user's sessions.
func (u *user) stateOf() pb.PresenceState {
	if len(u.sessions) == 0 {
		return pb.PresenceState_PRESENCE_STATE_OFFLINE
	}
	state := pb.PresenceState_PRESENCE_STATE_RECONNECTING
	for _, s := range u.sessions {
		if s.lost != nil && !s.rests {
			continue
		}
		if !s.idle {
			return pb.PresenceState_PRESENCE_STATE_ONLINE
		}
		state = pb.PresenceState_PRESENCE_STATE_IDLE
	}
	return state
}

func (u *user) proto() *pb.Presence {
	return &pb.Presence{User: u.ref, State: u.state, Sessions: uint32(len(u.sessions)), Since: timestamppb.New(u.since)}
}

// publishLocked sends an event that isn't durable. An event that can't be
// encoded would be a fault of this package, which its tests would show.
func (h *Hub) publishLocked(room event.Room, now time.Time, actor *pb.UserRef, ev *pb.Event) {
	if h.closed {
		return
	}
	d, err := event.NewDraft(room, now, actor, ev)
	if err != nil {
		return
	}
	h.pub.Publish([]event.Event{d.At(event.Position{})})
}

// Update says what a session is doing in a room. It reports false if the session
// is not in the room. Nothing is published if heard reports that nobody but the
// session would hear it; nil stands for one that reports true. It is called with
// the hub's lock held, behind the change: who comes in later finds that in Room.
func (h *Hub) Update(room event.Room, userID, sessionID, field string, state pb.ActivityState, heard func() bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, u, s := h.findLocked(room, userID, sessionID)
	if s == nil {
		return false
	}
	if state == pb.ActivityState_ACTIVITY_STATE_LEFT && s.field != field {
		return true
	}
	before := s.field
	s.set(field, state)
	if state == pb.ActivityState_ACTIVITY_STATE_LEFT {
		s.set("", pb.ActivityState_ACTIVITY_STATE_UNSPECIFIED)
	}
	if state == pb.ActivityState_ACTIVITY_STATE_TYPING {
		h.typesLocked(room, u, sessionID, s)
	}
	if u.unlisted != nil && s.field != "" {
		h.listLocked(c, u)
	}
	if heard != nil && !heard() {
		return true
	}
	if before != "" && before != field {
		h.showLocked(room, u, sessionID, before, pb.ActivityState_ACTIVITY_STATE_LEFT)
	}
	h.showLocked(room, u, sessionID, field, state)
	return true
}

// Settle takes a session out of the field it is in, if any.
func (h *Hub) Settle(room event.Room, userID, sessionID string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, u, s := h.findLocked(room, userID, sessionID); s != nil {
		h.settleLocked(room, u, sessionID, s)
	}
}

// settleLocked takes a session out of the field it is in.
func (h *Hub) settleLocked(room event.Room, u *user, sessionID string, s *session) {
	if s.field == "" {
		return
	}
	field := s.field
	s.set("", pb.ActivityState_ACTIVITY_STATE_UNSPECIFIED)
	h.showLocked(room, u, sessionID, field, pb.ActivityState_ACTIVITY_STATE_LEFT)
}

func (s *session) set(field string, state pb.ActivityState) { s.field, s.state = field, state }

// typesLocked lets typing end by itself. A timer that runs already is left alone, as
// long as somebody types: it looks how long that holds when it fires.
func (h *Hub) typesLocked(room event.Room, u *user, sessionID string, s *session) {
	s.types = time.Now().Add(h.opts.Typing)
	if s.quiet != nil {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(h.opts.Typing, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if s.quiet != timer {
			return
		}
		left := time.Until(s.types)
		switch {
		case s.state != pb.ActivityState_ACTIVITY_STATE_TYPING:
			s.quiet = nil
		case left > 0:
			timer.Reset(left)
		default:
			s.quiet = nil
			s.state = pb.ActivityState_ACTIVITY_STATE_FOCUSED
			h.showLocked(room, u, sessionID, s.field, s.state)
		}
	})
	s.quiet = timer
}

// showLocked tells a room what a session does.
func (h *Hub) showLocked(room event.Room, u *user, sessionID, field string, state pb.ActivityState) {
	h.publishLocked(room, time.Now(), u.ref, &pb.Event{Payload: &pb.Event_Activity{Activity: h.activity(u, sessionID, field, state)}})
}

func (h *Hub) activity(u *user, sessionID, field string, state pb.ActivityState) *pb.Activity {
	a := &pb.Activity{User: u.ref, SessionId: sessionID, Field: field, State: state}
	if state == pb.ActivityState_ACTIVITY_STATE_TYPING {
		a.ExpiresIn = durationpb.New(h.opts.Typing)
	}
	return a
}
