package tcmanager

import (
	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that is wrapped
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Field numbers of the messages that are put together by hand; a test compares
// them with the descriptors.
const (
	fieldRequestBatch       = 2 // PublishResultsRequest.batch
	fieldBatchFirstSequence = 1 // PublishBatch.first_sequence
	fieldBatchItems         = 2 // PublishBatch.items
)

// encodedBatch is a PublishResultsRequest with a batch, already encoded: items
// are encoded once, when they are published, and joined when they are sent.
type encodedBatch struct {
	header []byte
	items  []byte // entries of PublishBatch.items, tags included
}

// newEncodedBatch puts a frame around items, of which the first has number first.
func newEncodedBatch(first uint64, items []byte) *encodedBatch {
	inner := protowire.SizeTag(fieldBatchFirstSequence) + protowire.SizeVarint(first) + len(items)
	h := protowire.AppendTag(make([]byte, 0, 32), fieldRequestBatch, protowire.BytesType)
	h = protowire.AppendVarint(h, uint64(inner))
	h = protowire.AppendTag(h, fieldBatchFirstSequence, protowire.VarintType)
	h = protowire.AppendVarint(h, first)
	return &encodedBatch{header: h, items: items}
}

// codec is grpc's own for protobuf, and passes an encodedBatch through.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

// Marshal encodes v. The buffers of a batch aren't counted: they belong to the
// garbage collector, since a resend may need them again.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if b, ok := v.(*encodedBatch); ok {
		return mem.BufferSlice{mem.SliceBuffer(b.header), mem.SliceBuffer(b.items)}, nil
	}
	return c.CodecV2.Marshal(v)
}

// appendItem appends item to items as an entry of PublishBatch.items.
func appendItem(items []byte, item *tcmv1.PublishItem) ([]byte, error) {
	o := proto.MarshalOptions{}
	size := o.Size(item)
	items = protowire.AppendTag(items, fieldBatchItems, protowire.BytesType)
	items = protowire.AppendVarint(items, uint64(size))
	o.UseCachedSize = true
	return o.MarshalAppend(items, item)
}

// splitItems returns how many bytes and items of the beginning of items fit into
// limit bytes: at least one item.
func splitItems(items []byte, limit int) (size, count int) {
	for size < len(items) {
		n := protowire.ConsumeFieldValue(fieldBatchItems, protowire.BytesType, items[size+1:])
		if n < 0 || count > 0 && size+1+n > limit {
			break
		}
		size += 1 + n
		count++
	}
	return size, count
}
