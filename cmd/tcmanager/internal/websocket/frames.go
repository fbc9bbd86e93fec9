package websocket

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// Kind is what a frame is.
type Kind byte

// The kinds of RFC 6455, 5.2. Only None is not one of them: it stands for no
// frame at all.
const (
	continuation Kind = 0x0
	text         Kind = 0x1
	Data         Kind = 0x2
	Close        Kind = 0x8
	Ping         Kind = 0x9
	Pong         Kind = 0xA
	None         Kind = 0xF
)

// Codes of a close frame, RFC 6455, 7.4.1.
const (
	closeNormal      = 1000
	closeProtocol    = 1002
	closeUnsupported = 1003
	closeNoCode      = 1005 // stands for a frame without one and is never sent
	closeInvalid     = 1007
	closeTooBig      = 1009
)

// FrameError is why a client's frames can't be followed any further.
type FrameError struct {
	Code uint16 // that a close frame would give as the reason
	Text string
}

func (e *FrameError) Error() string { return e.Text }

func irregular(format string, args ...any) error {
	return &FrameError{Code: closeProtocol, Text: "irregular websocket frame: " + fmt.Sprintf(format, args...)}
}

// ErrTooLong is the answer to a message over the limit. It is given once, at the
// header that says so; who goes on gets the message in pieces.
var ErrTooLong = &FrameError{Code: closeTooBig, Text: "a websocket message is over the limit"}

// maxControl is the largest payload of a control frame, RFC 6455, 5.5.
const maxControl = 125

// Frames follows the frames that a client sends, which may be cut anywhere. What
// is irregular is refused, but for lengths that could have been written shorter.
// The zero value is at the start of a connection and takes messages of no bytes.
type Frames struct {
	// Limit is how many bytes a message may have.
	Limit uint64

	head  [14]byte // the header of the current frame: at most 2 + 8 + 4 bytes
	have  uint8    // of head
	body  bool     // the header is complete, the payload isn't
	kind  Kind     // of the current frame
	final bool     // it is the last of its message
	open  bool     // a message has begun and isn't complete
	first bool     // and nothing of it was handed out
	at    uint8    // where in the mask the next byte of the payload is
	left  uint64   // of the payload
	size  uint64   // of the message, as far as headers have come

	control []byte // of a control frame that came in pieces
}

// Piece is a control frame, or a part of a message.
type Piece struct {
	Kind    Kind
	Payload []byte // unmasked
	First   bool   // it begins a message
	Last    bool   // it ends one
}

// Next takes the next bytes that came, up to the end of a piece, and returns how
// many it took; the piece's kind is None if there is none in them. It unmasks in
// place: the payload of a message lies in p.
func (f *Frames) Next(p []byte) (n int, piece Piece, err error) {
	piece.Kind = None
	if !f.body {
		if n, err = f.header(p); err != nil || !f.body {
			return n, piece, err
		}
	}
	if n == len(p) && f.left > 0 {
		return n, piece, nil
	}
	took := int(min(f.left, uint64(len(p)-n)))
	payload := p[n : n+took]
	unmask(payload, f.mask(), f.at)
	n += took
	f.at = (f.at + uint8(took)) & 3
	f.left -= uint64(took)
	ended := f.left == 0
	if ended {
		f.body, f.have = false, 0
	}
	if f.kind >= Close {
		return n, f.controlPiece(payload, ended), nil
	}
	piece = Piece{Kind: Data, Payload: payload, First: f.first, Last: ended && f.final}
	f.first = false
	if piece.Last {
		f.open = false
	}
	return n, piece, nil
}

func (f *Frames) controlPiece(payload []byte, ended bool) Piece {
	if !ended || len(f.control) > 0 {
		f.control = append(f.control, payload...)
		payload = f.control
	}
	if !ended {
		return Piece{Kind: None}
	}
	f.control = nil
	return Piece{Kind: f.kind, Payload: payload}
}

// header takes bytes of a frame's header.
func (f *Frames) header(p []byte) (n int, err error) {
	for n < len(p) {
		f.head[f.have] = p[n]
		f.have++
		n++
		if f.have < 2 {
			continue
		}
		// Before the rest of the header, which an unmasked frame has less of.
		if f.have == 2 && (f.head[0]&0x70 != 0 || f.head[1]&0x80 == 0) {
			return n, irregular("it is not masked, or has reserved bits")
		}
		if f.have == f.headLen() {
			f.body = true
			return n, f.begin()
		}
	}
	return n, nil
}

// headLen is how long the header of the current frame is, of which two bytes are there.
func (f *Frames) headLen() uint8 {
	switch f.head[1] & 0x7f {
	case 126:
		return 2 + 2 + 4
	case 127:
		return 2 + 8 + 4
	}
	return 2 + 4
}

func (f *Frames) mask() [4]byte { return [4]byte(f.head[f.headLen()-4:]) }

// begin reads the header of a frame, which is complete.
func (f *Frames) begin() error {
	f.final, f.kind, f.at = f.head[0]&0x80 != 0, Kind(f.head[0]&0x0f), 0
	switch f.headLen() {
	case 8:
		f.left = uint64(binary.BigEndian.Uint16(f.head[2:]))
	case 14:
		f.left = binary.BigEndian.Uint64(f.head[2:])
	default:
		f.left = uint64(f.head[1] & 0x7f)
	}
	if f.left > 1<<63-1 {
		return irregular("a length with the highest bit set")
	}
	switch f.kind {
	case Data, continuation:
		return f.beginData()
	case Close, Ping, Pong:
		if f.left > maxControl || !f.final {
			return irregular("a control frame that is too long or in fragments")
		}
		return nil
	case text:
		return &FrameError{Code: closeUnsupported, Text: "a text message, where only binary ones are understood"}
	default:
		return irregular("its kind is %d", f.kind)
	}
}

func (f *Frames) beginData() error {
	if f.open == (f.kind == Data) {
		return irregular("a fragment of no message, or a message within another")
	}
	if f.kind == Data {
		f.open, f.first, f.size = true, true, 0
	}
	before := f.size
	f.size += f.left
	if before <= f.Limit && (f.size > f.Limit || f.size < before) {
		return ErrTooLong
	}
	return nil
}

// unmask takes the mask off a piece of a payload that begins at some byte of it.
func unmask(p []byte, mask [4]byte, at uint8) {
	var key [8]byte
	for i := range key {
		key[i] = mask[(at+uint8(i))&3]
	}
	word := binary.LittleEndian.Uint64(key[:])
	for len(p) >= 8 {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^word)
		p = p[8:]
	}
	for i := range p {
		p[i] ^= key[i]
	}
}

// appendHeader writes the header of a server's frame.
func appendHeader(b []byte, kind Kind, size int) []byte {
	b = append(b, 0x80|byte(kind)) // final
	switch {
	case size < 126:
		return append(b, byte(size))
	case size <= 0xffff:
		return binary.BigEndian.AppendUint16(append(b, 126), uint16(size))
	default:
		return binary.BigEndian.AppendUint64(append(b, 127), uint64(size))
	}
}

func closeFrame(code uint16) []byte {
	if code == closeNoCode {
		return appendHeader(nil, Close, 0)
	}
	return binary.BigEndian.AppendUint16(appendHeader(nil, Close, 2), code)
}

// closeCode reads the payload of a close frame.
func closeCode(payload []byte) (uint16, error) {
	if len(payload) == 0 {
		return closeNoCode, nil
	}
	if len(payload) == 1 {
		return 0, irregular("half a close code")
	}
	code := binary.BigEndian.Uint16(payload)
	switch {
	case code >= 3000 && code < 5000, code >= 1000 && code <= 1003, code >= 1007 && code <= 1014:
	default:
		return 0, irregular("a close code of %d", code)
	}
	if !utf8.Valid(payload[2:]) {
		return 0, &FrameError{Code: closeInvalid, Text: "the reason of a close frame is not UTF-8"}
	}
	return code, nil
}
