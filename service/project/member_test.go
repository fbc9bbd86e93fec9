package project

import (
	"testing"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/fault"
)

const (
	owner   = pb.Role_ROLE_OWNER
	manager = pb.Role_ROLE_MANAGER
	viewer  = pb.Role_ROLE_VIEWER
)

func TestAChangeOfRoleIsDecidedByWhatIsThere(t *testing.T) {
	for name, tc := range map[string]struct {
		current, want pb.Role
		owners        int
		change        pb.MemberChange
		err           *fault.Error
	}{
		"a new member joins":           {noRole, viewer, 1, pb.MemberChange_MEMBER_CHANGE_JOINED, nil},
		"the first owner joins":        {noRole, owner, 0, pb.MemberChange_MEMBER_CHANGE_JOINED, nil},
		"a member changes":             {viewer, manager, 1, pb.MemberChange_MEMBER_CHANGE_ROLE, nil},
		"a member becomes an owner":    {viewer, owner, 1, pb.MemberChange_MEMBER_CHANGE_ROLE, nil},
		"a member leaves":              {viewer, noRole, 1, pb.MemberChange_MEMBER_CHANGE_LEFT, nil},
		"one of two owners leaves":     {owner, noRole, 2, pb.MemberChange_MEMBER_CHANGE_LEFT, nil},
		"one of two owners gives up":   {owner, viewer, 2, pb.MemberChange_MEMBER_CHANGE_ROLE, nil},
		"the last owner can't leave":   {owner, noRole, 1, 0, errLastOwner},
		"nor give up":                  {owner, manager, 1, 0, errLastOwner},
		"the last owner stays owner":   {owner, owner, 1, pb.MemberChange_MEMBER_CHANGE_UNSPECIFIED, nil},
		"a member stays as they are":   {viewer, viewer, 1, pb.MemberChange_MEMBER_CHANGE_UNSPECIFIED, nil},
		"who is no member can't leave": {noRole, noRole, 1, 0, errNoMember},
	} {
		t.Run(name, func(t *testing.T) {
			change, err := decide(tc.current, tc.want, tc.owners)
			if fault.Of(err) != tc.err || change != tc.change {
				t.Errorf("got %v, %v; want %v, %v", change, err, tc.change, tc.err)
			}
		})
	}
}

func TestOwnersAreOwnersBusiness(t *testing.T) {
	for _, tc := range []struct {
		current, want pb.Role
		action        access.Action
	}{
		{noRole, viewer, access.ManageMembers},
		{viewer, manager, access.ManageMembers},
		{manager, noRole, access.ManageMembers},
		{noRole, owner, access.ManageOwners},
		{viewer, owner, access.ManageOwners},
		{owner, viewer, access.ManageOwners},
		{owner, owner, access.ManageOwners},
		{owner, noRole, access.ManageOwners},
	} {
		if got := needed(tc.current, tc.want); got != tc.action {
			t.Errorf("from %s to %s takes %q, want %q", tc.current, tc.want, got, tc.action)
		}
	}
}

func TestAProjectIsCalledByItsKeyUnlessNamed(t *testing.T) {
	for in, want := range map[string]string{"": "demo", "  ": "demo", " The Demo ": "The Demo"} {
		if got, err := nameOf(in, "demo"); err != nil || got != want {
			t.Errorf("%q: got %q, %v", in, got, err)
		}
	}
	if _, err := nameOf("two\nlines", "demo"); fault.Of(err) == nil || fault.Of(err).Violations[0].Field != "name" {
		t.Errorf("got %v, want a fault about name", err)
	}
}
