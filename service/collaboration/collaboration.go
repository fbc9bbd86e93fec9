// Package collaboration is the discussion of test cases: comments, told to
// whoever looks at the case and to the project.
//
// Who is here and who is typing is not kept, and so not here: presence and the
// sessions know that.
package collaboration

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/once"
	"github.com/tcmanager/tcmanager/service/page"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/text"
)

const (
	list     page.List = "comments"
	pageSize int       = 100 // by default, as collaboration.proto says
)

// Service is the CollaborationService.
type Service struct {
	pb.UnimplementedCollaborationServiceServer
	store store.Store
	now   func() time.Time
}

// New makes the service; it starts nothing. The clock is asked inside each
// transaction, so that times are in the order of the events.
func New(st store.Store, now func() time.Time) *Service { return &Service{store: st, now: now} }

// AddComment adds a comment to a test case and tells the rooms of the case and
// of its project.
func (s *Service) AddComment(ctx context.Context, req *pb.AddCommentRequest) (*pb.AddCommentResponse, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	var resp *pb.AddCommentResponse
	err = s.store.Update(ctx, func(tx store.Tx) error {
		at := s.now()
		tc, err := access.TestCase(tx, caller.User.GetId(), req.GetTestCaseId(), access.Comment)
		if err != nil {
			return err
		}
		resp, err = once.Do(tx, caller.User.GetId(), req.GetRequestId(), at, req, func() (*pb.AddCommentResponse, error) {
			c, err := add(tx, caller.Ref(), tc, req.GetText(), at)
			return &pb.AddCommentResponse{Comment: c}, err
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func add(tx store.Tx, author *pb.UserRef, tc *pb.TestCase, said string, at time.Time) (*pb.Comment, error) {
	said, err := text.Remark("text", said)
	if err != nil {
		return nil, err
	}
	// A UUIDv7 made inside the transaction: comments sort by id as they were added.
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make an id: %w", err)
	}
	c := &pb.Comment{Id: id.String(), TestCaseId: tc.GetId(), Author: author, Text: said, CreatedAt: timestamppb.New(at)}
	if err := tx.AddComment(c); err != nil {
		return nil, fmt.Errorf("store a comment on %s: %w", tc.GetId(), err)
	}
	return c, tell(tx, tc, c, at)
}

func tell(tx store.Tx, tc *pb.TestCase, c *pb.Comment, at time.Time) error {
	update := &pb.CollaborationUpdate{
		Type:      pb.CollaborationType_COLLABORATION_TYPE_COMMENT_ADDED,
		EntityId:  tc.GetId(),
		User:      c.GetAuthor(),
		Data:      &pb.CollaborationUpdate_Comment{Comment: c},
		Timestamp: c.GetCreatedAt(),
	}
	d, err := event.NewDraft(event.TestCaseRoom(tc.GetId()), at, c.GetAuthor(),
		&pb.Event{Payload: &pb.Event_Collaboration{Collaboration: update}})
	if err != nil {
		return err
	}
	_, err = tx.Append(d, d.For(event.ProjectRoom(tc.GetProjectId())))
	return err
}

// ListComments returns the comments of a test case, oldest first.
func (s *Service) ListComments(ctx context.Context, req *pb.ListCommentsRequest) (*pb.ListCommentsResponse, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	after, err := list.UUID(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize(), pageSize)
	resp := &pb.ListCommentsResponse{}
	err = s.store.View(ctx, func(r store.Reader) error {
		tc, err := access.TestCase(r, caller.User.GetId(), req.GetTestCaseId(), access.Read)
		if err != nil {
			return err
		}
		comments, err := r.Comments(tc.GetId(), after, size+1)
		if err != nil {
			return fmt.Errorf("read the comments of %s: %w", tc.GetId(), err)
		}
		var last string
		resp.Comments, last = page.Cut(comments, size, (*pb.Comment).GetId)
		resp.NextPageToken = list.Token(last)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}
