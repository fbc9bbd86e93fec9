package session

import (
	"testing"

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
			srv: &Server{cfg: Config{}.withDefaults(), deps: Deps{Router: rooms, Presence: here}}, out: newOutbox(1 << 10),
			caller: identity.Caller{User: &pb.User{Id: "u"}}, id: "s", rooms: map[event.Room]*membership{}, runs: make(chan struct{}, 1),
		}
		joined := make(chan error, 1)
		m := &membership{followed: true, unsubscribe: func() {
			go func() {
				again := &membership{}
				err := s.enter(room, again)
				s.out.begin(room, again.place, event.Position{}, 0, false,
					&pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Joined{Joined: &pb.Joined{Room: string(room)}}})
				joined <- err
			}()
		}}
		s.rooms[room] = m
		s.leaveEnded(map[event.Room]bool{})
		if err := <-joined; err != nil {
			t.Fatal(err)
		}
		b, err := s.out.take()
		var first pb.SubscribeResponse
		if err != nil || proto.Unmarshal(b, &first) != nil || first.GetLeft() == nil {
			t.Fatalf("first the client is told %v, %v; want that it left", &first, err)
		}
		s.leave(room, nil, nil)
	}
}
