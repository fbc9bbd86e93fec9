package gotest

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// Limits of a Failure; the message's is far below the schema's, for a list.
const (
	maxMessage = 1000
	maxDetails = 16 << 10
	maxFile    = 1000
)

// telling is a line of output that says why a test failed.
type telling struct {
	message string
	file    string
	line    uint32
	offset  int // of the line in the text
}

// explain finds in a failed test's output why it failed. Best is a crash, then
// testify's block, then the first "file.go:12: text" that sounds like a failed
// check, then the last such line: t.Log and t.Error look alike, and what comes
// before a failure is more often a log.
func explain(text []byte) *tcmv1.Failure {
	best := tell(text)
	f := &tcmv1.Failure{
		Message: clip(best.message, maxMessage),
		File:    clip(best.file, maxFile),
		Line:    best.line,
		Details: details(text, best.offset),
	}
	if f.Message == "" {
		f.Message = "failed without saying why"
	}
	return f
}

// tell picks the most telling line of text.
func tell(text []byte) telling {
	var first, last telling
	for off := 0; off < len(text); {
		line, next := lineAt(text, off)
		if isPanicLine(line) {
			return tellPanic(text, off)
		}
		if at, ok := located(line); ok {
			at.offset = off
			if at.message == "" {
				if block, ok := tellTestify(text, next, at); ok {
					return block
				}
			}
			if first.message == "" && soundsWrong(at.message) {
				first = at
			}
			if at.message != "" {
				last = at
			}
		}
		off = next
	}
	switch {
	case bytes.Contains(text, []byte("WARNING: DATA RACE")) && (first.message == "" || first.file == "testing.go"):
		return tellRace(text)
	case first.message != "":
		return first
	case last.message != "":
		return last
	}
	return tellPlain(text)
}

// lineAt returns the line at off without its newline, and where the next begins.
func lineAt(text []byte, off int) (line []byte, next int) {
	n := bytes.IndexByte(text[off:], '\n')
	if n < 0 {
		return text[off:], len(text)
	}
	return text[off : off+n], off + n + 1
}

// located splits "    file_test.go:12: text", also after text without a newline.
// Frames of traces ("file.go:12 +0x1") are not meant.
func located(line []byte) (telling, bool) {
	i := bytes.Index(line, []byte(".go:"))
	if i <= 0 {
		return telling{}, false
	}
	begin := bytes.LastIndexAny(line[:i], " \t") + 1
	file := line[begin : i+3]
	number, rest, ok := leadingNumber(line[i+4:])
	if !ok {
		return telling{}, false
	}
	if _, after, ok := leadingNumber(bytes.TrimPrefix(rest, []byte(":"))); ok && len(after) > 0 && after[0] == ':' {
		rest = after // a compiler's column
	}
	rest, ok = bytes.CutPrefix(rest, []byte(":"))
	if !ok {
		return telling{}, false
	}
	return telling{message: tidy(rest), file: valid(file), line: number}, true
}

// leadingNumber reads decimal digits.
func leadingNumber(b []byte) (n uint32, rest []byte, ok bool) {
	end := 0
	for end < len(b) && isDigit(b[end]) {
		end++
	}
	v, err := strconv.ParseUint(string(b[:end]), 10, 32)
	return uint32(v), b[end:], err == nil
}

// wrongWords are found in the texts of failed checks.
var wrongWords = []string{
	"got", "want", "expect", "error", "fail", "mismatch", "unexpected", "panic", "should", "must", "not equal", "!=", "differ", "diff", "race detected", "invalid", "wrong",
}

// soundsWrong reports whether a text reads like a failed check.
func soundsWrong(s string) bool {
	s = strings.ToLower(s)
	for _, w := range wrongWords {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}

// tellPanic takes a crash: its message, and the first line of the trace that
// isn't Go's own.
func tellPanic(text []byte, off int) telling {
	line, next := lineAt(text, off)
	message := tidy(line)
	for _, mark := range []string{" [recovered, repanicked]", " [recovered]"} {
		message = strings.TrimSuffix(message, mark)
	}
	t := telling{message: message, offset: off}
	t.file, t.line = firstFrame(text[next:])
	return t
}

// tellRace takes a report of a data race.
func tellRace(text []byte) telling {
	off := bytes.Index(text, []byte("WARNING: DATA RACE"))
	t := telling{message: "data race", offset: off}
	t.file, t.line = firstFrame(text[off:])
	return t
}

// firstFrame returns the first place of a trace outside the Go distribution; of
// a test file, if there is one.
func firstFrame(trace []byte) (file string, line uint32) {
	for off := 0; off < len(trace); {
		l, next := lineAt(trace, off)
		off = next
		place := bytes.TrimSpace(l)
		i := bytes.Index(place, []byte(".go:"))
		if i <= 0 || bytes.IndexByte(place[:i], ' ') >= 0 || goOwn(place) {
			continue
		}
		n, _, ok := leadingNumber(place[i+4:])
		if !ok {
			continue
		}
		if bytes.HasSuffix(place[:i], []byte("_test")) {
			return valid(place[:i+3]), n
		}
		if file == "" {
			file, line = valid(place[:i+3]), n
		}
	}
	return file, line
}

// goOwn reports whether a place of a trace lies in Go's testing or runtime.
func goOwn(place []byte) bool {
	for _, dir := range []string{"/src/testing/", "/src/runtime/", "/src/os/", "_testmain.go"} {
		if bytes.Contains(place, []byte(dir)) {
			return true
		}
	}
	return false
}

// tellTestify reads the block that testify prints after an empty message:
// labels ("Error:", "Error Trace:", "Messages:") and their values, set apart by
// tabs. It reports false if there is none at text[off:].
func tellTestify(text []byte, off int, at telling) (telling, bool) {
	var label string
	var problem, extra []string
	for off < len(text) {
		line, next := lineAt(text, off)
		rest, ok := bytes.CutPrefix(bytes.TrimLeft(line, " "), []byte("\t"))
		if !ok {
			break
		}
		off = next
		head, value, _ := strings.Cut(valid(rest), "\t")
		if l := strings.TrimSuffix(strings.TrimSpace(head), ":"); l != "" {
			label = l
		}
		value = strings.TrimSpace(value)
		switch {
		case value == "":
		case label == "Error":
			problem = append(problem, value)
		case label == "Messages":
			extra = append(extra, value)
		case label == "Error Trace" && !strings.Contains(at.file, "/"):
			at = traceOf(value, at)
		}
	}
	if len(problem) == 0 {
		return telling{}, false
	}
	at.message = testifyMessage(problem, extra)
	return at, true
}

// traceOf takes "/path/file_test.go:12", the place of a testify check.
func traceOf(value string, at telling) telling {
	file, number, ok := strings.Cut(value, ".go:")
	n, err := strconv.ParseUint(number, 10, 32)
	if ok && err == nil {
		at.file, at.line = file+".go", uint32(n)
	}
	return at
}

// testifyMessage joins the lines of a block up to its diff.
func testifyMessage(problem, extra []string) string {
	for i, l := range problem {
		if l == "Diff:" {
			problem = problem[:i]
			break
		}
	}
	message := strings.Join(strings.Fields(strings.Join(problem, " ")), " ")
	if len(extra) > 0 {
		message = strings.Join(extra, " ") + ": " + message
	}
	return message
}

// tellPlain takes text without places: the got and want of an example, or else
// the last line.
func tellPlain(text []byte) telling {
	if bytes.HasPrefix(text, []byte("got:\n")) {
		return telling{message: clip(strings.Join(strings.Fields(valid(text)), " "), 300)}
	}
	trimmed := bytes.TrimRight(text, " \t\r\n")
	off := bytes.LastIndexByte(trimmed, '\n') + 1
	return telling{message: tidy(trimmed[off:]), offset: off}
}

// explainBuild finds the compiler's first complaint.
func explainBuild(text []byte) *tcmv1.Failure {
	var best telling
	for off := 0; off < len(text); {
		line, next := lineAt(text, off)
		at, ok := located(line)
		if ok && at.message != "" {
			best = at
			break
		}
		if best.message == "" && !bytes.HasPrefix(line, []byte("# ")) {
			best = telling{message: tidy(line)}
		}
		off = next
	}
	if best.message == "" {
		best.message = "the build failed"
	}
	return &tcmv1.Failure{Message: clip(best.message, maxMessage), File: clip(best.file, maxFile), Line: best.line, Details: details(text, 0)}
}

// details cuts text to what a Failure may hold, so that the telling line at
// offset is in it.
func details(text []byte, offset int) string {
	const before = 4 << 10
	if len(text) > maxDetails {
		begin := max(0, min(offset-before, len(text)-maxDetails))
		text = text[begin : begin+maxDetails]
	}
	return clip(valid(text), maxDetails)
}

// tidy makes one trimmed line of valid text.
func tidy(b []byte) string { return strings.TrimSpace(valid(b)) }

// valid makes valid UTF-8 of printed bytes.
func valid(b []byte) string { return strings.ToValidUTF8(string(b), "\uFFFD") }

// clip cuts s to at most n bytes, between characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
