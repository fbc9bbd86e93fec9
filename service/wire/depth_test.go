package wire

import (
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/structpb"

	_ "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// nested encodes a list of lists, n deep.
func nested(n int) []byte {
	var value []byte
	for range n {
		list := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), value)
		value = protowire.AppendBytes(protowire.AppendTag(nil, 6, protowire.BytesType), list)
	}
	return value
}

func TestAMessageThatIsNestedTooDeepIsRefused(t *testing.T) {
	for depth, fits := range map[int]bool{10: true, 20: false, 5000: false} {
		m := &structpb.Value{}
		err := NewCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(nested(depth))}, m)
		if (err == nil) != fits {
			t.Errorf("%d lists within each other: %v", depth, err)
		}
		if err := proto.Unmarshal(nested(depth), m); err != nil && depth < 5000 {
			t.Errorf("the library refuses %d too, so that this test shows nothing: %v", depth, err)
		}
	}
}

// depthOf is how deep a message can be nested that follows its schema.
func depthOf(m protoreflect.MessageDescriptor) int {
	deepest := 0
	for i := range m.Fields().Len() {
		if inner := m.Fields().Get(i).Message(); inner != nil {
			deepest = max(deepest, depthOf(inner))
		}
	}
	return deepest + 1
}

func TestOurOwnMessagesAreNotNestedThatDeep(t *testing.T) {
	protoregistry.GlobalFiles.RangeFilesByPackage("tcmanager.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Messages().Len() {
			if m := f.Messages().Get(i); depthOf(m) > 8 {
				t.Errorf("%s is %d deep", m.FullName(), depthOf(m))
			}
		}
		return true
	})
}
