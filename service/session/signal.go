package session

import (
	"context"
	"time"
	"unicode/utf8"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
)

// permission is what was found when rights were looked at. It holds until they may
// have changed.
type permission struct {
	rights uint64    // Session.rights then
	until  time.Time // zero if they never were looked at
}

// permissionLasts is how long a permission holds at most, for what nobody is told
// of: that a test case is deleted, for one.
const permissionLasts = time.Second

// signal shows a room what the session does in it.
func (s *Session) signal(ctx context.Context, to uint64, a *pb.UpdateActivityRequest) error {
	// Before they are looked at: a change that comes in between makes what is found
	// worth nothing.
	rights := s.rights.Load()
	room, userID := event.Room(a.Room), s.userID()
	if !s.maySignal(room, rights) {
		var err error
		if room, err = s.srv.mayShow(ctx, userID, a.Room); err != nil {
			return err
		}
		s.permit(room, rights)
	}
	if err := s.srv.show(room, userID, s.id, a); err != nil {
		return err
	}
	s.out.ack(to)
	return nil
}

// maySignal reports whether it is known that the user may.
func (s *Session) maySignal(room event.Room, rights uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.rooms[room]
	return m != nil && m.shows.rights == rights && time.Now().Before(m.shows.until)
}

func (s *Session) permit(room event.Room, rights uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.rooms[room]; m != nil {
		m.shows = permission{rights, time.Now().Add(permissionLasts)}
	}
}

// isQuick reports whether a request is carried out without waiting for anything.
func (s *Session) isQuick(req *pb.SubscribeRequest) bool {
	switch f := req.Frame.(type) {
	case *pb.SubscribeRequest_Ping:
		return true
	case *pb.SubscribeRequest_Command:
		a := f.Command.GetUpdateActivity()
		return a != nil && s.maySignal(event.Room(a.Room), s.rights.Load())
	default:
		return false
	}
}

// isSurelyValid reports whether a request keeps every rule of its schema. It knows
// the small ones that come often, and looks at the others not at all: who is told
// false asks the schema.
func isSurelyValid(req *pb.SubscribeRequest) bool {
	switch f := req.Frame.(type) {
	case *pb.SubscribeRequest_Ping:
		return f.Ping != nil
	case *pb.SubscribeRequest_Command:
		x, is := f.Command.GetCommand().(*pb.Command_UpdateActivity)
		return is && f.Command.RequestId == "" && isValidActivity(x.UpdateActivity)
	default:
		return false
	}
}

func isValidActivity(a *pb.UpdateActivityRequest) bool {
	if a == nil || a.State < pb.ActivityState_ACTIVITY_STATE_FOCUSED || a.State > pb.ActivityState_ACTIVITY_STATE_LEFT {
		return false
	}
	if n := utf8.RuneCountInString(a.Room); n < 1 || n > maxRoomName {
		return false
	}
	return isFieldName(a.Field)
}

const (
	maxRoomName  = 200
	maxFieldName = 64
)

// isFieldName reports whether a string is a lower-case letter, and lower-case
// letters, digits, "_", "." and "-" behind it.
func isFieldName(s string) bool {
	if s == "" || len(s) > maxFieldName || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_', c == '.', c == '-':
		default:
			return false
		}
	}
	return true
}
