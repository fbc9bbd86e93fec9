package storetest

import (
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/store"
)

func notice(id string) *pb.Notification {
	return &pb.Notification{
		Id: id, Type: pb.NotificationType_NOTIFICATION_TYPE_ERROR, Title: "title " + id, Message: "message", Link: "/runs/1",
		Target: &pb.Notification_ProjectId{ProjectId: projectID}, Sender: &pb.UserRef{Id: "grace"}, CreatedAt: at(1),
	}
}

func readAt(n *pb.Notification, minutes int) *pb.Notification {
	n = proto.CloneOf(n)
	n.ReadAt = at(minutes)
	return n
}

// notify gives ada the notifications 5, 4, 3, 2, 1 and grace 5; ids out of order,
// since what counts is the order of writing.
func notify(tx store.Tx) error {
	err := errors.Join(populate(tx), tx.AddNotification("grace", notice("5")))
	for _, id := range []string{"5", "4", "3", "2", "1"} {
		err = errors.Join(err, tx.AddNotification("ada", notice(id)))
	}
	return err
}

func later(minutes int) time.Time { return noon.Add(time.Duration(minutes) * time.Minute) }

var notificationTests = []test{
	{"notifications come newest first, in pages", func(e *env) {
		e.keeps(notify, func(r store.Reader) error {
			return errors.Join(
				is(r.Notifications("ada", "", false, 2))("a page", []*pb.Notification{notice("1"), notice("2")}),
				is(r.Notifications("ada", "2", false, 2))("the next page", []*pb.Notification{notice("3"), notice("4")}),
				is(r.Notifications("ada", "4", false, 2))("the last page", []*pb.Notification{notice("5")}),
				is(r.Notifications("ada", "5", false, 2))("what follows it", nil),
				is(r.Notifications("ada", missing, false, 2))("what follows an unknown one", nil),
				is(r.Notifications("grace", "4", false, 2))("what follows another user's", nil),
				is(r.Notifications("grace", "", false, 2))("another user's", []*pb.Notification{notice("5")}),
				is(r.Notifications("nobody", "", false, 2))("nobody's", nil),
				is(r.Unread("ada"))("unread", 5),
				is(r.Unread("nobody"))("unread by nobody", 0),
			)
		})
	}},
	{"each user has one copy of a notification", func(e *env) {
		e.update(notify)
		e.refuses(store.ErrExists, func(tx store.Tx) error { return tx.AddNotification("ada", notice("5")) })
		e.refuses(store.ErrNotFound, func(tx store.Tx) error { return tx.AddNotification("nobody", notice("5")) })
	}},
	{"some are marked read, and those that changed are named", func(e *env) {
		e.keeps(func(tx store.Tx) error {
			return errors.Join(notify(tx),
				is(tx.MarkRead("ada", []string{"5", missing, "3", "5"}, later(7)))("changed", []string{"5", "3"}),
				is(tx.MarkRead("ada", []string{"3", "2"}, later(8)))("changed by the second", []string{"2"}),
				is(tx.MarkRead("ada", []string{}, later(8)))("changed by none", nil),
				is(tx.MarkRead("nobody", nil, later(8)))("changed of nobody", nil))
		}, func(r store.Reader) error {
			return errors.Join(
				is(r.Notifications("ada", "", false, 9))("all", []*pb.Notification{
					notice("1"), readAt(notice("2"), 8), readAt(notice("3"), 7), notice("4"), readAt(notice("5"), 7),
				}),
				is(r.Notifications("ada", "", true, 9))("the unread", []*pb.Notification{notice("1"), notice("4")}),
				is(r.Notifications("ada", "2", true, 9))("the unread after a read one", []*pb.Notification{notice("4")}),
				is(r.Notifications("ada", "", true, 1))("a page of the unread", []*pb.Notification{notice("1")}),
				is(r.Unread("ada"))("unread", 2),
				is(r.Notifications("grace", "", true, 9))("another user's copy", []*pb.Notification{notice("5")}),
			)
		})
	}},
	{"all are marked read", func(e *env) {
		e.keeps(func(tx store.Tx) error {
			return errors.Join(notify(tx),
				is(tx.MarkRead("ada", []string{"4"}, later(7)))("changed", []string{"4"}),
				is(tx.MarkRead("ada", nil, later(9)))("changed by all", []string{"5", "3", "2", "1"}),
				is(tx.MarkRead("ada", nil, later(9)))("changed by a repeat", nil))
		}, func(r store.Reader) error {
			return errors.Join(
				is(r.Notifications("ada", "", true, 9))("the unread", nil),
				is(r.Unread("ada"))("unread", 0),
				is(r.Unread("grace"))("unread by another user", 1),
			)
		})
	}},
}
