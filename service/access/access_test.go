package access_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/store"
)

// allowed is the whole of who may do what, to be read by people. Change it together
// with the table in access.go, knowing who gains or loses what.
const allowed = `
                owner    manager  tester   viewer   bot      (none)
read            yes      yes      yes      yes      yes      -
publish         yes      yes      yes      -        yes      -
write cases     yes      yes      yes      -        -        -
comment         yes      yes      yes      -        -        -
signal          yes      yes      yes      -        -        -
notify          yes      yes      yes      -        yes      -
manage members  yes      yes      -        -        -        -
manage owners   yes      -        -        -        -        -
`

var actions = []access.Action{
	access.Read, access.Publish, access.WriteCases, access.Comment, access.Signal,
	access.Notify, access.ManageMembers, access.ManageOwners,
}

var roles = []pb.Role{
	pb.Role_ROLE_OWNER, pb.Role_ROLE_MANAGER, pb.Role_ROLE_TESTER,
	pb.Role_ROLE_VIEWER, pb.Role_ROLE_BOT, pb.Role_ROLE_UNSPECIFIED,
}

func TestEachRoleMayDoWhatTheTableSaysAndNoMore(t *testing.T) {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%-16s", "")
	for i, role := range roles {
		name := "(none)"
		if role != pb.Role_ROLE_UNSPECIFIED {
			name = strings.ToLower(strings.TrimPrefix(role.String(), "ROLE_"))
		}
		fmt.Fprintf(&b, "%-*s", width(i), name)
	}
	for _, action := range actions {
		fmt.Fprintf(&b, "\n%-16s", action)
		for i, role := range roles {
			word := "-"
			if access.Allowed(role, action) {
				word = "yes"
			}
			fmt.Fprintf(&b, "%-*s", width(i), word)
		}
	}
	b.WriteString("\n")
	if got := b.String(); got != allowed {
		t.Errorf("got%s\nwant%s", got, allowed)
	}
}

// width leaves no space at the end of a line.
func width(column int) int {
	if column == len(roles)-1 {
		return 0
	}
	return 9
}

func TestTheTableSpeaksOfEveryRoleThereIs(t *testing.T) {
	if got, want := len(roles), len(pb.Role_name); got != want {
		t.Errorf("the table of this test has %d roles, the schema has %d", got, want)
	}
}

func TestAnUnknownRoleOrActionIsDenied(t *testing.T) {
	if access.Allowed(pb.Role(99), access.Read) {
		t.Error("role 99 may read")
	}
	if access.Allowed(pb.Role_ROLE_OWNER, "drop everything") {
		t.Error("an owner may do what no one defined")
	}
}

// one is a store's reader that knows of one project, one test case and one
// viewer. All other methods are nil: access calls none of them.
type one struct {
	store.Reader
	err error // what every lookup fails with, if anything
}

func (r one) Project(idOrKey string) (*pb.Project, error) {
	if r.err != nil || (idOrKey != "id" && idOrKey != "key") {
		return nil, orNotFound(r.err)
	}
	return &pb.Project{Id: "id", Key: "key"}, nil
}

func (r one) TestCase(id string) (*pb.TestCase, error) {
	if r.err != nil || id != "case" {
		return nil, orNotFound(r.err)
	}
	return &pb.TestCase{Id: "case", ProjectId: "id"}, nil
}

func (r one) Role(projectID, userID string) (pb.Role, error) {
	if r.err != nil || projectID != "id" || userID != "viewer" {
		return pb.Role_ROLE_UNSPECIFIED, orNotFound(r.err)
	}
	return pb.Role_ROLE_VIEWER, nil
}

func orNotFound(err error) error {
	if err == nil {
		return store.ErrNotFound
	}
	return err
}

// lookups are the ways to a project, each as (user, thing, action).
var lookups = map[string]struct {
	do    func(r store.Reader, user, id string, a access.Action) error
	known string
}{
	"Check": {access.Check, "id"},
	"Project": {func(r store.Reader, u, id string, a access.Action) error {
		_, err := access.Project(r, u, id, a)
		return err
	}, "id"},
	"ProjectByKey": {func(r store.Reader, u, id string, a access.Action) error {
		_, err := access.Project(r, u, id, a)
		return err
	}, "key"},
	"TestCase": {func(r store.Reader, u, id string, a access.Action) error {
		_, err := access.TestCase(r, u, id, a)
		return err
	}, "case"},
}

func TestUnknownNotYoursAndNotAllowedAreTheSameAnswer(t *testing.T) {
	for name, l := range lookups {
		t.Run(name, func(t *testing.T) {
			if err := l.do(one{}, "viewer", l.known, access.Read); err != nil {
				t.Errorf("a viewer may not read: %v", err)
			}
			for why, err := range map[string]error{
				"unknown":     l.do(one{}, "viewer", "nothing", access.Read),
				"not yours":   l.do(one{}, "stranger", l.known, access.Read),
				"not allowed": l.do(one{}, "viewer", l.known, access.Publish),
			} {
				if fault.Of(err) != access.ErrDenied {
					t.Errorf("%s: got %v, want ErrDenied itself", why, err)
				}
			}
		})
	}
}

// A store that can't be read must not look like a right that was lost: clients
// give up on the latter.
func TestABrokenStoreIsNotADenial(t *testing.T) {
	broken := errors.New("disk on fire")
	for name, l := range lookups {
		t.Run(name, func(t *testing.T) {
			err := l.do(one{err: broken}, "viewer", l.known, access.Read)
			if !errors.Is(err, broken) || fault.Of(err) != nil {
				t.Errorf("got %v, want the store's error and no fault", err)
			}
		})
	}
}
