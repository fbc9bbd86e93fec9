package peer

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// journal writes down what a Handler was told.
type journal struct{ lines []string }

func (j *journal) Ready()           { j.lines = append(j.lines, "ready") }
func (j *journal) Joined()          { j.lines = append(j.lines, "joined") }
func (j *journal) Event(p []byte)   { j.lines = append(j.lines, fmt.Sprintf("event %q", p)) }
func (j *journal) Acked(seq uint64) { j.lines = append(j.lines, fmt.Sprint("acked ", seq)) }

// frame returns a frame as servers write it, unmasked.
func frame(first byte, p string) string {
	b := []byte{first}
	switch {
	case len(p) < 126:
		b = append(b, byte(len(p)))
	case len(p) <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(len(p)))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(len(p)))
	}
	return string(b) + p
}

// accepted returns the answer to an upgrade that was asked for.
func accepted(w *websocket) string {
	sum := sha1.Sum([]byte(w.key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nConnection: Upgrade\r\nsec-websocket-accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n"
}

// unmasked returns the payloads of frames that clients write.
func unmasked(t *testing.T, p []byte) (payloads []string) {
	t.Helper()
	for len(p) > 0 {
		if p[1]&0x80 == 0 {
			t.Fatal("a client's frame isn't masked")
		}
		head, size := 2, int(p[1]&0x7f)
		switch size {
		case 126:
			head, size = 4, int(binary.BigEndian.Uint16(p[2:]))
		case 127:
			head, size = 10, int(binary.BigEndian.Uint64(p[2:]))
		}
		mask, body := p[head:head+4], slices.Clone(p[head+4:head+4+size])
		if bytes.Equal(mask, make([]byte, 4)) {
			t.Fatal("the mask is 0")
		}
		for i := range body {
			body[i] ^= mask[i%4]
		}
		payloads, p = append(payloads, string(body)), p[head+4+size:]
	}
	return payloads
}

// message returns a protobuf message of fields: a number and a string or a number each.
func message(fields ...any) string {
	var b []byte
	for i := 0; i < len(fields); i += 2 {
		number := protowire.Number(fields[i].(int))
		switch value := fields[i+1].(type) {
		case string:
			b = protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), value)
		case int:
			b = protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), uint64(value))
		}
	}
	return string(b)
}

// joined returns messages with their lengths before them.
func joined(messages ...string) string {
	var b []byte
	for _, m := range messages {
		b = protowire.AppendString(b, m)
	}
	return string(b)
}

const (
	text, binaries = 0x80 | textFrame, 0x80 | binaryFrame
	long           = "a text that is longer than a short frame may be, which ends at 125 bytes, so that its length needs two bytes more than that of one which isn't"
)

// openSocketIO and openCentrifuge return protocols that have sent what opens a connection.
func openSocketIO() *SocketIO     { p := NewSocketIO(); p.Open("host"); return p }
func openCentrifuge() *Centrifuge { p := NewCentrifuge(); p.Open("host"); return p }

func event64(p string) string {
	return `42["event","` + base64.StdEncoding.EncodeToString([]byte(p)) + `"]`
}

func publicationOf(channel, p string) string {
	return message(replyPush, message(2, channel, pushPublication, message(publicationData, p, 5, message(1, "somebody"))))
}

// conversations are what servers say, and what comes of it.
func conversations() map[string]func() (p Protocol, said string, replies, heard []string) {
	var huge = strings.Repeat("x", 70_000)
	return map[string]func() (Protocol, string, []string, []string){
		"socketio": func() (Protocol, string, []string, []string) {
			p := openSocketIO()
			said := accepted(&p.ws) + frame(text, `0{"sid":"x","pingInterval":25000}`) + frame(text, `40{"sid":"y"}`) + frame(text, "430[]") +
				frame(text, event64("one")) + frame(text, "2") + frame(text, event64(long)) + frame(text, "431000001[]") +
				frame(textFrame, event64("in parts")[:5]) + frame(0x80|pingFrame, "are you there") + frame(0, event64("in parts")[5:9]) + frame(0x80, event64("in parts")[9:]) +
				frame(textFrame, event64("again")[:7]) + frame(0x80, event64("again")[7:]) +
				frame(text, event64(huge))
			return p, said, []string{"40", "3", "are you there"},
				[]string{"ready", "joined", `event "one"`, fmt.Sprintf("event %q", long), "acked 1000000", `event "in parts"`, `event "again"`, fmt.Sprintf("event %q", huge)}
		},
		"centrifuge": func() (Protocol, string, []string, []string) {
			p := openCentrifuge()
			said := accepted(&p.ws) + frame(binaries, joined(message(replyID, connectCommand, 5, message(1, "client"), 25, 7))) +
				frame(binaries, joined(message(replyID, subscribeCommand, 6, ""), publicationOf("a", "one"), "", publicationOf("a", long))) +
				frame(binaries, joined(message(replyID, publishCommand, 8, ""), message(replyID, firstUpdateCommand+77, 13, ""))) +
				frame(binaries, joined(publicationOf("a", huge)))
			return p, said, []string{joined(message(commandID, connectCommand, commandConnect, "")), "\x00"},
				[]string{"ready", "joined", `event "one"`, fmt.Sprintf("event %q", long), "acked 77", fmt.Sprintf("event %q", huge)}
		},
		"raw": func() (Protocol, string, []string, []string) {
			said := "\x00\x00\x00\x01r\x00\x00\x00\x01j\x00\x00\x00\x04pone\x00\x00\x00\x09u\x00\x00\x00\x00\x00\x00\x00\x07"
			return NewRaw(), said, nil, []string{"ready", "joined", `event "one"`, "acked 7"}
		},
	}
}

func TestItDoesNotMatterWhereTheInputIsSplit(t *testing.T) {
	for name, conversation := range conversations() {
		for _, size := range []int{1, 2, 3, 7, 1000, 1 << 20} {
			t.Run(fmt.Sprintf("%s by %d", name, size), func(t *testing.T) {
				p, said, replies, heard := conversation()
				var kept, back []byte
				j := &journal{}
				for chunk := range slices.Chunk([]byte(said), size) {
					kept = append(kept, chunk...)
					n, reply, err := p.Feed(kept, j)
					if err != nil {
						t.Fatal(err)
					}
					clear(kept[:n]) // what was consumed is the caller's again
					kept, back = kept[n:], append(back, reply...)
				}
				if len(kept) > 0 {
					t.Errorf("%d bytes were not consumed", len(kept))
				}
				if !slices.Equal(j.lines, heard) {
					t.Errorf("heard %.200q, not %.200q", j.lines, heard)
				}
				if len(replies) > 0 && !slices.Equal(unmasked(t, back), replies) {
					t.Errorf("replied %q, not %q", unmasked(t, back), replies)
				}
			})
		}
	}
}

func TestWhatIsWrongIsAnError(t *testing.T) {
	socketIO := func(said string) (Protocol, string) { p := openSocketIO(); return p, accepted(&p.ws) + said }
	centrifuge := func(said string) (Protocol, string) { p := openCentrifuge(); return p, accepted(&p.ws) + said }
	refused := func(said string) (Protocol, string) { return openSocketIO(), said }
	raw := func(said string) (Protocol, string) { return NewRaw(), said }
	for name, tt := range map[string]struct {
		with func(string) (Protocol, string)
		said string
		want string
	}{
		"a refused upgrade":                   {refused, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "403"},
		"an upgrade of somebody else's":       {refused, "HTTP/1.1 101 Switching Protocols\r\nSec-Websocket-Accept: other\r\n\r\n", "refused"},
		"an answer without an end":            {refused, strings.Repeat("x", maxHead+1), "too long"},
		"a closed connection":                 {socketIO, frame(0x80|closeFrame, "\x03\xe8bye"), "1000 bye"},
		"a closed connection without a code":  {socketIO, frame(0x80|closeFrame, ""), "closed"},
		"a masked frame":                      {socketIO, "\x81\x81abcdx", "masked"},
		"a compressed frame":                  {socketIO, "\xc1\x01x", "extension"},
		"a frame of no kind":                  {socketIO, frame(0x83, ""), "kind 3"},
		"a frame that is too large":           {socketIO, "\x81\x7f\x80\x00\x00\x00\x00\x00\x00\x00", "bytes"},
		"a message that is too large":         {socketIO, frame(textFrame, strings.Repeat("x", maxMessage)) + frame(0, "x"), "too long"},
		"a message within a message":          {socketIO, frame(textFrame, "4") + frame(text, "2"), "within"},
		"a continuation of nothing":           {socketIO, frame(0x80, "4"), "within"},
		"an empty packet":                     {socketIO, frame(text, ""), "empty"},
		"an empty packet in one":              {socketIO, frame(text, "4"), "empty"},
		"a refused namespace":                 {socketIO, frame(text, `44{"message":"no"}`), "nobody asked"},
		"another event":                       {socketIO, frame(text, `42["other","x"]`), "nobody asked"},
		"an event that doesn't end":           {socketIO, frame(text, `42["event","eA=="`), "nobody asked"},
		"an event that isn't base64":          {socketIO, frame(text, `42["event","???"]`), "base64"},
		"an acknowledgement without a number": {socketIO, frame(text, `43[]`), "nobody asked"},
		"a refused command":                   {centrifuge, frame(binaries, joined(message(replyID, 2, replyError, message(1, 103, 2, "permission denied")))), "permission denied"},
		"a reply that is cut":                 {centrifuge, frame(binaries, "\x05\x08"), "a reply"},
		"a field that is cut":                 {centrifuge, frame(binaries, "\x01\x08"), "a field"},
		"a publication of nothing":            {centrifuge, frame(binaries, joined(message(replyPush, message(pushPublication, "")))), "payload"},
		"a disconnect":                        {centrifuge, frame(binaries, joined(message(replyPush, message(pushDisconnect, message(1, 3000, 2, "shutdown"))))), "shutdown"},
		"a message of no bytes":               {raw, "\x00\x00\x00\x00", "0 bytes"},
		"a message of too many bytes":         {raw, "\x00\x01\x00\x01", "65537 bytes"},
		"a message of no kind":                {raw, "\x00\x00\x00\x01?", "kind"},
		"an acknowledgement of nothing":       {raw, "\x00\x00\x00\x02ux", "number"},
	} {
		t.Run(name, func(t *testing.T) {
			p, said := tt.with(tt.said)
			if _, _, err := p.Feed([]byte(said), &journal{}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %v; want one with %q", err, tt.want)
			}
		})
	}
}

func TestWhatIsSentIsWhatServersRead(t *testing.T) {
	s, c, r := openSocketIO(), openCentrifuge(), NewRaw()
	sent := s.Join(`a "room"`)
	sent = append(sent, s.Publish(nil, "room", []byte(long))...)
	sent = s.Update(sent, 8)
	want := []string{`420["join","a \"room\""]`, `42["publish","room","` + base64.StdEncoding.EncodeToString([]byte(long)) + `"]`, `429["update",8]`}
	if got := unmasked(t, sent); !slices.Equal(got, want) {
		t.Errorf("socketio sends %q, not %q", got, want)
	}
	sent = c.Join("room")
	sent = append(sent, c.Publish(nil, "room", []byte(long))...)
	sent = c.Update(sent, 8)
	want = []string{
		joined(message(commandID, subscribeCommand, commandSubscribe, message(1, "room"))),
		joined(message(commandID, publishCommand, commandPublish, message(1, "room", 2, long))),
		joined(message(commandID, firstUpdateCommand+8, commandRPC, message(1, "\x08\x00\x00\x00\x00\x00\x00\x00"))),
	}
	if got := unmasked(t, sent); !slices.Equal(got, want) {
		t.Errorf("centrifuge sends %q, not %q", got, want)
	}
	sent = append(r.Join("room"), r.Update(r.Publish(nil, "room", []byte("one")), 7)...)
	if want := "\x00\x00\x00\x05jroom\x00\x00\x00\x09p\x04roomone\x00\x00\x00\x09u\x00\x00\x00\x00\x00\x00\x00\x07"; string(sent) != want {
		t.Errorf("raw sends %q, not %q", sent, want)
	}
}

// counter counts, and keeps nothing.
type counter struct{ events, acks int }

func (*counter) Ready()         {}
func (*counter) Joined()        {}
func (c *counter) Event([]byte) { c.events++ }
func (c *counter) Acked(uint64) { c.acks++ }

// The load must be cheap: nothing is allocated for an event, an acknowledgement, or what is sent.
func TestNothingIsAllocatedForAnEvent(t *testing.T) {
	s, c := openSocketIO(), openCentrifuge()
	payload := []byte(strings.Repeat("x", 210))
	for name, tt := range map[string]struct {
		p    Protocol
		open string
		said string
	}{
		"socketio":   {s, accepted(&s.ws), frame(text, event64(string(payload))) + frame(text, "437[]")},
		"centrifuge": {c, accepted(&c.ws), frame(binaries, joined(publicationOf("room", string(payload)), message(replyID, 9, 13, "")))},
		"raw":        {NewRaw(), "", "\x00\x00\x00\x04pone\x00\x00\x00\x09u\x00\x00\x00\x00\x00\x00\x00\x07"},
	} {
		t.Run(name, func(t *testing.T) {
			on := &counter{}
			if _, _, err := tt.p.Feed([]byte(tt.open), on); err != nil {
				t.Fatal(err)
			}
			said, sent := []byte(tt.said), []byte(nil)
			const times = 100
			allocated := testing.AllocsPerRun(times, func() {
				if n, _, err := tt.p.Feed(said, on); n != len(said) || err != nil {
					t.Fatal(n, err)
				}
				sent = tt.p.Update(tt.p.Publish(sent[:0], "room", payload), 7)
			})
			if allocated > 0 || on.events != times+1 || on.acks != times+1 {
				t.Errorf("%v allocations for each of %d events and %d acknowledgements", allocated, on.events, on.acks)
			}
		})
	}
}

func FuzzFeed(f *testing.F) {
	for _, conversation := range conversations() {
		_, said, _, _ := conversation()
		_, after, ok := strings.Cut(said, "\r\n\r\n")
		if !ok {
			after = said
		}
		f.Add([]byte(after[:min(len(after), 1000)]))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		s, c := openSocketIO(), openCentrifuge()
		for _, w := range []*websocket{&s.ws, &c.ws} {
			if _, _, err := w.feed([]byte(accepted(w)), &counter{}, nobody{}); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range []Protocol{s, c, NewRaw(), openSocketIO()} {
			n, _, _ := p.Feed(said, &counter{})
			if n > len(said) {
				t.Errorf("%T consumed %d of %d bytes", p, n, len(said))
			}
		}
	})
}

// nobody is an upgraded that does nothing.
type nobody struct{}

func (nobody) connected()                    {}
func (nobody) message([]byte, Handler) error { return nil }
