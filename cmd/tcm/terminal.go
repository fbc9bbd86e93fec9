package main

import (
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/term"
)

// terminal is where a command reads and writes. Output of tests and what was
// asked for goes to out; tcm's own words go to err.
type terminal struct {
	in       io.Reader
	out, err io.Writer
	inTTY    bool
	outTTY   bool
	outColor bool
	errColor bool
}

func newTerminal(in, out, err *os.File) *terminal {
	t := &terminal{in: in, out: out, err: err}
	t.inTTY = term.IsTerminal(int(in.Fd()))
	t.outTTY = term.IsTerminal(int(out.Fd()))
	plain := os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb"
	t.outColor = t.outTTY && !plain
	t.errColor = term.IsTerminal(int(err.Fd())) && !plain
	return t
}

// setColor applies --color.
func (t *terminal) setColor(when string) error {
	switch when {
	case "auto":
	case "always":
		t.outColor, t.errColor = true, true
	case "never":
		t.outColor, t.errColor = false, false
	default:
		return fmt.Errorf("--color %s: want auto, always or never", strconv.Quote(when))
	}
	return nil
}

// sayf writes a line of tcm's own. That nobody can read it is no reason to stop.
func (t *terminal) sayf(format string, args ...any) {
	_, _ = fmt.Fprintf(t.err, "tcm: "+format+"\n", args...)
}

// colour is an ANSI colour.
type colour string

const (
	red    colour = "31"
	green  colour = "32"
	yellow colour = "33"
	dim    colour = "2"
	bold   colour = "1"
)

// paint colours s if on is set.
func paint(on bool, c colour, s string) string {
	if !on || s == "" {
		return s
	}
	return "\x1b[" + string(c) + "m" + s + "\x1b[0m"
}

// count writes n with thousands set apart: 46,287.
func count[N ~int | ~uint32 | ~uint64](n N) string {
	s := strconv.FormatUint(uint64(n), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
