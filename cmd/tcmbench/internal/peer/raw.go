package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Raw speaks to cmd/tcmbench/peers/raw: TCP and nothing else. A message is its length in four bytes, big-endian, a byte for its
// kind, and the rest. It is the limit: what any server has to spend on the kernel.
type Raw struct{}

// NewRaw returns the protocol of one connection to the raw server.
func NewRaw() *Raw { return &Raw{} }

// Kinds of messages of the raw server. Requests and what answers them are of the same kind.
const (
	RawReady   = 'r' // from the server, first: nothing
	RawJoin    = 'j' // a room; answered with nothing
	RawPublish = 'p' // the length of a room in a byte, the room, a payload; sent to readers as the payload
	RawUpdate  = 'u' // a sequence number in eight bytes; answered with it
)

// RawHead is how many bytes come before a message's kind, and RawMax how long a message may be, its kind counted.
const (
	RawHead = 4
	RawMax  = 64 << 10
)

// Open implements Protocol: the server speaks first.
func (*Raw) Open(string) []byte { return nil }

// Join implements Protocol.
func (*Raw) Join(room string) []byte { return append(AppendRawHead(nil, RawJoin, len(room)), room...) }

// Publish implements Protocol.
func (*Raw) Publish(dst []byte, room string, payload []byte) []byte {
	dst = AppendRawHead(dst, RawPublish, 1+len(room)+len(payload))
	dst = append(append(dst, byte(len(room))), room...)
	return append(dst, payload...)
}

// Update implements Protocol.
func (*Raw) Update(dst []byte, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(AppendRawHead(dst, RawUpdate, 8), seq)
}

// AppendRawHead appends what comes before a body of so many bytes.
func AppendRawHead(dst []byte, kind byte, size int) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(1+size)), kind)
}

// CutRaw takes the first message off p. It returns n 0 while that isn't complete.
func CutRaw(p []byte) (kind byte, body []byte, n int, err error) {
	if len(p) < RawHead {
		return 0, nil, 0, nil
	}
	size := binary.BigEndian.Uint32(p)
	if size == 0 || size > RawMax {
		return 0, nil, 0, fmt.Errorf("a message of %d bytes", size)
	}
	if n = RawHead + int(size); len(p) < n {
		return 0, nil, 0, nil
	}
	return p[RawHead], p[RawHead+1 : n], n, nil
}

// Feed implements Protocol.
func (*Raw) Feed(p []byte, on Handler) (consumed int, reply []byte, err error) {
	for {
		kind, body, n, err := CutRaw(p[consumed:])
		if n == 0 || err != nil {
			return consumed, nil, err
		}
		consumed += n
		switch kind {
		case RawReady:
			on.Ready()
		case RawJoin:
			on.Joined()
		case RawPublish:
			on.Event(body)
		case RawUpdate:
			if len(body) != 8 {
				return consumed, nil, errors.New("an acknowledgement without a number")
			}
			on.Acked(binary.BigEndian.Uint64(body))
		default:
			return consumed, nil, fmt.Errorf("a message of the unknown kind %q", kind)
		}
	}
}
