// Package project is what projects are and who belongs to them.
//
// Each method is one command: it finds out what the caller may do, decides, and
// commits, all in one transaction. What is decided, and nothing else, is told to
// the rooms it concerns.
package project

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/once"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/text"
)

// maxName is the longest name of a project, in characters, as project.proto says.
const maxName = 120

// Service is the ProjectService.
type Service struct {
	pb.UnimplementedProjectServiceServer
	store store.Store
	now   func() time.Time
}

// New makes the service; it starts nothing. The clock is asked inside each
// transaction, so that times are in the order of the events.
func New(st store.Store, now func() time.Time) *Service { return &Service{store: st, now: now} }

// CreateProject makes a project owned by the caller.
func (s *Service) CreateProject(ctx context.Context, req *pb.CreateProjectRequest) (*pb.CreateProjectResponse, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	name, err := nameOf(req.GetName(), req.GetKey())
	if err != nil {
		return nil, err
	}
	var resp *pb.CreateProjectResponse
	err = s.store.Update(ctx, func(tx store.Tx) error {
		at := s.now()
		var err error
		resp, err = once.Do(tx, caller.User.GetId(), req.GetRequestId(), at, req, func() (*pb.CreateProjectResponse, error) {
			p, err := create(tx, caller, req.GetKey(), name, at)
			return &pb.CreateProjectResponse{Project: p}, err
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func create(tx store.Tx, caller identity.Caller, key, name string, at time.Time) (*pb.Project, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make an id: %w", err)
	}
	// To the microsecond, as stores keep it: the answer is the project as stored.
	p := &pb.Project{Id: id.String(), Key: key, Name: name, CreatedAt: timestamppb.New(at.Truncate(time.Microsecond))}
	err = tx.PutProject(p)
	if errors.Is(err, store.ErrExists) {
		return nil, fault.New(fault.Exists, "PROJECT_KEY_TAKEN", "the key %q is taken; choose another one", key)
	}
	if err != nil {
		return nil, fmt.Errorf("store project %s: %w", key, err)
	}
	if _, err := setRole(tx, caller.Ref(), p.GetId(), caller.User.GetId(), pb.Role_ROLE_OWNER, at); err != nil {
		return nil, err
	}
	p.MyRole = pb.Role_ROLE_OWNER
	return p, nil
}

// nameOf decides what a project is called: its key if no name is given.
func nameOf(name, key string) (string, error) {
	if strings.TrimSpace(name) == "" {
		return key, nil
	}
	return text.Line("name", name, maxName)
}

// GetProject returns one project and the caller's role in it.
func (s *Service) GetProject(ctx context.Context, req *pb.GetProjectRequest) (*pb.GetProjectResponse, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	resp := &pb.GetProjectResponse{}
	err = s.store.View(ctx, func(r store.Reader) error {
		var err error
		resp.Project, err = get(r, caller.User.GetId(), req.GetProject())
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// get returns a project that the user may read, with MyRole.
func get(r store.Reader, userID, idOrKey string) (*pb.Project, error) {
	p, err := access.Project(r, userID, idOrKey, access.Read)
	if err != nil {
		return nil, err
	}
	if p.MyRole, err = r.Role(p.GetId(), userID); err != nil {
		return nil, fmt.Errorf("read the role of %s in %s: %w", userID, p.GetId(), err)
	}
	return p, nil
}

// ListProjects returns the caller's projects, by key.
func (s *Service) ListProjects(ctx context.Context, _ *pb.ListProjectsRequest) (*pb.ListProjectsResponse, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	resp := &pb.ListProjectsResponse{}
	err = s.store.View(ctx, func(r store.Reader) error {
		var err error
		resp.Projects, err = r.ProjectsOf(caller.User.GetId())
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}
