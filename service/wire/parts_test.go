package wire

import (
	"bytes"
	"fmt"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// batchOf encodes a request whose batch holds n copies of an encoded item.
func batchOf(n int, item []byte) []byte {
	entry := protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), item)
	return protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), bytes.Repeat(entry, n))
}

func TestAMessageOfTooManyPartsIsRefusedBeforeItIsDecoded(t *testing.T) {
	for name, encoded := range map[string][]byte{
		"empty items": batchOf(2_000_000, nil),
		"empty tests": batchOf(1_000_000, []byte{0x0a, 0x00}),
		"empty keys":  batchOf(1, append([]byte{0x0a, 0x80, 0x89, 0x7a}, bytes.Repeat([]byte{0x1a, 0x00}, 1_000_000)...)),
	} {
		m := &pb.PublishResultsRequest{}
		for _, data := range []mem.BufferSlice{{mem.SliceBuffer(encoded)}, {mem.SliceBuffer(encoded[:77]), mem.SliceBuffer(encoded[77:])}} {
			if err := NewCodec().Unmarshal(data, m); err == nil || proto.Size(m) != 0 {
				t.Errorf("%s: %v, %d bytes decoded", name, err, proto.Size(m))
			}
		}
	}
}

func TestAFullBatchWithEverythingInItIsDecoded(t *testing.T) {
	test := &pb.TestExecutionUpdate{
		Test: &pb.TestRef{Suite: "s", Name: "n"}, Status: pb.Status_STATUS_FAILED, Error: &pb.Failure{Message: "m"}, User: &pb.UserRef{Id: "u"},
		Timestamp: timestamppb.Now(), StartedAt: timestamppb.Now(), Flags: []pb.ResultFlag{pb.ResultFlag_RESULT_FLAG_RACE},
	}
	for i := range 16 {
		test.CaseKeys = append(test.CaseKeys, fmt.Sprint("TC-", i))
	}
	batch := &pb.PublishBatch{FirstSequence: 1}
	for range 5000 {
		batch.Items = append(batch.Items, &pb.PublishItem{Item: &pb.PublishItem_Test{Test: test}})
	}
	want := &pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Batch{Batch: batch}}
	encoded, err := proto.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got := &pb.PublishResultsRequest{}
	if err := NewCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(encoded)}, got); err != nil || !proto.Equal(got, want) {
		t.Errorf("%v", err)
	}
}

func TestWhatCannotBeReadIsLeftToTheDecoder(t *testing.T) {
	broken := append(batchOf(50_000, []byte{0x0a, 0x00}), 0x0a, 0x7f)
	if err := NewCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(broken)}, &pb.PublishResultsRequest{}); err == nil {
		t.Error("decoded")
	}
	groups := bytes.Repeat([]byte{0x0b}, 1<<20)
	if err := NewCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(groups)}, &pb.PublishResultsRequest{}); err == nil {
		t.Error("decoded")
	}
}
