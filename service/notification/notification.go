// Package notification is what deserves somebody's attention: sent by people and
// by the server, kept for each recipient, and settled on all of the recipient's
// tabs at once.
//
// Each recipient has their own copy with its own id. A copy is read by nobody
// else, so its id says nothing about who else was told, and marking it read is
// one row.
package notification

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/once"
	"github.com/tcmanager/tcmanager/service/page"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/text"
)

const (
	list     page.List = "notifications"
	pageSize int       = 50  // by default, as notification.proto says
	maxTitle int       = 200 // characters, as notification.proto says
)

// Service is the NotificationService.
type Service struct {
	pb.UnimplementedNotificationServiceServer
	store store.Store
	now   func() time.Time
}

// New makes the service; it starts nothing. The clock is asked inside each
// transaction, so that times are in the order of the events.
func New(st store.Store, now func() time.Time) *Service { return &Service{store: st, now: now} }

// SendNotification notifies one member of a project, or every member, the sender
// included.
func (s *Service) SendNotification(ctx context.Context, req *pb.SendNotificationRequest) (*pb.SendNotificationResponse, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	var resp *pb.SendNotificationResponse
	err = s.store.Update(ctx, func(tx store.Tx) error {
		at := s.now()
		p, err := access.Project(tx, caller.User.GetId(), req.GetProject(), access.Notify)
		if err != nil {
			return err
		}
		resp, err = once.Do(tx, caller.User.GetId(), req.GetRequestId(), at, req, func() (*pb.SendNotificationResponse, error) {
			n, err := send(tx, caller.Ref(), p.GetId(), req, at)
			return &pb.SendNotificationResponse{Recipients: uint32(n)}, err
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// send notifies whom the request names and returns how many that are.
func send(tx store.Tx, sender *pb.UserRef, projectID string, req *pb.SendNotificationRequest, at time.Time) (int, error) {
	n, err := compose(sender, projectID, req)
	if err != nil {
		return 0, err
	}
	recipients, err := recipientsOf(tx, projectID, req.GetUserId())
	if err != nil {
		return 0, err
	}
	return len(recipients), Post(tx, at, n, recipients)
}

// compose decides what a notification says.
func compose(sender *pb.UserRef, projectID string, req *pb.SendNotificationRequest) (*pb.Notification, error) {
	title, err := text.Line("title", req.GetTitle(), maxTitle)
	if err != nil {
		return nil, err
	}
	message, err := text.Block("message", req.GetMessage())
	if err != nil {
		return nil, err
	}
	n := &pb.Notification{Type: req.GetType(), Title: title, Message: message, Sender: sender, Link: req.GetLink()}
	if req.GetUserId() == "" {
		n.Target = &pb.Notification_ProjectId{ProjectId: projectID}
	} else {
		n.Target = &pb.Notification_UserId{UserId: req.GetUserId()}
	}
	return n, nil
}

// recipientsOf returns the user if one is named, who must be a member, and
// otherwise all members.
func recipientsOf(r store.Reader, projectID, userID string) ([]string, error) {
	if userID == "" {
		return members(r, projectID)
	}
	_, err := r.Role(projectID, userID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fault.Field("user_id", "must be a member of the project; ListMembers shows who is")
	}
	if err != nil {
		return nil, fmt.Errorf("read the role of %s in %s: %w", userID, projectID, err)
	}
	return []string{userID}, nil
}

func members(r store.Reader, projectID string) ([]string, error) {
	members, err := r.Members(projectID)
	if err != nil {
		return nil, fmt.Errorf("read the members of %s: %w", projectID, err)
	}
	ids := make([]string, 0, len(members))
	for _, m := range members {
		ids = append(ids, m.GetUser().GetId())
	}
	return ids, nil
}

// ListNotifications returns the caller's notifications, newest first.
func (s *Service) ListNotifications(ctx context.Context, req *pb.ListNotificationsRequest) (*pb.ListNotificationsResponse, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	before, err := list.UUID(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize(), pageSize)
	resp := &pb.ListNotificationsResponse{}
	err = s.store.View(ctx, func(r store.Reader) error {
		all, err := r.Notifications(caller.User.GetId(), before, req.GetUnreadOnly(), size+1)
		if err != nil {
			return fmt.Errorf("read the notifications of %s: %w", caller.User.GetId(), err)
		}
		var last string
		resp.Notifications, last = page.Cut(all, size, (*pb.Notification).GetId)
		resp.NextPageToken = list.Token(last)
		resp.Unread, err = unread(r, caller.User.GetId())
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// MarkNotificationsRead marks the caller's notifications read and tells all of
// the caller's tabs. Others', unknown ones and those read before are passed over.
func (s *Service) MarkNotificationsRead(ctx context.Context, req *pb.MarkNotificationsReadRequest) (*pb.MarkNotificationsReadResponse, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	ids, err := named(req)
	if err != nil {
		return nil, err
	}
	var resp *pb.MarkNotificationsReadResponse
	err = s.store.Update(ctx, func(tx store.Tx) error {
		at := s.now()
		var err error
		resp, err = once.Do(tx, caller.User.GetId(), req.GetRequestId(), at, req, func() (*pb.MarkNotificationsReadResponse, error) {
			left, err := markRead(tx, caller.Ref(), ids, at)
			return &pb.MarkNotificationsReadResponse{Unread: left}, err
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// named decides which notifications a request means; nil means all. Naming none
// must not mean all by accident.
func named(req *pb.MarkNotificationsReadRequest) ([]string, error) {
	switch {
	case req.GetAll() && len(req.GetIds()) > 0:
		return nil, fault.Field("all", "must not be set when ids names notifications")
	case req.GetAll():
		return nil, nil
	case len(req.GetIds()) == 0:
		return nil, fault.Field("ids", "must name notifications, unless all is set")
	}
	return req.GetIds(), nil
}

// markRead marks a user's notifications read, all of them for nil, and returns
// how many are unread then.
func markRead(tx store.Tx, user *pb.UserRef, ids []string, at time.Time) (uint32, error) {
	marked, err := tx.MarkRead(user.GetId(), ids, at)
	if err != nil {
		return 0, fmt.Errorf("mark notifications of %s read: %w", user.GetId(), err)
	}
	left, err := unread(tx, user.GetId())
	if err != nil || len(marked) == 0 {
		return left, err
	}
	read := &pb.NotificationsRead{All: ids == nil, Unread: left}
	if !read.GetAll() {
		read.Ids = marked
	}
	d, err := event.NewDraft(event.UserRoom(user.GetId()), at, user,
		&pb.Event{Payload: &pb.Event_NotificationsRead{NotificationsRead: read}})
	if err != nil {
		return 0, err
	}
	_, err = tx.Append(d)
	return left, err
}

func unread(r store.Reader, userID string) (uint32, error) {
	n, err := r.Unread(userID)
	if err != nil {
		return 0, fmt.Errorf("count the unread notifications of %s: %w", userID, err)
	}
	return n, nil
}
