package run

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/store"
)

// Bounds of one run. They keep a runner that has gone wild from filling memory.
const (
	maxTests    = 1_000_000
	maxSuites   = 5_000
	maxAttempts = 1_000
	maxShards   = 1_000 // each change of one is told with all of them; also a rule of PublishHello
)

// Live is a run's rules and counters. It decides what an update means: which
// test and attempt it is of, and what it does to the counts.
type Live struct {
	Run *pb.Run

	tests   map[testKey]*test
	suites  map[string]*suite
	seq     uint64
	head    event.Position  // of the run's room when this was last written
	listed  int             // failures told to the project's room
	warned  map[string]bool // keys of critical cases that the project was warned of
	stopped pb.EndReason    // said by a shard that was stopped
	touched bool            // something may have changed since it was last settled
}

type testKey struct{ suite, name string }

// test is one test in a run.
type test struct {
	key      testKey
	parent   string
	kind     pb.TestKind
	cases    []string // keys of the cases it says it covers
	seq      uint64
	attempts []attempt // by their number over the run, from 1

	one [1]attempt // where attempts begins: most tests have no other
}

func newTest(key testKey, seq uint64) *test {
	t := &test{key: key, seq: seq}
	t.attempts = t.one[:0]
	return t
}

// attempt is one execution of a test.
type attempt struct {
	shard  string
	begun  moment    // while it is open
	number uint32    // as the shard counts
	status pb.Status // 0: it only printed something so far
	cut    bool      // its end was inferred: its runner may yet come back and go on
	void   bool      // it printed something before this was last loaded, and is nobody's now
}

// moment is a timestamp without the memory around it.
type moment struct {
	seconds int64
	nanos   int32
	known   bool
}

func momentOf(t *timestamppb.Timestamp) moment {
	return moment{seconds: t.GetSeconds(), nanos: t.GetNanos(), known: t != nil}
}

// proto returns the moment as messages have it; nil if it isn't known.
func (m moment) proto() *timestamppb.Timestamp {
	if !m.known {
		return nil
	}
	return &timestamppb.Timestamp{Seconds: m.seconds, Nanos: m.nanos}
}

// suite is one suite in a run, as stored, and whether it changed since.
type suite struct {
	*pb.Suite
	dirty bool
}

func newLive(run *pb.Run, suites []*pb.Suite) *Live {
	l := &Live{Run: run, tests: map[testKey]*test{}, suites: map[string]*suite{}, warned: map[string]bool{}}
	if run.Counts == nil {
		run.Counts = &pb.Counts{}
	}
	if run.Suites == nil {
		run.Suites = &pb.Counts{}
	}
	if run.Info == nil {
		run.Info = &pb.RunInfo{}
	}
	for _, s := range suites {
		if s.Counts == nil {
			s.Counts = &pb.Counts{}
		}
		l.suites[s.Name] = &suite{Suite: s}
	}
	return l
}

// restore takes back an attempt that is stored; its counts are stored too.
func (l *Live) restore(r store.Result) error {
	var u pb.TestExecutionUpdate
	if err := proto.Unmarshal(r.Update, &u); err != nil {
		return fmt.Errorf("decode the row of %s in %s: %w", r.Name, r.Suite, err)
	}
	key := testKey{r.Suite, r.Name}
	t := l.tests[key]
	if t == nil {
		t = newTest(key, r.Seq)
		l.tests[key] = t
	}
	l.seq = max(l.seq, r.Seq)
	// An attempt that only printed something has no row, but keeps its number.
	for len(t.attempts)+1 < int(r.Attempt) {
		t.attempts = append(t.attempts, attempt{void: true})
	}
	a := attempt{shard: r.Shard, number: r.ShardAttempt}
	t.describe(&u)
	a.set(&u)
	t.attempts = append(t.attempts, a)
	if broken(r.Status) {
		l.listed++
		for _, key := range u.CaseKeys {
			l.warned[key] = true
		}
	}
	return nil
}

// broken reports whether a status means that something is wrong with the test.
func broken(s pb.Status) bool {
	switch s {
	case pb.Status_STATUS_FAILED, pb.Status_STATUS_ERRORED, pb.Status_STATUS_TIMED_OUT, pb.Status_STATUS_ABORTED:
		return true
	default:
		return false
	}
}

// open reports whether a status is not the end of an attempt.
func open(s pb.Status) bool {
	switch s {
	case pb.Status_STATUS_QUEUED, pb.Status_STATUS_RUNNING, pb.Status_STATUS_PAUSED:
		return true
	default:
		return false
	}
}

// find returns a test, made known if it is new. What is kept of a runner's message
// is cloned, here and below: a text may be a part of the whole request.
func (l *Live) find(suiteName, name string) (*test, error) {
	key := testKey{suiteName, name}
	if t := l.tests[key]; t != nil {
		return t, nil
	}
	if len(l.tests) >= maxTests {
		return nil, fault.New(fault.Exhausted, "TOO_MANY_TESTS", "a run may have %d tests; split it into several runs", maxTests)
	}
	s, err := l.suite(suiteName)
	if err != nil {
		return nil, err
	}
	l.seq++
	key = testKey{s.Name, strings.Clone(name)}
	t := newTest(key, l.seq)
	l.tests[key] = t
	return t, nil
}

// suite returns a suite, made known as running if it is new.
func (l *Live) suite(name string) (*suite, error) {
	if s := l.suites[name]; s != nil {
		return s, nil
	}
	if len(l.suites) >= maxSuites {
		return nil, fault.New(fault.Exhausted, "TOO_MANY_SUITES", "a run may have %d suites; split it into several runs", maxSuites)
	}
	name = strings.Clone(name)
	s := &suite{Suite: &pb.Suite{Name: name, Status: pb.Status_STATUS_RUNNING, Counts: &pb.Counts{}}, dirty: true}
	l.suites[name] = s
	l.Run.Suites.Total++
	add(l.Run.Suites, s.Status, 1)
	return s, nil
}

// attempt returns the index of the attempt that a shard calls number; 0 means
// the shard's attempt in flight, or a new one. A new one is appended without a
// status.
func (t *test) attempt(shard string, number uint32) (int, error) {
	last := uint32(0)
	for i, a := range slices.Backward(t.attempts) {
		if a.shard != shard || a.void {
			continue
		}
		if a.number == number || number == 0 && (open(a.status) || a.status == 0 || a.cut) {
			return i, nil
		}
		last = max(last, a.number)
	}
	if len(t.attempts) >= maxAttempts {
		return 0, fault.New(fault.Exhausted, "TOO_MANY_ATTEMPTS", "a test may have %d attempts in a run", maxAttempts)
	}
	if number == 0 {
		number = last + 1
	}
	t.attempts = append(t.attempts, attempt{shard: shard, number: number})
	return len(t.attempts) - 1, nil
}

// Test records an update of a test by a shard. It completes the update with what
// the run knows, and returns its row without an offset.
func (l *Live) Test(u *pb.TestExecutionUpdate, shard string) (store.Result, error) {
	t, err := l.find(u.Test.Suite, u.Test.Name)
	if err != nil {
		return store.Result{}, err
	}
	i, err := t.attempt(shard, u.Attempt)
	if err != nil {
		return store.Result{}, err
	}
	if source := l.Run.Info.Source; u.Test.Source == "" || u.Test.Source == source {
		u.Test.Source = source
	} else {
		u.Test.Source = strings.Clone(u.Test.Source)
	}
	u.RunId, u.Shard, u.Attempt = l.Run.Id, shard, uint32(i+1)
	t.describe(u)
	l.count(t, i, u)
	if t.flaky(i) && !slices.Contains(u.Flags, pb.ResultFlag_RESULT_FLAG_FLAKY) {
		u.Flags = append(u.Flags, pb.ResultFlag_RESULT_FLAG_FLAKY)
	}
	return store.Result{
		Seq: t.seq, Attempt: u.Attempt, Source: u.Test.Source, Suite: t.key.suite, Name: t.key.name,
		Shard: shard, ShardAttempt: t.attempts[i].number, Status: u.Status,
	}, nil
}

// describe completes what an update says of a test with what was said before,
// and the other way round.
func (t *test) describe(u *pb.TestExecutionUpdate) {
	ref := u.Test
	if p := ref.GetParent(); p != "" && p != t.parent {
		t.parent = strings.Clone(p)
	}
	t.kind = cmp.Or(ref.GetKind(), t.kind)
	if ref != nil {
		ref.Parent, ref.Kind = t.parent, t.kind
	}
	if len(u.CaseKeys) == 0 {
		u.CaseKeys = t.cases
	}
	t.cases = u.CaseKeys
}

// set takes over what an update says of an attempt, and completes the update
// with when the attempt began.
func (a *attempt) set(u *pb.TestExecutionUpdate) {
	if u.StartedAt == nil {
		u.StartedAt = a.begun.proto()
	}
	a.status, a.begun = u.Status, moment{}
	if open(u.Status) {
		a.begun = momentOf(u.StartedAt)
	}
	a.cut = broken(u.Status) && slices.Contains(u.Flags, pb.ResultFlag_RESULT_FLAG_SYNTHETIC_END)
}

// count moves a test from what its last attempt was to what it is now. Counts
// are of last attempts, so a change of an earlier one doesn't show, except that
// a failure makes a later one that passed flaky.
func (l *Live) count(t *test, i int, u *pb.TestExecutionUpdate) {
	counts := [...]*pb.Counts{l.Run.Counts, nil}
	known := 1
	if s := l.suites[t.key.suite]; s != nil {
		s.dirty = true
		counts[1], known = s.Counts, 2
	}
	shown := t.shown()
	for _, c := range counts[:known] {
		if shown < 0 {
			c.Total++
		} else {
			t.count(c, shown, -1)
		}
	}
	t.attempts[i].set(u)
	for _, c := range counts[:known] {
		t.count(c, t.shown(), 1)
	}
}

// shown is the index of the attempt that counts: the last one with a status; -1
// if there is none yet.
func (t *test) shown() int {
	for i, a := range slices.Backward(t.attempts) {
		if a.status != 0 {
			return i
		}
	}
	return -1
}

// flaky reports whether attempt i passed after an earlier one had failed.
func (t *test) flaky(i int) bool {
	return t.attempts[i].status == pb.Status_STATUS_PASSED && slices.ContainsFunc(t.attempts[:i], func(a attempt) bool { return broken(a.status) })
}

// count adds n to the counters that attempt i shows in.
func (t *test) count(c *pb.Counts, i, n int) {
	add(c, t.attempts[i].status, n)
	if t.flaky(i) {
		c.Flaky = uint32(int(c.Flaky) + n)
	}
}

// add adds n to the counter of a status.
func add(c *pb.Counts, s pb.Status, n int) {
	var p *uint32
	switch s {
	case pb.Status_STATUS_QUEUED:
		p = &c.Queued
	case pb.Status_STATUS_RUNNING:
		p = &c.Running
	case pb.Status_STATUS_PAUSED:
		p = &c.Paused
	case pb.Status_STATUS_PASSED:
		p = &c.Passed
	case pb.Status_STATUS_FAILED:
		p = &c.Failed
	case pb.Status_STATUS_ERRORED:
		p = &c.Errored
	case pb.Status_STATUS_SKIPPED:
		p = &c.Skipped
	case pb.Status_STATUS_BLOCKED:
		p = &c.Blocked
	case pb.Status_STATUS_TIMED_OUT:
		p = &c.TimedOut
	case pb.Status_STATUS_ABORTED:
		p = &c.Aborted
	default:
		return
	}
	*p = uint32(int(*p) + n)
}

// bad is how many tests or suites are not in order.
func bad(c *pb.Counts) uint32 { return c.Failed + c.Errored + c.TimedOut + c.Aborted }

// Suite records an update of a suite by a shard and completes it.
func (l *Live) Suite(u *pb.SuiteExecutionUpdate, shard string) (*pb.Suite, error) {
	s, err := l.suite(u.Suite)
	if err != nil {
		return nil, err
	}
	if u.Status == pb.Status_STATUS_FAILED && bad(s.Counts) == 0 {
		u.Status = pb.Status_STATUS_ERRORED // it failed, and none of its tests did
	}
	u.RunId, u.Shard = l.Run.Id, shard
	add(l.Run.Suites, s.Status, -1)
	s.Status, s.DurationMs, s.Error, s.Flags, s.RawStatus = u.Status, u.DurationMs, u.Error, u.Flags, u.RawStatus
	add(l.Run.Suites, s.Status, 1)
	s.dirty = true
	return s.Suite, nil
}

// Output returns the attempt over the run that a shard's output is of.
func (l *Live) Output(o *pb.OutputChunk, shard string) (store.OutputKey, error) {
	key := store.OutputKey{RunID: l.Run.Id}
	if o.Name == "" {
		key.Suite = strings.Clone(o.Suite)
		return key, nil
	}
	if o.Suite == "" {
		return key, fault.Field("output.suite", "must be set when name is")
	}
	t, err := l.find(o.Suite, o.Name)
	if err != nil {
		return key, err
	}
	i, err := t.attempt(shard, o.Attempt)
	if err != nil {
		return key, err
	}
	key.Suite, key.Name, key.Attempt = t.key.suite, t.key.name, uint32(i+1)
	return key, nil
}

// openTests returns the attempts that have not ended, of one shard, or of all if
// all is set, by the order of their tests.
func (l *Live) openTests(shard string, all bool) []*pb.TestExecutionUpdate {
	var tests []*test
	for _, t := range l.tests {
		if slices.ContainsFunc(t.attempts, func(a attempt) bool { return open(a.status) && (all || a.shard == shard) }) {
			tests = append(tests, t)
		}
	}
	slices.SortFunc(tests, func(a, b *test) int { return cmp.Compare(a.seq, b.seq) })
	var out []*pb.TestExecutionUpdate
	for _, t := range tests {
		for _, a := range t.attempts {
			if open(a.status) && (all || a.shard == shard) {
				out = append(out, &pb.TestExecutionUpdate{
					Test: &pb.TestRef{Suite: t.key.suite, Name: t.key.name}, Attempt: a.number, Shard: a.shard,
				})
			}
		}
	}
	return out
}

// openSuites returns the suites that have not ended, by name.
func (l *Live) openSuites() []*suite {
	var out []*suite
	for _, s := range l.suites {
		if open(s.Status) {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b *suite) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// verdict says how a run that is over ended, by its results.
func (l *Live) verdict() pb.EndReason {
	if bad(l.Run.Counts)+bad(l.Run.Suites) > 0 {
		return pb.EndReason_END_REASON_FAILED
	}
	for _, s := range l.Run.Shards {
		if s.GetExitCode() != 0 {
			return pb.EndReason_END_REASON_FAILED
		}
	}
	return pb.EndReason_END_REASON_PASSED
}

// progress returns what readers are told of how far the run is.
func (l *Live) progress() progressOf {
	return progressOf{projectID: l.Run.ProjectId, at: l.head.Offset, RunProgress: &pb.RunProgress{
		RunId: l.Run.Id, Counts: proto.CloneOf(l.Run.Counts), Suites: proto.CloneOf(l.Run.Suites), ExpectedTotal: l.Run.ExpectedTotal,
	}}
}
