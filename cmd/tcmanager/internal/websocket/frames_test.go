package websocket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// frame is a client's frame; bits are its first byte.
func frame(bits byte, payload []byte) []byte {
	return maskedFrame(bits, payload, [4]byte{0x12, 0x34, 0x56, 0x78})
}

func maskedFrame(bits byte, payload []byte, mask [4]byte) []byte {
	b := []byte{bits}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i%4])
	}
	return b
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// told writes down what Frames finds in pieces of a stream of bytes.
func told(limit uint64, pieces ...[]byte) (string, error) {
	f := Frames{Limit: limit}
	var b strings.Builder
	for _, p := range pieces {
		for p = bytes.Clone(p); len(p) > 0; {
			n, piece, err := f.Next(p)
			if err != nil {
				return b.String(), err
			}
			p = p[n:]
			switch piece.Kind {
			case None:
			case Data:
				if piece.First {
					b.WriteString("<")
				}
				b.Write(piece.Payload)
				if piece.Last {
					b.WriteString(">")
				}
			default:
				fmt.Fprintf(&b, "[%x %s]", byte(piece.Kind), piece.Payload)
			}
		}
	}
	return b.String(), nil
}

// cuts are ways to cut bytes into pieces: at each place, and everywhere.
func cuts(b []byte) [][][]byte {
	all := [][][]byte{{b}}
	for i := 1; i < len(b); i++ {
		all = append(all, [][]byte{b[:i], b[i:]})
	}
	var single [][]byte
	for i := range b {
		single = append(single, b[i:i+1])
	}
	return append(all, single)
}

func TestFramesAreUnderstoodWhereverTheyAreCut(t *testing.T) {
	medium := bytes.Repeat([]byte("m"), 300)
	for _, c := range []struct {
		in   []byte
		want string
	}{
		{frame(0x82, []byte("hello")), "<hello>"},
		{frame(0x82, nil), "<>"},
		{join(frame(0x02, []byte("he")), frame(0x00, []byte("ll")), frame(0x80, []byte("o"))), "<hello>"},
		{join(frame(0x02, nil), frame(0x00, nil), frame(0x80, nil)), "<>"},
		{join(frame(0x02, []byte("he")), frame(0x89, []byte("ping")), frame(0x80, []byte("llo"))), "<he[9 ping]llo>"},
		{join(frame(0x89, nil), frame(0x8a, []byte("pong")), frame(0x88, []byte{0x03, 0xe8})), "[9 ][a pong][8 \x03\xe8]"},
		{join(frame(0x82, []byte("one")), frame(0x82, []byte("two"))), "<one><two>"},
		{frame(0x82, medium), "<" + string(medium) + ">"},
		{append([]byte{0x82, 0x80 | 126, 0, 2, 0, 0, 0, 0}, "ok"...), "<ok>"}, // longer than it need be
		{append([]byte{0x82, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0}, "ok"...), "<ok>"},
	} {
		for _, pieces := range cuts(c.in) {
			if got, err := told(1000, pieces...); err != nil || got != c.want {
				t.Fatalf("%d pieces: %q %v, want %q", len(pieces), got, err, c.want)
			}
		}
	}
	large := bytes.Repeat([]byte("large"), 20_000)
	if got, err := told(1<<20, frame(0x82, large)); err != nil || got != "<"+string(large)+">" {
		t.Error(len(got), err)
	}
}

func TestIrregularFramesAreRefusedWhereverTheyAreCut(t *testing.T) {
	for name, c := range map[string]struct {
		in   []byte
		code uint16
	}{
		"unmasked":                     {[]byte{0x82, 0x01, 'x'}, closeProtocol},
		"reserved bit 1":               {frame(0xc2, []byte("x")), closeProtocol},
		"reserved bit 2":               {frame(0xa2, []byte("x")), closeProtocol},
		"reserved bit 3":               {frame(0x92, []byte("x")), closeProtocol},
		"text":                         {frame(0x81, []byte("x")), closeUnsupported},
		"kind 3":                       {frame(0x83, []byte("x")), closeProtocol},
		"kind b":                       {frame(0x8b, nil), closeProtocol},
		"a continuation of nothing":    {frame(0x80, []byte("x")), closeProtocol},
		"a continuation of a whole":    {join(frame(0x82, []byte("x")), frame(0x80, []byte("x"))), closeProtocol},
		"a message within another":     {join(frame(0x02, []byte("x")), frame(0x82, []byte("x"))), closeProtocol},
		"a ping in fragments":          {frame(0x09, []byte("x")), closeProtocol},
		"a long ping":                  {frame(0x89, make([]byte, 126)), closeProtocol},
		"a negative length":            {[]byte{0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0}, closeProtocol},
		"too long":                     {frame(0x82, make([]byte, 1001)), closeTooBig},
		"too long by the length alone": {[]byte{0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, closeTooBig},
		"too long in fragments":        {join(frame(0x02, make([]byte, 600)), frame(0x00, make([]byte, 600))), closeTooBig},
	} {
		for _, pieces := range cuts(c.in) {
			_, err := told(1000, pieces...)
			bad := (*FrameError)(nil)
			if !errors.As(err, &bad) || bad.Code != c.code {
				t.Fatalf("%s in %d pieces: %v", name, len(pieces), err)
			}
		}
	}
}

func TestAMessageOverTheLimitCanBeSkipped(t *testing.T) {
	f := Frames{Limit: 2}
	in := join(frame(0x02, []byte("long")), frame(0x89, []byte("p")), frame(0x80, []byte("er")), frame(0x82, []byte("ok")))
	n, _, err := f.Next(in)
	if !errors.Is(err, ErrTooLong) {
		t.Fatal(err)
	}
	var got string
	for in = in[n:]; len(in) > 0; in = in[n:] {
		var piece Piece
		if n, piece, err = f.Next(in); err != nil {
			t.Fatal(err)
		}
		got += string(piece.Payload)
	}
	if got != "longperok" {
		t.Error(got)
	}
}

func TestTheMaskIsTakenOffWhateverTheLength(t *testing.T) {
	mask := [4]byte{1, 2, 3, 4}
	for size := range 40 {
		for at := range uint8(4) {
			p := make([]byte, size)
			unmask(p, mask, at)
			for i, b := range p {
				if b != mask[(i+int(at))%4] {
					t.Fatalf("%d bytes from %d: %v", size, at, p)
				}
			}
		}
	}
}

func TestCloseFramesKeepTheRules(t *testing.T) {
	for _, c := range []struct {
		payload string
		code    uint16
		bad     bool
	}{
		{"", closeNoCode, false}, {"\x03\xe8", 1000, false}, {"\x03\xe8bye", 1000, false}, {"\x0f\xa8too slow", 4008, false},
		{"\x03", 0, true}, {"\x03\xed", 0, true}, {"\x03\xee", 0, true}, {"\x00\x00", 0, true}, {"\x13\x88", 0, true}, {"\x03\xe8\xff", 0, true},
	} {
		if code, err := closeCode([]byte(c.payload)); (err != nil) != c.bad || code != c.code {
			t.Errorf("%q: %d %v", c.payload, code, err)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(frame(0x82, []byte("hello")), uint8(1))
	f.Add(join(frame(0x02, []byte("he")), frame(0x89, []byte("p")), frame(0x80, []byte("llo"))), uint8(3))
	f.Add([]byte{0x82, 0xff, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 1, 2, 3, 4}, uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		var pieces [][]byte
		for rest := b; len(rest) > 0; {
			n := min(int(step)+1, len(rest))
			pieces = append(pieces, rest[:n])
			rest = rest[n:]
		}
		want, wantErr := told(1000, b)
		got, gotErr := told(1000, pieces...)
		if fmt.Sprint(wantErr) != fmt.Sprint(gotErr) {
			t.Errorf("%v at once, %v in pieces", wantErr, gotErr)
		}
		if wantErr == nil && got != want {
			t.Errorf("%q at once, %q in pieces", want, got)
		}
		if len(got) > 12*len(b)+12 {
			t.Errorf("%d bytes of %d", len(got), len(b))
		}
	})
}

// grpcFrame is a message in gRPC's framing.
func grpcFrame(message string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

func TestMessagesAreTakenOutWhereverTheyAreCut(t *testing.T) {
	want := []string{"one", "", strings.Repeat("x", 50), "", "", "last"}
	var in []byte
	for _, m := range want {
		in = append(in, grpcFrame(m)...)
	}
	for _, pieces := range cuts(in) {
		m := messages{limit: 100}
		var got []string
		for _, p := range pieces {
			for len(p) > 0 {
				n, message, whole, err := m.next(p)
				if err != nil {
					t.Fatal(err)
				}
				if p = p[n:]; whole {
					got = append(got, string(message))
				}
			}
		}
		if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Fatalf("%d pieces: %q", len(pieces), got)
		}
	}
}

func TestAMessageTakesMemoryAsItArrives(t *testing.T) {
	m := messages{limit: 1 << 30}
	if _, _, _, err := m.next([]byte{0, 0x3f, 0xff, 0xff, 0xff, 'x'}); err != nil || cap(m.buf) > 64 {
		t.Error(cap(m.buf), err)
	}
	for range 1000 {
		if _, _, _, err := m.next(make([]byte, 1+rand.IntN(500))); err != nil {
			t.Fatal(err)
		}
		if cap(m.buf) > 2*len(m.buf)+64 {
			t.Fatalf("%d bytes are held for %d", cap(m.buf), len(m.buf))
		}
	}
}
