package project

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
	"github.com/tcmanager/tcmanager/service/store"
)

// noRole is the role of somebody who is no member.
const noRole = pb.Role_ROLE_UNSPECIFIED

var (
	errLastOwner = fault.New(fault.Precondition, "LAST_OWNER", "a project needs an owner; make somebody else an owner first")
	errNoMember  = fault.New(fault.NotFound, "MEMBER_NOT_FOUND", "this user is no member of the project; ListMembers shows who is")
)

// ListMembers returns the people of a project, by name.
func (s *Service) ListMembers(ctx context.Context, req *pb.ListMembersRequest) (*pb.ListMembersResponse, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	resp := &pb.ListMembersResponse{}
	err = s.store.View(ctx, func(r store.Reader) error {
		p, err := access.Project(r, caller.User.GetId(), req.GetProject(), access.Read)
		if err != nil {
			return err
		}
		resp.Members, err = r.Members(p.GetId())
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// SetMember adds a member or changes a member's role. A user who never signed in
// gets a record that is named by the id; the first sign-in completes it.
func (s *Service) SetMember(ctx context.Context, req *pb.SetMemberRequest) (*pb.SetMemberResponse, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	var resp *pb.SetMemberResponse
	err = s.store.Update(ctx, func(tx store.Tx) error {
		at := s.now()
		var err error
		// Rights are checked inside: an owner who gave up the role must get the
		// same answer to a repeat. It holds nothing but what they set themselves.
		resp, err = once.Do(tx, caller.User.GetId(), req.GetRequestId(), at, req, func() (*pb.SetMemberResponse, error) {
			m, err := changeMember(tx, caller, req.GetProject(), req.GetUserId(), req.GetRole(), at)
			return &pb.SetMemberResponse{Member: m}, err
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// RemoveMember takes a member out.
func (s *Service) RemoveMember(ctx context.Context, req *pb.RemoveMemberRequest) (*pb.RemoveMemberResponse, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	var resp *pb.RemoveMemberResponse
	err = s.store.Update(ctx, func(tx store.Tx) error {
		at := s.now()
		var err error
		// As in SetMember: a manager who left must get the same answer to a repeat.
		resp, err = once.Do(tx, caller.User.GetId(), req.GetRequestId(), at, req, func() (*pb.RemoveMemberResponse, error) {
			_, err := changeMember(tx, caller, req.GetProject(), req.GetUserId(), noRole, at)
			return &pb.RemoveMemberResponse{}, err
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// changeMember gives a user another role, or for noRole none.
func changeMember(tx store.Tx, caller identity.Caller, project, userID string, want pb.Role, at time.Time) (*pb.Member, error) {
	p, err := access.Project(tx, caller.User.GetId(), project, access.ManageMembers)
	if err != nil {
		return nil, err
	}
	current, err := roleOf(tx, p.GetId(), userID)
	if err != nil {
		return nil, err
	}
	if err := access.Check(tx, caller.User.GetId(), p.GetId(), needed(current, want)); err != nil {
		return nil, err
	}
	return setRole(tx, caller.Ref(), p.GetId(), userID, want, at)
}

// setRole carries out a change that is allowed and tells the project and the user.
func setRole(tx store.Tx, actor *pb.UserRef, projectID, userID string, want pb.Role, at time.Time) (*pb.Member, error) {
	current, err := roleOf(tx, projectID, userID)
	if err != nil {
		return nil, err
	}
	owners, err := countOwners(tx, projectID)
	if err != nil {
		return nil, err
	}
	change, err := decide(current, want, owners)
	if err != nil {
		return nil, err
	}
	user, err := ensureUser(tx, userID)
	if err != nil {
		return nil, err
	}
	m := &pb.Member{User: user, Role: want}
	if change == pb.MemberChange_MEMBER_CHANGE_UNSPECIFIED {
		return m, nil
	}
	if change == pb.MemberChange_MEMBER_CHANGE_LEFT {
		err = tx.DeleteMember(projectID, userID)
	} else {
		err = tx.PutMember(projectID, userID, want)
	}
	if err != nil {
		return nil, fmt.Errorf("store member %s of %s: %w", userID, projectID, err)
	}
	return m, tell(tx, actor, &pb.MemberChanged{ProjectId: projectID, Change: change, Member: m}, at)
}

// needed says which right a change takes: owners are owners' business.
func needed(current, want pb.Role) access.Action {
	if current == pb.Role_ROLE_OWNER || want == pb.Role_ROLE_OWNER {
		return access.ManageOwners
	}
	return access.ManageMembers
}

// decide says what a change of role is, UNSPECIFIED if it is none. The project
// has so many owners before it.
func decide(current, want pb.Role, owners int) (pb.MemberChange, error) {
	switch {
	case current == noRole && want == noRole:
		return 0, errNoMember
	case current == want:
		return pb.MemberChange_MEMBER_CHANGE_UNSPECIFIED, nil
	case current == pb.Role_ROLE_OWNER && owners <= 1:
		return 0, errLastOwner
	case current == noRole:
		return pb.MemberChange_MEMBER_CHANGE_JOINED, nil
	case want == noRole:
		return pb.MemberChange_MEMBER_CHANGE_LEFT, nil
	default:
		return pb.MemberChange_MEMBER_CHANGE_ROLE, nil
	}
}

// roleOf returns a user's role, noRole if the user is no member.
func roleOf(r store.Reader, projectID, userID string) (pb.Role, error) {
	role, err := r.Role(projectID, userID)
	if errors.Is(err, store.ErrNotFound) {
		return noRole, nil
	}
	if err != nil {
		return noRole, fmt.Errorf("read the role of %s in %s: %w", userID, projectID, err)
	}
	return role, nil
}

func countOwners(r store.Reader, projectID string) (int, error) {
	members, err := r.Members(projectID)
	if err != nil {
		return 0, fmt.Errorf("read the members of %s: %w", projectID, err)
	}
	n := 0
	for _, m := range members {
		if m.GetRole() == pb.Role_ROLE_OWNER {
			n++
		}
	}
	return n, nil
}

// ensureUser returns a user's record and makes it if there is none.
func ensureUser(tx store.Tx, id string) (*pb.User, error) {
	u, err := tx.User(id)
	if err == nil {
		return u, nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("read user %s: %w", id, err)
	}
	u = &pb.User{Id: id, Name: id}
	if err := tx.PutUser(u); err != nil {
		return nil, fmt.Errorf("store user %s: %w", id, err)
	}
	return u, nil
}

// tell tells the project's room and the member's own: the latter hears it even
// when it is the end of hearing the former.
func tell(tx store.Tx, actor *pb.UserRef, changed *pb.MemberChanged, at time.Time) error {
	d, err := event.NewDraft(event.ProjectRoom(changed.GetProjectId()), at, actor,
		&pb.Event{Payload: &pb.Event_MemberChanged{MemberChanged: changed}})
	if err != nil {
		return err
	}
	_, err = tx.Append(d, d.For(event.UserRoom(changed.GetMember().GetUser().GetId())))
	return err
}
