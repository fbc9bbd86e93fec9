package tcmtest

import (
	"strings"

	tcmanager "github.com/tcmanager/tcmanager/clients/go"
	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// recentEvents is what a joined room is told of its past.
const recentEvents = 20

// user is who all clients are.
var user = &tcmv1.UserRef{Id: "user-1", Name: "Test"}

// room is a log.
type room struct {
	name     string
	trim     *tcmv1.Position // behind this the log begins
	log      []*tcmv1.Event
	snapshot *tcmv1.Joined
}

func (s *Server) canonicalLocked(name string) string {
	if room, ok := s.aliases[name]; ok {
		return room
	}
	return name
}

// roomLocked finds or makes a room.
func (s *Server) roomLocked(name string) *room {
	name = s.canonicalLocked(name)
	r := s.rooms[name]
	if r == nil {
		r = &room{name: name, trim: &tcmv1.Position{Epoch: s.epoch}}
		s.rooms[name] = r
	}
	return r
}

// at is the position of an offset in the log.
func (r *room) at(offset uint64) *tcmv1.Position {
	if offset <= r.trim.GetOffset() {
		return proto.CloneOf(r.trim)
	}
	i := min(offset-r.trim.GetOffset(), uint64(len(r.log)))
	ev := r.log[i-1]
	return &tcmv1.Position{Epoch: ev.GetEpoch(), Offset: ev.GetOffset()}
}

func (r *room) newest() *tcmv1.Position {
	return r.at(r.trim.GetOffset() + uint64(len(r.log)))
}

// after returns at most n events behind an offset.
func (r *room) after(offset uint64, n int) []*tcmv1.Event {
	rest := r.log[min(offset-r.trim.GetOffset(), uint64(len(r.log))):] // a stream that is cut may be ahead of a log that was rewound
	return rest[:min(n, len(rest))]
}

// whyNot returns why a position can't be continued; empty if it can.
func (r *room) whyNot(at *tcmv1.Position) string {
	switch {
	case at.GetOffset() < r.trim.GetOffset():
		return "POSITION_TRIMMED"
	case at.GetOffset() > r.newest().GetOffset():
		return "POSITION_UNKNOWN"
	case at.GetEpoch() != r.at(at.GetOffset()).GetEpoch():
		return "EPOCH_CHANGED"
	default:
		return ""
	}
}

// joined is what a client is told that joins: of the room at present, or that it
// goes on where it was.
func (s *Server) joinedLocked(r *room, recovered bool) *tcmv1.Joined {
	j := &tcmv1.Joined{}
	switch {
	case r.snapshot != nil:
		j = proto.CloneOf(r.snapshot)
	case strings.HasPrefix(r.name, "project:"):
		j.Snapshot = &tcmv1.Joined_Project{Project: &tcmv1.ProjectSnapshot{}}
	case strings.HasPrefix(r.name, "testrun:"):
		j.Snapshot = &tcmv1.Joined_Run{Run: &tcmv1.RunSnapshot{}}
	case strings.HasPrefix(r.name, "testcase:"):
		j.Snapshot = &tcmv1.Joined_TestCase{TestCase: &tcmv1.TestCaseSnapshot{}}
	default:
		j.Snapshot = &tcmv1.Joined_User{User: &tcmv1.UserSnapshot{}}
	}
	j.Room, j.Position, j.Recovered, j.Recent = r.name, r.newest(), recovered, nil
	if len(j.GetPresence()) == 0 {
		j.Presence = []*tcmv1.Presence{s.presenceLocked(r.name, tcmv1.PresenceState_PRESENCE_STATE_ONLINE)}
	}
	if j.GetPresent() == 0 {
		j.Present = uint32(len(j.GetPresence()))
	}
	if recovered {
		j.Snapshot = nil
		return j
	}
	for _, ev := range r.log[max(0, len(r.log)-recentEvents):] {
		j.Recent = append(j.Recent, proto.CloneOf(ev))
	}
	return j
}

func (s *Server) presenceLocked(name string, state tcmv1.PresenceState) *tcmv1.Presence {
	return &tcmv1.Presence{User: proto.CloneOf(user), State: state, Sessions: uint32(s.membersLocked(name))}
}

// emitLocked adds an event to a room.
func (s *Server) emitLocked(name string, ev *tcmv1.Event) tcmanager.Position {
	r := s.roomLocked(name)
	ev = proto.CloneOf(ev)
	ev.Room = r.name
	if ev.GetTime() == nil {
		ev.Time = timestamppb.Now()
	}
	switch class := classOf(ev); class {
	case tcmv1.DeliveryClass_DELIVERY_CLASS_LATEST, tcmv1.DeliveryClass_DELIVERY_CLASS_EPHEMERAL:
		for st := range s.streams {
			if st.rooms[r.name] != nil {
				st.offerLocked(ev, class)
			}
		}
	default: // an event of a kind that isn't known is durable
		ev.Offset, ev.Epoch = r.newest().GetOffset()+1, s.epoch
		r.log = append(r.log, ev)
		for st := range s.streams {
			st.signal()
		}
	}
	at := r.newest()
	return tcmanager.Position{Epoch: at.GetEpoch(), Offset: at.GetOffset()}
}

// classOf returns how an event is delivered.
func classOf(ev *tcmv1.Event) tcmv1.DeliveryClass {
	m := ev.ProtoReflect()
	kind := m.WhichOneof(m.Descriptor().Oneofs().ByName("payload"))
	if kind == nil {
		return tcmv1.DeliveryClass_DELIVERY_CLASS_UNSPECIFIED
	}
	class, _ := proto.GetExtension(kind.Options(), tcmv1.E_Delivery).(tcmv1.DeliveryClass)
	return class
}
