// Package batch decodes what runners send, as fast as they do: a batch of items
// becomes a handful of pieces of memory, where the general decoder makes a dozen an
// item.
//
// It takes what is in nearly every item, a test that began or ended and a piece of
// output, and leaves the rest to the codec that it stands before: other requests,
// failures, links to test cases, fields of a later schema, and everything that is
// wrong. What it makes is what the general decoder would have made, which a fuzz
// test holds against it.
//
// The texts of a batch's items are parts of one string. Whoever keeps one of them
// keeps all, so it should be cloned.
package batch

import (
	"strings"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

const (
	// maxItems is how many items are decoded here; the rules allow no more. It bounds
	// the memory that a batch takes: an empty item is two bytes on the wire.
	maxItems = 5000
	// maxUnusual is how many bytes of unusual items are decoded one by one. Above it
	// the inner codec has the batch as a whole, which it knows how to bound.
	maxUnusual = 64 << 10
)

// codec decodes batches itself.
type codec struct{ encoding.CodecV2 }

// NewCodec returns a codec that decodes batches faster than inner does, and leaves
// everything else to it.
func NewCodec(inner encoding.CodecV2) encoding.CodecV2 { return codec{inner} }

// Unmarshal decodes a message.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if req, ok := v.(*pb.PublishResultsRequest); ok {
		var whole strings.Builder
		whole.Grow(data.Len())
		for _, part := range data {
			whole.Write(part.ReadOnlyData())
		}
		d := decoder{inner: c.CodecV2}
		if batch := d.request(whole.String()); batch != nil {
			req.Reset()
			req.Frame = batch
			return nil
		}
	}
	return c.CodecV2.Unmarshal(data, v)
}
