package fault_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/fault"
)

func TestProtoCarriesAllThatAClientCanActOn(t *testing.T) {
	err := fault.New(fault.Exhausted, "RATE_LIMITED", "slow down, %s", "please").
		With("limit", "10").With("unit", "s").After(1500 * time.Millisecond)
	want := &pb.Error{
		Code:       uint32(codes.ResourceExhausted),
		Reason:     "RATE_LIMITED",
		Message:    "slow down, please",
		Metadata:   map[string]string{"limit": "10", "unit": "s"},
		RetryAfter: durationpb.New(1500 * time.Millisecond),
	}
	if got := fault.Proto(fmt.Errorf("while sending: %w", err)); !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestProtoOfAPlainErrorTellsNothingOfIt(t *testing.T) {
	got := fault.Proto(errors.New("open /secret/tcm.db: disk is full"))
	want := &pb.Error{
		Code:    uint32(codes.Internal),
		Reason:  "INTERNAL",
		Message: "internal error; the server's log has the details",
	}
	if !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestFieldNamesTheFieldAndTheRule(t *testing.T) {
	got := fault.Proto(fault.Field("items[3].title", "must have at most %d characters", 200))
	want := &pb.Error{
		Code:       uint32(codes.InvalidArgument),
		Reason:     "INVALID_FIELD",
		Message:    "items[3].title: must have at most 200 characters",
		Violations: []*pb.FieldViolation{{Field: "items[3].title", Description: "must have at most 200 characters"}},
	}
	if !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// Faults are package variables: a copy that changed its origin would tell one
// client's facts to the next.
func TestWithAndAfterLeaveTheOriginalAsItWas(t *testing.T) {
	original := fault.New(fault.Conflict, "REVISION_MISMATCH", "read again").With("field", "title")
	_ = original.With("current_value", "another client's").After(time.Second)
	_ = original.With("field", "description")
	if len(original.Metadata) != 1 || original.Metadata["field"] != "title" || original.RetryAfter != 0 {
		t.Errorf("the original became %+v", original)
	}
}

func TestOfFindsAFaultThroughItsWrapping(t *testing.T) {
	original := fault.New(fault.Denied, "ACCESS_DENIED", "no")
	for name, tc := range map[string]struct {
		err  error
		want *fault.Error
	}{
		"itself":      {original, original},
		"wrapped":     {fmt.Errorf("join: %w", original), original},
		"among other": {errors.Join(errors.New("other"), original), original},
		"plain":       {errors.New("plain"), nil},
		"nil":         {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fault.Of(tc.err); got != tc.want {
				t.Errorf("Of gave %v, want %v", got, tc.want)
			}
			if got := fault.IsReason(tc.err, "ACCESS_DENIED"); got != (tc.want != nil) {
				t.Errorf("IsReason gave %v", got)
			}
			if fault.IsReason(tc.err, "ANOTHER") {
				t.Error("IsReason found a reason that isn't there")
			}
		})
	}
}

func TestKindsAreTheCodesOfGRPC(t *testing.T) {
	for kind, want := range map[fault.Kind]codes.Code{
		fault.Invalid:         codes.InvalidArgument,
		fault.Unauthenticated: codes.Unauthenticated,
		fault.Denied:          codes.PermissionDenied,
		fault.NotFound:        codes.NotFound,
		fault.Exists:          codes.AlreadyExists,
		fault.Precondition:    codes.FailedPrecondition,
		fault.Conflict:        codes.Aborted,
		fault.Exhausted:       codes.ResourceExhausted,
		fault.Unavailable:     codes.Unavailable,
		fault.Unimplemented:   codes.Unimplemented,
		fault.Internal:        codes.Internal,
	} {
		if codes.Code(kind) != want {
			t.Errorf("kind %d is not %s", kind, want)
		}
	}
}
