package edge

import (
	"bytes"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/websocket"
)

// headerBlock follows the frames of a websocket up to the end of its first
// message, the header block of the grpc-websockets subprotocol, and says whether
// it is one. Whatever is irregular is refused: every browser sends one masked
// binary message.
type headerBlock struct {
	complete bool

	frames  websocket.Frames
	message []byte // so far
}

// feed takes the next bytes. Those after the header block are none of its business.
func (h *headerBlock) feed(p []byte) error {
	h.frames.Limit = websocket.MaxHeaderBlock
	p = bytes.Clone(p) // the library unmasks its own
	for len(p) > 0 && !h.complete {
		n, piece, err := h.frames.Next(p)
		if err != nil {
			return err
		}
		p = p[n:]
		if piece.Kind != websocket.Data {
			continue
		}
		h.message = append(h.message, piece.Payload...)
		h.complete = piece.Last
	}
	if !h.complete {
		return nil
	}
	_, err := websocket.ParseHeaderBlock(h.message)
	h.message = nil
	return err
}
