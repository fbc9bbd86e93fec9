package gotest

import (
	"cmp"
	"slices"
	"strings"
	"time"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// finish ends the suite, and before it what still runs in it. cut says that the
// input ended, not the package.
func (s *suite) finish(status tcmv1.Status, took time.Duration, failedBuild string, cut bool) {
	at := s.c.now
	if at.IsZero() {
		at = time.Now()
	}
	s.status = status
	s.endRunning(at, cut)
	flags := s.flags(cut)
	var why *tcmv1.Failure
	switch {
	case cut:
		took = since(s.begun, at)
		why = &tcmv1.Failure{Message: "the input ended before this package did"}
	case status == tcmv1.Status_STATUS_FAILED && s.bad == 0:
		s.status = tcmv1.Status_STATUS_ERRORED
		why = s.explain(failedBuild)
	}
	s.open = false
	s.c.emit.suiteUpdate(s, s.status, at, took, why, flags)
	if why != nil {
		s.c.summary.addFailure(s.name, "", s.status, why)
	}
	s.uploadEnd(failedBuild)
	s.c.human.endSuite(s, took)
	s.tape.release(&s.c.budget)
	s.recent = nil
}

// flags are the remarks on the suite.
func (s *suite) flags(cut bool) flagSet {
	var f flagSet
	if s.cached {
		f = f.with(tcmv1.ResultFlag_RESULT_FLAG_CACHED)
	}
	if s.seen.race {
		f = f.with(tcmv1.ResultFlag_RESULT_FLAG_RACE)
	}
	if s.seen.panicLine != "" && isBad(s.status) {
		f = f.with(tcmv1.ResultFlag_RESULT_FLAG_PANIC)
	}
	if s.tape.dropped > 0 {
		f = f.with(tcmv1.ResultFlag_RESULT_FLAG_OUTPUT_TRUNCATED)
	}
	if cut {
		f = f.with(tcmv1.ResultFlag_RESULT_FLAG_SYNTHETIC_END)
	}
	return f
}

// explain says why a package failed though none of its tests did: the build, or
// what the process printed before it died.
func (s *suite) explain(failedBuild string) *tcmv1.Failure {
	if failedBuild != "" || buildFailed(s.raw) {
		return explainBuild(s.c.builds.take(failedBuild))
	}
	f := explain(s.tape.buf)
	if s.tape.total == 0 {
		f.Message = "the test process failed without saying why"
	}
	return f
}

// uploadEnd publishes the rest of the package's output; the compiler's, if it
// wasn't built.
func (s *suite) uploadEnd(failedBuild string) {
	if failedBuild != "" {
		s.c.emit.output(suiteName(s.name), "", 0, s.c.builds.take(failedBuild))
	}
	s.upload()
	s.c.emitTail(&s.tape, suiteName(s.name), "", 0)
}

// endRunning ends the tests that still run, subtests before what they are part
// of.
func (s *suite) endRunning(at time.Time, cut bool) {
	if len(s.running) == 0 {
		return
	}
	left := make([]*test, 0, len(s.running))
	for _, t := range s.running {
		left = append(left, t)
	}
	slices.SortFunc(left, func(a, b *test) int {
		// A subtest's name is longer than the name of what it is part of.
		return cmp.Or(cmp.Compare(len(b.name), len(a.name)), a.begun.Compare(b.begun), strings.Compare(a.name, b.name))
	})
	for _, t := range left {
		if cut {
			s.endSynthetic(t, tcmv1.Status_STATUS_ABORTED, at, "the input ended while this test ran")
			continue
		}
		s.conclude(t, at)
	}
}

// conclude ends a test that never said its end, by the evidence.
func (s *suite) conclude(t *test, at time.Time) {
	_, hung := s.seen.hanging[t.name]
	benchmark := t.kind == tcmv1.TestKind_TEST_KIND_BENCHMARK
	switch {
	case hung:
		s.endSynthetic(t, tcmv1.Status_STATUS_TIMED_OUT, at, s.seen.timeout)
	case s.seen.blames(t.name):
		t.panicked = true
		s.endSynthetic(t, tcmv1.Status_STATUS_FAILED, at, s.seen.panicLine)
	case t.hint != 0 && benchmark && !isBad(t.hint):
		// Go reports no end for a benchmark that prints its result: this is it.
		s.end(t, t.hint, at, t.runningTime(at), "")
	case t.hint != 0:
		s.c.summary.Inferred++
		t.flags = t.flags.with(tcmv1.ResultFlag_RESULT_FLAG_SYNTHETIC_END)
		s.end(t, t.hint, at, t.hintTook, "")
	case benchmark && s.seen.completed:
		s.end(t, tcmv1.Status_STATUS_PASSED, at, t.runningTime(at), "") // only held others
	case s.status == tcmv1.Status_STATUS_PASSED:
		s.endSynthetic(t, tcmv1.Status_STATUS_PASSED, at, "")
	case s.seen.timeout != "":
		s.endSynthetic(t, tcmv1.Status_STATUS_ABORTED, at, "the process was stopped: "+s.seen.timeout)
	case s.seen.killed:
		s.endSynthetic(t, tcmv1.Status_STATUS_TIMED_OUT, at, "go killed the test process because it ran too long")
	case s.seen.panicLine != "":
		s.endSynthetic(t, tcmv1.Status_STATUS_ABORTED, at, "the process crashed: "+s.seen.panicLine)
	case s.status == tcmv1.Status_STATUS_RUNNING:
		s.endSynthetic(t, tcmv1.Status_STATUS_ABORTED, at, "the test ran again before its end was reported")
	default:
		s.endSynthetic(t, tcmv1.Status_STATUS_ABORTED, at, "the test process ended before this test did")
	}
}

// endSynthetic ends a test on its behalf.
func (s *suite) endSynthetic(t *test, status tcmv1.Status, at time.Time, reason string) {
	s.c.summary.Inferred++
	t.flags = t.flags.with(tcmv1.ResultFlag_RESULT_FLAG_SYNTHETIC_END)
	s.end(t, status, at, t.runningTime(at), reason)
}
