package collaboration_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/collaboration"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/once"
	"github.com/tcmanager/tcmanager/service/page"
	"github.com/tcmanager/tcmanager/service/scene"
	"github.com/tcmanager/tcmanager/service/store"
)

const (
	caseID    = "0190b0c0-0000-7000-8000-00000000ca5e"
	otherCase = "0190b0c0-0000-7000-8000-00000000ca5f"
	unknown   = "0190b0c0-0000-7000-8000-00000000dead"
)

// begin sets a scene with two test cases.
func begin(t *testing.T) (*scene.Scene, *collaboration.Service) {
	t.Helper()
	s := scene.New(t)
	s.Update(func(tx store.Tx) error {
		for _, id := range []string{caseID, otherCase} {
			if err := tx.AddTestCase(&pb.TestCase{Id: id, ProjectId: scene.ProjectID, Title: "Sign in"}); err != nil {
				return err
			}
		}
		return nil
	})
	return s, collaboration.New(s.Store, s.Now)
}

func TestWhoMayDoWhat(t *testing.T) {
	s, svc := begin(t)
	for name, m := range map[string]struct {
		action access.Action
		call   func(ctx context.Context, id string) error
	}{
		"AddComment": {access.Comment, func(ctx context.Context, id string) error {
			_, err := svc.AddComment(ctx, &pb.AddCommentRequest{TestCaseId: id, Text: "x"})
			return err
		}},
		"ListComments": {access.Read, func(ctx context.Context, id string) error {
			_, err := svc.ListComments(ctx, &pb.ListCommentsRequest{TestCaseId: id})
			return err
		}},
	} {
		for _, user := range scene.Users {
			t.Run(name+" by "+user, func(t *testing.T) {
				err := m.call(s.As(user), caseID)
				if access.Allowed(scene.Members[user], m.action) {
					if err != nil {
						t.Error(err)
					}
				} else if fault.Of(err) != access.ErrDenied {
					t.Errorf("got %v, want ErrDenied", err)
				}
				if err := m.call(s.As(user), unknown); fault.Of(err) != access.ErrDenied {
					t.Errorf("an unknown case: got %v, want ErrDenied", err)
				}
			})
		}
		t.Run(name+" by nobody", func(t *testing.T) {
			if err := m.call(t.Context(), caseID); fault.Of(err) != identity.ErrUnauthenticated {
				t.Errorf("got %v, want ErrUnauthenticated", err)
			}
		})
	}
}

func TestACommentIsStoredAndToldToTheCaseAndTheProject(t *testing.T) {
	s, svc := begin(t)
	resp, err := svc.AddComment(s.As(scene.Tester), &pb.AddCommentRequest{TestCaseId: caseID, Text: "\n one\r\ntwo "})
	if err != nil {
		t.Fatal(err)
	}
	made := resp.GetComment()
	author := &pb.UserRef{Id: scene.Tester, Name: "Tester"}
	if made.GetText() != "one\ntwo" || made.GetTestCaseId() != caseID || !proto.Equal(made.GetAuthor(), author) || made.GetCreatedAt() == nil {
		t.Errorf("made %v", made)
	}
	list, err := svc.ListComments(s.As(scene.Viewer), &pb.ListCommentsRequest{TestCaseId: caseID})
	if err != nil || len(list.GetComments()) != 1 || !proto.Equal(list.GetComments()[0], made) {
		t.Errorf("listed %v, %v", list, err)
	}

	heard := s.Heard()
	if rooms := scene.Hears(heard); !slices.Equal(rooms, []event.Room{event.TestCaseRoom(caseID), event.ProjectRoom(scene.ProjectID)}) {
		t.Fatalf("heard in %v", rooms)
	}
	for _, ev := range heard {
		want := &pb.CollaborationUpdate{
			Type:      pb.CollaborationType_COLLABORATION_TYPE_COMMENT_ADDED,
			EntityId:  caseID,
			User:      author,
			Data:      &pb.CollaborationUpdate_Comment{Comment: made},
			Timestamp: made.GetCreatedAt(),
		}
		if !proto.Equal(ev.GetCollaboration(), want) || !proto.Equal(ev.GetActor(), author) {
			t.Errorf("%s heard %v", ev.GetRoom(), ev)
		}
	}
}

func TestACommentThatCantBeSeenIsRefused(t *testing.T) {
	s, svc := begin(t)
	for _, text := range []string{"", " \n", "\u200b", "a\x00b"} {
		_, err := svc.AddComment(s.As(scene.Tester), &pb.AddCommentRequest{TestCaseId: caseID, Text: text})
		if f := fault.Of(err); f == nil || f.Kind != fault.Invalid || f.Violations[0].Field != "text" {
			t.Errorf("%q: got %v, want a fault about text", text, err)
		}
	}
	if heard := s.Heard(); len(heard) != 0 {
		t.Errorf("heard %v", heard)
	}
}

func TestARepeatedCommentIsOneComment(t *testing.T) {
	s, svc := begin(t)
	req := &pb.AddCommentRequest{TestCaseId: caseID, Text: "once", RequestId: "r"}
	first, err := svc.AddComment(s.As(scene.Tester), req)
	if err != nil {
		t.Fatal(err)
	}
	second, err := svc.AddComment(s.As(scene.Tester), req)
	if err != nil || !proto.Equal(first, second) {
		t.Errorf("first %v\nsecond %v, %v", first, second, err)
	}
	if heard := s.Heard(); len(heard) != 2 {
		t.Errorf("heard %d events, want one in each of two rooms", len(heard))
	}
	// Ids are the user's own: another user's is another request.
	if _, err := svc.AddComment(s.As(scene.Manager), req); err != nil {
		t.Error(err)
	}
	req = proto.CloneOf(req)
	req.Text = "twice"
	if _, err := svc.AddComment(s.As(scene.Tester), req); fault.Of(err) != once.ErrReused {
		t.Errorf("another comment with the same id: got %v, want ErrReused", err)
	}
	list, err := svc.ListComments(s.As(scene.Viewer), &pb.ListCommentsRequest{TestCaseId: caseID})
	if err != nil || len(list.GetComments()) != 2 {
		t.Errorf("there are %d comments, %v; want one of each user", len(list.GetComments()), err)
	}
}

func TestCommentsAreReadInPagesOldestFirst(t *testing.T) {
	s, svc := begin(t)
	var want, got []string
	for i := range 7 {
		want = append(want, fmt.Sprint("comment ", i))
		if _, err := svc.AddComment(s.As(scene.Tester), &pb.AddCommentRequest{TestCaseId: caseID, Text: want[i]}); err != nil {
			t.Fatal(err)
		}
	}
	req := &pb.ListCommentsRequest{TestCaseId: caseID, PageSize: 3}
	var tokens []string
	for {
		resp, err := svc.ListComments(s.As(scene.Viewer), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range resp.GetComments() {
			got = append(got, c.GetText())
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
		"not an id":      page.List("comments").Token("12"),
		"another list's": page.List("notifications").Token(unknown),
	} {
		_, err := svc.ListComments(s.As(scene.Viewer), &pb.ListCommentsRequest{TestCaseId: caseID, PageToken: token})
		if fault.Of(err) != page.ErrToken {
			t.Errorf("%s: got %v, want ErrToken", name, err)
		}
	}
	// The place of another case's comment is no place in this list.
	resp, err := svc.ListComments(s.As(scene.Viewer), &pb.ListCommentsRequest{TestCaseId: otherCase, PageToken: tokens[0]})
	if err != nil || len(resp.GetComments()) != 0 || resp.GetNextPageToken() != "" {
		t.Errorf("with another case's token: %v, %v", resp, err)
	}
}
