package websocket

import (
	"crypto/sha1" //nolint:gosec // RFC 6455 wants it, and not for secrecy
	"encoding/base64"
	"net/http"
	"strings"
)

// Subprotocol is what the endpoint speaks over a websocket.
const Subprotocol = "grpc-websockets"

// RefusalError is why a request can't become a websocket of this endpoint.
type RefusalError struct {
	Status int // of HTTP
	Text   string
}

func (r *RefusalError) Error() string { return r.Text }

// accept checks a request by RFC 6455, 4.2.1, and returns the answer to its key.
func accept(r *http.Request) (string, error) {
	refuse := func(text string) (string, error) { return "", &RefusalError{http.StatusBadRequest, text} }
	switch h := r.Header; {
	case r.Method != http.MethodGet:
		return "", &RefusalError{http.StatusMethodNotAllowed, "a websocket begins with GET"}
	case r.ProtoMajor != 1 || r.ProtoMinor < 1:
		return refuse("websockets come over HTTP/1.1")
	case !hasToken(h["Connection"], "upgrade"), !hasToken(h["Upgrade"], "websocket"):
		return refuse("the headers Connection and Upgrade must ask for a websocket")
	case h.Get("Sec-WebSocket-Version") != "13":
		return "", &RefusalError{http.StatusUpgradeRequired, "only version 13 of the websocket protocol is understood"}
	case !hasToken(h.Values("Sec-WebSocket-Protocol"), Subprotocol):
		return refuse("the websocket's subprotocol must be " + Subprotocol)
	}
	keys := r.Header.Values("Sec-WebSocket-Key")
	if len(keys) != 1 {
		return refuse("there must be one Sec-WebSocket-Key")
	}
	if key, err := base64.StdEncoding.DecodeString(keys[0]); err != nil || len(key) != 16 {
		return refuse("Sec-WebSocket-Key must be 16 bytes in base64")
	}
	sum := sha1.Sum([]byte(keys[0] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // as above
	return base64.StdEncoding.EncodeToString(sum[:]), nil
}

func hasToken(values []string, token string) bool {
	for _, v := range values {
		for one := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(one), token) {
				return true
			}
		}
	}
	return false
}

// switching is the answer to an accepted request. No extension is agreed on, and
// so nothing is compressed.
func switching(accepted string) []byte {
	return []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: " + accepted + "\r\nSec-WebSocket-Protocol: " + Subprotocol + "\r\n\r\n")
}
