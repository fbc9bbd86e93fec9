package websocket

import (
	"encoding/binary"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// prefixLen is the length of gRPC's prefix of a message: a flag and the size.
const prefixLen = 5

// messages takes gRPC's messages out of what websocket messages hold, which may
// be cut anywhere.
type messages struct {
	limit    int    // bytes of one message
	encoding string // of the compressed ones, which the client named

	prefix [prefixLen]byte
	have   uint8  // of prefix
	need   int    // bytes of the current message
	buf    []byte // of it, when it comes in pieces
}

// next takes bytes up to the end of a message, and returns how many it took and
// the message, once it is whole. It lies in p if all of it does, and is to be
// used before the next call.
func (m *messages) next(p []byte) (n int, message []byte, whole bool, err error) {
	if m.have < prefixLen {
		n = copy(m.prefix[m.have:], p)
		if m.have += uint8(n); m.have < prefixLen {
			return n, nil, false, nil
		}
		if err := m.begin(); err != nil {
			return n, nil, false, err
		}
	}
	took := min(m.need-len(m.buf), len(p)-n)
	piece := p[n : n+took]
	n += took
	if len(m.buf) == 0 && took == m.need {
		m.have = 0
		return n, piece, true, nil
	}
	m.grow(took)
	m.buf = append(m.buf, piece...)
	if len(m.buf) < m.need {
		return n, nil, false, nil
	}
	message, m.buf, m.have = m.buf, nil, 0
	return n, message, true, nil
}

// grow makes room by what has arrived: a peer that only says how much it will
// send costs nothing.
func (m *messages) grow(n int) {
	if have := len(m.buf); cap(m.buf)-have < n {
		m.buf = append(make([]byte, 0, min(m.need, max(2*cap(m.buf), have+n))), m.buf...)
	}
}

// begin reads the prefix. The statuses are those of grpc-go.
func (m *messages) begin() error {
	switch m.prefix[0] {
	case 0:
	case 1:
		if m.encoding == "" || m.encoding == "identity" {
			return status.Error(codes.Internal, "grpc: compressed flag set with identity or empty encoding")
		}
		return status.Errorf(codes.Unimplemented, "grpc: Decompressor is not installed for grpc-encoding %q", m.encoding)
	default:
		return status.Errorf(codes.Internal, "grpc: received unexpected payload format %d", m.prefix[0])
	}
	size := binary.BigEndian.Uint32(m.prefix[1:])
	if uint64(size) > uint64(m.limit) {
		return status.Errorf(codes.ResourceExhausted, "grpc: received message larger than max (%d vs. %d)", size, m.limit)
	}
	m.need = int(size)
	return nil
}

// end is called when the client has finished, and returns what comes then.
func (m *messages) end() error {
	if m.have > 0 {
		return status.Error(codes.Internal, io.ErrUnexpectedEOF.Error())
	}
	return io.EOF
}
