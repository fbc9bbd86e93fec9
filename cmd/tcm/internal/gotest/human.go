package gotest

import (
	"fmt"
	"io"
	"time"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// printer writes what `go test` without -json would have shown: the closing
// line of each package, and of those that failed the tests that did not pass
// and what they printed. What passed tests printed is left out, also in failed
// packages: keeping it until the package ends would take unbounded memory.
type printer struct {
	w       io.Writer
	verbose bool
	buf     []byte
}

// flushAt is how much text is gathered before it is written without waiting for
// the next tick.
const flushAt = 32 << 10

// text writes b.
func (p *printer) text(b []byte) {
	p.buf = append(p.buf, b...)
	if len(p.buf) >= flushAt {
		p.flush()
	}
}

// stray writes input that is no event, and the output of builds.
func (p *printer) stray(b []byte) { p.text(b) }

// verboseText writes b if everything is to be shown.
func (p *printer) verboseText(b []byte) {
	if p.verbose {
		p.text(b)
	}
}

// flush hands the text on. A terminal that has gone away is no reason to stop
// reading results, so errors are not reported.
func (p *printer) flush() {
	if len(p.buf) > 0 {
		_, _ = p.w.Write(p.buf)
		p.buf = p.buf[:0]
	}
}

// failedTest writes the block of a test that did not pass.
func (p *printer) failedTest(t *test, status tcmv1.Status, took time.Duration) {
	if p.verbose {
		return
	}
	p.text(fmt.Appendf(nil, "--- FAIL: %s (%s)\n", t.name, endingWord(t, status, took)))
	p.tape(&t.tape)
}

// endingWord is the time of a test, or how it ended if it has none to tell.
func endingWord(t *test, status tcmv1.Status, took time.Duration) string {
	switch {
	case status == tcmv1.Status_STATUS_TIMED_OUT:
		return "timed out"
	case t.flags.has(tcmv1.ResultFlag_RESULT_FLAG_SYNTHETIC_END) && t.hint == 0:
		return "did not end"
	}
	return fmt.Sprintf("%.2fs", took.Seconds())
}

// tape writes what was kept of some output.
func (p *printer) tape(t *tape) {
	if t.gone > 0 {
		p.text(leftOut(t.gone))
	}
	p.text(t.buf)
	last := t.buf
	if tail, left := t.lastPart(); len(tail) > 0 {
		if left > 0 {
			p.text(leftOut(left))
		}
		p.text(tail)
		last = tail
	}
	if len(last) > 0 && last[len(last)-1] != '\n' {
		p.text([]byte("\n"))
	}
}

// leftOut is the line that stands for n bytes of output, or for some if n is 0.
func leftOut(n int64) []byte {
	if n == 0 {
		return []byte("\n[some output was left out]\n")
	}
	return fmt.Appendf(nil, "\n[%d bytes of output were left out]\n", n)
}

// endSuite writes the end of a package: all it printed itself if it failed or
// ran benchmarks, and its closing line.
func (p *printer) endSuite(s *suite, took time.Duration) {
	if p.verbose {
		return
	}
	if isBad(s.status) || s.bench {
		p.tape(&s.tape)
	}
	if len(s.lastly) > 0 {
		p.text(s.lastly)
		return
	}
	word := "ok  "
	if isBad(s.status) {
		word = "FAIL"
	}
	p.text(fmt.Appendf(nil, "%s\t%s\t%.3fs\n", word, suiteName(s.name), took.Seconds()))
}
