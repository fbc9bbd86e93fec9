package gotest

import (
	"bytes"
	"strconv"
	"time"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// framing reports whether out is one of the lines by which the testing package
// tells test2json what test does ("=== RUN   TestX", "    --- PASS: TestX
// (0.00s)"). They repeat what the events say, and are nearly all of the output
// of a big suite, so they are dropped before sending. A line that frames some
// other test is output like any other.
func framing(out, test []byte) bool {
	line := bytes.TrimLeft(out, " ")
	if len(line) < 5 {
		return false
	}
	var name []byte
	switch string(line[:4]) {
	case "=== ":
		rest := line[4:]
		n := bytes.IndexByte(rest, ' ')
		if n <= 0 || !upper(rest[:n]) {
			return false
		}
		name = bytes.TrimLeft(rest[n:], " ")
	case "--- ":
		_, rest, ok := verdict(line[4:])
		if !ok {
			return false
		}
		name = rest
	default:
		return false
	}
	if !bytes.HasPrefix(name, test) {
		return len(bytes.TrimSpace(name)) == 0
	}
	rest := name[len(test):]
	return len(rest) == 0 || rest[0] == ' ' || rest[0] == '\n' || rest[0] == '\r'
}

// upper reports whether all of b is upper case letters.
func upper(b []byte) bool {
	for _, c := range b {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return true
}

// verdict splits "PASS: TestX (0.00s)" after the colon and the space.
func verdict(b []byte) (status tcmv1.Status, rest []byte, ok bool) {
	word, rest, ok := bytes.Cut(b, []byte(": "))
	if !ok {
		return 0, nil, false
	}
	switch string(word) {
	case "PASS", "BENCH":
		return tcmv1.Status_STATUS_PASSED, rest, true
	case "FAIL":
		return tcmv1.Status_STATUS_FAILED, rest, true
	case "SKIP":
		return tcmv1.Status_STATUS_SKIPPED, rest, true
	}
	return 0, nil, false
}

// printedEnd is a verdict found inside printed text.
type printedEnd struct {
	status  tcmv1.Status
	name    string
	elapsed time.Duration
}

// printedEnds finds the verdicts within out. `go test -json -v` writes them
// without the mark that tells framing from output, so one that follows text
// without a newline is not reported as an event (golang/go#81599).
func printedEnds(out []byte) []printedEnd {
	var found []printedEnd
	for {
		i := bytes.Index(out, []byte("--- "))
		if i < 0 {
			return found
		}
		out = out[i+4:]
		status, rest, ok := verdict(out)
		if !ok {
			continue
		}
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		open := bytes.LastIndex(line, []byte(" ("))
		if open <= 0 || !bytes.HasSuffix(line, []byte("s)")) {
			continue
		}
		seconds, err := strconv.ParseFloat(string(line[open+2:len(line)-2]), 64)
		if err != nil || seconds < 0 {
			continue
		}
		found = append(found, printedEnd{status, string(line[:open]), secondsToDuration(seconds)})
	}
}

// printedRun finds the name of a subtest of test whose "=== RUN" line follows
// other text in out, and so was not reported as an event.
func printedRun(out, test []byte) (name []byte, ok bool) {
	_, rest, ok := bytes.Cut(out, []byte("=== RUN   "))
	if !ok {
		return nil, false
	}
	name, _, _ = bytes.Cut(rest, []byte("\n"))
	return name, len(name) > len(test)+1 && bytes.HasPrefix(name, test) && name[len(test)] == '/'
}

// secondsToDuration converts what go prints; nonsense becomes 0.
func secondsToDuration(s float64) time.Duration {
	if !(s > 0 && s < 1e9) {
		return 0
	}
	return time.Duration(s * float64(time.Second))
}
