package gotest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// action is what an event says happened.
type action uint8

// The actions of `go test -json`. actionUnknown is a word of a later Go: it is
// counted and skipped, never taken for an end.
const (
	actionUnknown action = iota
	actionStart
	actionRun
	actionPause
	actionCont
	actionPass
	actionFail
	actionSkip
	actionBench
	actionOutput
	actionAttr
	actionArtifacts
	actionBuildOutput
	actionBuildFail
)

// actionNames gives each known action its word.
var actionNames = map[string]action{
	"start": actionStart, "run": actionRun, "pause": actionPause, "cont": actionCont,
	"pass": actionPass, "fail": actionFail, "skip": actionSkip, "bench": actionBench,
	"output": actionOutput, "attr": actionAttr, "artifacts": actionArtifacts,
	"build-output": actionBuildOutput, "build-fail": actionBuildFail,
}

// event is one line of `go test -json`. Its slices are valid until the decoder
// that filled it decodes again.
type event struct {
	action      action
	word        []byte // the action as written
	time        []byte // RFC 3339; empty if the line had none
	pkg         []byte
	test        []byte // empty for events of the package itself
	output      []byte
	outputType  []byte // since Go 1.27
	importPath  []byte // of build events
	failedBuild []byte // the ImportPath whose build failed
	key, value  []byte // of attr
	path        []byte // of artifacts
	elapsed     float64
	hasElapsed  bool
}

// decoder decodes events. It keeps the buffers that hold unescaped text.
type decoder struct {
	scratch []byte
}

// decode reports whether line is an event, and if so fills ev. A line is an
// event if it is one JSON object with a string Action that is known, or an
// unknown one beside the Time, Package or ImportPath that only go writes. Keys
// are matched exactly; the last of a repeated key counts.
//
// Nearly all lines are compact objects with known keys, which the fast path
// takes; anything else is left to encoding/json.
func (d *decoder) decode(line []byte, ev *event) bool {
	if len(line) == 0 || line[0] != '{' && !startsWithObject(line) {
		return false
	}
	if !plain(line) || !d.fast(line, ev) {
		if !d.slow(line, ev) {
			return false
		}
	}
	ev.action = actionNames[string(ev.word)]
	if ev.action == actionUnknown {
		return len(ev.word) > 0 && (len(ev.time) > 0 || len(ev.pkg) > 0 || len(ev.importPath) > 0)
	}
	return true
}

// startsWithObject reports whether the first character that isn't JSON white
// space opens an object.
func startsWithObject(line []byte) bool {
	rest := bytes.TrimLeft(line, " \t\r\n")
	return len(rest) > 0 && rest[0] == '{'
}

// plain reports whether line has no control characters and is valid UTF-8, so
// that the bytes between two quotes are what encoding/json would return.
func plain(line []byte) bool {
	const (
		high   = 0x8080808080808080
		spaces = 0x2020202020202020
	)
	b := line
	for len(b) >= 8 {
		// A byte is below 0x20, or not ASCII, exactly if this sets its high bit
		// in the first such byte; borrows only matter after that.
		x := binary.LittleEndian.Uint64(b)
		if ((x-spaces)&^x|x)&high != 0 {
			return plainSlow(b)
		}
		b = b[8:]
	}
	return plainSlow(b)
}

// plainSlow is plain for what the word-wise loop can't judge.
func plainSlow(b []byte) bool {
	for _, c := range b {
		if c < 0x20 {
			return false
		}
	}
	return utf8.Valid(b)
}

// fast decodes a compact object with known keys and string values. It reports
// false when it meets anything else, without having judged the line.
func (d *decoder) fast(line []byte, ev *event) bool {
	*ev = event{}
	d.scratch = d.scratch[:0]
	i := 1
	for {
		if i >= len(line) || line[i] != '"' {
			return false
		}
		n := bytes.IndexByte(line[i+1:], '"')
		if n < 0 || i+n+3 >= len(line) || line[i+n+2] != ':' {
			return false
		}
		key := line[i+1 : i+1+n]
		next, ok := d.fastValue(line, i+n+3, key, ev)
		if !ok || next >= len(line) {
			return false
		}
		i = next + 1
		switch line[next] {
		case ',':
		case '}':
			return i == len(line)
		default:
			return false
		}
	}
}

// fastValue decodes the value at line[i:] into the field of key, and returns
// the index after it.
func (d *decoder) fastValue(line []byte, i int, key []byte, ev *event) (int, bool) {
	if string(key) == "Elapsed" {
		v, next, ok := fastNumber(line, i)
		ev.elapsed, ev.hasElapsed = v, true
		return next, ok
	}
	field := ev.field(key)
	if field == nil || line[i] != '"' {
		return 0, false
	}
	v, next, ok := d.fastString(line, i+1)
	*field = v
	return next, ok
}

// field returns the text field that key names, or nil.
func (ev *event) field(key []byte) *[]byte {
	switch string(key) {
	case "Time":
		return &ev.time
	case "Action":
		return &ev.word
	case "Package":
		return &ev.pkg
	case "Test":
		return &ev.test
	case "Output":
		return &ev.output
	case "OutputType":
		return &ev.outputType
	case "ImportPath":
		return &ev.importPath
	case "FailedBuild":
		return &ev.failedBuild
	case "Key":
		return &ev.key
	case "Value":
		return &ev.value
	case "Path":
		return &ev.path
	}
	return nil
}

// fastString returns the string that starts at line[i:], behind its opening
// quote, and the index behind its closing quote.
func (d *decoder) fastString(line []byte, i int) ([]byte, int, bool) {
	rest := line[i:]
	end := bytes.IndexByte(rest, '"')
	if end < 0 {
		return nil, 0, false
	}
	esc := bytes.IndexByte(rest[:end], '\\')
	if esc < 0 {
		return rest[:end:end], i + end + 1, true
	}
	// d.scratch may move when it grows: text already returned stays valid in the
	// old array, which nobody writes to again.
	start := len(d.scratch)
	d.scratch = append(d.scratch, rest[:esc]...)
	for j := esc; j < len(rest); {
		switch c := rest[j]; c {
		case '"':
			return d.scratch[start:len(d.scratch):len(d.scratch)], i + j + 1, true
		case '\\':
			n := d.unescape(rest[j:])
			if n == 0 {
				return nil, 0, false
			}
			j += n
		default:
			d.scratch = append(d.scratch, c)
			j++
		}
	}
	return nil, 0, false
}

// unescape appends the meaning of the escape sequence at s to the scratch and
// returns its length, or 0 if it is left to encoding/json: broken ones, and
// lone surrogates.
func (d *decoder) unescape(s []byte) int {
	if len(s) < 2 {
		return 0
	}
	const from, to = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	if s[1] != 'u' {
		k := strings.IndexByte(from, s[1])
		if k < 0 {
			return 0
		}
		d.scratch = append(d.scratch, to[k])
		return 2
	}
	r, ok := hex4(s[2:])
	if !ok {
		return 0
	}
	n := 6
	if utf16.IsSurrogate(r) {
		if len(s) < 12 || s[6] != '\\' || s[7] != 'u' {
			return 0
		}
		low, ok := hex4(s[8:])
		if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
			return 0
		}
		n = 12
	}
	d.scratch = utf8.AppendRune(d.scratch, r)
	return n
}

// hex4 reads four hexadecimal digits.
func hex4(s []byte) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range s[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// fastNumber reads an unsigned decimal of at most 15 digits, which float64
// holds exactly, so that one division rounds as strconv does.
func fastNumber(line []byte, i int) (v float64, next int, ok bool) {
	var mantissa uint64
	scale, digits, first := 1.0, 0, i
	for ; i < len(line); i++ {
		switch c := line[i]; {
		case c >= '0' && c <= '9':
			mantissa = mantissa*10 + uint64(c-'0')
			digits++
			if scale > 1 {
				scale *= 10
			}
		case c == '.' && scale == 1 && digits > 0 && i+1 < len(line) && isDigit(line[i+1]):
			if line[first] == '0' && digits > 1 {
				return 0, 0, false
			}
			mantissa = mantissa*10 + uint64(line[i+1]-'0')
			digits++
			scale = 10
			i++
		case c == ',' || c == '}':
			leadingZero := scale == 1 && digits > 1 && line[first] == '0'
			return float64(mantissa) / scale, i, digits > 0 && digits <= 15 && !leadingZero
		default:
			return 0, 0, false
		}
	}
	return 0, 0, false
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// slow decodes any object by encoding/json. A null is an absent value; a value
// of another type than go writes makes the line no event.
func (d *decoder) slow(line []byte, ev *event) bool {
	*ev = event{}
	var fields map[string]json.RawMessage
	if json.Unmarshal(line, &fields) != nil {
		return false
	}
	for key, raw := range fields {
		if key == "Elapsed" {
			var v *float64
			if json.Unmarshal(raw, &v) != nil {
				return false
			}
			if v != nil {
				ev.elapsed, ev.hasElapsed = *v, true
			}
			continue
		}
		field := ev.field([]byte(key))
		if field == nil {
			continue
		}
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return false
		}
		*field = []byte(s)
	}
	return true
}
