package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/wire"
)

const (
	recentEvents = store.LeastHistory // what a late joiner sees as activity
	logBytes     = 64 << 10           // read from the log at a time, for one room
)

// membership is a session's being in a room. Joining again makes a new one: the
// sender, which puts sessions out of rooms, and the receiver, which joins them,
// tell by it whether they mean the same.
type membership struct {
	place       *place
	asked       string // how the client named the room; empty if it came along
	unsubscribe func()
	follow      bool // of a project: every running run's room comes along
	followed    bool // of a run: the session is here because it follows the project
	new         bool // of a followed run: it started after the project was joined
	// Of a project that is followed: the number of the newest run that was there
	// when the room was joined, or that was come into since. Later ones are told
	// from their first event. Guarded by Session.mu, as is whether it is known yet.
	newest uint32
	read   bool
	shows  permission // whether the user may show what the user does here; guarded likewise
}

// join brings the session into a room and queues the Joined frame.
func (s *Session) join(ctx context.Context, to uint64, req *pb.JoinRoom) error {
	named, err := event.ParseRoom(req.Room)
	if err != nil {
		return err
	}
	source := s.srv.deps.Rooms[named.Kind()]
	if source == nil {
		return access.ErrDenied
	}
	var room event.Room
	if err := s.srv.deps.Store.View(ctx, func(r store.Reader) error {
		room, err = source.Enter(r, s.userID(), named, access.Read)
		return err
	}); err != nil {
		return err
	}
	m := &membership{asked: req.Room, follow: req.Detail == pb.Detail_DETAIL_ALL && room.Kind() == event.KindProject}
	if err := s.enter(room, m); err != nil {
		return err
	}
	if err := s.begin(ctx, to, room, m, req.Position); err != nil {
		s.leave(room, m, nil)
		return err
	}
	if m.follow {
		s.out.call(askRuns)
	}
	return nil
}

// enter subscribes to a room; the place waits until begin has read the log. To
// follow a run is no reason to leave its room and come in again.
func (s *Session) enter(room event.Room, m *membership) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errLeftRoom
	}
	old := s.rooms[room]
	if old != nil && m.followed {
		return errLeftRoom
	}
	if old == nil && len(s.rooms) >= s.srv.cfg.MaxRooms {
		return fault.New(fault.Exhausted, "TOO_MANY_ROOMS", "a session may be in %d rooms; leave one first", s.srv.cfg.MaxRooms)
	}
	if old != nil {
		old.unsubscribe()
		s.out.leave(old.place)
	}
	m.place = s.out.enter(room)
	m.unsubscribe = s.srv.deps.Router.Subscribe(room, m.place)
	if s.rooms == nil {
		s.rooms = map[event.Room]*membership{}
	}
	s.rooms[room] = m
	// Presence before the snapshot: whoever comes in between is told by an event.
	// And under the lock: close would else miss a session that enters after it.
	if !m.followed && !s.srv.cfg.RealtimeOff {
		s.srv.deps.Presence.Enter(room, s.caller.Ref(), s.id, s.idle)
	}
	if old != nil && old.follow {
		s.out.call(askRuns)
	}
	return nil
}

// begin reads the room in one snapshot, authorised again in that same snapshot,
// and queues the answer; events after it follow from the log.
func (s *Session) begin(ctx context.Context, to uint64, room event.Room, m *membership, asked *pb.Position, before ...*pb.SubscribeResponse) error {
	var found arrival
	if err := s.srv.deps.Store.View(ctx, func(r store.Reader) (err error) {
		found, err = s.arrive(r, room, m, asked)
		return err
	}); err != nil {
		return err
	}
	s.mu.Lock()
	m.newest, m.read = found.newestRun, true
	s.mu.Unlock()
	joined := found.joined
	people, doing, present := s.srv.deps.Presence.Room(room, s.userID())
	joined.Presence, joined.Activity, joined.Present = people, doing, uint32(present)
	if found.reset != "" {
		before = append(before, resetOf(room, found.reset))
	}
	answer := &pb.SubscribeResponse{ReplyTo: to, Frame: &pb.SubscribeResponse_Joined{Joined: joined}}
	if !s.out.begin(m.place, found.from, found.newest.Offset, m.follow, append(before, answer)...) {
		return errLeftRoom
	}
	if joined.Recovered {
		s.out.told.Add(1)
	}
	return nil
}

// arrival is what a session finds when it comes into a room.
type arrival struct {
	joined    *pb.Joined
	from      event.Position // what follows begins behind it
	newest    event.Position
	reset     string // why it couldn't go on where the client was; empty if it does, or wasn't asked to
	newestRun uint32 // of a project that is followed
}

// arrive reads a room from a snapshot, from where the client was if it can go on
// there.
func (s *Session) arrive(r store.Reader, room event.Room, m *membership, asked *pb.Position) (a arrival, err error) {
	source := s.srv.deps.Rooms[room.Kind()]
	if _, err := source.Enter(r, s.userID(), room, access.Read); err != nil {
		return a, err
	}
	if m.follow {
		if a.newestRun, err = newestRunOf(r, room); err != nil {
			return a, err
		}
	}
	head, err := r.Head(room)
	if err != nil {
		return a, fmt.Errorf("read the head of %s: %w", room, err)
	}
	a.newest = head.Newest
	a.joined = &pb.Joined{Room: string(room), Position: a.newest.Proto()}
	if m.new && head.Trim.Offset == 0 {
		asked = head.Trim.Proto() // the place before the first event
	}
	if asked != nil {
		a.from = event.PositionOf(asked)
		a.reset, err = s.srv.whyNot(r, room, head, a.from)
		if err != nil || a.reset == "" {
			a.joined.Recovered = true
			return a, err
		}
	}
	a.from = a.newest
	if err := addRecent(r, room, a.joined); err != nil {
		return a, err
	}
	return a, source.Snapshot(r, s.userID(), room, a.joined)
}

// newestRunOf returns the number of the newest run of a project; 0 if there is none.
func newestRunOf(r store.Reader, project event.Room) (uint32, error) {
	runs, err := r.Runs(project.ID(), 0, 1)
	if err != nil {
		return 0, fmt.Errorf("look for the newest run of %s: %w", project, err)
	}
	if len(runs) == 0 {
		return 0, nil
	}
	return runs[0].Number, nil
}

func resetOf(room event.Room, reason string) *pb.SubscribeResponse {
	return &pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Reset_{Reset_: &pb.Reset{Room: string(room), Reason: reason}}}
}

// whyNot returns the reason why a position can't be continued; empty if it can.
// It can if the event there is of the history the client saw.
func (srv *Server) whyNot(r store.Reader, room event.Room, head store.Head, at event.Position) (string, error) {
	switch {
	case at.Offset < head.Trim.Offset:
		return "POSITION_TRIMMED", nil
	case at.Offset > head.Newest.Offset:
		return "POSITION_UNKNOWN", nil
	}
	epoch := head.Newest.Epoch
	switch at.Offset {
	case head.Newest.Offset:
	case head.Trim.Offset:
		epoch = head.Trim.Epoch
	default:
		part, err := r.Log(room, at.Offset-1, 1)
		if err != nil {
			return "", fmt.Errorf("read event %d of %s: %w", at.Offset, room, err)
		}
		epoch = part.Events[0].Position.Epoch
	}
	switch {
	case epoch != at.Epoch:
		return "EPOCH_CHANGED", nil
	case srv.isTooFar(at.Offset, head.Newest.Offset):
		return tooFarBehind, nil
	}
	return "", nil
}

// tooFarBehind is the reason of a reset of a room whose log holds all that the
// client has missed, but more than a snapshot is worth.
const tooFarBehind = "TOO_FAR_BEHIND"

func (srv *Server) isTooFar(at, newest uint64) bool {
	return newest > at && newest-at > uint64(srv.cfg.ReplayEvents)
}

func addRecent(r store.Reader, room event.Room, joined *pb.Joined) error {
	events, err := r.Recent(room, recentEvents)
	if err != nil {
		return fmt.Errorf("read recent events of %s: %w", room, err)
	}
	for _, ev := range events {
		m, err := ev.Decode()
		if err != nil {
			return err
		}
		joined.Recent = append(joined.Recent, m)
	}
	return nil
}

// leave takes the session out of a room at once, and queues the frame that tells of
// it, if there is one. With a membership it does either only if that is still how
// the session is in the room. It reports whether the session was in it.
//
// The frame is queued before anybody can come into the room again: a client that
// was told that it left, behind the answer to its next join, would no longer listen.
func (s *Session) leave(room event.Room, only *membership, tell *pb.SubscribeResponse) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.rooms[room]
	if only != nil && only != m {
		return false
	}
	if m != nil {
		delete(s.rooms, room)
		m.unsubscribe()
		s.out.leave(m.place)
	}
	if tell != nil {
		s.out.post(tell)
	}
	if m == nil {
		return false
	}
	if !m.followed { // to follow is not to be seen there
		s.srv.deps.Presence.Leave(room, s.caller.User.Id, s.id)
	}
	// A run that the client was in by itself comes along again if its project is
	// followed.
	if m.follow || !m.followed && room.Kind() == event.KindRun {
		s.out.call(askRuns)
	}
	return true
}

func leftFrame(room string) *pb.SubscribeResponse {
	return &pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Left{Left: &pb.Left{Room: room}}}
}

// called returns the room that a client means by a name: a project may be left by
// its key too, as it may be joined.
func (s *Session) called(name string) event.Room {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rooms[event.Room(name)] == nil {
		for room, m := range s.rooms {
			if m.asked == name {
				return room
			}
		}
	}
	return event.Room(name)
}

// in returns the rooms the session is in, those that want says.
func (s *Session) in(want func(*membership) bool) map[event.Room]*membership {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := map[event.Room]*membership{}
	for room, m := range s.rooms {
		if want(m) {
			in[room] = m
		}
	}
	return in
}

// readLog returns a frame of events from the log of a room that is behind. It
// reports whether there was one: an empty one is returned also if the session left
// the room.
func (s *Session) readLog(ctx context.Context) (frame wire.Frame, found bool, err error) {
	b, ok := s.out.nextBehind()
	if !ok {
		return frame, false, nil
	}
	room := b.place.room
	if s.srv.isTooFar(b.after.Offset, b.newest) {
		return frame, true, s.restart(ctx, b, tooFarBehind)
	}
	piece, err := s.srv.readFrom(ctx, readFrom{room, b.after})
	if err != nil {
		return frame, false, fmt.Errorf("read the log of %s: %w", room, err)
	}
	if piece.frame.Size() == 0 {
		// What the client needs next is no longer kept. It has to start anew.
		return frame, true, s.restart(ctx, b, "POSITION_TRIMMED")
	}
	if !s.out.caughtUp(b, piece.last) {
		return frame, true, nil
	}
	if read := piece.last.Offset - b.after.Offset; b.newest > piece.last.Offset+read {
		s.out.post(&pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Lag{Lag: &pb.Lag{Room: string(room), Events: b.newest - piece.last.Offset}}})
	}
	return piece.frame, true, nil
}

// readFrom reads the events behind a place, about logBytes of them. There are none
// if the first of them is no longer kept.
func (srv *Server) readFrom(ctx context.Context, from readFrom) (read, error) {
	now := time.Now()
	if known, is := srv.reads.get(from, now); is {
		return known, nil
	}
	var part store.LogPart
	err := srv.deps.Store.View(ctx, func(r store.Reader) (err error) {
		part, err = r.Log(from.room, from.after.Offset, logBytes)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return read{}, nil
	case err != nil:
		return read{}, err
	case len(part.Events) == 0 || part.Events[0].Position.Offset != from.after.Offset+1:
		return read{}, nil
	}
	size := 0
	for _, ev := range part.Events {
		size += len(ev.Wire)
	}
	joined := wire.NewBuilder(size)
	for _, ev := range part.Events {
		joined.Add(ev.Wire)
	}
	piece := read{frame: joined.Frame(), last: part.Events[len(part.Events)-1].Position}
	srv.reads.put(from, piece.frame, piece.last, now)
	return piece, nil
}

// restart begins a room anew from a snapshot, because its log doesn't reach back
// to where the client is, or too far.
func (s *Session) restart(ctx context.Context, b behind, reason string) error {
	room := b.place.room
	s.mu.Lock()
	m := s.rooms[room]
	s.mu.Unlock()
	if m == nil {
		return nil
	}
	err := s.begin(ctx, 0, room, m, nil, resetOf(room, reason))
	switch {
	case err == nil, errors.Is(err, errLeftRoom):
		return nil
	case fault.Of(err) != nil:
		s.evict(room, m, err)
		return nil //nolint:nilerr // the client was told; the session goes on
	default:
		return fmt.Errorf("restart %s: %w", b, err)
	}
}

// recheckAgain is when rights are looked at again that could not be.
const recheckAgain = time.Second

// recheck puts the session out of the rooms that its user may no longer be in,
// and out of the fields in which the user may no longer write.
func (s *Session) recheck(ctx context.Context) {
	unsure := false
	in, answered := s.in(func(*membership) bool { return true }), s.out.answered()
	for room := range answered { // one that was left, and whose state waits still
		if _, is := in[room]; !is {
			in[room] = nil
		}
	}
	for room, m := range in {
		var signal error
		err := s.srv.deps.Store.View(ctx, func(r store.Reader) error {
			source := s.srv.deps.Rooms[room.Kind()]
			_, signal = source.Enter(r, s.userID(), room, access.Signal)
			_, err := source.Enter(r, s.userID(), room, access.Read)
			return err
		})
		switch {
		case fault.Of(err) != nil:
			s.evict(room, m, err, answered[room]...)
		case err != nil:
			unsure = true // the store can't say now
		case fault.Of(signal) != nil:
			s.srv.deps.Presence.Settle(room, s.userID(), s.id)
		}
	}
	if unsure {
		time.AfterFunc(recheckAgain, func() { s.out.call(askCheck) })
	}
}

// evict puts the session out of a room, if it is in it, and tells it why. What
// waits of the room is not told, nor the state of places in it where the session
// was before.
func (s *Session) evict(room event.Room, m *membership, why error, before ...*place) {
	if m == nil {
		s.out.forget(before, fault.Proto(why))
		return
	}
	defer s.out.forget(append(before, m.place), fault.Proto(why)) // begin queues it until the place is left
	evicted := &pb.Evicted{Room: string(room), Error: fault.Proto(why)}
	if s.leave(room, m, &pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Evicted{Evicted: evicted}}) {
		s.srv.cfg.Logger.Info("session evicted", "room", room, "session", s.id, "user", s.userID())
	}
}

// runsAtOnce is how many runs that started are looked at together.
const runsAtOnce = 100

// follow brings the session into the rooms of the running runs of the projects
// it follows, and out of those that ended. It comes into one at a time: the
// answer is large, and is sent before the next.
func (s *Session) follow(ctx context.Context) {
	running := map[event.Room]bool{}
	joining := false
	for project, m := range s.in(func(m *membership) bool { return m.follow }) {
		s.mu.Lock()
		newest, read := m.newest, m.read
		s.mu.Unlock()
		if !read {
			return // it is being joined, and calls again once it is
		}
		var runs, latest []*pb.Run
		err := s.srv.deps.Store.View(ctx, func(r store.Reader) (err error) {
			if runs, err = r.RunningRuns(project.ID()); err != nil {
				return err
			}
			latest, err = r.Runs(project.ID(), 0, runsAtOnce)
			return err
		})
		if err != nil {
			return // the next change tries again
		}
		for _, run := range runs {
			running[event.RunRoom(run.Id)] = true
		}
		if !joining {
			joining = s.joinNext(ctx, m, newest, latest, runs)
		}
	}
	s.leaveEnded(running)
	if joining {
		s.out.call(askRuns)
	}
}

// joinNext brings the session into one more run of a project that it follows: the
// first one that started since, even if it has ended already, or else one that is
// running. It reports whether there may be another.
func (s *Session) joinNext(ctx context.Context, project *membership, newest uint32, latest, running []*pb.Run) bool {
	for _, run := range slices.Backward(latest) {
		if run.Number > newest {
			s.mu.Lock()
			project.newest = run.Number
			s.mu.Unlock()
			return s.joinFollowed(ctx, event.RunRoom(run.Id), true)
		}
	}
	in := s.in(func(*membership) bool { return true })
	for _, run := range running {
		if room := event.RunRoom(run.Id); in[room] == nil {
			return s.joinFollowed(ctx, room, false)
		}
	}
	return false
}

// joinFollowed reports whether it brought the session into a room.
func (s *Session) joinFollowed(ctx context.Context, room event.Room, isNew bool) bool {
	m := &membership{followed: true, new: isNew}
	err := s.enter(room, m)
	if err == nil {
		if err = s.begin(ctx, 0, room, m, nil); err != nil {
			s.leave(room, m, nil)
		}
		m.new = false
	}
	if errors.Is(err, errLeftRoom) { // the client joined it by itself, or left
		return true
	}
	if err != nil && ctx.Err() == nil {
		s.fail(0, err)
	}
	return err == nil
}

// leaveEnded leaves followed rooms of ended runs once all of them was queued.
func (s *Session) leaveEnded(running map[event.Room]bool) {
	for room, m := range s.in(func(m *membership) bool { return m.followed }) {
		switch {
		case running[room]:
		case !s.out.settled(m.place):
			s.out.call(askRuns) // look again after the next frame
		default:
			s.leave(room, m, leftFrame(string(room)))
		}
	}
}
