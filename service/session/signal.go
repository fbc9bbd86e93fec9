package session

import (
	"context"
	"time"
	"unicode/utf8"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/event"
)

// permission is what was found when rights were looked at. It holds until they may
// have changed.
type permission struct {
	rights uint64      // Session.rights then
	until  time.Time   // zero if they never were looked at
	heard  func() bool // whether others hear the room; nil like that
}

// permissionLasts is how long a permission holds at most, for what nobody is told
// of: that a test case is deleted, for one.
const permissionLasts = time.Second

// activityKind is the kind of frame that most signals are.
const activityKind = "update_activity"

// signal shows a room what the session does in it, after its rights were looked at.
func (s *Session) signal(ctx context.Context, to uint64, a *pb.UpdateActivityRequest) error {
	// Before they are looked at: a change that comes in between makes what is found
	// worth nothing.
	rights := s.rights.Load()
	userID := s.userID()
	room, err := s.srv.mayShow(ctx, userID, a.Room)
	if err != nil {
		return err
	}
	s.permit(room, rights)
	if err := s.srv.show(room, userID, s.id, a); err != nil {
		return err
	}
	s.out.ack(to)
	return nil
}

// signalAtOnce is signal, and what comes before it, for one that is carried out
// without waiting for anything, since it is known that the user may. It reports
// false if that isn't known.
func (s *Session) signalAtOnce(a *activity, now time.Time) bool {
	rights := s.rights.Load()
	s.mu.Lock()
	var shows permission
	if m := s.rooms[a.room]; m != nil {
		shows = m.shows
	}
	userID := s.caller.User.Id
	s.mu.Unlock()
	if shows.rights != rights || !now.Before(shows.until) {
		return false
	}
	switch wait := s.bucketOf(activityKind, true).Take(); {
	case wait > 0:
		s.refuse(a.id, errTooOften(activityKind, wait))
	case !s.srv.deps.Presence.Update(a.room, userID, s.id, a.field, a.state, shows.heard):
		s.fail(a.id, access.ErrDenied)
	default:
		s.out.ack(a.id)
	}
	return true
}

func (s *Session) permit(room event.Room, rights uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.rooms[room]
	if m == nil {
		return
	}
	m.shows.rights, m.shows.until = rights, time.Now().Add(permissionLasts)
	if m.shows.heard == nil {
		m.shows.heard = s.srv.deps.Router.Others(room, m.place)
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
	return a != nil && isActivityState(a.State) && isRoomName(a.Room) && isFieldName(a.Field)
}

func isActivityState(s pb.ActivityState) bool {
	return s >= pb.ActivityState_ACTIVITY_STATE_FOCUSED && s <= pb.ActivityState_ACTIVITY_STATE_LEFT
}

const (
	maxRoomName  = 200
	maxFieldName = 64
)

// isRoomName reports whether valid UTF-8 has as many characters as a room's name.
func isRoomName[T string | []byte](s T) bool {
	if len(s) == 0 || len(s) > utf8.UTFMax*maxRoomName {
		return false
	}
	return len(s) <= maxRoomName || utf8.RuneCountInString(string(s)) <= maxRoomName
}

// isFieldName reports whether a string is a lower-case letter, and lower-case
// letters, digits, "_", "." and "-" behind it.
func isFieldName[T string | []byte](s T) bool {
	if len(s) == 0 || len(s) > maxFieldName || s[0] < 'a' || s[0] > 'z' {
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
