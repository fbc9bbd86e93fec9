// Package wire sends messages that are encoded already.
//
// An event is encoded once and sent to thousands of streams. A gRPC stream
// encodes whatever SendMsg is given; the Codec here lets a Frame pass as the
// bytes it is, which takes 0.1 µs instead of the 1.0 to 1.6 µs of a marshal. A
// Frame is also ready for a websocket, so that there is nothing left to do for
// each reader but the write. Everything else goes through the ordinary proto codec.
//
// # Concurrency
//
// A Frame may be sent on any number of streams at the same time, because nobody
// changes its bytes: gRPC reads them, possibly after SendMsg has returned.
package wire

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	protobuf "google.golang.org/protobuf/proto"
)

// Codec encodes as the codec "proto" does, and passes a Frame (a *Frame, a *Told)
// through. Give it to a server with grpc.ForceServerCodecV2; it isn't registered
// for the process, since clients have no use for it.
type Codec struct {
	proto encoding.CodecV2
}

// NewCodec returns the codec.
func NewCodec() Codec { return Codec{proto: encoding.GetCodecV2(proto.Name)} }

// Marshal returns the bytes of a Frame as they are, and encodes other messages.
func (c Codec) Marshal(v any) (mem.BufferSlice, error) {
	switch f := v.(type) {
	case Frame:
		return f.slices(), nil
	case *Frame:
		return f.slices(), nil
	case *Told:
		return f.slices(), nil
	}
	return c.proto.Marshal(v)
}

// maxDepth is how deep messages may be nested. Ours are at most 8 deep; the library's own
// limit of 10,000 is a stack of megabytes for a message of 20 KB.
const maxDepth = 32

// Decoder is what can be received in place of a message: it reads the encoded one
// itself, of which it must keep no byte.
type Decoder interface{ DecodeMessage(b []byte) error }

// Unmarshal decodes a message, as Decode does, or lets a Decoder do it.
func (c Codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch v.(type) {
	case Decoder, protobuf.Message:
		whole := data.MaterializeToBuffer(mem.DefaultBufferPool())
		defer whole.Free()
		return DecodeAny(whole.ReadOnlyData(), v)
	}
	return c.proto.Unmarshal(data, v)
}

// DecodeAny is Decode for a message, or a Decoder.
func DecodeAny(b []byte, v any) error {
	switch v := v.(type) {
	case Decoder:
		return v.DecodeMessage(b)
	case protobuf.Message:
		return Decode(b, v)
	}
	return fmt.Errorf("a %T is no message", v)
}

// Decode decodes a message, of which it keeps no byte. One that would take far
// more memory than its bytes is refused before.
func Decode(b []byte, m protobuf.Message) error {
	if len(b) > smallBytes {
		if err := checkParts(m.ProtoReflect().Descriptor(), b); err != nil {
			return err
		}
	}
	if err := (protobuf.UnmarshalOptions{RecursionLimit: maxDepth}).Unmarshal(b, m); err != nil {
		return fmt.Errorf("decode a %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}

// Name is "proto": peers can't tell the difference.
func (c Codec) Name() string { return proto.Name }
