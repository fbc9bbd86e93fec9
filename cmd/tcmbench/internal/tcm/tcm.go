// Package tcm speaks TCManager's protocols from the client's side, as a
// peer.Protocol: sessions over native gRPC and over the websocket of browsers, and
// the runner's stream.
//
// It knows of gRPC, HTTP/2 and the websocket what the benchmark needs, so that a
// client costs little: one stream a connection, no compression, no padding. Events
// are found by walking the fields of the encoded frame; nothing is unmarshalled.
//
// The two numbers of a payload travel in a result: its sequence number as the
// duration, which is eight bytes at a fixed place, and the send time as the
// runner's own time stamp, which is what that is.
package tcm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Credentials are who connects, and with what.
type Credentials struct {
	Token  string // a JWT
	Origin string // of web pages, for example "http://127.0.0.1:8080"
}

// transport brings gRPC messages over a connection.
type transport interface {
	// open returns the first bytes, which open a stream of a method.
	open(host, path string, who Credentials) []byte
	// send appends a message.
	send(dst, message []byte) []byte
	// feed takes bytes and gives whole messages to a sink. It returns how many it
	// used, and bytes to answer with.
	feed(p []byte, to sink) (used int, reply []byte, err error)
}

// sink takes messages, which are only valid during the call.
type sink interface{ message(p []byte) error }

const prefix = 5 // of a gRPC message: a byte of flags and four of length

func appendMessage(dst, message []byte) []byte {
	dst = append(dst, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(message)))
	return append(dst, message...)
}

// messages cuts a stream of bytes into gRPC messages.
type messages struct{ rest []byte }

// keep is the most that stays allocated for a connection without a cut message.
const keep = 4 << 10

func (m *messages) feed(p []byte, to sink) error {
	joined := len(m.rest) > 0
	if joined {
		m.rest = append(m.rest, p...)
		p = m.rest
	}
	at := 0
	for len(p)-at >= prefix {
		size := int(binary.BigEndian.Uint32(p[at+1:]))
		if len(p)-at < prefix+size {
			break
		}
		body := p[at+prefix : at+prefix+size]
		var err error
		switch flags := p[at]; {
		case flags == 0:
			err = to.message(body)
		case flags&0x80 != 0:
			err = trailers(body)
		default:
			err = fmt.Errorf("a message with the flags %#x, which was not asked for", flags)
		}
		if err != nil {
			return err
		}
		at += prefix + size
	}
	switch left := p[at:]; {
	case joined:
		m.rest = m.rest[:copy(m.rest, left)]
	case len(left) > 0:
		m.rest = append(m.rest[:0], left...)
	}
	if len(m.rest) == 0 && cap(m.rest) > keep {
		m.rest = nil
	}
	return nil
}

// trailers reads a block of headers of grpc-web: the stream is over if it holds a
// status.
func trailers(block []byte) error {
	var status, text string
	for line := range strings.SplitSeq(string(block), "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(name) {
		case "grpc-status":
			status = strings.TrimSpace(value)
		case "grpc-message":
			text = strings.TrimSpace(value)
		}
	}
	if status == "" {
		return nil
	}
	return ended(status, text)
}

func ended(status, text string) error {
	return fmt.Errorf("the server ended the stream: gRPC status %s, %q", status, text)
}

var errMalformed = errors.New("malformed protobuf")

// field is one field of an encoded message.
type field struct {
	num   uint32
	value uint64 // of a varint, or fixed
	bytes []byte // of one with a length
}

// next cuts the first field off an encoded message.
func next(p []byte) (f field, rest []byte, err error) {
	tag, n := uvarint(p)
	if n == 0 {
		return f, nil, errMalformed
	}
	p = p[n:]
	f.num = uint32(tag >> 3)
	switch tag & 7 {
	case 0:
		if f.value, n = uvarint(p); n == 0 {
			return f, nil, errMalformed
		}
	case 1:
		if n = 8; len(p) < n {
			return f, nil, errMalformed
		}
		f.value = binary.LittleEndian.Uint64(p)
	case 2:
		size, k := uvarint(p)
		if k == 0 || size > uint64(len(p)-k) {
			return f, nil, errMalformed
		}
		n = k + int(size)
		f.bytes = p[k:n]
	case 5:
		if n = 4; len(p) < n {
			return f, nil, errMalformed
		}
		f.value = uint64(binary.LittleEndian.Uint32(p))
	default:
		return f, nil, errMalformed
	}
	return f, p[n:], nil
}

// uvarint is binary.Uvarint, quick where the number is below 128.
func uvarint(p []byte) (v uint64, n int) {
	if len(p) > 0 && p[0] < 0x80 {
		return uint64(p[0]), 1
	}
	if v, n = binary.Uvarint(p); n < 0 {
		n = 0
	}
	return v, n
}
