package gotest

import (
	"bytes"
	"strings"
	"time"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// record is what is remembered of a test after it ended.
type record struct {
	attempts uint32
	status   tcmv1.Status // of the last attempt; unset while the first one runs
	failed   bool         // an attempt did not pass
}

// suite is one package.
type suite struct {
	c       *Converter
	name    string
	open    bool // started and not ended
	begun   time.Time
	status  tcmv1.Status
	raw     string // the package's own word, for example "[no test files]"
	lastly  []byte // the line with which go closes the package
	tests   map[string]record
	running map[string]*test
	recent  *test // the one of the last event
	tape    tape
	seen    evidence
	bench   bool // it printed a benchmark's result
	cached  bool
	bad     int // attempts that did not pass since it started
}

func newSuite(c *Converter, name string) *suite {
	return &suite{c: c, name: name, tests: map[string]record{}, running: map[string]*test{}}
}

// start opens the suite, again if the package runs again.
func (s *suite) start(at time.Time) {
	if s.open {
		return
	}
	s.open, s.begun, s.raw, s.lastly = true, at, "", nil
	s.seen, s.bench, s.cached, s.bad = evidence{}, false, false, 0
	s.status = tcmv1.Status_STATUS_RUNNING
	s.c.emit.suiteUpdate(s, s.status, at, 0, nil, 0)
}

// event applies an event of the package itself.
func (s *suite) event(ev *event) {
	switch ev.action {
	case actionStart:
		s.start(s.c.at(ev))
	case actionOutput:
		s.print(ev.output)
	case actionPass, actionFail, actionSkip, actionBench:
		at := s.c.at(ev)
		if !s.open && s.status != 0 {
			s.c.summary.Repeated++
			return
		}
		s.start(at)
		status := endStatus(ev.action)
		took := secondsToDuration(ev.elapsed)
		if took == 0 {
			took = since(s.begun, at)
		}
		s.finish(status, took, string(ev.failedBuild), false)
	case actionRun, actionPause, actionCont, actionAttr, actionArtifacts,
		actionUnknown, actionBuildOutput, actionBuildFail:
		// These mean nothing without a test.
	}
}

// endStatus is the state after an ending action.
func endStatus(a action) tcmv1.Status {
	switch a {
	case actionFail:
		return tcmv1.Status_STATUS_FAILED
	case actionSkip:
		return tcmv1.Status_STATUS_SKIPPED
	default:
		return tcmv1.Status_STATUS_PASSED
	}
}

// print takes what the package itself printed. Its closing lines are kept for
// the person; the rest is its output.
func (s *suite) print(out []byte) {
	s.seen.note(out, "")
	if s.c.human.verbose || !s.open && s.status != 0 {
		s.c.human.text(out)
	}
	switch {
	case bytes.Equal(out, []byte("PASS\n")), bytes.Equal(out, []byte("FAIL\n")):
		s.seen.completed = true
	case closing(out):
		s.lastly = append(s.lastly[:0], out...)
		s.raw = rawStatus(out)
		s.cached = s.raw == "(cached)"
	case framing(out, nil), len(out) == 0:
	default:
		s.bench = s.bench || bytes.HasPrefix(out, []byte("Benchmark")) && bytes.Contains(out, []byte(" ns/op"))
		if s.tape.add(out, &s.c.budget) {
			s.upload()
		}
		s.tape.shrink(&s.c.budget)
	}
}

// closing reports whether out is the line with which go closes a package.
func closing(out []byte) bool {
	for _, p := range []string{"ok  \t", "FAIL\t", "?   \t", "---\t"} {
		if bytes.HasPrefix(out, []byte(p)) {
			return true
		}
	}
	return false
}

// upload publishes what the package printed.
func (s *suite) upload() {
	if len(s.tape.buf) > s.tape.sent {
		s.c.emit.output(suiteName(s.name), "", 0, s.tape.take())
	}
}

// testEvent applies an event of a test.
func (s *suite) testEvent(ev *event) {
	switch ev.action {
	case actionRun:
		at := s.c.at(ev)
		s.start(at)
		s.begin(string(ev.test), at)
	case actionPause:
		if t := s.find(ev.test); t != nil {
			t.pause(s.c.at(ev))
		}
	case actionCont:
		if t := s.find(ev.test); t != nil {
			t.cont(s.c.at(ev))
		}
	case actionOutput:
		s.testOutput(ev)
	case actionAttr:
		if t := s.find(ev.test); t != nil && string(ev.key) == "tcm.case" {
			t.addCases(valid(ev.value))
		}
	case actionArtifacts:
		if t := s.find(ev.test); t != nil {
			t.print([]byte("artifacts: " + valid(ev.path) + "\n"))
		}
	case actionPass, actionFail, actionSkip, actionBench:
		s.testEnd(ev)
	case actionStart, actionUnknown, actionBuildOutput, actionBuildFail:
		// These mean nothing for a test.
	}
}

// find returns the unfinished test of that name, or nil. Go reports a
// benchmark's log under its name with the number of processors.
func (s *suite) find(name []byte) *test {
	if s.recent != nil && s.recent.suite == s && s.recent.name == string(name) && !s.recent.ended {
		return s.recent
	}
	t := s.running[string(name)]
	if t == nil && bytes.HasPrefix(name, []byte("Benchmark")) {
		if i := bytes.LastIndexByte(name, '-'); i > 0 {
			t = s.running[string(name[:i])]
		}
	}
	if t != nil {
		s.recent = t
	}
	return t
}

// begin starts an attempt of a test. One that still ran has lost its end.
func (s *suite) begin(name string, at time.Time) *test {
	if t := s.running[name]; t != nil {
		s.conclude(t, at)
	}
	r := s.tests[name]
	r.attempts++
	s.tests[name] = r
	var t *test
	if n := len(s.c.free); n > 0 {
		t, s.c.free = s.c.free[n-1], s.c.free[:n-1]
	} else {
		t = &test{}
	}
	t.suite, t.name, t.parent, t.kind, t.attempt = s, name, s.parentOf(name), kindOf(name), r.attempts
	t.begun, t.resumed = at, at
	s.running[name] = t
	s.recent = t
	t.mark()
	return t
}

// parentOf finds the longest prefix of name, up to a slash, that really ran:
// names of subtests hold slashes of their own.
func (s *suite) parentOf(name string) string {
	for i := strings.LastIndexByte(name, '/'); i > 0; i = strings.LastIndexByte(name[:i], '/') {
		if _, ran := s.tests[name[:i]]; ran {
			return name[:i]
		}
	}
	return ""
}

// testOutput takes what a test printed.
func (s *suite) testOutput(ev *event) {
	s.c.human.verboseText(ev.output)
	t := s.find(ev.test)
	if framing(ev.output, ev.test) {
		if t == nil {
			if _, known := s.tests[string(ev.test)]; known {
				return
			}
			t = s.missed(ev)
		}
		s.hint(t, ev.output)
		return
	}
	s.seen.note(ev.output, string(ev.test))
	if t == nil {
		if _, known := s.tests[string(ev.test)]; known {
			// Printed after the end, as by a goroutine that was left behind: if
			// it brings the process down, the package must say so.
			s.tape.add(ev.output, &s.c.budget)
			s.printedOutcomes(ev)
			return
		}
		t = s.missed(ev)
	}
	if t.kind == tcmv1.TestKind_TEST_KIND_BENCHMARK && string(bytes.TrimRight(ev.output, "\n")) == t.name {
		return // the framing of a benchmark is its bare name
	}
	t.print(ev.output)
	if t.kind == tcmv1.TestKind_TEST_KIND_BENCHMARK && bytes.Contains(ev.output, []byte(" ns/op")) {
		t.hint, s.bench = tcmv1.Status_STATUS_PASSED, true
	}
	s.printedOutcomes(ev)
}

// missed begins a test whose beginning was never reported.
func (s *suite) missed(ev *event) *test {
	at := s.c.at(ev)
	s.start(at)
	return s.begin(string(ev.test), at)
}

// hint remembers the verdict in a framing line; the event that repeats it
// normally follows at once.
func (s *suite) hint(t *test, out []byte) {
	line := bytes.TrimLeft(out, " ")
	if !bytes.HasPrefix(line, []byte("--- ")) {
		return
	}
	if ends := printedEnds(line); len(ends) > 0 {
		t.hint, t.hintTook = ends[0].status, ends[0].elapsed
	} else if status, _, ok := verdict(line[4:]); ok {
		t.hint = status // a benchmark's, without a time
	}
}

// printedOutcomes looks for beginnings and ends that were printed but not
// reported. Only an unfinished test of the package can end this way: text about
// other tests is just text.
func (s *suite) printedOutcomes(ev *event) {
	if bytes.Contains(ev.output, []byte("=== RUN ")) {
		if name, ok := printedRun(ev.output, ev.test); ok && s.running[string(name)] == nil {
			s.begin(string(name), s.c.at(ev))
		}
	}
	if !bytes.Contains(ev.output, []byte("--- ")) {
		return
	}
	for _, end := range printedEnds(ev.output) {
		if t := s.running[end.name]; t != nil {
			s.c.summary.Inferred++
			t.flags = t.flags.with(tcmv1.ResultFlag_RESULT_FLAG_SYNTHETIC_END)
			s.end(t, end.status, s.c.at(ev), end.elapsed, "")
		}
	}
}

// testEnd applies the end of a test.
func (s *suite) testEnd(ev *event) {
	at, status := s.c.at(ev), endStatus(ev.action)
	t := s.find(ev.test)
	if t == nil {
		r, known := s.tests[string(ev.test)]
		if known && r.status == status {
			s.c.summary.Repeated++
			return
		}
		if known {
			s.correct(string(ev.test), r, status, at)
			return
		}
		t = s.missed(ev)
	}
	s.end(t, status, at, t.took(at, secondsToDuration(ev.elapsed), ev.hasElapsed), "")
}

// correct publishes another end of an attempt that had ended: the last word of
// go counts.
func (s *suite) correct(name string, r record, status tcmv1.Status, at time.Time) {
	t := s.begin(name, at)
	t.attempt = r.attempts
	if status == tcmv1.Status_STATUS_PASSED {
		r.failed = false // it was a guess
	}
	s.tests[name] = r
	s.end(t, status, at, 0, "")
}

// end publishes the result of t, and what it printed. A reason takes the place
// of what the output says.
func (s *suite) end(t *test, status tcmv1.Status, at time.Time, took time.Duration, reason string) {
	r := s.tests[t.name]
	passed := status == tcmv1.Status_STATUS_PASSED
	if passed && r.failed {
		t.flags = t.flags.with(tcmv1.ResultFlag_RESULT_FLAG_FLAKY)
	}
	if t.raced {
		t.flags = t.flags.with(tcmv1.ResultFlag_RESULT_FLAG_RACE)
	}
	if t.tape.dropped > 0 {
		t.flags = t.flags.with(tcmv1.ResultFlag_RESULT_FLAG_OUTPUT_TRUNCATED)
	}
	var why *tcmv1.Failure
	if isBad(status) {
		r.failed = true
		s.bad++
		if t.panicked {
			t.flags = t.flags.with(tcmv1.ResultFlag_RESULT_FLAG_PANIC)
		}
		if p := s.running[t.parent]; p != nil {
			p.subFails++
		}
		why = t.explainTest(status, reason)
		s.c.summary.addFailure(s.name, t.name, status, why)
		s.c.human.failedTest(t, status, took)
	}
	r.status = status
	s.tests[t.name] = r
	s.c.emit.update(t, status, at, took, why)
	t.ended = true
	t.uploadEnd()
	t.tape.release(&s.c.budget)
	delete(s.running, t.name)
	if !t.isDirty {
		if s.recent == t {
			s.recent = nil
		}
		s.c.recycle(t)
	}
}

// isBad reports whether a test in this final state makes the run fail.
func isBad(st tcmv1.Status) bool {
	return st != tcmv1.Status_STATUS_PASSED && st != tcmv1.Status_STATUS_SKIPPED
}
