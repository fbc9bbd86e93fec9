package testcase

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/once"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/text"
)

// maxConflictValue bounds current_value in the error about a conflict, in bytes.
// Errors travel in trailers, for which many a proxy has room for 8 KB only; who
// needs the whole of a description reads the test case again.
const maxConflictValue = 1024

// EditTestCase sets one field if its revision is still the one the editor saw,
// and tells the rooms of the case and the project. Otherwise it fails with
// REVISION_MISMATCH, current_revision and current_value, which
// current_value_cut marks if it is not the whole.
//
// Setting a field to what it is already succeeds whatever the revision, and
// changes nothing.
func (s *Service) EditTestCase(ctx context.Context, req *pb.EditTestCaseRequest) (*pb.EditTestCaseResponse, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	var resp *pb.EditTestCaseResponse
	err = s.store.Update(ctx, func(tx store.Tx) error {
		at := s.now()
		tc, err := access.TestCase(tx, caller.User.GetId(), req.GetTestCaseId(), access.WriteCases)
		if err != nil {
			return err
		}
		resp, err = once.Do(tx, caller.User.GetId(), req.GetRequestId(), at, req, func() (*pb.EditTestCaseResponse, error) {
			after, err := commit(tx, caller.Ref(), tc, req, at)
			return &pb.EditTestCaseResponse{TestCase: after}, err
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func commit(tx store.Tx, editor *pb.UserRef, tc *pb.TestCase, req *pb.EditTestCaseRequest, at time.Time) (*pb.TestCase, error) {
	edited, err := edit(tc, req.GetField(), req.GetValue(), req.GetBaseRevision())
	if err != nil {
		return nil, err
	}
	if edited == nil {
		return tc, nil
	}
	edited.UpdatedAt, edited.UpdatedBy = timestamppb.New(at), editor
	if err := tx.PutTestCase(edited); err != nil {
		return nil, fmt.Errorf("store test case %s: %w", tc.GetId(), err)
	}
	return edited, tellEdited(tx, editor, edited, req.GetField(), at)
}

// field is how an editable field is read and written.
type field struct {
	get func(*pb.TestCase) string
	// set sets a new value, or says what is wrong with it.
	set func(*pb.TestCase, string) error
}

// fields holds the editable fields, by TestCaseField from 1.
var fields = [...]field{
	{
		get: (*pb.TestCase).GetTitle,
		set: func(tc *pb.TestCase, v string) (err error) {
			tc.Title, err = text.Line("value", v, maxTitle)
			return err
		},
	},
	{
		get: (*pb.TestCase).GetDescription,
		set: func(tc *pb.TestCase, v string) (err error) {
			tc.Description, err = text.Block("value", v)
			return err
		},
	},
	{
		get: func(tc *pb.TestCase) string { return tc.GetPriority().String() },
		set: func(tc *pb.TestCase, v string) error {
			n := pb.Priority_value[v]
			if n == 0 {
				return fault.Field("value", `must be the name of a Priority, for example "PRIORITY_HIGH"`)
			}
			tc.Priority = pb.Priority(n)
			return nil
		},
	},
	{
		get: func(tc *pb.TestCase) string { return tc.GetStatus().String() },
		set: func(tc *pb.TestCase, v string) error {
			n := pb.TestCaseStatus_value[v]
			if n == 0 {
				return fault.Field("value", `must be the name of a TestCaseStatus, for example "TEST_CASE_STATUS_APPROVED"`)
			}
			tc.Status = pb.TestCaseStatus(n)
			return nil
		},
	},
}

// edit decides what an edit makes of a test case. It returns nil if the field
// has the value already, and never changes tc.
func edit(tc *pb.TestCase, f pb.TestCaseField, value string, base uint64) (*pb.TestCase, error) {
	if f < 1 || int(f) > len(fields) {
		return nil, fault.Field("field", "must be one of the fields of a test case")
	}
	field := fields[f-1]
	edited := proto.CloneOf(tc)
	if err := field.set(edited, value); err != nil {
		return nil, err
	}
	if field.get(edited) == field.get(tc) {
		return nil, nil
	}
	rev := revision(edited, f)
	if base != rev.GetRevision() {
		return nil, mismatch(f, rev.GetRevision(), field.get(tc))
	}
	rev.Revision++
	return edited, nil
}

// revision returns the entry of a field, added with revision 1 if there is none:
// a field that was added to the schema later is as new as the case was then.
func revision(tc *pb.TestCase, f pb.TestCaseField) *pb.FieldRevision {
	for _, r := range tc.GetRevisions() {
		if r.GetField() == f {
			return r
		}
	}
	r := &pb.FieldRevision{Field: f, Revision: 1}
	tc.Revisions = append(tc.Revisions, r)
	return r
}

func mismatch(f pb.TestCaseField, revision uint64, value string) error {
	value, cut := text.Cut(value, maxConflictValue)
	e := fault.New(fault.Conflict, "REVISION_MISMATCH",
		"somebody else changed the field; look at its current value, then edit it again").
		With("field", f.String()).
		With("current_revision", strconv.FormatUint(revision, 10)).
		With("current_value", value)
	if cut {
		e = e.With("current_value_cut", "true")
	}
	return e
}
