package main

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/collaboration"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/notification"
	"github.com/tcmanager/tcmanager/service/run"
	"github.com/tcmanager/tcmanager/service/testcase"
)

// byTheSession are the commands that the session itself carries out.
var byTheSession = []protoreflect.Name{"update_activity", "update_presence"}

func TestEveryCommandOfTheSchemaReachesItsService(t *testing.T) {
	nouns := commands{
		runs: run.New(nil, run.Config{}), cases: testcase.New(nil, nil),
		comments: collaboration.New(nil, nil), notifications: notification.New(nil, nil),
	}
	each(t, func(f protoreflect.FieldDescriptor, c *pb.Command) {
		// Without a caller each service refuses before it touches anything.
		_, err := nouns.Do(t.Context(), c)
		if e := fault.Of(err); e == nil || e.Kind != fault.Unauthenticated {
			t.Errorf("%s got %v, want to reach a service that asks for a caller", f.Name(), err)
		}
	})
}

func TestTheRequestIDOfACommandTakesThePlaceOfTheMessages(t *testing.T) {
	nouns := commands{
		runs: run.New(nil, run.Config{}), cases: testcase.New(nil, nil),
		comments: collaboration.New(nil, nil), notifications: notification.New(nil, nil),
	}
	each(t, func(f protoreflect.FieldDescriptor, c *pb.Command) {
		c.RequestId = "outer"
		_, _ = nouns.Do(t.Context(), c) // refused; what matters is what it was asked
		m := c.ProtoReflect().Get(f).Message()
		id := m.Get(m.Descriptor().Fields().ByName("request_id")).String()
		if id != "outer" {
			t.Errorf("%s was asked with request id %q, want that of the command", f.Name(), id)
		}
	})
}

// each calls fn with an empty command of each kind but the session's own.
func each(t *testing.T, fn func(protoreflect.FieldDescriptor, *pb.Command)) {
	t.Helper()
	fields := (&pb.Command{}).ProtoReflect().Descriptor().Oneofs().ByName("command").Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if slices.Contains(byTheSession, f.Name()) {
			continue
		}
		c := &pb.Command{}
		c.ProtoReflect().Mutable(f)
		fn(f, c)
	}
}
