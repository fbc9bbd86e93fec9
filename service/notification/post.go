package notification

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

// Post gives each recipient a copy of n, with its own id, unread and made at
// this moment, and tells the recipient's room. A recipient named twice gets one.
// It is for services that notify inside their own transaction: the notification
// is kept exactly if their change is. n itself is not changed; it needs a type,
// a title and a target, and a sender unless the server sends it.
func Post(tx store.Tx, at time.Time, n *pb.Notification, recipients []string) error {
	told := make(map[string]bool, len(recipients))
	for _, userID := range recipients {
		if told[userID] {
			continue
		}
		told[userID] = true
		if err := deliver(tx, at, n, userID); err != nil {
			return err
		}
	}
	return nil
}

func deliver(tx store.Tx, at time.Time, n *pb.Notification, userID string) error {
	// A UUIDv7 made inside the transaction: notifications sort by id as they were sent.
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make an id: %w", err)
	}
	own := proto.CloneOf(n)
	own.Id, own.CreatedAt, own.ReadAt = id.String(), timestamppb.New(at), nil
	if err := tx.AddNotification(userID, own); err != nil {
		return fmt.Errorf("store a notification for %s: %w", userID, err)
	}
	count, err := unread(tx, userID)
	if err != nil {
		return err
	}
	added := &pb.NotificationAdded{Notification: own, Unread: count}
	d, err := event.NewDraft(event.UserRoom(userID), at, n.GetSender(),
		&pb.Event{Payload: &pb.Event_NotificationAdded{NotificationAdded: added}})
	if err != nil {
		return err
	}
	_, err = tx.Append(d)
	return err
}
