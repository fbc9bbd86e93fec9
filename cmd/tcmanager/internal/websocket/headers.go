package websocket

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// MaxHeaderBlock bounds what is accepted before it is known who sends it, in
// bytes: twice the largest token.
const MaxHeaderBlock = 32 << 10

// ParseHeaderBlock reads the first message of a grpc-websockets client.
func ParseHeaderBlock(block []byte) (textproto.MIMEHeader, error) {
	r := textproto.NewReader(bufio.NewReader(bytes.NewReader(append(slices.Clip(block), "\r\n"...))))
	headers, err := r.ReadMIMEHeader()
	kind := headers.Get("Content-Type")
	if err != nil || !strings.HasPrefix(kind, "application/grpc-web") || strings.HasPrefix(kind, "application/grpc-web-text") {
		return nil, &FrameError{Code: closeProtocol,
			Text: "the first websocket message must hold headers with a binary grpc-web content type"}
	}
	return headers, nil
}

// call is what a header block says of the call.
type call struct {
	metadata metadata.MD
	encoding string // of compressed messages
	timeout  time.Duration
	timed    bool // there is a timeout
}

// hopHeaders are of HTTP, not of the call.
var hopHeaders = map[string]bool{
	"connection": true, "host": true, "keep-alive": true, "proxy-connection": true, "te": true, "trailer": true,
	"transfer-encoding": true, "upgrade": true,
}

// parseCall returns what headers say, or a status for the client.
func parseCall(headers textproto.MIMEHeader, authority string) (call, error) {
	c := call{metadata: metadata.MD{}, encoding: headers.Get("Grpc-Encoding")}
	if v := headers.Get("Grpc-Timeout"); v != "" {
		var err error
		if c.timeout, err = parseTimeout(v); err != nil {
			return c, status.Errorf(codes.Internal, "malformed grpc-timeout: %v", err)
		}
		c.timed = true
	}
	if authority != "" {
		c.metadata[":authority"] = []string{authority}
	}
	for name, values := range headers {
		name = strings.ToLower(name)
		if hopHeaders[name] || strings.HasPrefix(name, "grpc-") || strings.HasPrefix(name, ":") {
			continue
		}
		if strings.HasSuffix(name, "-bin") {
			for i, v := range values {
				b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(v, "="))
				if err != nil {
					return c, status.Errorf(codes.Internal, "malformed binary metadata in header %q: %v", name, err)
				}
				values[i] = string(b)
			}
		}
		c.metadata[name] = values
	}
	return c, nil
}

// parseTimeout reads a timeout as gRPC writes it: up to eight digits and a unit.
func parseTimeout(v string) (time.Duration, error) {
	units := map[byte]time.Duration{
		'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
	}
	last := len(v) - 1
	unit, ok := units[v[last]]
	n, err := strconv.ParseUint(v[:last], 10, 64)
	if !ok || err != nil || last > 8 {
		return 0, fmt.Errorf("%q is not up to eight digits and a unit", v)
	}
	const longest = 1<<63 - 1
	if n > uint64(longest/unit) {
		return longest, nil
	}
	return time.Duration(n) * unit, nil
}

// headerFlag marks a frame of grpc-web that holds headers or trailers.
const headerFlag = 0x80

// headerFrame is the websocket message of a block of headers.
func headerFrame(block []byte) []byte {
	b := appendHeader(make([]byte, 0, 10+5+len(block)), Data, 5+len(block))
	b = binary.BigEndian.AppendUint32(append(b, headerFlag), uint32(len(block)))
	return append(b, block...)
}

// headerBlock is the answer's headers, which come first.
func headerBlock(md metadata.MD) []byte {
	return appendMetadata([]byte("content-type: application/grpc-web+proto\r\n"), md)
}

// trailerBlock is the answer's end.
func trailerBlock(st *status.Status, md metadata.MD) []byte {
	b := fmt.Appendf(nil, "grpc-status: %d\r\n", st.Code())
	if m := st.Message(); m != "" {
		b = append(append(append(b, "grpc-message: "...), percentEncoded(m)...), "\r\n"...)
	}
	if p := st.Proto(); len(p.GetDetails()) > 0 {
		if details, err := proto.Marshal(p); err == nil { // it fails for text that isn't UTF-8; the code still counts
			b = append(b, "grpc-status-details-bin: "...)
			b = append(base64.RawStdEncoding.AppendEncode(b, details), "\r\n"...)
		}
	}
	return appendMetadata(b, md)
}

// inLine keeps a value from being more than one line.
var inLine = strings.NewReplacer("\r", " ", "\n", " ")

func appendMetadata(b []byte, md metadata.MD) []byte {
	for _, name := range slices.Sorted(maps.Keys(md)) {
		lower := strings.ToLower(name)
		if hopHeaders[lower] || strings.HasPrefix(lower, "grpc-") || lower == "content-type" {
			continue
		}
		for _, v := range md[name] {
			if strings.HasSuffix(lower, "-bin") {
				v = base64.RawStdEncoding.EncodeToString([]byte(v))
			}
			b = fmt.Appendf(b, "%s: %s\r\n", inLine.Replace(lower), inLine.Replace(v))
		}
	}
	return b
}

// percentEncoded writes a message as gRPC does: what isn't printable ASCII, and
// the percent sign, by bytes in hexadecimal.
func percentEncoded(m string) []byte {
	var b []byte
	for i := range len(m) {
		if c := m[i]; c < ' ' || c > '~' || c == '%' {
			b = fmt.Appendf(b, "%%%02X", c)
		} else {
			b = append(b, c)
		}
	}
	return b
}
