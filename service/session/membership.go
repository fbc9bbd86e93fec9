package session

import (
	"context"
	"errors"
	"fmt"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/store"
)

const (
	recentEvents = 20       // what a late joiner sees as activity
	logBytes     = 64 << 10 // read from the log at a time, for one room
)

// membership is a session's being in a room.
type membership struct {
	unsubscribe func()
	follow      bool // of a project: every running run's room comes along
	followed    bool // of a run: the session is here because it follows the project
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
		room, err = source.Enter(r, s.userID(), named)
		return err
	}); err != nil {
		return err
	}
	follow := req.Detail == pb.Detail_DETAIL_ALL && room.Kind() == event.KindProject
	if err := s.enter(room, &membership{follow: follow}); err != nil {
		return err
	}
	// Presence before the snapshot: whoever comes in between is told by an event.
	s.srv.deps.Presence.Enter(room, s.who().Ref(), s.id)
	if err := s.begin(ctx, to, room, source, req.Position, follow); err != nil {
		s.leave(room)
		return err
	}
	if follow {
		poke(s.runs)
	}
	return nil
}

// enter subscribes to a room; the place waits until begin has read the log.
func (s *Session) enter(room event.Room, m *membership) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errLeft
	}
	old := s.rooms[room]
	if old == nil && len(s.rooms) >= s.srv.cfg.MaxRooms {
		return fault.New(fault.Exhausted, "TOO_MANY_ROOMS", "a session may be in %d rooms; leave one first", s.srv.cfg.MaxRooms)
	}
	if old != nil {
		old.unsubscribe()
		s.out.leave(room)
	}
	s.out.enter(room)
	m.unsubscribe = s.srv.deps.Router.Subscribe(room, s)
	s.rooms[room] = m
	return nil
}

// begin reads the room in one snapshot, authorised again in that same snapshot,
// and queues the answer; events after it follow from the log.
func (s *Session) begin(ctx context.Context, to uint64, room event.Room, source RoomSource, asked *pb.Position, follow bool) error {
	joined := &pb.Joined{Room: string(room)}
	var from uint64
	var newest event.Position
	reset := ""
	err := s.srv.deps.Store.View(ctx, func(r store.Reader) error {
		if _, err := source.Enter(r, s.userID(), room); err != nil {
			return err
		}
		head, err := r.Head(room)
		if err != nil {
			return fmt.Errorf("read the head of %s: %w", room, err)
		}
		newest = head.Newest
		if asked != nil {
			if reset, err = whyNot(r, room, head, event.PositionOf(asked)); err != nil {
				return err
			}
		}
		if asked != nil && reset == "" {
			joined.Recovered = true
			from = asked.Offset
			return nil
		}
		from = newest.Offset
		if err := addRecent(r, room, joined); err != nil {
			return err
		}
		return source.Snapshot(r, s.userID(), room, joined)
	})
	if err != nil {
		return err
	}
	joined.Position = newest.Proto()
	joined.Presence, joined.Activity = s.srv.deps.Presence.Room(room)
	if reset != "" {
		s.out.post(&pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Reset_{Reset_: &pb.Reset{Room: string(room), Reason: reset}}})
	}
	s.reply(to, &pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Joined{Joined: joined}})
	s.out.placeAt(room, from, newest.Offset, follow)
	return nil
}

// whyNot returns the reason why a position can't be continued; empty if it can.
// It can if the event there is of the history the client saw.
func whyNot(r store.Reader, room event.Room, head store.Head, at event.Position) (string, error) {
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
	if epoch != at.Epoch {
		return "EPOCH_CHANGED", nil
	}
	return "", nil
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

// leave takes the session out of a room at once.
func (s *Session) leave(room event.Room) {
	s.mu.Lock()
	m := s.rooms[room]
	delete(s.rooms, room)
	user := s.caller.User.Id
	s.mu.Unlock()
	if m == nil {
		return
	}
	m.unsubscribe()
	s.out.leave(room)
	s.srv.deps.Presence.Leave(room, user, s.id)
}

// readLog returns a frame of events from the log of a room that is behind, nil
// if there is none.
func (s *Session) readLog(ctx context.Context) ([]byte, error) {
	room, after, newest, ok := s.out.nextBehind()
	if !ok {
		return nil, nil
	}
	var part store.LogPart
	err := s.srv.deps.Store.View(ctx, func(r store.Reader) (err error) {
		part, err = r.Log(room, after, logBytes)
		return err
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("read the log of %s: %w", room, err)
	}
	if len(part.Events) == 0 || part.Events[0].Position.Offset != after+1 {
		// What the client needs next is no longer kept. It has to start anew.
		return nil, s.restart(ctx, room, after, newest)
	}
	var frame []byte
	for _, ev := range part.Events {
		frame = append(frame, ev.Wire...)
	}
	last := part.Events[len(part.Events)-1].Position.Offset
	if !s.out.caughtUp(room, last) {
		return nil, nil
	}
	if newest > last+uint64(len(part.Events)) {
		s.out.post(&pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Lag{Lag: &pb.Lag{Room: string(room), Events: newest - last}}})
	}
	return frame, nil
}

// restart begins a room anew from a snapshot, because its log no longer reaches
// back to where the client is.
func (s *Session) restart(ctx context.Context, room event.Room, after, newest uint64) error {
	s.mu.Lock()
	m := s.rooms[room]
	s.mu.Unlock()
	source := s.srv.deps.Rooms[room.Kind()]
	if m == nil || source == nil {
		return nil
	}
	s.out.post(&pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Reset_{Reset_: &pb.Reset{Room: string(room), Reason: "POSITION_TRIMMED"}}})
	if err := s.begin(ctx, 0, room, source, nil, m.follow); err != nil {
		return fmt.Errorf("restart %s, which was at %d of %d: %w", room, after, newest, err)
	}
	return nil
}

// recheck puts the session out of the rooms that its user may no longer be in.
func (s *Session) recheck(ctx context.Context) {
	s.mu.Lock()
	var rooms []event.Room
	for room := range s.rooms {
		rooms = append(rooms, room)
	}
	s.mu.Unlock()
	for _, room := range rooms {
		err := s.srv.deps.Store.View(ctx, func(r store.Reader) error {
			_, err := s.srv.deps.Rooms[room.Kind()].Enter(r, s.userID(), room)
			return err
		})
		if fault.Of(err) == nil {
			continue // still allowed, or the store can't say now: the next change asks again
		}
		s.leave(room)
		s.out.post(&pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Evicted{Evicted: &pb.Evicted{Room: string(room), Error: fault.Proto(err)}}})
	}
}

// follow brings the session into the rooms of the running runs of the projects
// it follows, from their beginning, and out of those that ended.
func (s *Session) follow(ctx context.Context) {
	s.mu.Lock()
	var projects []event.Room
	for room, m := range s.rooms {
		if m.follow {
			projects = append(projects, room)
		}
	}
	s.mu.Unlock()
	running := map[event.Room]bool{}
	for _, project := range projects {
		var runs []*pb.Run
		err := s.srv.deps.Store.View(ctx, func(r store.Reader) (err error) {
			runs, err = r.RunningRuns(project.ID())
			return err
		})
		if err != nil {
			return // the next change tries again
		}
		for _, run := range runs {
			running[event.RunRoom(run.Id)] = true
		}
	}
	for room := range running {
		s.joinFollowed(ctx, room)
	}
	s.leaveEnded(running)
}

func (s *Session) joinFollowed(ctx context.Context, room event.Room) {
	s.mu.Lock()
	_, in := s.rooms[room]
	s.mu.Unlock()
	if in {
		return
	}
	err := s.enter(room, &membership{followed: true})
	if err == nil {
		err = s.begin(ctx, 0, room, s.srv.deps.Rooms[event.KindRun], nil, false)
		if err != nil {
			s.leave(room)
		}
	}
	if err != nil && ctx.Err() == nil {
		s.fail(0, err)
	}
}

// leaveEnded leaves followed rooms of ended runs once all of them was queued.
func (s *Session) leaveEnded(running map[event.Room]bool) {
	s.mu.Lock()
	var ended []event.Room
	for room, m := range s.rooms {
		if m.followed && !running[room] {
			ended = append(ended, room)
		}
	}
	s.mu.Unlock()
	for _, room := range ended {
		if !s.out.settled(room) {
			poke(s.runs) // look again after the next flush
			continue
		}
		s.leave(room)
		s.out.post(&pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Left{Left: &pb.Left{Room: string(room)}}})
	}
}
