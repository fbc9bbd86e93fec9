package testcase_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/once"
	"github.com/tcmanager/tcmanager/service/page"
	"github.com/tcmanager/tcmanager/service/scene"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/testcase"
)

const unknown = "0190b0c0-0000-7000-8000-00000000dead"

// begin sets a scene with one test case, whose making nobody hears of any more.
func begin(t *testing.T) (*scene.Scene, *testcase.Service, *pb.TestCase) {
	t.Helper()
	s := scene.New(t)
	svc := testcase.New(s.Store, s.Now)
	resp, err := svc.CreateTestCase(s.As(scene.Tester), &pb.CreateTestCaseRequest{Project: scene.Key, Title: "Sign in", Description: "1. open"})
	if err != nil {
		t.Fatal(err)
	}
	s.Heard()
	return s, svc, resp.GetTestCase()
}

func editOf(tc *pb.TestCase, field pb.TestCaseField, value string, base uint64) *pb.EditTestCaseRequest {
	return &pb.EditTestCaseRequest{TestCaseId: tc.GetId(), Field: field, Value: value, BaseRevision: base}
}

func TestWhoMayDoWhat(t *testing.T) {
	s, svc, tc := begin(t)
	methods := map[string]struct {
		action access.Action
		call   func(ctx context.Context) error
	}{
		"CreateTestCase": {access.WriteCases, func(ctx context.Context) error {
			_, err := svc.CreateTestCase(ctx, &pb.CreateTestCaseRequest{Project: scene.Key, Title: "x"})
			return err
		}},
		"GetTestCase": {access.Read, func(ctx context.Context) error {
			_, err := svc.GetTestCase(ctx, &pb.GetTestCaseRequest{TestCaseId: tc.GetId()})
			return err
		}},
		"ListTestCases": {access.Read, func(ctx context.Context) error {
			_, err := svc.ListTestCases(ctx, &pb.ListTestCasesRequest{Project: scene.Key})
			return err
		}},
		"EditTestCase": {access.WriteCases, func(ctx context.Context) error {
			_, err := svc.EditTestCase(ctx, editOf(tc, pb.TestCaseField_TEST_CASE_FIELD_TITLE, tc.GetTitle(), 1))
			return err
		}},
	}
	for name, m := range methods {
		for _, user := range scene.Users {
			t.Run(name+" by "+user, func(t *testing.T) {
				err := m.call(s.As(user))
				if access.Allowed(scene.Members[user], m.action) {
					if err != nil {
						t.Error(err)
					}
				} else if fault.Of(err) != access.ErrDenied {
					t.Errorf("got %v, want ErrDenied", err)
				}
			})
		}
		t.Run(name+" by nobody", func(t *testing.T) {
			if err := m.call(t.Context()); fault.Of(err) != identity.ErrUnauthenticated {
				t.Errorf("got %v, want ErrUnauthenticated", err)
			}
		})
	}
}

func TestWhatIsUnknownIsDeniedLikeWhatIsNotYours(t *testing.T) {
	s, svc, tc := begin(t)
	for name, call := range map[string]func(id, project string, user string) error{
		"get": func(id, _, user string) error {
			_, err := svc.GetTestCase(s.As(user), &pb.GetTestCaseRequest{TestCaseId: id})
			return err
		},
		"edit": func(id, _, user string) error {
			_, err := svc.EditTestCase(s.As(user), &pb.EditTestCaseRequest{TestCaseId: id, Field: 1, Value: "x", BaseRevision: 1})
			return err
		},
		"list": func(_, project, user string) error {
			_, err := svc.ListTestCases(s.As(user), &pb.ListTestCasesRequest{Project: project})
			return err
		},
		"create": func(_, project, user string) error {
			_, err := svc.CreateTestCase(s.As(user), &pb.CreateTestCaseRequest{Project: project, Title: "x"})
			return err
		},
	} {
		notYours := call(tc.GetId(), scene.Key, scene.Stranger)
		notThere := call(unknown, "nowhere", scene.Owner)
		if fault.Of(notYours) != access.ErrDenied || fault.Of(notThere) != access.ErrDenied {
			t.Errorf("%s: not yours gives %v, not there gives %v", name, notYours, notThere)
		}
	}
}

func TestANewCaseIsNumberedStoredAndToldToTheProject(t *testing.T) {
	s := scene.New(t)
	svc := testcase.New(s.Store, s.Now)
	for number := 1; number <= 2; number++ {
		resp, err := svc.CreateTestCase(s.As(scene.Tester), &pb.CreateTestCaseRequest{
			Project: scene.Key, Title: " Sign in ", Description: "1. open", Priority: pb.Priority_PRIORITY_CRITICAL,
		})
		if err != nil {
			t.Fatal(err)
		}
		made := resp.GetTestCase()
		if made.GetKey() != fmt.Sprint("TC-", number) || made.GetProjectId() != scene.ProjectID || made.GetTitle() != "Sign in" ||
			made.GetUpdatedBy().GetId() != scene.Tester || made.GetCreatedAt() == nil {
			t.Errorf("made %v", made)
		}
		got, err := svc.GetTestCase(s.As(scene.Viewer), &pb.GetTestCaseRequest{TestCaseId: made.GetId()})
		if err != nil || !proto.Equal(got.GetTestCase(), made) {
			t.Errorf("read  %v, %v\nmade %v", got.GetTestCase(), err, made)
		}

		heard := s.Heard()
		if rooms := scene.Hears(heard); !slices.Equal(rooms, []event.Room{"project:" + scene.ProjectID}) {
			t.Fatalf("heard in %v", rooms)
		}
		told := heard[0].GetCollaboration()
		want := proto.CloneOf(made)
		want.Description = ""
		if told.GetType() != pb.CollaborationType_COLLABORATION_TYPE_TEST_CASE_CREATED || told.GetEntityId() != made.GetId() ||
			told.GetUser().GetId() != scene.Tester || told.GetTimestamp() == nil || heard[0].GetActor().GetName() != "Tester" ||
			!proto.Equal(told.GetTestCase(), want) {
			t.Errorf("told %v", heard[0])
		}
	}
}

func TestAnEditIsToldToTheCaseAndToTheProject(t *testing.T) {
	s, svc, tc := begin(t)
	for _, e := range []struct {
		field      pb.TestCaseField
		value      string
		forProject string
	}{
		{pb.TestCaseField_TEST_CASE_FIELD_TITLE, "Sign out", "Sign out"},
		{pb.TestCaseField_TEST_CASE_FIELD_DESCRIPTION, "1. close", ""}, // 64 KiB for a line of activity would be a waste
		{pb.TestCaseField_TEST_CASE_FIELD_PRIORITY, "PRIORITY_LOW", "PRIORITY_LOW"},
		{pb.TestCaseField_TEST_CASE_FIELD_STATUS, "TEST_CASE_STATUS_APPROVED", "TEST_CASE_STATUS_APPROVED"},
	} {
		t.Run(e.field.String(), func(t *testing.T) {
			resp, err := svc.EditTestCase(s.As(scene.Manager), editOf(tc, e.field, e.value, 1))
			if err != nil {
				t.Fatal(err)
			}
			after := resp.GetTestCase()
			if after.GetUpdatedBy().GetId() != scene.Manager || !after.GetUpdatedAt().AsTime().After(tc.GetUpdatedAt().AsTime()) {
				t.Errorf("changed by %v at %v", after.GetUpdatedBy(), after.GetUpdatedAt())
			}
			read, err := svc.GetTestCase(s.As(scene.Viewer), &pb.GetTestCaseRequest{TestCaseId: tc.GetId()})
			if err != nil || !proto.Equal(read.GetTestCase(), after) {
				t.Errorf("read %v, %v\nwant %v", read.GetTestCase(), err, after)
			}

			heard := s.Heard()
			if rooms := scene.Hears(heard); !slices.Equal(rooms, []event.Room{event.TestCaseRoom(tc.GetId()), event.ProjectRoom(scene.ProjectID)}) {
				t.Fatalf("heard in %v", rooms)
			}
			for i, value := range []string{e.value, e.forProject} {
				want := &pb.CollaborationUpdate{
					Type:     pb.CollaborationType_COLLABORATION_TYPE_TEST_CASE_EDIT,
					EntityId: tc.GetId(),
					User:     &pb.UserRef{Id: scene.Manager, Name: "Manager"},
					Data: &pb.CollaborationUpdate_Edit{Edit: &pb.FieldEdit{
						Field: e.field, Value: value, Revision: 2, TestCaseKey: "TC-1", TestCaseTitle: "Sign out",
					}},
					Timestamp: after.GetUpdatedAt(),
				}
				if got := heard[i].GetCollaboration(); !proto.Equal(got, want) {
					t.Errorf("%s heard %v\nwant %v", heard[i].GetRoom(), got, want)
				}
			}
		})
	}
}

func TestAnEditThatChangesNothingIsToldToNobody(t *testing.T) {
	s, svc, tc := begin(t)
	for name, req := range map[string]*pb.EditTestCaseRequest{
		"the same value":  editOf(tc, pb.TestCaseField_TEST_CASE_FIELD_TITLE, "Sign in", 1),
		"but for a space": editOf(tc, pb.TestCaseField_TEST_CASE_FIELD_TITLE, "Sign in ", 1),
		"an old revision": editOf(tc, pb.TestCaseField_TEST_CASE_FIELD_TITLE, "Sign in", 77),
	} {
		resp, err := svc.EditTestCase(s.As(scene.Tester), req)
		if err != nil || !proto.Equal(resp.GetTestCase(), tc) {
			t.Errorf("%s: got %v, %v", name, resp.GetTestCase(), err)
		}
	}
	if _, err := svc.EditTestCase(s.As(scene.Tester), editOf(tc, pb.TestCaseField_TEST_CASE_FIELD_TITLE, "Sign out", 2)); !fault.IsReason(err, "REVISION_MISMATCH") {
		t.Errorf("got %v, want REVISION_MISMATCH", err)
	}
	if _, err := svc.EditTestCase(s.As(scene.Tester), editOf(tc, pb.TestCaseField_TEST_CASE_FIELD_TITLE, " ", 1)); !fault.IsReason(err, "INVALID_FIELD") {
		t.Errorf("got %v, want INVALID_FIELD", err)
	}
	if heard := s.Heard(); len(heard) != 0 {
		t.Errorf("heard %v", heard)
	}
}

// Whoever hears of an edit and reads the case must find the edit there.
func TestAnEditIsCommittedBeforeAnyoneHearsOfIt(t *testing.T) {
	var s *scene.Scene
	titles := make(chan string, 16)
	s = scene.Listening(t, func(evs []event.Event) {
		for _, ev := range evs {
			if ev.Room.Kind() != event.KindTestCase {
				continue
			}
			// The listener holds the store's writer here: a view sees what was
			// committed and nothing else.
			if err := s.Store.View(context.Background(), func(r store.Reader) error {
				tc, err := r.TestCase(ev.Room.ID())
				titles <- tc.GetTitle()
				return err
			}); err != nil {
				t.Error(err)
			}
		}
	})
	svc := testcase.New(s.Store, s.Now)
	resp, err := svc.CreateTestCase(s.As(scene.Tester), &pb.CreateTestCaseRequest{Project: scene.Key, Title: "Sign in"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := svc.EditTestCase(s.As(scene.Tester), editOf(resp.GetTestCase(), pb.TestCaseField_TEST_CASE_FIELD_TITLE, "Sign out", 1)); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-titles:
		if got != "Sign out" {
			t.Errorf("the listener found the title %q", got)
		}
	default:
		t.Error("the edit was acknowledged before the listener heard of it")
	}
}

func TestOfTwoEditsOfOneFieldExactlyOneWins(t *testing.T) {
	s, svc, tc := begin(t)
	const editors = 8
	errs := make([]error, editors)
	var wg sync.WaitGroup
	for i := range editors {
		wg.Go(func() {
			_, errs[i] = svc.EditTestCase(s.As(scene.Tester), editOf(tc, pb.TestCaseField_TEST_CASE_FIELD_TITLE, fmt.Sprint("title ", i), 1))
		})
	}
	wg.Wait()
	winner := slices.Index(errs, nil)
	for i, err := range errs {
		if i != winner && (!fault.IsReason(err, "REVISION_MISMATCH") || fault.Of(err).Metadata["current_value"] != fmt.Sprint("title ", winner)) {
			t.Errorf("editor %d got %v; editor %d has won", i, err, winner)
		}
	}
	got, err := svc.GetTestCase(s.As(scene.Viewer), &pb.GetTestCaseRequest{TestCaseId: tc.GetId()})
	if err != nil || winner < 0 || got.GetTestCase().GetTitle() != fmt.Sprint("title ", winner) {
		t.Errorf("the title is %q, %v; editor %d has won", got.GetTestCase().GetTitle(), err, winner)
	}
	if heard := s.Heard(); len(heard) != 2 {
		t.Errorf("heard %d events, want one in each of two rooms", len(heard))
	}
}

func TestEditsOfDifferentFieldsAllWin(t *testing.T) {
	s, svc, tc := begin(t)
	values := map[pb.TestCaseField]string{
		pb.TestCaseField_TEST_CASE_FIELD_TITLE:       "Sign out",
		pb.TestCaseField_TEST_CASE_FIELD_DESCRIPTION: "1. close",
		pb.TestCaseField_TEST_CASE_FIELD_PRIORITY:    "PRIORITY_LOW",
		pb.TestCaseField_TEST_CASE_FIELD_STATUS:      "TEST_CASE_STATUS_IN_REVIEW",
	}
	var wg sync.WaitGroup
	for field, value := range values {
		wg.Go(func() {
			if _, err := svc.EditTestCase(s.As(scene.Tester), editOf(tc, field, value, 1)); err != nil {
				t.Errorf("%s: %v", field, err)
			}
		})
	}
	wg.Wait()
	resp, err := svc.GetTestCase(s.As(scene.Viewer), &pb.GetTestCaseRequest{TestCaseId: tc.GetId()})
	if err != nil {
		t.Fatal(err)
	}
	got := resp.GetTestCase()
	if got.GetTitle() != "Sign out" || got.GetDescription() != "1. close" ||
		got.GetPriority() != pb.Priority_PRIORITY_LOW || got.GetStatus() != pb.TestCaseStatus_TEST_CASE_STATUS_IN_REVIEW {
		t.Errorf("got %v", got)
	}
}

func TestARepeatedRequestHasOneEffect(t *testing.T) {
	s, svc, tc := begin(t)
	edit := editOf(tc, pb.TestCaseField_TEST_CASE_FIELD_TITLE, "Sign out", 1)
	edit.RequestId = "edit"
	calls := map[string]func() (proto.Message, error){
		"create": func() (proto.Message, error) {
			return svc.CreateTestCase(s.As(scene.Tester), &pb.CreateTestCaseRequest{Project: scene.Key, Title: "x", RequestId: "create"})
		},
		"edit": func() (proto.Message, error) { return svc.EditTestCase(s.As(scene.Tester), edit) },
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			first, err := call()
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Heard()) == 0 {
				t.Error("the first wasn't heard")
			}
			second, err := call()
			if err != nil || !proto.Equal(first, second) {
				t.Errorf("first %v\nsecond %v, %v", first, second, err)
			}
			if heard := s.Heard(); len(heard) != 0 {
				t.Errorf("the second was heard: %v", heard)
			}
		})
	}
	edit = proto.CloneOf(edit)
	edit.Value = "Sign up"
	if _, err := svc.EditTestCase(s.As(scene.Tester), edit); fault.Of(err) != once.ErrReused {
		t.Errorf("another edit with the same id: got %v, want ErrReused", err)
	}
	list, err := svc.ListTestCases(s.As(scene.Viewer), &pb.ListTestCasesRequest{Project: scene.Key})
	if err != nil || len(list.GetTestCases()) != 2 {
		t.Errorf("there are %d cases, %v; want 2", len(list.GetTestCases()), err)
	}
}

// An answer that is remembered is no way around a right that was lost.
func TestARepeatAfterTheRightWasLostIsDenied(t *testing.T) {
	s, svc, tc := begin(t)
	edit := editOf(tc, pb.TestCaseField_TEST_CASE_FIELD_TITLE, "Sign out", 1)
	edit.RequestId = "edit"
	if _, err := svc.EditTestCase(s.As(scene.Tester), edit); err != nil {
		t.Fatal(err)
	}
	s.Update(func(tx store.Tx) error { return tx.DeleteMember(scene.ProjectID, scene.Tester) })
	if _, err := svc.EditTestCase(s.As(scene.Tester), edit); fault.Of(err) != access.ErrDenied {
		t.Errorf("got %v, want ErrDenied", err)
	}
}

func TestAListIsReadInPagesByNumberWithoutDescriptions(t *testing.T) {
	s, svc, _ := begin(t)
	for range 6 {
		if _, err := svc.CreateTestCase(s.As(scene.Tester), &pb.CreateTestCaseRequest{Project: scene.Key, Title: "x", Description: "y"}); err != nil {
			t.Fatal(err)
		}
	}
	var keys []string
	req := &pb.ListTestCasesRequest{Project: scene.Key, PageSize: 3}
	pages := 0
	for {
		resp, err := svc.ListTestCases(s.As(scene.Viewer), req)
		if err != nil {
			t.Fatal(err)
		}
		pages++
		for _, tc := range resp.GetTestCases() {
			keys = append(keys, tc.GetKey())
			if tc.GetDescription() != "" || tc.GetTitle() == "" {
				t.Errorf("listed %v", tc)
			}
		}
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	if want := []string{"TC-1", "TC-2", "TC-3", "TC-4", "TC-5", "TC-6", "TC-7"}; !slices.Equal(keys, want) || pages != 3 {
		t.Errorf("got %v in %d pages", keys, pages)
	}
	req.PageToken = "nonsense"
	if _, err := svc.ListTestCases(s.As(scene.Viewer), req); fault.Of(err) != page.ErrToken {
		t.Errorf("a bad token: got %v, want ErrToken", err)
	}
	req.PageToken, req.PageSize = "", 7
	if resp, err := svc.ListTestCases(s.As(scene.Viewer), req); err != nil || len(resp.GetTestCases()) != 7 || resp.GetNextPageToken() != "" {
		t.Errorf("a page that is just full promises another: %v, %v", resp.GetNextPageToken(), err)
	}
}

func TestARoomIsEnteredByMembersAndShowsTheCase(t *testing.T) {
	s, _, tc := begin(t)
	var room testcase.Room
	name := event.TestCaseRoom(tc.GetId())
	s.View(func(r store.Reader) error {
		for _, user := range scene.Users {
			got, err := room.Enter(r, user, name, access.Read)
			joined := &pb.Joined{}
			snapshot := room.Snapshot(r, user, name, joined)
			if user == scene.Stranger {
				if fault.Of(err) != access.ErrDenied || fault.Of(snapshot) != access.ErrDenied || joined.GetSnapshot() != nil {
					t.Errorf("a stranger enters %q: %v, %v", got, err, snapshot)
				}
				continue
			}
			if err != nil || snapshot != nil || got != name || !proto.Equal(joined.GetTestCase().GetTestCase(), tc) {
				t.Errorf("%s enters %q: %v, %v and sees %v", user, got, err, snapshot, joined.GetTestCase())
			}
		}
		if _, err := room.Enter(r, scene.Owner, event.TestCaseRoom(unknown), access.Read); fault.Of(err) != access.ErrDenied {
			t.Errorf("an unknown room: got %v, want ErrDenied", err)
		}
		return nil
	})
}
