// Package testcase is the test cases that people write. A case is edited field
// by field; each field has its own revision, so two people who edit different
// fields never collide, and of two who edit the same one the second is told.
package testcase

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/once"
	"github.com/tcmanager/tcmanager/service/page"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/text"
)

const (
	list     page.List = "test_cases"
	pageSize int       = 200 // by default, as testcase.proto says
	maxTitle int       = 200 // characters, as testcase.proto says
)

// Service is the TestCaseService.
type Service struct {
	pb.UnimplementedTestCaseServiceServer
	store store.Store
	now   func() time.Time
}

// New makes the service; it starts nothing. The clock is asked inside each
// transaction, so that times are in the order of the events.
func New(st store.Store, now func() time.Time) *Service { return &Service{store: st, now: now} }

// CreateTestCase makes a test case and tells the project.
func (s *Service) CreateTestCase(ctx context.Context, req *pb.CreateTestCaseRequest) (*pb.CreateTestCaseResponse, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	var resp *pb.CreateTestCaseResponse
	err = s.store.Update(ctx, func(tx store.Tx) error {
		at := s.now()
		p, err := access.Project(tx, caller.User.GetId(), req.GetProject(), access.WriteCases)
		if err != nil {
			return err
		}
		resp, err = once.Do(tx, caller.User.GetId(), req.GetRequestId(), at, req, func() (*pb.CreateTestCaseResponse, error) {
			tc, err := create(tx, caller.Ref(), p.GetId(), req, at)
			return &pb.CreateTestCaseResponse{TestCase: tc}, err
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func create(tx store.Tx, author *pb.UserRef, projectID string, req *pb.CreateTestCaseRequest, at time.Time) (*pb.TestCase, error) {
	tc, err := draft(req)
	if err != nil {
		return nil, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make an id: %w", err)
	}
	tc.Id, tc.ProjectId = id.String(), projectID
	tc.CreatedAt, tc.UpdatedAt, tc.UpdatedBy = timestamppb.New(at), timestamppb.New(at), author
	if err := tx.AddTestCase(tc); err != nil {
		return nil, fmt.Errorf("store a test case of %s: %w", projectID, err)
	}
	return tc, tellCreated(tx, author, tc, at)
}

// draft decides what a new test case holds: defaults for what is not given, and
// revision 1 of each field.
func draft(req *pb.CreateTestCaseRequest) (*pb.TestCase, error) {
	title, err := text.Line("title", req.GetTitle(), maxTitle)
	if err != nil {
		return nil, err
	}
	description, err := text.Block("description", req.GetDescription())
	if err != nil {
		return nil, err
	}
	tc := &pb.TestCase{
		Title:       title,
		Description: description,
		Priority:    req.GetPriority(),
		Status:      pb.TestCaseStatus_TEST_CASE_STATUS_DRAFT,
	}
	if tc.GetPriority() == pb.Priority_PRIORITY_UNSPECIFIED {
		tc.Priority = pb.Priority_PRIORITY_MEDIUM
	}
	for f := range fields {
		tc.Revisions = append(tc.Revisions, &pb.FieldRevision{Field: pb.TestCaseField(f + 1), Revision: 1})
	}
	return tc, nil
}

// GetTestCase returns one test case.
func (s *Service) GetTestCase(ctx context.Context, req *pb.GetTestCaseRequest) (*pb.GetTestCaseResponse, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	resp := &pb.GetTestCaseResponse{}
	err = s.store.View(ctx, func(r store.Reader) error {
		var err error
		resp.TestCase, err = access.TestCase(r, caller.User.GetId(), req.GetTestCaseId(), access.Read)
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// ListTestCases returns the test cases of a project, by number.
func (s *Service) ListTestCases(ctx context.Context, req *pb.ListTestCasesRequest) (*pb.ListTestCasesResponse, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	after, err := list.Number(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize(), pageSize)
	resp := &pb.ListTestCasesResponse{}
	err = s.store.View(ctx, func(r store.Reader) error {
		p, err := access.Project(r, caller.User.GetId(), req.GetProject(), access.Read)
		if err != nil {
			return err
		}
		cases, err := r.TestCases(p.GetId(), after, size+1)
		if err != nil {
			return fmt.Errorf("read the test cases of %s: %w", p.GetId(), err)
		}
		var last string
		resp.TestCases, last = page.Cut(cases, size, number)
		resp.NextPageToken = list.Token(last)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// number returns the number in a test case's key: "12" of "TC-12".
func number(tc *pb.TestCase) string { return strings.TrimPrefix(tc.GetKey(), "TC-") }
