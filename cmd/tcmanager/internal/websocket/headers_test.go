package websocket

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func TestHeadersBecomeMetadata(t *testing.T) {
	c, err := parseCall(textproto.MIMEHeader{
		"Authorization": {"Bearer x"}, "Content-Type": {"application/grpc-web+proto"}, "X-User-Agent": {"a", "b"},
		"Grpc-Timeout": {"250m"}, "Grpc-Encoding": {"gzip"}, "Connection": {"close"}, "Host": {"evil"}, "Key-Bin": {"AAE=", "AAE"},
	}, "host:1")
	if err != nil || !c.timed || c.timeout != 250*time.Millisecond || c.encoding != "gzip" {
		t.Fatal(c, err)
	}
	want := metadata.Pairs("authorization", "Bearer x", "content-type", "application/grpc-web+proto",
		"x-user-agent", "a", "x-user-agent", "b", ":authority", "host:1", "key-bin", "\x00\x01", "key-bin", "\x00\x01")
	if len(c.metadata) != len(want) {
		t.Error(c.metadata)
	}
	for name := range want {
		if strings.Join(c.metadata[name], ",") != strings.Join(want[name], ",") {
			t.Errorf("%s: %q", name, c.metadata[name])
		}
	}
	for _, bad := range []textproto.MIMEHeader{{"Grpc-Timeout": {"soon"}}, {"Grpc-Timeout": {"S"}}, {"Grpc-Timeout": {"123456789S"}}, {"X-Bin": {"?"}}} {
		if _, err := parseCall(bad, ""); status.Code(err) != codes.Internal {
			t.Error(bad, err)
		}
	}
}

func TestTimeouts(t *testing.T) {
	for v, want := range map[string]time.Duration{
		"1H": time.Hour, "2M": 2 * time.Minute, "3S": 3 * time.Second, "4m": 4 * time.Millisecond, "5u": 5 * time.Microsecond,
		"6n": 6, "99999999H": 1<<63 - 1,
	} {
		if got, err := parseTimeout(v); err != nil || got != want {
			t.Errorf("%s: %v %v", v, got, err)
		}
	}
}

func TestTrailersAreThoseOfGRPC(t *testing.T) {
	st, err := status.New(codes.NotFound, "no 50 % of\nthé room").WithDetails(&errdetails.ErrorInfo{Reason: "GONE"})
	if err != nil {
		t.Fatal(err)
	}
	block := string(trailerBlock(st, metadata.Pairs("Trace", "a\r\nb", "raw-bin", "\x00\x01", "grpc-status", "0", "connection", "close")))
	lines := strings.Split(strings.TrimSuffix(block, "\r\n"), "\r\n")
	if len(lines) != 5 || lines[0] != "grpc-status: 5" || lines[1] != "grpc-message: no 50 %25 of%0Ath%C3%A9 room" ||
		lines[3] != "raw-bin: AAE" || lines[4] != "trace: a  b" {
		t.Errorf("%q", lines)
	}
	encoded, ok := strings.CutPrefix(lines[2], "grpc-status-details-bin: ")
	if b, err := base64.RawStdEncoding.DecodeString(encoded); !ok || err != nil || !strings.Contains(string(b), "GONE") {
		t.Error(lines[2], err)
	}
	if got := string(trailerBlock(status.New(codes.OK, ""), nil)); got != "grpc-status: 0\r\n" {
		t.Errorf("%q", got)
	}
}

func TestOnlyWebsocketsOfTheSubprotocolAreAccepted(t *testing.T) {
	good := map[string]string{
		"Connection": "keep-alive, Upgrade", "Upgrade": "WebSocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Protocol": "other, grpc-websockets", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
		"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits",
	}
	request := func(method string, change ...string) *http.Request {
		r := httptest.NewRequestWithContext(context.Background(), method, "/", nil)
		for name, v := range good {
			r.Header.Set(name, v)
		}
		for i := 0; i < len(change); i += 2 {
			r.Header.Set(change[i], change[i+1])
		}
		return r
	}
	accepted, err := accept(request(http.MethodGet))
	if err != nil || accepted != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" { // the example of RFC 6455, 1.3
		t.Error(accepted, err)
	}
	if answer := string(switching(accepted)); strings.Contains(answer, "Extensions") {
		t.Error(answer)
	}
	http2 := request(http.MethodGet)
	http2.ProtoMajor = 2
	twice := request(http.MethodGet)
	twice.Header.Add("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	for name, r := range map[string]*http.Request{
		"POST": request(http.MethodPost), "HTTP/2": http2, "two keys": twice,
		"no upgrade":        request(http.MethodGet, "Connection", "keep-alive"),
		"another upgrade":   request(http.MethodGet, "Upgrade", "h2c"),
		"another version":   request(http.MethodGet, "Sec-WebSocket-Version", "8"),
		"no subprotocol":    request(http.MethodGet, "Sec-WebSocket-Protocol", "chat"),
		"a short key":       request(http.MethodGet, "Sec-WebSocket-Key", "dGhlIHNhbXBsZQ=="),
		"a key of no sense": request(http.MethodGet, "Sec-WebSocket-Key", "?"),
	} {
		if _, err := accept(r); err == nil {
			t.Error(name, "was accepted")
		}
	}
}
