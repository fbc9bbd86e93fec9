package project_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/once"
	"github.com/tcmanager/tcmanager/service/project"
	"github.com/tcmanager/tcmanager/service/scene"
	"github.com/tcmanager/tcmanager/service/store"
)

func begin(t *testing.T) (*scene.Scene, *project.Service) {
	t.Helper()
	s := scene.New(t)
	return s, project.New(s.Store, s.Now)
}

// anyone is an action that takes no role at all.
const anyone access.Action = ""

// call is a method with a request.
type call func(context.Context, *project.Service) error

func set(user string, role pb.Role) call {
	return func(ctx context.Context, svc *project.Service) error {
		_, err := svc.SetMember(ctx, &pb.SetMemberRequest{Project: scene.Key, UserId: user, Role: role})
		return err
	}
}

func remove(user string) call {
	return func(ctx context.Context, svc *project.Service) error {
		_, err := svc.RemoveMember(ctx, &pb.RemoveMemberRequest{Project: scene.Key, UserId: user})
		return err
	}
}

// subjects are more members of the project, one for each call that changes one.
var subjects = map[string]pb.Role{
	"tester-1": pb.Role_ROLE_TESTER, "tester-2": pb.Role_ROLE_TESTER, "tester-3": pb.Role_ROLE_TESTER,
	"owner-1": pb.Role_ROLE_OWNER, "owner-2": pb.Role_ROLE_OWNER, "owner-3": pb.Role_ROLE_OWNER,
}

var calls = []struct {
	name   string
	action access.Action
	call   call
}{
	{"CreateProject", anyone, func(ctx context.Context, svc *project.Service) error {
		_, err := svc.CreateProject(ctx, &pb.CreateProjectRequest{Key: "new"})
		return err
	}},
	{"ListProjects", anyone, func(ctx context.Context, svc *project.Service) error {
		_, err := svc.ListProjects(ctx, &pb.ListProjectsRequest{})
		return err
	}},
	{"GetProject", access.Read, func(ctx context.Context, svc *project.Service) error {
		_, err := svc.GetProject(ctx, &pb.GetProjectRequest{Project: scene.Key})
		return err
	}},
	{"ListMembers", access.Read, func(ctx context.Context, svc *project.Service) error {
		_, err := svc.ListMembers(ctx, &pb.ListMembersRequest{Project: scene.ProjectID})
		return err
	}},
	{"SetMember, a new one", access.ManageMembers, set("newcomer-1", pb.Role_ROLE_VIEWER)},
	{"SetMember, another role", access.ManageMembers, set("tester-1", pb.Role_ROLE_MANAGER)},
	{"SetMember, a new owner", access.ManageOwners, set("newcomer-2", pb.Role_ROLE_OWNER)},
	{"SetMember, to owner", access.ManageOwners, set("tester-2", pb.Role_ROLE_OWNER)},
	{"SetMember, from owner", access.ManageOwners, set("owner-1", pb.Role_ROLE_VIEWER)},
	{"SetMember, an owner as such", access.ManageOwners, set("owner-2", pb.Role_ROLE_OWNER)},
	{"RemoveMember", access.ManageMembers, remove("tester-3")},
	{"RemoveMember, an owner", access.ManageOwners, remove("owner-3")},
}

func TestWhoMayDoWhat(t *testing.T) {
	for _, user := range scene.Users {
		s, svc := begin(t)
		s.Update(func(tx store.Tx) error {
			for id, role := range subjects {
				if err := errors.Join(tx.PutUser(&pb.User{Id: id}), tx.PutMember(scene.ProjectID, id, role)); err != nil {
					return err
				}
			}
			return nil
		})
		for _, c := range calls {
			t.Run(c.name+" by "+user, func(t *testing.T) {
				err := c.call(s.As(user), svc)
				heard := s.Heard()
				if c.action == anyone || access.Allowed(scene.Members[user], c.action) {
					if err != nil {
						t.Error(err)
					}
					return
				}
				if fault.Of(err) != access.ErrDenied {
					t.Errorf("got %v, want ErrDenied", err)
				}
				if len(heard) != 0 {
					t.Errorf("and yet was heard: %v", heard)
				}
			})
		}
	}
}

func TestNobodyMayDoAnything(t *testing.T) {
	_, svc := begin(t)
	for _, c := range calls {
		if err := c.call(t.Context(), svc); fault.Of(err) != identity.ErrUnauthenticated {
			t.Errorf("%s: got %v, want ErrUnauthenticated", c.name, err)
		}
	}
}

func TestAnUnknownProjectIsDeniedLikeOneThatIsNotYours(t *testing.T) {
	s, svc := begin(t)
	for _, key := range []string{scene.OtherKey, scene.OtherID, "nowhere", "0190b0c0-0000-7000-8000-00000000dead"} {
		_, get := svc.GetProject(s.As(scene.Owner), &pb.GetProjectRequest{Project: key})
		_, list := svc.ListMembers(s.As(scene.Owner), &pb.ListMembersRequest{Project: key})
		_, set := svc.SetMember(s.As(scene.Owner), &pb.SetMemberRequest{Project: key, UserId: scene.Owner, Role: pb.Role_ROLE_OWNER})
		_, remove := svc.RemoveMember(s.As(scene.Owner), &pb.RemoveMemberRequest{Project: key, UserId: scene.Stranger})
		for _, err := range []error{get, list, set, remove} {
			if fault.Of(err) != access.ErrDenied {
				t.Errorf("%s: got %v, want ErrDenied", key, err)
			}
		}
	}
}

func TestANewProjectIsItsMakersAndToldToThem(t *testing.T) {
	s, svc := begin(t)
	resp, err := svc.CreateProject(s.As(scene.Viewer), &pb.CreateProjectRequest{Key: "new", Name: " The New One "})
	if err != nil {
		t.Fatal(err)
	}
	made := resp.GetProject()
	if made.GetName() != "The New One" || made.GetMyRole() != pb.Role_ROLE_OWNER || made.GetCreatedAt() == nil {
		t.Errorf("made %v", made)
	}
	for _, idOrKey := range []string{"new", made.GetId()} {
		got, err := svc.GetProject(s.As(scene.Viewer), &pb.GetProjectRequest{Project: idOrKey})
		if err != nil || !proto.Equal(got.GetProject(), made) {
			t.Errorf("read  %v, %v\nmade %v", got.GetProject(), err, made)
		}
	}
	heard := s.Heard()
	if rooms := scene.Hears(heard); !slices.Equal(rooms, []event.Room{event.ProjectRoom(made.GetId()), event.UserRoom(scene.Viewer)}) {
		t.Fatalf("heard in %v", rooms)
	}
	for _, ev := range heard {
		want := &pb.MemberChanged{
			ProjectId: made.GetId(), Change: pb.MemberChange_MEMBER_CHANGE_JOINED,
			Member: &pb.Member{User: &pb.User{Id: scene.Viewer, Name: "Viewer", Email: "viewer@example.com"}, Role: pb.Role_ROLE_OWNER},
		}
		if !proto.Equal(ev.GetMemberChanged(), want) {
			t.Errorf("%s heard %v", ev.GetRoom(), ev)
		}
	}

	list, err := svc.ListProjects(s.As(scene.Viewer), &pb.ListProjectsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var mine []string
	for _, p := range list.GetProjects() {
		mine = append(mine, p.GetKey()+" "+p.GetMyRole().String())
	}
	if want := []string{"demo ROLE_VIEWER", "new ROLE_OWNER"}; !slices.Equal(mine, want) {
		t.Errorf("the maker's projects are %v, want %v", mine, want)
	}
}

func TestAKeyIsTakenOnce(t *testing.T) {
	s, svc := begin(t)
	_, err := svc.CreateProject(s.As(scene.Viewer), &pb.CreateProjectRequest{Key: scene.OtherKey})
	if f := fault.Of(err); f == nil || f.Kind != fault.Exists || f.Reason != "PROJECT_KEY_TAKEN" {
		t.Errorf("got %v, want PROJECT_KEY_TAKEN", err)
	}
	if heard := s.Heard(); len(heard) != 0 {
		t.Errorf("heard %v", heard)
	}
}

func TestAMembershipIsToldToTheProjectAndToTheMember(t *testing.T) {
	s, svc := begin(t)
	user := &pb.User{Id: "newcomer", Name: "newcomer"} // never signed in
	for _, step := range []struct {
		role   pb.Role
		change pb.MemberChange
	}{
		{pb.Role_ROLE_VIEWER, pb.MemberChange_MEMBER_CHANGE_JOINED},
		{pb.Role_ROLE_TESTER, pb.MemberChange_MEMBER_CHANGE_ROLE},
		{pb.Role_ROLE_UNSPECIFIED, pb.MemberChange_MEMBER_CHANGE_LEFT},
	} {
		t.Run(step.change.String(), func(t *testing.T) {
			want := &pb.Member{User: user, Role: step.role}
			if step.change == pb.MemberChange_MEMBER_CHANGE_LEFT {
				if _, err := svc.RemoveMember(s.As(scene.Manager), &pb.RemoveMemberRequest{Project: scene.Key, UserId: "newcomer"}); err != nil {
					t.Fatal(err)
				}
			} else {
				resp, err := svc.SetMember(s.As(scene.Manager), &pb.SetMemberRequest{Project: scene.Key, UserId: "newcomer", Role: step.role})
				if err != nil || !proto.Equal(resp.GetMember(), want) {
					t.Fatalf("got %v, %v", resp.GetMember(), err)
				}
			}
			if got := roleOf(t, s, "newcomer"); got != step.role {
				t.Errorf("the role is %s, want %s", got, step.role)
			}
			heard := s.Heard()
			if rooms := scene.Hears(heard); !slices.Equal(rooms, []event.Room{event.ProjectRoom(scene.ProjectID), "user:newcomer"}) {
				t.Fatalf("heard in %v", rooms)
			}
			for _, ev := range heard {
				told := &pb.MemberChanged{ProjectId: scene.ProjectID, Change: step.change, Member: want}
				if !proto.Equal(ev.GetMemberChanged(), told) || ev.GetActor().GetId() != scene.Manager || ev.GetTime() == nil {
					t.Errorf("%s heard %v", ev.GetRoom(), ev)
				}
			}
		})
	}
}

func roleOf(t *testing.T, s *scene.Scene, user string) pb.Role {
	t.Helper()
	resp, err := project.New(s.Store, s.Now).ListMembers(s.As(scene.Owner), &pb.ListMembersRequest{Project: scene.Key})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range resp.GetMembers() {
		if m.GetUser().GetId() == user {
			return m.GetRole()
		}
	}
	return pb.Role_ROLE_UNSPECIFIED
}

func TestTheLastOwnerStays(t *testing.T) {
	s, svc := begin(t)
	_, remove := svc.RemoveMember(s.As(scene.Owner), &pb.RemoveMemberRequest{Project: scene.Key, UserId: scene.Owner})
	_, set := svc.SetMember(s.As(scene.Owner), &pb.SetMemberRequest{Project: scene.Key, UserId: scene.Owner, Role: pb.Role_ROLE_MANAGER})
	for _, err := range []error{remove, set} {
		if f := fault.Of(err); f == nil || f.Kind != fault.Precondition || f.Reason != "LAST_OWNER" {
			t.Errorf("got %v, want LAST_OWNER", err)
		}
	}
	if got := roleOf(t, s, scene.Owner); got != pb.Role_ROLE_OWNER {
		t.Errorf("the last owner is now %s", got)
	}
	if _, err := svc.SetMember(s.As(scene.Owner), &pb.SetMemberRequest{Project: scene.Key, UserId: scene.Manager, Role: pb.Role_ROLE_OWNER}); err != nil {
		t.Fatal(err)
	}
	if _, err := svc.RemoveMember(s.As(scene.Owner), &pb.RemoveMemberRequest{Project: scene.Key, UserId: scene.Owner}); err != nil {
		t.Errorf("one of two owners can't leave: %v", err)
	}
	if _, err := svc.GetProject(s.As(scene.Owner), &pb.GetProjectRequest{Project: scene.Key}); fault.Of(err) != access.ErrDenied {
		t.Errorf("who left reads on: %v", err)
	}
}

// Two owners who remove each other at once: one is left, whoever came first.
func TestOfTwoOwnersWhoRemoveEachOtherOneIsLeft(t *testing.T) {
	s, svc := begin(t)
	if _, err := svc.SetMember(s.As(scene.Owner), &pb.SetMemberRequest{Project: scene.Key, UserId: scene.Manager, Role: pb.Role_ROLE_OWNER}); err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 2)
	for _, pair := range [][2]string{{scene.Owner, scene.Manager}, {scene.Manager, scene.Owner}} {
		go func() {
			_, err := svc.RemoveMember(s.As(pair[0]), &pb.RemoveMemberRequest{Project: scene.Key, UserId: pair[1]})
			errs <- err
		}()
	}
	first, second := <-errs, <-errs
	if (first == nil) == (second == nil) {
		t.Errorf("got %v and %v, want one success", first, second)
	}
}

func TestWhatChangesNothingIsToldToNobody(t *testing.T) {
	s, svc := begin(t)
	resp, err := svc.SetMember(s.As(scene.Manager), &pb.SetMemberRequest{Project: scene.Key, UserId: scene.Viewer, Role: pb.Role_ROLE_VIEWER})
	if err != nil || resp.GetMember().GetRole() != pb.Role_ROLE_VIEWER || resp.GetMember().GetUser().GetName() != "Viewer" {
		t.Errorf("got %v, %v", resp.GetMember(), err)
	}
	_, err = svc.RemoveMember(s.As(scene.Manager), &pb.RemoveMemberRequest{Project: scene.Key, UserId: scene.Stranger})
	if f := fault.Of(err); f == nil || f.Kind != fault.NotFound {
		t.Errorf("removing who is no member: got %v, want NOT_FOUND", err)
	}
	if heard := s.Heard(); len(heard) != 0 {
		t.Errorf("heard %v", heard)
	}
}

func TestARepeatedRequestHasOneEffect(t *testing.T) {
	s, svc := begin(t)
	for _, c := range []struct {
		name string
		call func(id string) (proto.Message, error)
	}{
		{"create", func(id string) (proto.Message, error) {
			return svc.CreateProject(s.As(scene.Manager), &pb.CreateProjectRequest{Key: "new", RequestId: id})
		}},
		{"set", func(id string) (proto.Message, error) {
			return svc.SetMember(s.As(scene.Manager), &pb.SetMemberRequest{Project: scene.Key, UserId: "newcomer", Role: pb.Role_ROLE_VIEWER, RequestId: id})
		}},
		// The caller's own rights end here: the repeat must say so no more than the first.
		{"leave", func(id string) (proto.Message, error) {
			return svc.RemoveMember(s.As(scene.Manager), &pb.RemoveMemberRequest{Project: scene.Key, UserId: scene.Manager, RequestId: id})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			first, err := c.call(c.name)
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Heard()) == 0 {
				t.Error("the first wasn't heard")
			}
			second, err := c.call(c.name)
			if err != nil || !proto.Equal(first, second) {
				t.Errorf("first %v\nsecond %v, %v", first, second, err)
			}
			if heard := s.Heard(); len(heard) != 0 {
				t.Errorf("the second was heard: %v", heard)
			}
			if _, err := c.call(""); err == nil && c.name != "set" {
				t.Error("without an id it was carried out again")
			}
		})
	}
	if _, err := svc.CreateProject(s.As(scene.Manager), &pb.CreateProjectRequest{Key: "newer", RequestId: "create"}); fault.Of(err) != once.ErrReused {
		t.Errorf("another project with the same id: got %v, want ErrReused", err)
	}
}

func TestARequestThatFailedMayBeRepeated(t *testing.T) {
	s, svc := begin(t)
	req := &pb.SetMemberRequest{Project: scene.Key, UserId: "newcomer", Role: pb.Role_ROLE_VIEWER, RequestId: "r"}
	if _, err := svc.SetMember(s.As(scene.Tester), req); fault.Of(err) != access.ErrDenied {
		t.Fatalf("got %v, want ErrDenied", err)
	}
	s.Update(func(tx store.Tx) error {
		return tx.PutMember(scene.ProjectID, scene.Tester, pb.Role_ROLE_MANAGER)
	})
	if _, err := svc.SetMember(s.As(scene.Tester), req); err != nil {
		t.Errorf("with the right: %v", err)
	}
}

func TestARoomIsEnteredByKeyOrIDByMembersOnly(t *testing.T) {
	s, _ := begin(t)
	room := project.NewRoom(func(id string) string { return id })
	s.View(func(r store.Reader) error {
		for _, name := range []event.Room{"project:" + scene.Key, "project:" + scene.ProjectID} {
			for _, user := range scene.Users {
				got, err := room.Enter(r, user, name, access.Read)
				if user == scene.Stranger {
					if fault.Of(err) != access.ErrDenied {
						t.Errorf("a stranger enters %s: %q, %v", name, got, err)
					}
				} else if err != nil || got != "project:"+scene.ProjectID {
					t.Errorf("%s enters %s: %q, %v", user, name, got, err)
				}
			}
		}
		if _, err := room.Enter(r, scene.Owner, "project:nowhere", access.Read); fault.Of(err) != access.ErrDenied {
			t.Errorf("an unknown room: got %v, want ErrDenied", err)
		}
		return nil
	})
}

func TestASnapshotShowsTheProjectItsNewestRunsAndItsMembers(t *testing.T) {
	s, _ := begin(t)
	const runs = project.SnapshotRuns + 5
	s.Update(func(tx store.Tx) error {
		for i := range runs {
			id := fmt.Sprintf("0190b0c0-0000-7000-8000-%012d", i+1)
			if err := tx.AddRun(&pb.Run{Id: id, ProjectId: scene.ProjectID, Key: id, State: pb.RunState_RUN_STATE_RUNNING}); err != nil {
				return err
			}
		}
		return nil
	})
	room := project.NewRoom(func(id string) string { return "https://tcm.example/runs/" + id })
	joined := &pb.Joined{}
	s.View(func(r store.Reader) error {
		if err := room.Snapshot(r, scene.Stranger, "project:"+scene.ProjectID, &pb.Joined{}); fault.Of(err) != access.ErrDenied {
			t.Errorf("a stranger sees it: %v", err)
		}
		return room.Snapshot(r, scene.Viewer, "project:"+scene.ProjectID, joined)
	})
	got := joined.GetProject()
	if got.GetProject().GetKey() != scene.Key || got.GetProject().GetMyRole() != pb.Role_ROLE_VIEWER {
		t.Errorf("the project is %v", got.GetProject())
	}
	if len(got.GetMembers()) != len(scene.Members) {
		t.Errorf("the members are %v", got.GetMembers())
	}
	if len(got.GetRuns()) != project.SnapshotRuns {
		t.Fatalf("there are %d runs, want %d", len(got.GetRuns()), project.SnapshotRuns)
	}
	for i, run := range got.GetRuns() {
		if run.GetNumber() != uint32(runs-i) || run.GetUrl() != "https://tcm.example/runs/"+run.GetId() {
			t.Errorf("run %d is %v", i, run)
		}
	}
}

func TestASnapshotShowsTheShardsOfRunsThatGoOnSoThatALostRunnerIsSeen(t *testing.T) {
	s, _ := begin(t)
	const id = "0190b0c0-0000-7000-8000-000000000001"
	s.Update(func(tx store.Tx) error {
		if err := tx.AddRun(&pb.Run{Id: id, ProjectId: scene.ProjectID, Key: id, State: pb.RunState_RUN_STATE_RUNNING}); err != nil {
			return err
		}
		return tx.PutShard(store.Shard{RunID: id, Name: "main", State: pb.ShardState_SHARD_STATE_DISCONNECTED})
	})
	joined := &pb.Joined{}
	s.View(func(r store.Reader) error {
		return project.NewRoom(func(string) string { return "" }).Snapshot(r, scene.Viewer, "project:"+scene.ProjectID, joined)
	})
	shards := joined.GetProject().GetRuns()[0].GetShards()
	if len(shards) != 1 || shards[0].GetState() != pb.ShardState_SHARD_STATE_DISCONNECTED {
		t.Errorf("the shards are %v", shards)
	}
}
