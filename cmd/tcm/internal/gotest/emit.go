package gotest

import (
	"hash/fnv"
	"strconv"
	"time"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Limits of the schema, in bytes where it counts characters.
const (
	maxName  = 4096
	maxSuite = 1024
	maxChunk = 64 << 10
)

// emitter builds items in memory that it uses again for each.
type emitter struct {
	publish func(*tcmv1.PublishItem)

	item    tcmv1.PublishItem
	testOf  tcmv1.PublishItem_Test
	suiteOf tcmv1.PublishItem_Suite
	outOf   tcmv1.PublishItem_Output

	test        tcmv1.TestExecutionUpdate
	ref         tcmv1.TestRef
	suite       tcmv1.SuiteExecutionUpdate
	out         tcmv1.OutputChunk
	when, begun timestamppb.Timestamp
	flags       []tcmv1.ResultFlag
}

func newEmitter(publish func(*tcmv1.PublishItem)) emitter {
	return emitter{publish: publish, flags: make([]tcmv1.ResultFlag, 0, 8)}
}

// update publishes the state of t.
func (e *emitter) update(t *test, status tcmv1.Status, at time.Time, took time.Duration, why *tcmv1.Failure) {
	e.ref.Suite, e.ref.Name, e.ref.Parent = suiteName(t.suite.name), fit(t.name, maxName), fit(t.parent, maxName)
	e.ref.Kind = t.kind
	u := &e.test
	u.Test = &e.ref
	u.CaseKeys, u.Attempt, u.Status, u.Error = t.caseKeys, t.attempt, status, why
	u.DurationMs = milliseconds(took)
	u.Timestamp = setTime(&e.when, at)
	u.StartedAt = setTime(&e.begun, t.begun)
	u.Flags = t.flags.list(e.flags[:0])
	e.testOf.Test = u
	e.item.Item = &e.testOf
	e.publish(&e.item)
}

// suiteUpdate publishes the state of s.
func (e *emitter) suiteUpdate(s *suite, status tcmv1.Status, at time.Time, took time.Duration, why *tcmv1.Failure, flags flagSet) {
	u := &e.suite
	u.Suite, u.Status, u.Error, u.RawStatus = suiteName(s.name), status, why, s.raw
	u.DurationMs = milliseconds(took)
	u.Timestamp = setTime(&e.when, at)
	u.Flags = flags.list(e.flags[:0])
	e.suiteOf.Suite = u
	e.item.Item = &e.suiteOf
	e.publish(&e.item)
}

// output publishes text in chunks that the schema takes.
func (e *emitter) output(suite, name string, attempt uint32, text []byte) {
	for len(text) > 0 {
		n := min(len(text), maxChunk)
		e.out.Suite, e.out.Name, e.out.Attempt = suite, fit(name, maxName), attempt
		e.out.Data = text[:n]
		e.outOf.Output = &e.out
		e.item.Item = &e.outOf
		e.publish(&e.item)
		text = text[n:]
	}
}

// setTime fills ts with t; the zero time is unset.
func setTime(ts *timestamppb.Timestamp, t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	ts.Seconds, ts.Nanos = t.Unix(), int32(t.Nanosecond())
	return ts
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// suiteName names a package; one that test2json wasn't told the name of needs
// one, since a suite's name can't be empty.
func suiteName(pkg string) string {
	if pkg == "" {
		return "(package)"
	}
	return fit(pkg, maxSuite)
}

// fit cuts a name that is longer than the schema takes and puts a hash at its
// end, so that two long names stay two.
func fit(s string, n int) string {
	if len(s) <= n {
		return s
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(s)) // a hash never fails
	return clip(s, n-20) + "~" + strconv.FormatUint(h.Sum64(), 16)
}

// flagSet is a set of remarks.
type flagSet uint16

// has reports whether f is in the set.
func (s flagSet) has(f tcmv1.ResultFlag) bool { return s&(1<<f) != 0 }

// with adds f.
func (s flagSet) with(f tcmv1.ResultFlag) flagSet { return s | 1<<f }

// list appends the remarks of the set to to.
func (s flagSet) list(to []tcmv1.ResultFlag) []tcmv1.ResultFlag {
	for f := tcmv1.ResultFlag(1); s>>f != 0; f++ {
		if s.has(f) {
			to = append(to, f)
		}
	}
	return to
}
