package gotest

import (
	"bytes"
	"strings"
)

// evidence is what a package's output says about how its process ended. It is
// collected from all tests of the package, since test2json gives a crash's text
// to whichever test spoke last.
type evidence struct {
	panicLine string // "panic: boom"; empty if none was seen
	panicTest string // the test that the text was given to; empty for the package
	culprit   string // the top-level test that the trace names
	tracing   bool   // within the first goroutine of the trace
	goroutine bool   // its header was seen

	timeout string              // "test timed out after 1s"
	listing bool                // within "running tests:"
	hanging map[string]struct{} // the tests listed there

	killed    bool // go killed the process because it ran too long
	completed bool // the testing package said PASS or FAIL: every test had ended
	race      bool // a data race was reported
}

// note reads one piece of output that was given to test; empty for the package.
func (e *evidence) note(out []byte, test string) {
	if e.listing {
		e.listing = e.noteHanging(out)
	}
	if e.tracing {
		e.noteTrace(out)
	}
	if len(out) < 5 {
		return
	}
	switch out[0] {
	case 'p', 'f':
		e.notePanic(out, test)
	case '\t':
		if e.timeout != "" && bytes.HasPrefix(out, []byte("\trunning tests:")) {
			e.listing = true
		}
	case '*':
		e.killed = e.killed || bytes.HasPrefix(out, []byte("*** Test killed"))
	case 'W':
		e.race = e.race || bytes.HasPrefix(out, []byte("WARNING: DATA RACE"))
	}
}

// timedOutLine begins the crash by which the testing package ends a process that
// has run for longer than -timeout.
const timedOutLine = "panic: test timed out after "

// notePanic takes the first line of a crash.
func (e *evidence) notePanic(out []byte, test string) {
	switch {
	case bytes.HasPrefix(out, []byte(timedOutLine)):
		e.timeout = oneLine(out[len("panic: "):])
		e.hanging = map[string]struct{}{}
	case isPanicLine(out) && e.panicLine == "" && e.timeout == "":
		e.panicLine, e.panicTest = oneLine(out), test
		e.tracing = true
	}
}

// isPanicLine reports whether line begins a crash of the Go runtime.
func isPanicLine(line []byte) bool {
	return bytes.HasPrefix(line, []byte("panic: ")) || bytes.HasPrefix(line, []byte("fatal error: "))
}

// noteHanging takes a line of the list of running tests, "\t\tTestX (1s)\n",
// and reports whether the list goes on.
func (e *evidence) noteHanging(out []byte) bool {
	line, ok := bytes.CutPrefix(bytes.TrimRight(out, "\n"), []byte("\t\t"))
	if open := bytes.LastIndex(line, []byte(" (")); ok && open > 0 {
		e.hanging[string(line[:open])] = struct{}{}
		return true
	}
	return false
}

// noteTrace looks for a test function in the goroutine that crashed: in its own
// frames, or in "created by", when the test has long gone on.
func (e *evidence) noteTrace(out []byte) {
	line := bytes.TrimRight(out, "\n")
	switch {
	case bytes.HasPrefix(line, []byte("goroutine ")):
		e.goroutine = true
	case len(line) == 0: // behind the message, and behind the goroutine
		e.tracing = !e.goroutine
	case line[0] != '\t':
		if name := testInFrame(line); name != "" {
			e.culprit = name
		}
	}
}

// testInFrame returns the test function in a line of a trace such as
// "example.com/p.TestX.func1()" or "created by example.com/p.TestX in goroutine 7".
func testInFrame(line []byte) string {
	for _, prefix := range []string{".Test", ".Fuzz", ".Example", ".Benchmark"} {
		i := bytes.Index(line, []byte(prefix))
		if i < 0 {
			continue
		}
		name := line[i+1:]
		if end := bytes.IndexAny(name, ".([ "); end >= 0 {
			name = name[:end]
		}
		return string(name)
	}
	return ""
}

// blames reports whether the crash is the fault of the unfinished test name, as
// far as can be told: the trace's test, or below it the one that spoke last.
func (e *evidence) blames(name string) bool {
	if e.panicLine == "" {
		return false
	}
	spoke := e.panicTest
	if e.culprit != "" && spoke != e.culprit && !strings.HasPrefix(spoke, e.culprit+"/") {
		return name == e.culprit
	}
	return name == spoke
}

// oneLine makes a line of text out of printed bytes.
func oneLine(b []byte) string {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return strings.ToValidUTF8(strings.TrimSpace(string(line)), "\uFFFD")
}
