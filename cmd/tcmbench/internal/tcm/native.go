package tcm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/net/http2/hpack"
)

// Frames of RFC 9113.
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameReset        = 0x3
	frameSettings     = 0x4
	framePing         = 0x6
	frameGoAway       = 0x7
	frameWindowUpdate = 0x8

	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4

	settingInitialWindow = 0x4

	frameHeader   = 9
	largestFrame  = 16384 // what both sides may send unasked
	defaultWindow = 65535
	largestWindow = 1<<31 - 1
	streamID      = 1

	// giveBack is after how much the server's window is filled up again: nothing is
	// to wait for it, and few frames are to be spent on it.
	giveBack = 1 << 29
)

// native is a stream of gRPC on a connection of its own.
type native struct {
	messages

	connWindow, streamWindow int64 // what may be sent
	initial                  int64 // the server's window for new streams
	waiting                  []byte
	taken                    int64 // of data, not given back yet
	headers                  *hpack.Decoder
	fields                   map[string]string // of the header block at hand
	reply                    []byte
}

func newNative() *native {
	n := &native{connWindow: defaultWindow, streamWindow: defaultWindow, initial: defaultWindow, fields: map[string]string{}}
	n.headers = hpack.NewDecoder(4096, func(f hpack.HeaderField) { n.fields[f.Name] = f.Value })
	return n
}

func appendFrame(dst []byte, size int, kind, flags byte, stream uint32) []byte {
	dst = append(dst, byte(size>>16), byte(size>>8), byte(size), kind, flags)
	return binary.BigEndian.AppendUint32(dst, stream)
}

func (n *native) open(host, path string, who Credentials) []byte {
	b := []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	b = appendFrame(b, 6, frameSettings, 0, 0)
	b = binary.BigEndian.AppendUint16(b, settingInitialWindow)
	b = binary.BigEndian.AppendUint32(b, largestWindow)
	b = appendWindow(b, 0, largestWindow-defaultWindow)
	block := []byte{0x83, 0x86} // :method POST, :scheme http
	for _, h := range [][2]string{
		{":path", path}, {":authority", host}, {"content-type", "application/grpc"}, {"te", "trailers"},
		{"user-agent", "tcmbench"}, {"authorization", "Bearer " + who.Token},
	} {
		block = append(block, 0) // a literal that is not indexed
		block = appendString(block, h[0])
		block = appendString(block, h[1])
	}
	b = appendFrame(b, len(block), frameHeaders, flagEndHeaders, streamID)
	return append(b, block...)
}

// appendString appends a string of HPACK, not Huffman-coded.
func appendString(dst []byte, s string) []byte {
	const most = 1<<7 - 1
	if len(s) < most {
		return append(append(dst, byte(len(s))), s...)
	}
	dst = append(dst, most)
	dst = binary.AppendUvarint(dst, uint64(len(s)-most))
	return append(dst, s...)
}

func appendWindow(dst []byte, stream, by uint32) []byte {
	dst = appendFrame(dst, 4, frameWindowUpdate, 0, stream)
	return binary.BigEndian.AppendUint32(dst, by)
}

func (n *native) send(dst, message []byte) []byte {
	n.waiting = appendMessage(n.waiting, message)
	return n.flush(dst)
}

// flush appends what waits as far as the server's windows let it.
func (n *native) flush(dst []byte) []byte {
	at := 0
	for at < len(n.waiting) {
		size := int(min(int64(len(n.waiting)-at), largestFrame, n.connWindow, n.streamWindow))
		if size <= 0 {
			break
		}
		dst = appendFrame(dst, size, frameData, 0, streamID)
		dst = append(dst, n.waiting[at:at+size]...)
		at += size
		n.connWindow -= int64(size)
		n.streamWindow -= int64(size)
	}
	if n.waiting = n.waiting[:copy(n.waiting, n.waiting[at:])]; len(n.waiting) == 0 && cap(n.waiting) > keep {
		n.waiting = nil
	}
	return dst
}

func (n *native) feed(p []byte, to sink) (used int, reply []byte, err error) {
	n.reply = n.reply[:0]
	for len(p)-used >= frameHeader {
		h := p[used:]
		size := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
		if len(h) < frameHeader+size {
			break
		}
		if err := n.frame(h[3], h[4], binary.BigEndian.Uint32(h[5:]), h[frameHeader:frameHeader+size], to); err != nil {
			return used, nil, err
		}
		used += frameHeader + size
	}
	return used, n.reply, nil
}

func (n *native) frame(kind, flags byte, stream uint32, body []byte, to sink) error {
	switch kind {
	case frameData:
		if n.taken += int64(len(body)); n.taken >= giveBack {
			n.reply = appendWindow(n.reply, 0, uint32(n.taken))
			n.reply = appendWindow(n.reply, streamID, uint32(n.taken))
			n.taken = 0
		}
		return n.messages.feed(body, to)
	case frameHeaders:
		return n.headerBlock(flags, body)
	case frameSettings:
		if flags&flagAck == 0 {
			n.settings(body)
		}
	case framePing:
		if flags&flagAck == 0 {
			n.reply = appendFrame(n.reply, len(body), framePing, flagAck, 0)
			n.reply = append(n.reply, body...)
		}
	case frameWindowUpdate:
		by := int64(binary.BigEndian.Uint32(body))
		if stream == 0 {
			n.connWindow += by
		} else {
			n.streamWindow += by
		}
		n.reply = n.flush(n.reply)
	case frameReset:
		return errors.New("the server reset the stream")
	case frameGoAway:
		return fmt.Errorf("the server ended the connection: %q", body)
	}
	return nil
}

func (n *native) settings(body []byte) {
	for ; len(body) >= 6; body = body[6:] {
		if binary.BigEndian.Uint16(body) == settingInitialWindow {
			now := int64(binary.BigEndian.Uint32(body[2:]))
			n.streamWindow += now - n.initial
			n.initial = now
		}
	}
	n.reply = appendFrame(n.reply, 0, frameSettings, flagAck, 0)
	n.reply = n.flush(n.reply)
}

// headerBlock reads the headers of the answer, or the trailers that end it.
func (n *native) headerBlock(flags byte, body []byte) error {
	clear(n.fields)
	if _, err := n.headers.Write(body); err != nil {
		return fmt.Errorf("read a header block: %w", err)
	}
	if status, over := n.fields["grpc-status"]; over || flags&flagEndStream != 0 {
		return ended(status, n.fields["grpc-message"])
	}
	if s := n.fields[":status"]; s != "200" {
		return fmt.Errorf("the server answered with HTTP status %s", s)
	}
	return nil
}
