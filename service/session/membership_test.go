package session

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/presence"
	"github.com/tcmanager/tcmanager/service/router"
)

// TestARoomIsToldToBeLeftBeforeItIsJoinedAnew joins a room in the very moment in
// which the session is taken out of it, which is a race: hence the many tries.
func TestARoomIsToldToBeLeftBeforeItIsJoinedAnew(t *testing.T) {
	const room = event.Room("testrun:r")
	rooms := router.New()
	here := presence.New(rooms, presence.Options{})
	defer here.Close()
	for range 3000 {
		s := &Session{
			srv:    &Server{cfg: Config{}.withDefaults(), deps: Deps{Router: rooms, Presence: here}},
			caller: identity.Caller{User: &pb.User{Id: "u"}}, id: "s", rooms: map[event.Room]*membership{},
		}
		s.out.owner = ownerFunc(func() {})
		joined := make(chan error, 1)
		m := &membership{followed: true, place: s.out.enter(room), unsubscribe: func() {
			go func() {
				again := &membership{}
				err := s.enter(room, again)
				s.out.begin(again.place, event.Position{}, 0, false,
					&pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Joined{Joined: &pb.Joined{Room: string(room)}}})
				joined <- err
			}()
		}}
		s.rooms[room] = m
		s.out.begin(m.place, event.Position{}, 0, false)
		s.leaveEnded(map[event.Room]bool{})
		if err := <-joined; err != nil {
			t.Fatal(err)
		}
		b, _, err := s.out.take(time.Now())
		var first pb.SubscribeResponse
		if err != nil || proto.Unmarshal(b.Bytes(), &first) != nil || first.GetLeft() == nil {
			t.Fatalf("first the client is told %v, %v; want that it left", &first, err)
		}
		s.leave(room, nil, nil)
	}
}
