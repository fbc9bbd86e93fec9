package rules

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/fault"
)

func TestAGoodMessagePasses(t *testing.T) {
	if err := Message(&pb.SignInDevRequest{UserId: "demo-tester"}); err != nil {
		t.Error(err)
	}
}

func TestABrokenRuleNamesItsField(t *testing.T) {
	err := Message(&pb.PublishItem{Item: &pb.PublishItem_Test{Test: &pb.TestExecutionUpdate{
		Test: &pb.TestRef{Suite: "s", Name: "n", Source: strings.Repeat("x", 33)}, Status: pb.Status_STATUS_PASSED,
	}}})
	e := fault.Of(err)
	if e == nil || e.Kind != fault.Invalid || e.Reason != Reason || len(e.Violations) != 1 {
		t.Fatalf("%#v", err)
	}
	if v := e.Violations[0]; v.Field != "test.test.source" || v.Description == "" || !strings.HasPrefix(e.Message, v.Field+": ") {
		t.Errorf("%+v: %s", v, e.Message)
	}
}

func TestAMessageWithoutItsFrameIsTold(t *testing.T) {
	e := fault.Of(Message(&pb.SubscribeRequest{}))
	if e == nil || len(e.Violations) != 1 || e.Violations[0].Field != "frame" {
		t.Fatalf("%+v", e)
	}
}

func TestARuleOverSeveralFieldsSpeaksForItself(t *testing.T) {
	e := fault.Of(Message(&pb.TestExecutionUpdate{Test: &pb.TestRef{Suite: "s", Name: "n"}, Status: pb.Status_STATUS_BLOCKED}))
	if e == nil || !strings.Contains(e.Message, "a blocked test needs a comment") || strings.HasPrefix(e.Message, ":") {
		t.Fatalf("%+v", e)
	}
}

func TestManyViolationsAreCut(t *testing.T) {
	req := &pb.MarkNotificationsReadRequest{}
	for range 150 {
		req.Ids = append(req.Ids, "no uuid")
	}
	e := fault.Of(Message(req))
	if e == nil || len(e.Violations) != maxViolations || !strings.HasSuffix(e.Message, "and 130 more") {
		t.Fatalf("%+v", e)
	}
}

// A rule that doesn't compile is found here, and not by the first client that
// sends the message.
func TestEveryRuleCompiles(t *testing.T) {
	protoregistry.GlobalFiles.RangeFilesByPackage("tcmanager.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Messages().Len() {
			d := file.Messages().Get(i)
			m, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
			if err != nil {
				t.Fatal(err)
			}
			if err := Message(m.New().Interface()); err != nil && fault.Of(err) == nil {
				t.Errorf("%s: %v", d.FullName(), err)
			}
		}
		return true
	})
}
