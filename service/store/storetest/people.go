package storetest

import (
	"errors"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

var peopleTests = []test{
	{"a user is kept, and changed by a second put", func(e *env) {
		renamed := &pb.User{Id: "ada", Name: "Countess", Email: ""}
		e.keeps(func(tx store.Tx) error {
			return errors.Join(tx.PutUser(ada), tx.PutUser(grace), tx.PutUser(renamed))
		}, func(r store.Reader) error {
			return errors.Join(
				is(r.User("ada"))("the changed user", renamed),
				is(r.User("grace"))("the other user", grace),
				fails(r.User("nobody"))("an unknown user", store.ErrNotFound),
			)
		})
	}},
	{"a project is found by id and by key", func(e *env) {
		e.keeps(populate, func(r store.Reader) error {
			return errors.Join(
				is(r.Project(projectID))("by id", project()),
				is(r.Project("demo"))("by key", project()),
				fails(r.Project(missing))("an unknown id", store.ErrNotFound),
				fails(r.Project("demos"))("an unknown key", store.ErrNotFound),
				fails(r.Project(""))("an empty key", store.ErrNotFound),
			)
		})
	}},
	{"a project is renamed", func(e *env) {
		renamed := &pb.Project{Id: projectID, Key: "shown", Name: "Shown", CreatedAt: at(0)}
		e.keeps(func(tx store.Tx) error {
			return errors.Join(populate(tx), tx.PutProject(renamed))
		}, func(r store.Reader) error {
			return errors.Join(
				is(r.Project("shown"))("by its new key", renamed),
				fails(r.Project("demo"))("by its old key", store.ErrNotFound),
			)
		})
	}},
	{"a project's key is unique, and a refusal leaves the transaction usable", func(e *env) {
		e.keeps(func(tx store.Tx) error {
			thief := &pb.Project{Id: missing, Key: "demo"}
			return errors.Join(
				populate(tx),
				fails(0, tx.PutProject(thief))("a taken key", store.ErrExists),
				tx.PutUser(&pb.User{Id: "later"}),
			)
		}, func(r store.Reader) error {
			_, err := r.User("later")
			return errors.Join(
				err,
				is(r.Project("demo"))("the first project", project()),
				fails(r.Project(missing))("the refused project", store.ErrNotFound),
			)
		})
	}},
	{"users and projects get their rooms", func(e *env) {
		e.keeps(populate, func(r store.Reader) error {
			_, errUser := r.Head(event.UserRoom("ada"))
			_, errProject := r.Head(event.ProjectRoom(projectID))
			return errors.Join(errUser, errProject)
		})
	}},
	{"members come by name, then id, with their role", func(e *env) {
		first := &pb.User{Id: "1", Name: "Grace"}
		e.keeps(func(tx store.Tx) error {
			return errors.Join(populate(tx), tx.PutUser(first),
				tx.PutMember(projectID, "grace", pb.Role_ROLE_VIEWER),
				tx.PutMember(projectID, "ada", pb.Role_ROLE_OWNER),
				tx.PutMember(projectID, "1", pb.Role_ROLE_BOT),
				tx.PutMember(projectID, "grace", pb.Role_ROLE_TESTER),
				tx.PutMember(otherID, "ada", pb.Role_ROLE_VIEWER))
		}, func(r store.Reader) error {
			return errors.Join(
				is(r.Members(projectID))("members", []*pb.Member{
					{User: ada, Role: pb.Role_ROLE_OWNER},
					{User: first, Role: pb.Role_ROLE_BOT},
					{User: grace, Role: pb.Role_ROLE_TESTER},
				}),
				is(r.Members(missing))("members of no project", nil),
				is(r.Role(projectID, "grace"))("a role that was changed", pb.Role_ROLE_TESTER),
				is(r.Role(otherID, "ada"))("a role elsewhere", pb.Role_ROLE_VIEWER),
				fails(r.Role(otherID, "grace"))("a role of a stranger", store.ErrNotFound),
				fails(r.Role(missing, "ada"))("a role in no project", store.ErrNotFound),
				fails(r.Role(projectID, "nobody"))("a role of nobody", store.ErrNotFound),
			)
		})
	}},
	{"a user's projects come by key, with the user's role", func(e *env) {
		e.keeps(func(tx store.Tx) error {
			return errors.Join(populate(tx),
				tx.PutMember(otherID, "ada", pb.Role_ROLE_VIEWER),
				tx.PutMember(projectID, "ada", pb.Role_ROLE_OWNER),
				tx.PutMember(otherID, "grace", pb.Role_ROLE_OWNER))
		}, func(r store.Reader) error {
			mine, others := project(), other()
			mine.MyRole, others.MyRole = pb.Role_ROLE_OWNER, pb.Role_ROLE_VIEWER
			return errors.Join(
				is(r.ProjectsOf("ada"))("projects", []*pb.Project{mine, others}),
				is(r.ProjectsOf("nobody"))("projects of nobody", nil),
			)
		})
	}},
	{"a member can leave, once", func(e *env) {
		e.keeps(func(tx store.Tx) error {
			return errors.Join(populate(tx),
				tx.PutMember(projectID, "ada", pb.Role_ROLE_OWNER),
				tx.PutMember(projectID, "grace", pb.Role_ROLE_OWNER),
				tx.DeleteMember(projectID, "ada"),
				fails(0, tx.DeleteMember(projectID, "ada"))("a second time", store.ErrNotFound),
				fails(0, tx.DeleteMember(missing, "ada"))("from no project", store.ErrNotFound))
		}, func(r store.Reader) error {
			return errors.Join(
				fails(r.Role(projectID, "ada"))("the role of who left", store.ErrNotFound),
				is(r.Role(projectID, "grace"))("the role of who stayed", pb.Role_ROLE_OWNER),
			)
		})
	}},
	{"a member must be a user of a project", func(e *env) {
		e.update(populate)
		e.refuses(store.ErrNotFound, func(tx store.Tx) error { return tx.PutMember(projectID, "nobody", pb.Role_ROLE_OWNER) })
		e.refuses(store.ErrNotFound, func(tx store.Tx) error { return tx.PutMember(missing, "ada", pb.Role_ROLE_OWNER) })
	}},
}
