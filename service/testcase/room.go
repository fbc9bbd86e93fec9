package testcase

import (
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

// Room is how a session comes into the rooms of test cases.
type Room struct{}

// Enter checks that a user may do something in a test case's room and returns
// the room's canonical name. It returns access.ErrDenied also for a test case
// that doesn't exist.
func (Room) Enter(r store.Reader, userID string, room event.Room, action access.Action) (event.Room, error) {
	tc, err := access.TestCase(r, userID, room.ID(), action)
	if err != nil {
		return "", err
	}
	return event.TestCaseRoom(tc.GetId()), nil
}

// Snapshot sets j.Snapshot to the state of the test case as r shows it.
func (Room) Snapshot(r store.Reader, userID string, room event.Room, j *pb.Joined) error {
	tc, err := access.TestCase(r, userID, room.ID(), access.Read)
	if err != nil {
		return err
	}
	j.Snapshot = &pb.Joined_TestCase{TestCase: &pb.TestCaseSnapshot{TestCase: tc}}
	return nil
}
