package notification

import (
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

// Room is how a session comes into its user's own room.
type Room struct{}

// Enter returns the room if it is the user's own, and access.ErrDenied for
// anybody else's, there or not. In it there is nothing to do but to hear.
func (Room) Enter(_ store.Reader, userID string, room event.Room, action access.Action) (event.Room, error) {
	if userID == "" || room != event.UserRoom(userID) || action != access.Read {
		return "", access.ErrDenied
	}
	return room, nil
}

// Snapshot sets j.Snapshot to how much the user has not read.
func (o Room) Snapshot(r store.Reader, userID string, room event.Room, j *pb.Joined) error {
	if _, err := o.Enter(r, userID, room, access.Read); err != nil {
		return err
	}
	n, err := unread(r, userID)
	if err != nil {
		return err
	}
	j.Snapshot = &pb.Joined_User{User: &pb.UserSnapshot{Unread: n}}
	return nil
}
