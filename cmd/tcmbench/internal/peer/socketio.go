package peer

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
)

// SocketIO speaks Engine.IO 4 and Socket.IO 5, as socket.io 3 and 4 do, over a websocket from the start.
//
// A payload travels as a string in base64. As bytes it would be an attachment, a second frame, and the server would make the frames
// anew for each reader; of a string it makes one for the room, which costs it less.
type SocketIO struct {
	ws      websocket
	scratch []byte // a packet before it is framed
	payload []byte // a decoded one
}

// NewSocketIO returns the protocol of one connection to a Socket.IO server.
func NewSocketIO() *SocketIO { return &SocketIO{} }

// The ids of packets that are acknowledged. Those of updates follow.
const (
	joinID        = 0
	firstUpdateID = 1
)

// Open implements Protocol.
func (s *SocketIO) Open(host string) []byte {
	return s.ws.upgrade(host, "/socket.io/?EIO=4&transport=websocket", "")
}

// Join implements Protocol.
func (s *SocketIO) Join(room string) []byte {
	s.scratch = append(s.scratch[:0], `420["join",`...)
	s.scratch = append(appendJSON(s.scratch, room), ']')
	return s.ws.append(nil, textFrame, s.scratch)
}

// Publish implements Protocol.
func (s *SocketIO) Publish(dst []byte, room string, payload []byte) []byte {
	s.scratch = append(s.scratch[:0], `42["publish",`...)
	s.scratch = append(appendJSON(s.scratch, room), `,"`...)
	s.scratch = base64.StdEncoding.AppendEncode(s.scratch, payload)
	s.scratch = append(s.scratch, `"]`...)
	return s.ws.append(dst, textFrame, s.scratch)
}

// Update implements Protocol. The sequence number is the packet's id too, so that the acknowledgement says it.
func (s *SocketIO) Update(dst []byte, seq uint64) []byte {
	s.scratch = strconv.AppendUint(append(s.scratch[:0], '4', '2'), seq+firstUpdateID, 10)
	s.scratch = strconv.AppendUint(append(s.scratch, `["update",`...), seq, 10)
	s.scratch = append(s.scratch, ']')
	return s.ws.append(dst, textFrame, s.scratch)
}

// appendJSON appends a JSON string of a name of a room. Those are ours, and of ASCII: Go and JSON quote what is printable in the same way.
func appendJSON(dst []byte, text string) []byte { return strconv.AppendQuoteToASCII(dst, text) }

// Feed implements Protocol.
func (s *SocketIO) Feed(p []byte, on Handler) (consumed int, reply []byte, err error) {
	return s.ws.feed(p, on, s)
}

func (s *SocketIO) connected() {} // the server speaks first

// message reads an Engine.IO packet: its kind, then, in one of kind 4, a Socket.IO packet.
func (s *SocketIO) message(p []byte, on Handler) error {
	if len(p) == 0 {
		return errors.New("an empty packet")
	}
	switch p[0] {
	case '0': // open: now the namespace
		s.ws.reply = s.ws.append(s.ws.reply, textFrame, []byte("40"))
		return nil
	case '2': // ping
		s.ws.reply = s.ws.append(s.ws.reply, textFrame, []byte("3"))
		return nil
	case '4':
		return s.packet(p[1:], on)
	case '6': // noop
		return nil
	}
	return unknown(p)
}

var (
	eventHead = []byte(`["event","`)
	eventTail = []byte(`"]`)
)

func (s *SocketIO) packet(p []byte, on Handler) error {
	if len(p) == 0 {
		return errors.New("an empty packet")
	}
	kind, p := p[0], p[1:]
	switch kind {
	case '0': // connected
		on.Ready()
		return nil
	case '2':
		text, ok := bytes.CutPrefix(p, eventHead)
		if !ok {
			return unknown(p)
		}
		if text, ok = bytes.CutSuffix(text, eventTail); !ok {
			return unknown(p)
		}
		var err error
		if s.payload, err = base64.StdEncoding.AppendDecode(s.payload[:0], text); err != nil {
			return fmt.Errorf("an event: %w", err)
		}
		on.Event(s.payload)
		return nil
	case '3':
		id, rest := uint64(0), p
		for ; len(rest) > 0 && '0' <= rest[0] && rest[0] <= '9'; rest = rest[1:] {
			id = id*10 + uint64(rest[0]-'0')
		}
		switch {
		case string(rest) != "[]" || len(rest) == len(p):
			return unknown(p)
		case id == joinID:
			on.Joined()
		default:
			on.Acked(id - firstUpdateID)
		}
		return nil
	}
	return unknown(p)
}

func unknown(p []byte) error { return fmt.Errorf("a packet that nobody asked for: %.80q", p) }
