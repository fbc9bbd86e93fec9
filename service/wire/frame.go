package wire

import (
	"encoding/binary"
	"fmt"

	"google.golang.org/grpc/mem"
	protobuf "google.golang.org/protobuf/proto"
)

// Frame is an encoded message, for carriers of any kind. It is made once and
// shared by all who are sent it. The zero value is an encoded message too: one
// with no field set.
type Frame struct {
	framed []byte // room for the headers, of which the last bytes are used; then the message
	start  int    // where the websocket's header begins
}

// Sizes of what stands before a message.
const (
	prefixLen    = 5  // gRPC's: a flag and the length of the message
	maxHeaderLen = 10 // a websocket's from a server: two bytes, and up to eight of length
	headroom     = maxHeaderLen + prefixLen
)

// Join returns the frame whose message is the parts, one behind the other, for
// example entries of a repeated field. The parts are copied.
func Join(parts ...[]byte) Frame {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	b := NewBuilder(n)
	for _, p := range parts {
		b.Add(p)
	}
	return b.Frame()
}

// Builder makes a frame of parts that are joined, without a second copy.
type Builder struct{ b []byte }

// NewBuilder returns a builder for a message of about that size.
func NewBuilder(size int) Builder { return Builder{b: make([]byte, headroom, headroom+size)} }

// Add copies a part behind those that are there.
func (b *Builder) Add(part []byte) { b.b = append(b.b, part...) }

// Frame returns the frame. The builder must not be used any more.
func (b *Builder) Frame() Frame { return framed(b.b) }

// Encode returns the frame of a message.
func Encode(m protobuf.Message) (Frame, error) {
	b, err := protobuf.MarshalOptions{}.MarshalAppend(make([]byte, headroom, headroom+protobuf.Size(m)), m)
	if err != nil {
		return Frame{}, fmt.Errorf("encode a %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return framed(b), nil
}

// framed writes the headers into the room before a message.
func framed(b []byte) Frame {
	n := len(b) - headroom
	binary.BigEndian.PutUint32(b[headroom-4:], uint32(n)) // the flag before it is 0: not compressed
	const binaryMessage = 0x82                            // and the last of its fragments
	start := maxHeaderLen
	switch n += prefixLen; {
	case n < 126:
		start -= 2
		b[start+1] = byte(n)
	case n <= 0xffff:
		start -= 4
		b[start+1] = 126
		binary.BigEndian.PutUint16(b[start+2:], uint16(n))
	default:
		start -= 10
		b[start+1] = 127
		binary.BigEndian.PutUint64(b[start+2:], uint64(n))
	}
	b[start] = binaryMessage
	return Frame{framed: b, start: start}
}

// empty is what the zero Frame stands for.
var empty = Join()

// Bytes returns the encoded message, which must not be changed.
func (f Frame) Bytes() []byte {
	if f.framed == nil {
		return nil
	}
	return f.framed[headroom:]
}

// Websocket returns the message as one websocket message of a server: RFC 6455's
// header, gRPC's prefix, the message. It must not be changed.
func (f Frame) Websocket() []byte {
	if f.framed == nil {
		return empty.Websocket()
	}
	return f.framed[f.start:]
}

// Size is the number of bytes the message takes.
func (f Frame) Size() int { return len(f.Bytes()) }

// slices gives gRPC the bytes without a reference count: several streams send
// them at once, and the garbage collector alone knows when the last is done.
func (f Frame) slices() mem.BufferSlice {
	if f.Size() == 0 {
		return nil
	}
	return mem.BufferSlice{mem.SliceBuffer(f.Bytes())}
}
