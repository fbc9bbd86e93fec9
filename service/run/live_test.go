package run

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/scene"
	"github.com/tcmanager/tcmanager/service/store"
)

// step is an update of the test "T" of suite "s" by a shard.
type step struct {
	shard   string
	attempt uint32 // as the shard counts; 0: the one in flight, or a new one
	status  pb.Status
	want    uint32 // the attempt over the run
}

func TestAnUpdateIsOfTheAttemptItsShardMeans(t *testing.T) {
	for name, tc := range map[string]struct {
		steps []step
		want  *pb.Counts
	}{
		"one attempt": {
			[]step{{"a", 0, queued, 1}, {"a", 0, running, 1}, {"a", 0, passed, 1}},
			&pb.Counts{Total: 1, Passed: 1},
		},
		"after its end comes another": {
			[]step{{"a", 0, failed, 1}, {"a", 0, running, 2}, {"a", 0, failed, 2}},
			&pb.Counts{Total: 1, Failed: 1},
		},
		"a failure and then a pass are flaky": {
			[]step{{"a", 1, failed, 1}, {"a", 2, running, 2}, {"a", 2, passed, 2}},
			&pb.Counts{Total: 1, Passed: 1, Flaky: 1},
		},
		"a skip and then a pass are not": {
			[]step{{"a", 1, skipped, 1}, {"a", 2, passed, 2}},
			&pb.Counts{Total: 1, Passed: 1},
		},
		"a number said again is the same attempt": {
			[]step{{"a", 1, failed, 1}, {"a", 2, passed, 2}, {"a", 1, passed, 1}},
			&pb.Counts{Total: 1, Passed: 1},
		},
		"an earlier attempt that fails later makes it flaky": {
			[]step{{"a", 1, running, 1}, {"b", 1, passed, 2}, {"a", 1, failed, 1}},
			&pb.Counts{Total: 1, Passed: 1, Flaky: 1},
		},
		"shards count for themselves": {
			[]step{{"a", 1, passed, 1}, {"b", 1, failed, 2}, {"a", 2, passed, 3}, {"b", 1, failed, 2}},
			&pb.Counts{Total: 1, Passed: 1, Flaky: 1},
		},
		"0 is the shard's own attempt in flight": {
			[]step{{"a", 0, running, 1}, {"b", 0, running, 2}, {"a", 0, passed, 1}, {"b", 0, timedOut, 2}},
			&pb.Counts{Total: 1, TimedOut: 1},
		},
		"reports without a shard are a shard of their own": {
			[]step{{"a", 0, running, 1}, {"", 0, passed, 2}, {"a", 0, passed, 1}},
			&pb.Counts{Total: 1, Passed: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			live := newLive(&pb.Run{Id: "r"}, nil)
			for i, s := range tc.steps {
				u := updateOf("s", "T", s.attempt, s.status)
				r, err := live.Test(u, s.shard)
				if err != nil {
					t.Fatal(err)
				}
				if u.Attempt != s.want || r.Attempt != s.want || r.Shard != s.shard || r.Seq != 1 {
					t.Errorf("step %d is attempt %d, row %v, want attempt %d of test 1", i, u.Attempt, r, s.want)
				}
			}
			if !proto.Equal(live.Run.Counts, tc.want) || !proto.Equal(live.suites["s"].Counts, tc.want) {
				t.Errorf("the run counts %v, its suite %v, want %v", live.Run.Counts, live.suites["s"].Counts, tc.want)
			}
		})
	}
}

func TestAnUpdateIsCompletedByWhatWasSaidBefore(t *testing.T) {
	live := newLive(&pb.Run{Id: "r", Info: &pb.RunInfo{Source: "go"}}, nil)
	first := updateOf("s", "T/x", 0, running)
	first.Test.Parent, first.Test.Kind, first.CaseKeys = "T", pb.TestKind_TEST_KIND_FUZZ, []string{"TC-1"}
	if _, err := live.Test(first, "a"); err != nil {
		t.Fatal(err)
	}
	last := updateOf("s", "T/x", 0, passed)
	if _, err := live.Test(last, "a"); err != nil {
		t.Fatal(err)
	}
	if last.Test.Parent != "T" || last.Test.Kind != pb.TestKind_TEST_KIND_FUZZ || last.Test.Source != "go" ||
		last.RunId != "r" || last.Shard != "a" || !slices.Equal(last.CaseKeys, []string{"TC-1"}) {
		t.Errorf("the second update became %v", last)
	}
}

func TestAnAttemptWhoseEndWasInferredGoesOnWhenItsRunnerDoes(t *testing.T) {
	live := newLive(&pb.Run{Id: "r"}, nil)
	cut := updateOf("s", "T", 0, aborted)
	cut.Flags = []pb.ResultFlag{pb.ResultFlag_RESULT_FLAG_SYNTHETIC_END}
	for _, u := range []*pb.TestExecutionUpdate{updateOf("s", "T", 0, running), cut, updateOf("s", "T", 0, passed)} {
		if _, err := live.Test(u, "a"); err != nil {
			t.Fatal(err)
		}
		if u.Attempt != 1 {
			t.Errorf("%v is attempt %d, want 1", u.Status, u.Attempt)
		}
	}
	if want := (&pb.Counts{Total: 1, Passed: 1}); !proto.Equal(live.Run.Counts, want) {
		t.Errorf("the run counts %v, want %v", live.Run.Counts, want)
	}
}

func TestSuitesAreCountedApart(t *testing.T) {
	live := newLive(&pb.Run{Id: "r"}, nil)
	for _, u := range []*pb.TestExecutionUpdate{updateOf("good", "T", 0, passed), updateOf("bad", "T", 0, failed), updateOf("bad", "U", 0, passed)} {
		if _, err := live.Test(u, "a"); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		suite     string
		say, want pb.Status
	}{
		{"good", passed, passed},
		{"bad", failed, failed},
		{"does not build", failed, errored}, // it failed, and none of its tests did
		{"no tests", skipped, skipped},
		{"in flight", running, running},
	} {
		u := &pb.SuiteExecutionUpdate{Suite: tc.suite, Status: tc.say}
		s, err := live.Suite(u, "a")
		if err != nil {
			t.Fatal(err)
		}
		if s.Status != tc.want || u.Status != tc.want || u.RunId != "r" || u.Shard != "a" {
			t.Errorf("suite %s is %v, told as %v, want %v", tc.suite, s.Status, u, tc.want)
		}
	}
	if want := (&pb.Counts{Total: 5, Passed: 1, Failed: 1, Errored: 1, Skipped: 1, Running: 1}); !proto.Equal(live.Run.Suites, want) {
		t.Errorf("the run counts the suites %v, want %v", live.Run.Suites, want)
	}
	if want := (&pb.Counts{Total: 3, Passed: 2, Failed: 1}); !proto.Equal(live.Run.Counts, want) {
		t.Errorf("the run counts the tests %v, want %v", live.Run.Counts, want)
	}
}

func TestOutputIsOfTheAttemptInFlight(t *testing.T) {
	live := newLive(&pb.Run{Id: "r"}, nil)
	output := func(suite, name string, want uint32) {
		t.Helper()
		key, err := live.Output(&pb.OutputChunk{Suite: suite, Name: name}, "a")
		if err != nil || key.Attempt != want || key.RunID != "r" || key.Suite != suite || key.Name != name {
			t.Errorf("output of %q %q is kept as %v, %v, want attempt %d", suite, name, key, err, want)
		}
	}
	output("", "", 0)
	output("s", "", 0)
	output("s", "T", 1) // before the first word of the test itself
	if _, err := live.Test(updateOf("s", "T", 0, failed), "a"); err != nil {
		t.Fatal(err)
	}
	output("s", "T", 2)
	if _, err := live.Output(&pb.OutputChunk{Name: "T"}, "a"); fault.Of(err) == nil {
		t.Errorf("output of a test without a suite: %v, want a fault", err)
	}
	if live.Run.Counts.Total != 1 {
		t.Errorf("the run counts %v", live.Run.Counts)
	}
}

func TestARunThatGoesWildIsBounded(t *testing.T) {
	live := newLive(&pb.Run{Id: "r"}, nil)
	for i := range maxAttempts {
		if _, err := live.Test(updateOf("s", "T", uint32(i+1), failed), "a"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := live.Test(updateOf("s", "T", 0, failed), "a"); !fault.IsReason(err, "TOO_MANY_ATTEMPTS") {
		t.Errorf("an attempt too many: %v", err)
	}
	for i := range maxSuites - 1 {
		if _, err := live.Suite(&pb.SuiteExecutionUpdate{Suite: fmt.Sprint(i), Status: passed}, "a"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := live.Test(updateOf("more", "T", 0, passed), "a"); !fault.IsReason(err, "TOO_MANY_SUITES") {
		t.Errorf("a suite too many: %v", err)
	}
	for i := len(live.tests); i < maxTests; i++ {
		live.tests[testKey{"s", fmt.Sprint(i)}] = nil
	}
	if _, err := live.Test(updateOf("s", "U", 0, passed), "a"); !fault.IsReason(err, "TOO_MANY_TESTS") {
		t.Errorf("a test too many: %v", err)
	}
	if _, err := live.Test(updateOf("s", "T", 1, passed), "a"); err != nil {
		t.Errorf("a known test: %v", err)
	}
}

func TestTheVerdict(t *testing.T) {
	code := func(n int32) []*pb.Shard { return []*pb.Shard{{}, {ExitCode: &n}} }
	for name, tc := range map[string]struct {
		run  *pb.Run
		want pb.EndReason
	}{
		"nothing ran":            {&pb.Run{}, pb.EndReason_END_REASON_PASSED},
		"a failed test":          {&pb.Run{Counts: &pb.Counts{Failed: 1}}, pb.EndReason_END_REASON_FAILED},
		"an aborted test":        {&pb.Run{Counts: &pb.Counts{Aborted: 1}}, pb.EndReason_END_REASON_FAILED},
		"a suite without a test": {&pb.Run{Suites: &pb.Counts{Errored: 1}}, pb.EndReason_END_REASON_FAILED},
		"skipped and blocked":    {&pb.Run{Counts: &pb.Counts{Skipped: 1, Blocked: 1}}, pb.EndReason_END_REASON_PASSED},
		"the command failed":     {&pb.Run{Shards: code(2)}, pb.EndReason_END_REASON_FAILED},
		"the command did not":    {&pb.Run{Shards: code(0)}, pb.EndReason_END_REASON_PASSED},
	} {
		if got := newLive(tc.run, nil).verdict(); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// TestCountersEqualARecountOfTheRows sends random items to a run, forgets what is
// in memory now and then, and counts the stored rows from nothing.
func TestCountersEqualARecountOfTheRows(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 7))
			st := scene.New(t)
			runs := New(st.Store, Config{})
			t.Cleanup(runs.Close)
			resp, err := runs.StartRun(st.As(scene.Bot), &pb.StartRunRequest{Project: scene.Key})
			if err != nil {
				t.Fatal(err)
			}
			id := resp.Run.Id
			for range 60 {
				shard := []string{"", "a", "b"}[rnd.IntN(3)]
				forget := rnd.IntN(4) == 0
				if err := runs.update(t.Context(), id, func(tx store.Tx, live *Live) error {
					w, err := runs.write(tx, live, nil, shard, st.Now())
					if err != nil {
						return err
					}
					for range rnd.IntN(12) {
						if err := w.item(randomItem(rnd)); err != nil {
							return err
						}
					}
					return w.flush()
				}); err != nil {
					t.Fatal(err)
				}
				if forget {
					st.Update(func(store.Tx) error { runs.lives.drop(id); return nil })
				}
				recount(t, st, id)
			}
		})
	}
}

func randomItem(rnd *rand.Rand) *pb.PublishItem {
	suite, name := fmt.Sprint("s", rnd.IntN(3)), fmt.Sprint("T", rnd.IntN(4))
	status := pb.Status(1 + rnd.IntN(10))
	switch rnd.IntN(10) {
	case 0:
		return suiteOf(suite, status)
	case 1:
		return outputOf(suite, name, "text")
	default:
		item := testIn(suite, name, uint32(rnd.IntN(4)), status)
		if rnd.IntN(4) == 0 {
			item.GetTest().Flags = []pb.ResultFlag{pb.ResultFlag_RESULT_FLAG_SYNTHETIC_END}
		}
		return item
	}
}

// recount counts a run's rows and compares that with its counters.
func recount(t *testing.T, st *scene.Scene, id string) {
	t.Helper()
	st.View(func(r store.Reader) error {
		attempts := map[uint64][]store.Result{}
		if err := r.EachResult(id, func(res store.Result) error {
			attempts[res.Seq] = append(attempts[res.Seq], res)
			return nil
		}); err != nil {
			return err
		}
		total, bySuite := &pb.Counts{}, map[string]*pb.Counts{}
		for _, rows := range attempts {
			if bySuite[rows[0].Suite] == nil {
				bySuite[rows[0].Suite] = &pb.Counts{}
			}
			countRows(total, rows)
			countRows(bySuite[rows[0].Suite], rows)
		}
		run, err := r.Run(id)
		if err != nil {
			return err
		}
		if !proto.Equal(run.Counts, total) {
			t.Fatalf("the run counts %v, its rows are %v", run.Counts, total)
		}
		suites, err := r.Suites(id, maxSuites)
		if err != nil {
			return err
		}
		states := &pb.Counts{}
		for _, s := range suites {
			states.Total++
			add(states, s.Status, 1)
			want := bySuite[s.Name]
			if want == nil {
				want = &pb.Counts{}
			}
			if !proto.Equal(s.Counts, want) {
				t.Fatalf("suite %s counts %v, its rows are %v", s.Name, s.Counts, want)
			}
		}
		if !proto.Equal(run.Suites, states) {
			t.Fatalf("the run counts the suites %v, they are %v", run.Suites, states)
		}
		return recountLast(r, t, id, attempts)
	})
}

// countRows counts one test by all of its attempts.
func countRows(c *pb.Counts, rows []store.Result) {
	last := rows[len(rows)-1]
	c.Total++
	add(c, last.Status, 1)
	if last.Status == passed && slices.ContainsFunc(rows[:len(rows)-1], func(r store.Result) bool { return broken(r.Status) }) {
		c.Flaky++
	}
}

// recountLast checks that a list shows each test's last attempt, once.
func recountLast(r store.Reader, t *testing.T, id string, attempts map[uint64][]store.Result) error {
	t.Helper()
	last, err := r.Results(id, store.ResultQuery{Limit: 1000})
	if err != nil {
		return err
	}
	if len(last) != len(attempts) {
		t.Fatalf("%d rows are last, of %d tests", len(last), len(attempts))
	}
	for _, res := range last {
		rows := attempts[res.Seq]
		if want := rows[len(rows)-1]; res.Attempt != want.Attempt || res.Status != want.Status {
			t.Fatalf("the last attempt of test %d is shown as %d %v, want %d %v", res.Seq, res.Attempt, res.Status, want.Attempt, want.Status)
		}
		if strings.TrimSpace(res.Name) == "" {
			t.Fatalf("test %d has no name", res.Seq)
		}
	}
	return nil
}

// A decoder may make the texts of a whole request parts of one string: a run that
// kept one of them would keep all of the output that came with it.
func TestARunKeepsNothingOfARequest(t *testing.T) {
	request := strings.Repeat("package/TestName ParentOfIt source ", 100)
	from := uintptr(unsafe.Pointer(unsafe.StringData(request)))
	part := func(s string) bool {
		at := uintptr(unsafe.Pointer(unsafe.StringData(s)))
		return s != "" && at >= from && at < from+uintptr(len(request))
	}
	live := newLive(&pb.Run{Id: "r", Info: &pb.RunInfo{Source: "go"}}, nil)
	row, err := live.Test(&pb.TestExecutionUpdate{Status: running, Test: &pb.TestRef{
		Suite: request[:7], Name: request[8:16], Parent: request[17:27], Source: request[28:34],
	}}, "s")
	if err != nil {
		t.Fatal(err)
	}
	kept := []string{row.Suite, row.Name, row.Source}
	for _, o := range []*pb.OutputChunk{{Suite: request[:7], Name: request[8:12]}, {Suite: request[:4]}} {
		key, err := live.Output(o, "s")
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, key.Suite, key.Name)
	}
	for key, test := range live.tests {
		kept = append(kept, key.suite, key.name, test.key.suite, test.key.name, test.parent)
	}
	for key, suite := range live.suites {
		kept = append(kept, key, suite.Name)
	}
	if i := slices.IndexFunc(kept, part); i >= 0 {
		t.Errorf("%q is kept as a part of the request", kept[i])
	}
	if live.tests[testKey{"package", "TestName"}].parent != "ParentOfIt" || row.Source != "source" {
		t.Errorf("%+v and %+v were kept", live.tests, row)
	}
}
