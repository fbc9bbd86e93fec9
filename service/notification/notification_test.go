package notification_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/notification"
	"github.com/tcmanager/tcmanager/service/once"
	"github.com/tcmanager/tcmanager/service/page"
	"github.com/tcmanager/tcmanager/service/scene"
	"github.com/tcmanager/tcmanager/service/store"
)

const unknown = "0190b0c0-0000-7000-8000-00000000dead"

func begin(t *testing.T) (*scene.Scene, *notification.Service) {
	t.Helper()
	s := scene.New(t)
	return s, notification.New(s.Store, s.Now)
}

func info(title, userID string) *pb.SendNotificationRequest {
	return &pb.SendNotificationRequest{
		Type: pb.NotificationType_NOTIFICATION_TYPE_INFO, Title: title, Project: scene.Key, UserId: userID,
	}
}

func send(t *testing.T, s *scene.Scene, svc *notification.Service, req *pb.SendNotificationRequest) uint32 {
	t.Helper()
	resp, err := svc.SendNotification(s.As(scene.Tester), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetRecipients()
}

func list(t *testing.T, s *scene.Scene, svc *notification.Service, user string) *pb.ListNotificationsResponse {
	t.Helper()
	resp, err := svc.ListNotifications(s.As(user), &pb.ListNotificationsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestWhoMayDoWhat(t *testing.T) {
	s, svc := begin(t)
	for _, user := range scene.Users {
		t.Run("SendNotification by "+user, func(t *testing.T) {
			_, err := svc.SendNotification(s.As(user), info("x", ""))
			if access.Allowed(scene.Members[user], access.Notify) {
				if err != nil {
					t.Error(err)
				}
			} else if fault.Of(err) != access.ErrDenied {
				t.Errorf("got %v, want ErrDenied", err)
			}
			req := info("x", "")
			req.Project = "nowhere"
			if _, err := svc.SendNotification(s.As(user), req); fault.Of(err) != access.ErrDenied {
				t.Errorf("in an unknown project: got %v, want ErrDenied", err)
			}
		})
		// One's own are one's own, whatever one's role.
		t.Run("own notifications of "+user, func(t *testing.T) {
			if _, err := svc.ListNotifications(s.As(user), &pb.ListNotificationsRequest{}); err != nil {
				t.Error(err)
			}
			if _, err := svc.MarkNotificationsRead(s.As(user), &pb.MarkNotificationsReadRequest{All: true}); err != nil {
				t.Error(err)
			}
		})
	}
	for name, call := range map[string]func(context.Context) error{
		"send": func(ctx context.Context) error { _, err := svc.SendNotification(ctx, info("x", "")); return err },
		"list": func(ctx context.Context) error {
			_, err := svc.ListNotifications(ctx, &pb.ListNotificationsRequest{})
			return err
		},
		"mark": func(ctx context.Context) error {
			_, err := svc.MarkNotificationsRead(ctx, &pb.MarkNotificationsReadRequest{All: true})
			return err
		},
	} {
		if err := call(t.Context()); fault.Of(err) != identity.ErrUnauthenticated {
			t.Errorf("%s by nobody: got %v, want ErrUnauthenticated", name, err)
		}
	}
}

func TestANotificationToAProjectReachesEachMemberOnce(t *testing.T) {
	s, svc := begin(t)
	req := info(" Release ", "")
	req.Message, req.Link = "At noon.\r\nBe there.", "/runs/1"
	if n := send(t, s, svc, req); n != uint32(len(scene.Members)) {
		t.Errorf("%d recipients, want %d", n, len(scene.Members))
	}
	want := &pb.Notification{
		Type: pb.NotificationType_NOTIFICATION_TYPE_INFO, Title: "Release", Message: "At noon.\nBe there.", Link: "/runs/1",
		Target: &pb.Notification_ProjectId{ProjectId: scene.ProjectID},
		Sender: &pb.UserRef{Id: scene.Tester, Name: "Tester"},
	}
	heard := s.Heard()
	var rooms []event.Room
	for user := range maps.Keys(scene.Members) {
		rooms = append(rooms, event.UserRoom(user))
	}
	slices.Sort(rooms)
	got := scene.Hears(heard)
	slices.Sort(got)
	if !slices.Equal(got, rooms) {
		t.Fatalf("heard in %v, want %v", got, rooms)
	}
	ids := map[string]bool{}
	for _, ev := range heard {
		told := ev.GetNotificationAdded()
		n := told.GetNotification()
		ids[n.GetId()] = true
		kept := list(t, s, svc, event.Room(ev.GetRoom()).ID())
		if len(kept.GetNotifications()) != 1 || !proto.Equal(kept.GetNotifications()[0], n) || kept.GetUnread() != 1 || told.GetUnread() != 1 {
			t.Errorf("%s heard %v and keeps %v", ev.GetRoom(), told, kept)
		}
		if n.GetCreatedAt() == nil || n.GetReadAt() != nil || ev.GetActor().GetId() != scene.Tester {
			t.Errorf("%s heard %v", ev.GetRoom(), ev)
		}
		n = proto.CloneOf(n)
		n.Id, n.CreatedAt = "", nil
		if !proto.Equal(n, want) {
			t.Errorf("%s heard %v\nwant %v", ev.GetRoom(), n, want)
		}
	}
	if len(ids) != len(heard) {
		t.Errorf("%d copies have %d ids", len(heard), len(ids))
	}
	if kept := list(t, s, svc, scene.Stranger); len(kept.GetNotifications()) != 0 || kept.GetUnread() != 0 {
		t.Errorf("a stranger got %v", kept)
	}
}

func TestANotificationToAUserReachesThatMemberOnly(t *testing.T) {
	s, svc := begin(t)
	if n := send(t, s, svc, info("x", scene.Viewer)); n != 1 {
		t.Errorf("%d recipients", n)
	}
	heard := s.Heard()
	if rooms := scene.Hears(heard); !slices.Equal(rooms, []event.Room{event.UserRoom(scene.Viewer)}) {
		t.Fatalf("heard in %v", rooms)
	}
	if got := heard[0].GetNotificationAdded().GetNotification(); got.GetUserId() != scene.Viewer || got.GetProjectId() != "" {
		t.Errorf("the target is %v", got.GetTarget())
	}
}

func TestANotificationThatBreaksARuleReachesNobody(t *testing.T) {
	s, svc := begin(t)
	message := info("x", "")
	message.Message = "\x00"
	for field, req := range map[string]*pb.SendNotificationRequest{
		"user_id": info("x", scene.Stranger),
		"title":   info(" ", ""),
		"message": message,
	} {
		_, err := svc.SendNotification(s.As(scene.Tester), req)
		if f := fault.Of(err); f == nil || f.Kind != fault.Invalid || f.Violations[0].Field != field {
			t.Errorf("got %v, want a fault about %s", err, field)
		}
	}
	// Whether somebody exists at all is nobody's business either.
	_, known := svc.SendNotification(s.As(scene.Tester), info("x", scene.Stranger))
	_, nobody := svc.SendNotification(s.As(scene.Tester), info("x", "nobody"))
	if !proto.Equal(fault.Proto(known), fault.Proto(nobody)) {
		t.Errorf("a stranger gives %v, nobody gives %v", known, nobody)
	}
	if heard := s.Heard(); len(heard) != 0 {
		t.Errorf("heard %v", heard)
	}
}

func TestReadingIsToldToAllOfTheUsersTabs(t *testing.T) {
	s, svc := begin(t)
	for i := range 4 {
		send(t, s, svc, info(fmt.Sprint("n", i), scene.Viewer))
	}
	send(t, s, svc, info("another's", scene.Manager))
	s.Heard()
	mine := list(t, s, svc, scene.Viewer).GetNotifications()
	theirs := list(t, s, svc, scene.Manager).GetNotifications()[0]

	for _, step := range []struct {
		name  string
		req   *pb.MarkNotificationsReadRequest
		left  uint32
		heard *pb.NotificationsRead // nil: nothing
	}{
		{"one", &pb.MarkNotificationsReadRequest{Ids: []string{mine[1].GetId()}}, 3,
			&pb.NotificationsRead{Ids: []string{mine[1].GetId()}, Unread: 3}},
		{"it again", &pb.MarkNotificationsReadRequest{Ids: []string{mine[1].GetId()}}, 3, nil},
		{"another's and an unknown one", &pb.MarkNotificationsReadRequest{Ids: []string{theirs.GetId(), unknown}}, 3, nil},
		{"those and one's own", &pb.MarkNotificationsReadRequest{Ids: []string{theirs.GetId(), mine[0].GetId(), mine[1].GetId()}}, 2,
			&pb.NotificationsRead{Ids: []string{mine[0].GetId()}, Unread: 2}},
		{"all", &pb.MarkNotificationsReadRequest{All: true}, 0, &pb.NotificationsRead{All: true, Unread: 0}},
		{"all again", &pb.MarkNotificationsReadRequest{All: true}, 0, nil},
	} {
		t.Run(step.name, func(t *testing.T) {
			resp, err := svc.MarkNotificationsRead(s.As(scene.Viewer), step.req)
			if err != nil || resp.GetUnread() != step.left {
				t.Errorf("%d left, %v; want %d", resp.GetUnread(), err, step.left)
			}
			heard := s.Heard()
			if step.heard == nil {
				if len(heard) != 0 {
					t.Errorf("heard %v", heard)
				}
				return
			}
			if rooms := scene.Hears(heard); !slices.Equal(rooms, []event.Room{event.UserRoom(scene.Viewer)}) {
				t.Fatalf("heard in %v", rooms)
			}
			if got := heard[0].GetNotificationsRead(); !proto.Equal(got, step.heard) || heard[0].GetActor().GetId() != scene.Viewer {
				t.Errorf("heard %v", heard[0])
			}
		})
	}
	for _, n := range list(t, s, svc, scene.Viewer).GetNotifications() {
		if n.GetReadAt() == nil {
			t.Errorf("unread: %v", n)
		}
	}
	if got := list(t, s, svc, scene.Manager); got.GetUnread() != 1 {
		t.Errorf("the other user has %d unread, want 1", got.GetUnread())
	}
}

// A client with an empty list must not mark everything by accident.
func TestNamingNothingIsNotNamingAll(t *testing.T) {
	s, svc := begin(t)
	send(t, s, svc, info("x", scene.Viewer))
	for field, req := range map[string]*pb.MarkNotificationsReadRequest{
		"ids": {},
		"all": {All: true, Ids: []string{unknown}},
	} {
		_, err := svc.MarkNotificationsRead(s.As(scene.Viewer), req)
		if f := fault.Of(err); f == nil || f.Kind != fault.Invalid || f.Violations[0].Field != field {
			t.Errorf("got %v, want a fault about %s", err, field)
		}
	}
	if got := list(t, s, svc, scene.Viewer).GetUnread(); got != 1 {
		t.Errorf("%d unread, want 1", got)
	}
}

func TestARepeatedRequestHasOneEffect(t *testing.T) {
	s, svc := begin(t)
	sent := info("x", "")
	sent.RequestId = "send"
	for name, call := range map[string]func() (proto.Message, error){
		"send": func() (proto.Message, error) { return svc.SendNotification(s.As(scene.Tester), sent) },
		"mark": func() (proto.Message, error) {
			return svc.MarkNotificationsRead(s.As(scene.Viewer), &pb.MarkNotificationsReadRequest{All: true, RequestId: "mark"})
		},
	} {
		first, err := call()
		if err != nil {
			t.Fatal(err)
		}
		s.Heard()
		second, err := call()
		if err != nil || !proto.Equal(first, second) {
			t.Errorf("%s: first %v, second %v, %v", name, first, second, err)
		}
		if heard := s.Heard(); len(heard) != 0 {
			t.Errorf("%s: the second was heard: %v", name, heard)
		}
	}
	sent = proto.CloneOf(sent)
	sent.Title = "y"
	if _, err := svc.SendNotification(s.As(scene.Tester), sent); fault.Of(err) != once.ErrReused {
		t.Errorf("another one with the same id: got %v, want ErrReused", err)
	}
	if got := list(t, s, svc, scene.Owner); len(got.GetNotifications()) != 1 {
		t.Errorf("there are %d, want 1", len(got.GetNotifications()))
	}
}

func TestNotificationsAreReadInPagesNewestFirst(t *testing.T) {
	s, svc := begin(t)
	var want []string
	for i := range 7 {
		title := fmt.Sprint("n", i)
		want = append(want, title)
		send(t, s, svc, info(title, scene.Viewer))
	}
	slices.Reverse(want)
	req := &pb.ListNotificationsRequest{PageSize: 3}
	var got, tokens []string
	for {
		resp, err := svc.ListNotifications(s.As(scene.Viewer), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range resp.GetNotifications() {
			got = append(got, n.GetTitle())
		}
		if resp.GetUnread() != 7 {
			t.Errorf("%d unread in all, want 7", resp.GetUnread())
		}
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			break
		}
		tokens = append(tokens, req.PageToken)
	}
	if !slices.Equal(got, want) || len(tokens) != 2 {
		t.Errorf("got %v in %d pages", got, len(tokens)+1)
	}
	for name, token := range map[string]string{
		"nonsense":       "nonsense",
		"not an id":      page.List("notifications").Token("12"),
		"another list's": page.List("comments").Token(unknown),
	} {
		_, err := svc.ListNotifications(s.As(scene.Viewer), &pb.ListNotificationsRequest{PageToken: token})
		if fault.Of(err) != page.ErrToken {
			t.Errorf("%s: got %v, want ErrToken", name, err)
		}
	}
	// The place of a viewer's notification is no place among a manager's.
	send(t, s, svc, info("x", scene.Manager))
	resp, err := svc.ListNotifications(s.As(scene.Manager), &pb.ListNotificationsRequest{PageToken: tokens[0]})
	if err != nil || len(resp.GetNotifications()) != 0 || resp.GetNextPageToken() != "" {
		t.Errorf("with another user's token: %v, %v", resp, err)
	}
}

func TestUnreadOnlyLeavesOutWhatWasRead(t *testing.T) {
	s, svc := begin(t)
	for i := range 3 {
		send(t, s, svc, info(fmt.Sprint("n", i), scene.Viewer))
	}
	middle := list(t, s, svc, scene.Viewer).GetNotifications()[1]
	if _, err := svc.MarkNotificationsRead(s.As(scene.Viewer), &pb.MarkNotificationsReadRequest{Ids: []string{middle.GetId()}}); err != nil {
		t.Fatal(err)
	}
	resp, err := svc.ListNotifications(s.As(scene.Viewer), &pb.ListNotificationsRequest{UnreadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range resp.GetNotifications() {
		got = append(got, n.GetTitle())
	}
	if want := []string{"n2", "n0"}; !slices.Equal(got, want) || resp.GetUnread() != 2 {
		t.Errorf("got %v and %d unread", got, resp.GetUnread())
	}
}

func TestPostTellsEachRecipientOnceWithinTheTransactionOfItsCaller(t *testing.T) {
	s, svc := begin(t)
	n := &pb.Notification{
		Type: pb.NotificationType_NOTIFICATION_TYPE_ERROR, Title: "Critical test failed",
		Target: &pb.Notification_ProjectId{ProjectId: scene.ProjectID},
		Id:     "not this one", ReadAt: timestamppb.New(s.Now()),
	}
	before := proto.CloneOf(n)
	failed := errors.New("the run can't be stored")
	post := func(outcome error) error {
		return s.Store.Update(t.Context(), func(tx store.Tx) error {
			if err := notification.Post(tx, s.Now(), n, []string{scene.Owner, scene.Viewer, scene.Owner}); err != nil {
				return err
			}
			return outcome
		})
	}
	if err := post(failed); !errors.Is(err, failed) {
		t.Fatal(err)
	}
	if got := list(t, s, svc, scene.Owner); len(s.Heard()) != 0 || got.GetUnread() != 0 {
		t.Errorf("after an update that failed there is %v", got)
	}
	if err := post(nil); err != nil {
		t.Fatal(err)
	}
	heard := s.Heard()
	if rooms := scene.Hears(heard); !slices.Equal(rooms, []event.Room{event.UserRoom(scene.Owner), event.UserRoom(scene.Viewer)}) {
		t.Fatalf("heard in %v", rooms)
	}
	for _, ev := range heard {
		got := ev.GetNotificationAdded().GetNotification()
		if ev.GetActor() != nil || got.GetSender() != nil || got.GetReadAt() != nil || got.GetId() == n.GetId() || got.GetTitle() != n.GetTitle() {
			t.Errorf("%s heard %v", ev.GetRoom(), ev)
		}
	}
	if !proto.Equal(n, before) {
		t.Errorf("what was posted became %v", n)
	}
}

func TestARoomIsItsUsersOwnAndShowsWhatIsUnread(t *testing.T) {
	s, svc := begin(t)
	send(t, s, svc, info("x", scene.Viewer))
	send(t, s, svc, info("y", scene.Viewer))
	var room notification.Room
	s.View(func(r store.Reader) error {
		for _, user := range scene.Users {
			name := event.UserRoom(scene.Viewer)
			got, err := room.Enter(r, user, name, access.Read)
			joined := &pb.Joined{}
			snapshot := room.Snapshot(r, user, name, joined)
			if user != scene.Viewer {
				if fault.Of(err) != access.ErrDenied || fault.Of(snapshot) != access.ErrDenied || joined.GetSnapshot() != nil {
					t.Errorf("%s enters %q: %v, %v", user, got, err, snapshot)
				}
				continue
			}
			if err != nil || snapshot != nil || got != name || joined.GetUser().GetUnread() != 2 {
				t.Errorf("%s enters %q: %v, %v and sees %v", user, got, err, snapshot, joined.GetUser())
			}
		}
		for _, name := range []event.Room{"user:nobody", "user:"} {
			if _, err := room.Enter(r, "", name, access.Read); fault.Of(err) != access.ErrDenied {
				t.Errorf("nobody enters %q: %v", name, err)
			}
		}
		return nil
	})
}
