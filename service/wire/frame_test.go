package wire

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// TestAFrameIsAWebsocketMessageAtEveryLength reads frames around the lengths at
// which a websocket's header changes, as RFC 6455, 5.2, says.
func TestAFrameIsAWebsocketMessageAtEveryLength(t *testing.T) {
	for _, n := range []int{0, 1, 120, 121, 1000, 65530, 65531, 65536, 100_000} {
		message := bytes.Repeat([]byte{7}, n)
		f := Join(message[:n/2], message[n/2:])
		if f.Size() != n || !bytes.Equal(f.Bytes(), message) {
			t.Errorf("a message of %d bytes became one of %d", n, f.Size())
		}
		body := websocketBody(t, f.Websocket())
		if body[0] != 0 || binary.BigEndian.Uint32(body[1:]) != uint32(n) || !bytes.Equal(body[5:], message) {
			t.Errorf("a message of %d bytes is sent as % x...", n, body[:5])
		}
	}
}

func websocketBody(t *testing.T, b []byte) []byte {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(b))
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		t.Fatal(err)
	}
	if head[0] != 0x82 {
		t.Errorf("the first byte is %x", head[0])
	}
	n := uint64(head[1])
	var err error
	switch n {
	case 126:
		var long uint16
		err = binary.Read(r, binary.BigEndian, &long)
		if n = uint64(long); n < 126 {
			t.Errorf("%d takes two bytes more than it needs", n)
		}
	case 127:
		err = binary.Read(r, binary.BigEndian, &n)
		if n <= 0xffff {
			t.Errorf("%d takes eight bytes more than it needs", n)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r)
	if err != nil || uint64(len(body)) != n {
		t.Errorf("%d bytes behind a header that says %d; %v", len(body), n, err)
	}
	return body
}

func TestTheZeroFrameIsAMessageWithNothingInIt(t *testing.T) {
	var f Frame
	encoded, err := Encode(&pb.SubscribeResponse{})
	if err != nil {
		t.Fatal(err)
	}
	if f.Size() != 0 || f.Bytes() != nil || !bytes.Equal(f.Websocket(), encoded.Websocket()) || len(f.Websocket()) != 7 {
		t.Errorf("% x, not % x", f.Websocket(), encoded.Websocket())
	}
}

func TestEncodeLeavesNothingOut(t *testing.T) {
	want := &pb.SubscribeResponse{ReplyTo: 7, Frame: &pb.SubscribeResponse_Left{Left: &pb.Left{Room: "project:x"}}}
	f, err := Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	got := &pb.SubscribeResponse{}
	if err := proto.Unmarshal(f.Bytes(), got); err != nil || !proto.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}
