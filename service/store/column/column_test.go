package column

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

func TestOfARunAllIsEncodedButWhatIsKeptElsewhere(t *testing.T) {
	run := &pb.Run{}
	m := run.ProtoReflect()
	for i := range m.Descriptor().Fields().Len() {
		f := m.Descriptor().Fields().Get(i)
		m.Set(f, some(m, f))
	}
	want := proto.CloneOf(run)
	for _, name := range []protoreflect.Name{"id", "project_id", "number", "key", "shards", "url", "results_trimmed"} {
		want.ProtoReflect().Clear(m.Descriptor().Fields().ByName(name))
	}
	data, err := EncodeRun(run)
	got := &pb.Run{}
	if err == nil {
		err = Decode(data, got)
	}
	if err != nil || !proto.Equal(got, want) {
		t.Errorf("encoded is %v, want %v (%v)", got, want, err)
	}
	if run.Id == "" || len(run.Shards) == 0 {
		t.Error("the run itself was changed")
	}
}

// some returns a value of a field that isn't its zero.
func some(m protoreflect.Message, f protoreflect.FieldDescriptor) protoreflect.Value {
	switch {
	case f.IsList():
		list := m.NewField(f)
		list.List().AppendMutable()
		return list
	case f.Message() != nil:
		return m.NewField(f)
	case f.Kind() == protoreflect.StringKind:
		return protoreflect.ValueOfString("text")
	case f.Kind() == protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(7)
	case f.Kind() == protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	default:
		return protoreflect.ValueOfEnum(1)
	}
}
