// Package access decides who may do what. Its table is the only place where
// roles mean something; everything that is not in it is denied.
package access

import (
	"errors"
	"fmt"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/store"
)

// Action is something a member may be allowed to do in a project.
type Action string

// The actions.
const (
	Read          Action = "read"           // see and hear everything in the project
	Publish       Action = "publish"        // start runs, report results, finish runs
	WriteCases    Action = "write cases"    // make and edit test cases
	Comment       Action = "comment"        // add comments
	Signal        Action = "signal"         // show others what one is doing: focus and typing
	Notify        Action = "notify"         // notify members
	ManageMembers Action = "manage members" // add, change and remove members that are not owners
	ManageOwners  Action = "manage owners"  // make owners, and change or remove them
)

// table says which roles may do what. A role or an action that is missing may not.
var table = map[pb.Role]map[Action]bool{
	pb.Role_ROLE_OWNER:   {Read: true, Publish: true, WriteCases: true, Comment: true, Signal: true, Notify: true, ManageMembers: true, ManageOwners: true},
	pb.Role_ROLE_MANAGER: {Read: true, Publish: true, WriteCases: true, Comment: true, Signal: true, Notify: true, ManageMembers: true},
	pb.Role_ROLE_TESTER:  {Read: true, Publish: true, WriteCases: true, Comment: true, Signal: true, Notify: true},
	pb.Role_ROLE_VIEWER:  {Read: true},
	pb.Role_ROLE_BOT:     {Read: true, Publish: true, Notify: true},
}

// Allowed reports whether a role may do something.
func Allowed(role pb.Role, action Action) bool { return table[role][action] }

// ErrDenied is the answer to everything that is not allowed. It is the same for
// a project that doesn't exist and for one that isn't the caller's, so that
// nobody can find out which projects there are.
var ErrDenied = fault.New(fault.Denied, "ACCESS_DENIED",
	"there is no such thing here, or you may not do this to it; ask a manager of the project to give you the role you need")

// Check returns nil if the user may do something in a project, ErrDenied if not.
// It reads the role in the caller's own snapshot or transaction, so that a right
// is never older than what it is used on.
func Check(r store.Reader, userID, projectID string, action Action) error {
	role, err := r.Role(projectID, userID)
	if errors.Is(err, store.ErrNotFound) {
		return ErrDenied
	}
	if err != nil {
		return fmt.Errorf("read the role of %s in %s: %w", userID, projectID, err)
	}
	if !Allowed(role, action) {
		return ErrDenied
	}
	return nil
}

// Project finds a project by id or key and checks that the user may do something
// in it. A project that doesn't exist gets ErrDenied too.
func Project(r store.Reader, userID, idOrKey string, action Action) (*pb.Project, error) {
	p, err := r.Project(idOrKey)
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrDenied
	}
	if err != nil {
		return nil, fmt.Errorf("read project %q: %w", idOrKey, err)
	}
	if err := Check(r, userID, p.Id, action); err != nil {
		return nil, err
	}
	return p, nil
}

// TestCase finds a test case by id and checks that the user may do something in
// its project. A test case that doesn't exist gets ErrDenied too.
func TestCase(r store.Reader, userID, id string, action Action) (*pb.TestCase, error) {
	tc, err := r.TestCase(id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrDenied
	}
	if err != nil {
		return nil, fmt.Errorf("read test case %q: %w", id, err)
	}
	if err := Check(r, userID, tc.GetProjectId(), action); err != nil {
		return nil, err
	}
	return tc, nil
}
