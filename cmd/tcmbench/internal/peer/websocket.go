package peer

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6455 wants it
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/textproto"
	"slices"
)

// Opcodes of RFC 6455, section 5.2.
const (
	continuation = 0x0
	textFrame    = 0x1
	binaryFrame  = 0x2
	closeFrame   = 0x8
	pingFrame    = 0x9
	pongFrame    = 0xa
)

const (
	maxHead    = 16 << 10 // bytes of the answer to the upgrade
	maxMessage = 4 << 20  // bytes; the largest are a flush of joined events
)

// upgraded is what speaks over a websocket.
type upgraded interface {
	// connected says that the upgrade was answered.
	connected()
	// message is one whole message, only valid during the call.
	message(p []byte, on Handler) error
}

// websocket is the client's side of RFC 6455 for one connection.
type websocket struct {
	key    string // of the upgrade, until that is answered
	open   bool
	parts  []byte // of a message that came in several frames
	within bool   // such a message
	reply  []byte // what Feed sends back
	masks  uint64 // the state of the generator of masks
}

// upgrade returns the request that opens the connection. No subprotocol and no compression is asked for unless it is named.
func (w *websocket) upgrade(host, path, subprotocol string) []byte {
	var random [24]byte
	_, _ = rand.Read(random[:]) // it never fails
	w.key = base64.StdEncoding.EncodeToString(random[:16])
	w.masks = binary.LittleEndian.Uint64(random[16:]) | 1
	b := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n", path, host, w.key)
	if subprotocol != "" {
		b = fmt.Appendf(b, "Sec-WebSocket-Protocol: %s\r\n", subprotocol)
	}
	return append(b, "\r\n"...)
}

// feed consumes whole frames and hands messages over.
func (w *websocket) feed(p []byte, on Handler, to upgraded) (consumed int, reply []byte, err error) {
	w.reply = w.reply[:0]
	if !w.open {
		n, err := w.answered(p)
		if n == 0 || err != nil {
			return 0, nil, err
		}
		consumed, w.open = n, true
		to.connected()
	}
	for {
		n, err := w.frame(p[consumed:], on, to)
		if err != nil {
			return consumed, nil, err
		}
		if n == 0 {
			return consumed, w.reply, nil
		}
		consumed += n
	}
}

// answered reads the answer to the upgrade; it returns 0 while that isn't complete.
func (w *websocket) answered(p []byte) (int, error) {
	end := bytes.Index(p, []byte("\r\n\r\n"))
	if end < 0 {
		if len(p) > maxHead {
			return 0, errors.New("the answer to the upgrade is too long")
		}
		return 0, nil
	}
	end += len("\r\n\r\n")
	r := textproto.NewReader(bufio.NewReader(bytes.NewReader(p[:end])))
	status, err := r.ReadLine()
	if err != nil {
		return 0, err
	}
	header, err := r.ReadMIMEHeader()
	if err != nil {
		return 0, fmt.Errorf("the answer to the upgrade: %w", err)
	}
	sum := sha1.Sum([]byte(w.key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // RFC 6455 wants it
	if len(status) < 12 || status[9:12] != "101" || header.Get("Sec-Websocket-Accept") != base64.StdEncoding.EncodeToString(sum[:]) {
		return 0, fmt.Errorf("the upgrade was refused: %q", status)
	}
	return end, nil
}

// frame consumes one frame; it returns 0 while that isn't complete.
func (w *websocket) frame(p []byte, on Handler, to upgraded) (int, error) {
	if len(p) < 2 {
		return 0, nil
	}
	if p[0]&0x70 != 0 || p[1]&0x80 != 0 {
		return 0, errors.New("a frame that is masked or of an extension nobody asked for")
	}
	head, size := 2, uint64(p[1])
	switch size {
	case 126:
		if head = 4; len(p) >= head {
			size = uint64(binary.BigEndian.Uint16(p[2:]))
		}
	case 127:
		if head = 10; len(p) >= head {
			size = binary.BigEndian.Uint64(p[2:])
		}
	}
	if len(p) < head {
		return 0, nil
	}
	if size > maxMessage {
		return 0, fmt.Errorf("a frame of %d bytes", size)
	}
	end := head + int(size)
	if len(p) < end {
		return 0, nil
	}
	return end, w.data(p[0]&0xf, p[0]&0x80 != 0, p[head:end], on, to)
}

// data is the payload of a frame.
func (w *websocket) data(opcode byte, last bool, p []byte, on Handler, to upgraded) error {
	switch opcode {
	case pingFrame:
		w.reply = w.append(w.reply, pongFrame, p)
		return nil
	case pongFrame:
		return nil
	case closeFrame:
		if len(p) < 2 {
			return errors.New("the server closed the connection")
		}
		return fmt.Errorf("the server closed the connection: %d %s", binary.BigEndian.Uint16(p), p[2:])
	case textFrame, binaryFrame, continuation:
	default:
		return fmt.Errorf("a frame of the unknown kind %d", opcode)
	}
	if (opcode == continuation) != w.within {
		return errors.New("a message within a message")
	}
	if last && !w.within {
		return to.message(p, on)
	}
	if len(w.parts)+len(p) > maxMessage {
		return errors.New("a message is too long")
	}
	w.parts, w.within = append(w.parts, p...), !last
	if !last {
		return nil
	}
	whole := w.parts
	w.parts = w.parts[:0]
	return to.message(whole, on)
}

// append appends a masked frame.
func (w *websocket) append(dst []byte, opcode byte, p []byte) []byte {
	dst = slices.Grow(dst, len(p)+14)
	switch {
	case len(p) < 126:
		dst = append(dst, 0x80|opcode, 0x80|byte(len(p)))
	case len(p) <= 0xffff:
		dst = append(dst, 0x80|opcode, 0x80|126)
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(p)))
	default:
		dst = append(dst, 0x80|opcode, 0x80|127)
		dst = binary.BigEndian.AppendUint64(dst, uint64(len(p)))
	}
	mask := w.mask()
	dst = binary.LittleEndian.AppendUint32(dst, uint32(mask))
	from := len(dst)
	dst = append(dst, p...)
	masked := dst[from:]
	for ; len(masked) >= 8; masked = masked[8:] {
		binary.LittleEndian.PutUint64(masked, binary.LittleEndian.Uint64(masked)^mask)
	}
	for i := range masked {
		masked[i] ^= byte(mask >> (8 * i))
	}
	return dst
}

// mask returns a mask, twice: eight bytes are masked at a time. It is of a xorshift generator, seeded by connection: a mask needn't
// be a secret on the loopback, and must not be 0, since servers don't unmask what was masked with that.
func (w *websocket) mask() uint64 {
	for {
		w.masks ^= w.masks << 13
		w.masks ^= w.masks >> 7
		w.masks ^= w.masks << 17
		if half := w.masks >> 32; half != 0 {
			return half<<32 | half
		}
	}
}
