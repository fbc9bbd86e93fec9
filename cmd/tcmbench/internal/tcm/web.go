package tcm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Opcodes of RFC 6455, 5.2.
const (
	opContinuation = 0x0
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA

	final  = 0x80
	masked = 0x80
)

// web is a stream of the subprotocol grpc-websockets: the first message is a block
// of headers, each one after it is a zero and a gRPC message. What the server sends
// is the stream of grpc-web, cut into messages anywhere.
type web struct {
	messages

	upgraded bool
	reply    []byte
	message  []byte // scratch
}

func (w *web) open(host, path string, who Credentials) []byte {
	b := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nOrigin: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGNtYmVuY2gtdGNtYmVuYw==\r\nSec-WebSocket-Protocol: grpc-websockets\r\n\r\n", path, host, who.Origin)
	return appendSocketFrame(b, opBinary, fmt.Appendf(nil,
		"content-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\nauthorization: Bearer %s\r\n", who.Token))
}

// appendSocketFrame appends a frame under a mask of zeros: a client has to mask,
// and the benchmark's cost is not what is measured.
func appendSocketFrame(dst []byte, op byte, payload []byte) []byte {
	dst = append(dst, final|op)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, masked|byte(n))
	case n < 1<<16:
		dst = append(dst, masked|126)
		dst = binary.BigEndian.AppendUint16(dst, uint16(n))
	default:
		dst = append(dst, masked|127)
		dst = binary.BigEndian.AppendUint64(dst, uint64(n))
	}
	dst = append(dst, 0, 0, 0, 0)
	return append(dst, payload...)
}

func (w *web) send(dst, message []byte) []byte {
	w.message = append(w.message[:0], 0)
	w.message = appendMessage(w.message, message)
	return appendSocketFrame(dst, opBinary, w.message)
}

func (w *web) feed(p []byte, to sink) (used int, reply []byte, err error) {
	w.reply = w.reply[:0]
	if !w.upgraded {
		end := bytes.Index(p, []byte("\r\n\r\n"))
		if end < 0 {
			return 0, nil, nil
		}
		if !bytes.HasPrefix(p, []byte("HTTP/1.1 101 ")) {
			return 0, nil, fmt.Errorf("the server refused the websocket: %q", p)
		}
		w.upgraded = true
		used = end + 4
	}
	for {
		op, payload, size := socketFrame(p[used:])
		if size == 0 {
			return used, w.reply, nil
		}
		if err := w.frame(op, payload, to); err != nil {
			return used, nil, err
		}
		used += size
	}
}

// socketFrame cuts off the first frame of a server; its size is 0 if it isn't
// complete.
func socketFrame(p []byte) (op byte, payload []byte, size int) {
	if len(p) < 2 {
		return 0, nil, 0
	}
	header, n := 2, uint64(p[1]&0x7f)
	switch {
	case n == 126 && len(p) >= 4:
		header, n = 4, uint64(binary.BigEndian.Uint16(p[2:]))
	case n == 127 && len(p) >= 10:
		header, n = 10, binary.BigEndian.Uint64(p[2:])
	case n >= 126:
		return 0, nil, 0
	}
	if n > uint64(len(p)-header) {
		return 0, nil, 0
	}
	size = header + int(n)
	return p[0] & 0x0f, p[header:size], size
}

func (w *web) frame(op byte, payload []byte, to sink) error {
	switch op {
	case opBinary, opContinuation:
		return w.messages.feed(payload, to)
	case opPing:
		w.reply = appendSocketFrame(w.reply, opPong, payload)
		return nil
	case opPong:
		return nil
	case opClose:
		if len(payload) >= 2 {
			return fmt.Errorf("the server closed the websocket: %d %q", binary.BigEndian.Uint16(payload), payload[2:])
		}
		return errors.New("the server closed the websocket")
	default:
		return fmt.Errorf("a websocket frame of kind %d", op)
	}
}
