package edge

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/textproto"
	"strings"
)

// maxHeaderBlock bounds what is accepted before it is known who sends it: twice
// the largest token.
const maxHeaderBlock = 32 << 10

// Opcodes of RFC 6455, 5.2.
const (
	opContinuation = 0x0
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

// headerBlock follows the frames of a websocket up to the end of its first
// message, the header block of the grpc-websockets subprotocol, and says whether
// it is one. Whatever is irregular is refused: every browser sends one masked
// binary message.
type headerBlock struct {
	complete bool

	frame   [14]byte // the header of the current frame: at most 2 + 8 + 4 bytes
	have    int      // of frame
	opcode  byte
	final   bool
	mask    [4]byte
	left    uint64 // of the payload
	at      int    // within the payload, for the mask
	message []byte // so far, unmasked
}

var errHeaderBlock = errors.New("the first websocket message is not a header block")

// feed takes the next bytes. Those after the header block are none of its business.
func (h *headerBlock) feed(p []byte) error {
	for len(p) > 0 && !h.complete {
		if h.left == 0 && !h.headerRead() {
			h.frame[h.have] = p[0]
			h.have++
			p = p[1:]
			// Checked before the rest of the header: the library takes an unmasked
			// frame's header for shorter and would decide first.
			if h.have == 2 && (h.frame[0]&0x70 != 0 || h.frame[1]&0x80 == 0) {
				return fmt.Errorf("%w: a frame that is unmasked or has reserved bits", errHeaderBlock)
			}
			if !h.headerRead() {
				continue
			}
			if err := h.begin(); err != nil {
				return err
			}
		}
		n := int(min(h.left, uint64(len(p))))
		h.payload(p[:n])
		p = p[n:]
		if h.left == 0 {
			if err := h.end(); err != nil {
				return err
			}
		}
	}
	return nil
}

// headerLen is how long the header of the current frame is, as far as is known.
func (h *headerBlock) headerLen() int {
	if h.have < 2 {
		return 2
	}
	switch h.frame[1] & 0x7f {
	case 126:
		return 2 + 2 + 4
	case 127:
		return 2 + 8 + 4
	}
	return 2 + 4
}

func (h *headerBlock) headerRead() bool { return h.have >= 2 && h.have == h.headerLen() }

// begin reads the header of a frame, which is complete.
func (h *headerBlock) begin() error {
	n := h.headerLen()
	h.final, h.opcode, h.at = h.frame[0]&0x80 != 0, h.frame[0]&0x0f, 0
	switch n {
	case 8:
		h.left = uint64(binary.BigEndian.Uint16(h.frame[2:]))
	case 14:
		h.left = binary.BigEndian.Uint64(h.frame[2:])
	default:
		h.left = uint64(h.frame[1] & 0x7f)
	}
	copy(h.mask[:], h.frame[n-4:n])
	first := h.message == nil
	switch h.opcode {
	case opBinary, opContinuation:
		if first != (h.opcode == opBinary) || h.left > uint64(maxHeaderBlock-len(h.message)) {
			return fmt.Errorf("%w: out of order, or longer than %d bytes", errHeaderBlock, maxHeaderBlock)
		}
		if first {
			h.message = []byte{}
		}
	case opClose, opPing, opPong:
		if h.left > 125 || !h.final {
			return fmt.Errorf("%w: a control frame that is too long", errHeaderBlock)
		}
	default:
		return fmt.Errorf("%w: a frame of kind %d", errHeaderBlock, h.opcode)
	}
	return nil
}

func (h *headerBlock) payload(p []byte) {
	h.left -= uint64(len(p))
	if h.opcode > opBinary {
		return
	}
	for _, b := range p {
		h.message = append(h.message, b^h.mask[h.at%4])
		h.at++
	}
}

// end is called at the end of each frame.
func (h *headerBlock) end() error {
	h.have = 0
	if h.opcode > opBinary || !h.final {
		return nil
	}
	h.complete = true
	r := textproto.NewReader(bufio.NewReader(bytes.NewReader(append(h.message, "\r\n"...))))
	headers, err := r.ReadMIMEHeader()
	h.message = nil
	kind := headers.Get("Content-Type")
	if err != nil || !strings.HasPrefix(kind, "application/grpc-web") || strings.HasPrefix(kind, "application/grpc-web-text") {
		return fmt.Errorf("%w: it must hold headers with a binary grpc-web content type", errHeaderBlock)
	}
	return nil
}
