package rules

import (
	"math"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// Item is Message for an item that a runner published: the same answers, and for an
// item without anything unusual some hundred times faster. Runners send tens of
// thousands a second.
//
// Decided here is only that an item surely keeps its rules. The rules themselves are
// read from the schema, see bounds; an item that might break one is left to Message.
func Item(item *pb.PublishItem) error {
	if sound(item) {
		return nil
	}
	return Message(item)
}

// sound reports whether an item surely keeps every rule.
func sound(item *pb.PublishItem) bool {
	if !items.whole {
		return false
	}
	switch x := item.GetItem().(type) {
	case *pb.PublishItem_Test:
		return x.Test != nil && soundTest(x.Test)
	case *pb.PublishItem_Output:
		return x.Output != nil && soundOutput(x.Output)
	default:
		return false
	}
}

// soundTest passes over what is seldom there and has many rules: an error, a user,
// the keys of cases, a status that needs a comment.
func soundTest(u *pb.TestExecutionUpdate) bool {
	b := &items
	return u.Error == nil && u.User == nil && len(u.CaseKeys) == 0 &&
		u.Test != nil && soundRef(u.Test) &&
		u.Status > 0 && int(u.Status) <= b.status && u.Status != pb.Status_STATUS_BLOCKED &&
		int(u.Attempt) <= b.attempt && int(u.Progress) <= b.progress &&
		u.DurationMs >= 0 && !math.IsInf(u.DurationMs, 1) &&
		soundFlags(u.Flags) && len(u.RunId) <= b.runID && len(u.TestCaseId) <= b.testCaseID &&
		len(u.Shard) <= b.shard && len(u.RawStatus) <= b.rawStatus && len(u.Comment) <= b.comment
}

func soundRef(r *pb.TestRef) bool {
	b := &items
	return len(r.Suite) > 0 && len(r.Suite) <= b.suite && len(r.Name) > 0 && len(r.Name) <= b.name &&
		len(r.Source) <= b.source && len(r.Parent) <= b.parent && r.Kind >= 0 && int(r.Kind) <= b.kind
}

func soundFlags(flags []pb.ResultFlag) bool {
	for _, f := range flags {
		if f < 0 || int(f) > items.flag {
			return false
		}
	}
	return len(flags) <= items.flags
}

func soundOutput(o *pb.OutputChunk) bool {
	b := &items
	return len(o.Data) > 0 && len(o.Data) <= b.outputData && int(o.Attempt) <= b.outputAttempt &&
		len(o.Suite) <= b.outputSuite && len(o.Name) <= b.outputName
}
