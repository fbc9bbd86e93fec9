package gotest

import (
	"bytes"
	"strings"
	"time"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// test is one attempt of one test that has begun and not ended.
type test struct {
	suite    *suite
	name     string
	parent   string // the longest prefix that really ran; empty at the top
	kind     tcmv1.TestKind
	attempt  uint32
	caseKeys []string
	flags    flagSet

	begun   time.Time     // when it began; zero if nobody said
	resumed time.Time     // since when it runs; zero while it is paused
	ran     time.Duration // running time before resumed
	paused  bool

	announced tcmv1.Status // the last state published; unset if none
	isDirty   bool         // listed for the next tick
	ended     bool

	tape     tape
	panicked bool // its output holds a crash
	raced    bool // and a data race
	subFails int  // direct subtests that failed

	hint     tcmv1.Status // the verdict it printed, until the event comes
	hintTook time.Duration
}

// mark lists t for the next tick.
func (t *test) mark() {
	if !t.isDirty {
		t.isDirty = true
		t.suite.c.dirty = append(t.suite.c.dirty, t)
	}
}

// state is what t is doing.
func (t *test) state() tcmv1.Status {
	if t.paused {
		return tcmv1.Status_STATUS_PAUSED
	}
	return tcmv1.Status_STATUS_RUNNING
}

// announce publishes the state of t, if it isn't known already.
func (t *test) announce() {
	if now := t.state(); now != t.announced {
		first := t.announced == 0
		t.announced = now
		at := t.begun
		if !first {
			at = t.suite.c.now
		}
		t.suite.c.emit.update(t, now, at, 0, nil)
	}
}

// pause stops the clock of t: waiting for a parallel slot isn't running.
func (t *test) pause(at time.Time) {
	if !t.paused {
		t.ran += since(t.resumed, at)
		t.paused, t.resumed = true, time.Time{}
		t.mark()
	}
}

// cont starts the clock again.
func (t *test) cont(at time.Time) {
	if t.paused {
		t.paused, t.resumed = false, at
		t.mark()
	}
}

// runningTime is how long t ran up to at, without pauses.
func (t *test) runningTime(at time.Time) time.Duration {
	return t.ran + since(t.resumed, at)
}

// took is the running time of a test that go says took elapsed. Go rounds to
// 10 ms, so below 5 ms the clock of the events says more.
func (t *test) took(at time.Time, elapsed time.Duration, known bool) time.Duration {
	switch {
	case !known:
		return t.runningTime(at)
	case elapsed == 0:
		return min(t.runningTime(at), 5*time.Millisecond)
	}
	return elapsed
}

// since is at-from, and 0 if one is unknown or the clock went back.
func since(from, at time.Time) time.Duration {
	if from.IsZero() || at.IsZero() {
		return 0
	}
	return max(0, at.Sub(from))
}

// print takes what t printed.
func (t *test) print(out []byte) {
	if len(out) == 0 {
		return
	}
	t.panicked = t.panicked || isPanicLine(out) && !bytes.HasPrefix(out, []byte(timedOutLine))
	t.raced = t.raced || bytes.HasPrefix(out, []byte("WARNING: DATA RACE"))
	if t.tape.add(out, &t.suite.c.budget) {
		t.upload()
	}
	t.mark()
	t.tape.shrink(&t.suite.c.budget)
}

// upload publishes what t printed and wasn't published yet. The test itself
// goes first: output of a test that nobody heard of belongs to nothing.
func (t *test) upload() {
	if len(t.tape.buf) == t.tape.sent {
		return
	}
	if !t.ended {
		t.announce()
	}
	t.suite.c.emit.output(suiteName(t.suite.name), t.name, t.attempt, t.tape.take())
}

// uploadEnd publishes the rest of the output of an ended test.
func (t *test) uploadEnd() {
	t.upload()
	t.suite.c.emitTail(&t.tape, suiteName(t.suite.name), t.name, t.attempt)
}

// emitTail publishes the end of output that was too long.
func (c *Converter) emitTail(tp *tape, suite, name string, attempt uint32) {
	tail, left := tp.lastPart()
	if len(tail) == 0 {
		return
	}
	if left > 0 {
		c.emit.output(suite, name, attempt, leftOut(left))
	}
	c.emit.output(suite, name, attempt, tail)
}

// explainTest says why t ended with status. A reason is what was concluded for a
// test that never said its end; only its own crash tells more.
func (t *test) explainTest(status tcmv1.Status, reason string) *tcmv1.Failure {
	text := t.tape.buf
	if tail, _ := t.tape.lastPart(); len(tail) > 0 {
		text = append(append(append([]byte(nil), text...), leftOut(0)...), tail...)
	}
	f := explain(text)
	ownCrash := status == tcmv1.Status_STATUS_FAILED && (bytes.HasPrefix(text, []byte("panic: ")) || bytes.Contains(text, []byte("\npanic: ")))
	switch {
	case ownCrash:
	case reason != "":
		f.Message = clip(reason, maxMessage)
	case t.subFails > 0 && f.GetFile() == "":
		f.Message = plural(t.subFails, "subtest") + " failed"
	}
	return f
}

// addCases takes the value of a tcm.case attribute: keys, set apart by commas or
// spaces.
func (t *test) addCases(value string) {
	for _, key := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' || r == ';' }) {
		if len(key) <= 64 && len(t.caseKeys) < 16 {
			t.caseKeys = append(t.caseKeys, key)
		}
	}
}

// kindOf tells the sort of a test by the name of its function.
func kindOf(name string) tcmv1.TestKind {
	switch {
	case strings.HasPrefix(name, "Benchmark"):
		return tcmv1.TestKind_TEST_KIND_BENCHMARK
	case strings.HasPrefix(name, "Example"):
		return tcmv1.TestKind_TEST_KIND_EXAMPLE
	case strings.HasPrefix(name, "Fuzz"):
		return tcmv1.TestKind_TEST_KIND_FUZZ
	}
	return tcmv1.TestKind_TEST_KIND_TEST
}
