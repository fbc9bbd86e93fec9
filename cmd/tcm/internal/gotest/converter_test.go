package gotest

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

const (
	passed   = tcmv1.Status_STATUS_PASSED
	failed   = tcmv1.Status_STATUS_FAILED
	errored  = tcmv1.Status_STATUS_ERRORED
	aborted  = tcmv1.Status_STATUS_ABORTED
	timedOut = tcmv1.Status_STATUS_TIMED_OUT

	synthetic = tcmv1.ResultFlag_RESULT_FLAG_SYNTHETIC_END
	panicked  = tcmv1.ResultFlag_RESULT_FLAG_PANIC
	flaky     = tcmv1.ResultFlag_RESULT_FLAG_FLAKY
	truncated = tcmv1.ResultFlag_RESULT_FLAG_OUTPUT_TRUNCATED
)

// ev is an event of package p, without a test if name is empty.
func ev(action, name string) string {
	return fmt.Sprintf(`{"Action":%q,"Package":"p","Test":%q}`, action, name)
}

// at is ev at a moment, in milliseconds.
func at(ms int, action, name string) string {
	moment := time.UnixMilli(1_700_000_000_000 + int64(ms)).UTC().Format(time.RFC3339Nano)
	return fmt.Sprintf(`{"Time":%q,"Action":%q,"Package":"p","Test":%q}`, moment, action, name)
}

// says is output of a test, or of the package.
func says(name, text string) string {
	return fmt.Sprintf(`{"Action":"output","Package":"p","Test":%q,"Output":%q}`, name, text)
}

func TestTheParentIsTheLongestPrefixThatReallyRan(t *testing.T) {
	t.Parallel()
	o := convert(t, lines(ev("run", "TestA"), ev("run", "TestA/http://x/y"), ev("run", "TestA/http://x/y/z"), ev("run", "TestB/no/such/parent"), ev("run", "TestAB/x")))
	for name, want := range map[string]string{"TestA": "", "TestA/http://x/y": "TestA", "TestA/http://x/y/z": "TestA/http://x/y", "TestB/no/such/parent": "", "TestAB/x": ""} {
		if got := o.last(t, name).GetTest().GetParent(); got != want {
			t.Errorf("%s is part of %q, want %q", name, got, want)
		}
	}
}

func TestTheSameNameAgainIsAnotherAttempt(t *testing.T) {
	t.Parallel()
	o := convert(t, lines(ev("start", ""), ev("run", "T"), ev("fail", "T"), ev("run", "T"), ev("pass", "T"), ev("run", "T"), ev("pass", "T"), ev("fail", "")))
	u := o.last(t, "T")
	wantStatus(t, u, passed, flaky)
	if u.GetAttempt() != 3 || o.summary.Tests.Total != 1 || o.summary.Tests.Flaky != 1 || o.summary.Tests.Failed != 0 {
		t.Errorf("attempt %d, summary %+v", u.GetAttempt(), o.summary)
	}
}

func TestARerunOfAPackageCountsOn(t *testing.T) {
	t.Parallel()
	once := lines(ev("start", ""), ev("run", "T"), ev("fail", "T"), ev("fail", ""))
	o := convert(t, once+strings.ReplaceAll(once, "fail", "pass"))
	u := o.last(t, "T")
	wantStatus(t, u, passed, flaky)
	if u.GetAttempt() != 2 || o.summary.Failed() || o.suite(t).GetStatus() != passed {
		t.Errorf("attempt %d, summary %+v", u.GetAttempt(), o.summary)
	}
}

func TestWaitingForAParallelSlotIsNoRunningTime(t *testing.T) {
	t.Parallel()
	// Cut off at the end: without an end there is no Elapsed to read.
	o := convert(t, lines(at(0, "run", "T"), at(10, "pause", "T"), at(5010, "cont", "T"), at(5030, "run", "X"), at(5040, "fail", "")))
	if u := o.last(t, "T"); u.GetDurationMs() != 40 {
		t.Errorf("T ran %v ms, want 40", u.GetDurationMs())
	}
}

func TestAPauseIsShownOnlyIfItLasts(t *testing.T) {
	t.Parallel()
	o := convertWith(t, Options{}, func(c *Converter) {
		write(c, lines(ev("run", "T"), ev("pause", "T"), ev("cont", "T")))
		c.Tick()
		c.Tick()
		write(c, lines(ev("pause", "T")))
		c.Tick()
		write(c, lines(ev("cont", "T")))
		c.Tick()
		write(c, lines(ev("pass", "T")))
	})
	var states []string
	for _, item := range o.items {
		if u := item.GetTest(); u != nil {
			states = append(states, status(u.GetStatus()))
		}
	}
	if got := strings.Join(states, " "); got != "RUNNING PAUSED RUNNING PASSED" {
		t.Errorf("states %s", got)
	}
}

func TestAQuickTestIsPublishedOnce(t *testing.T) {
	t.Parallel()
	var text []string
	for i := range 1000 {
		name := fmt.Sprint("T", i)
		text = append(text, ev("run", name), says(name, "=== RUN   "+name+"\n"), says(name, "--- PASS: "+name+" (0.00s)\n"), ev("pass", name))
	}
	o := convertWith(t, Options{}, func(c *Converter) {
		for i, l := range text {
			write(c, l+"\n")
			if i%400 == 399 {
				c.Tick()
			}
		}
		write(c, lines(ev("pass", "")))
	})
	if n := len(o.items); n != 1002 {
		t.Errorf("%d items for 1000 tests and a package", n)
	}
}

func TestGoRoundsSoTheClockTellsShortTimes(t *testing.T) {
	t.Parallel()
	end := func(ms int, name, elapsed string) string {
		return strings.TrimSuffix(at(ms, "pass", name), "}") + `,"Elapsed":` + elapsed + "}"
	}
	o := convert(t, lines(at(0, "run", "A"), end(2, "A", "0"), at(0, "run", "B"), end(900, "B", "0"), at(0, "run", "C"), end(900, "C", "0.33")))
	for name, want := range map[string]float64{"A": 2, "B": 5, "C": 330} {
		if got := o.last(t, name).GetDurationMs(); got != want {
			t.Errorf("%s took %v ms, want %v", name, got, want)
		}
	}
}

func TestOnlyTheTestsListedAsRunningTimedOut(t *testing.T) {
	t.Parallel()
	o := convert(t, lines(ev("start", ""), ev("run", "TestHang"), ev("run", "TestHang/sub"), ev("run", "TestOther"), ev("pause", "TestOther"), ev("run", "TestSpoke"),
		says("TestSpoke", "panic: test timed out after 1s\n"), says("TestSpoke", "\trunning tests:\n"), says("TestSpoke", "\t\tTestHang/sub (1s)\n"), says("TestSpoke", "\t\tTestSpoke/with (parens) (2s)\n"),
		says("TestSpoke", "\n"), says("TestSpoke", "\t\tTestOther (1s)\n"), says("", "FAIL\tp\t1.0s\n"), ev("fail", "")))
	wantStatus(t, o.last(t, "TestHang/sub"), timedOut, synthetic)
	wantStatus(t, o.last(t, "TestHang"), aborted, synthetic)
	wantStatus(t, o.last(t, "TestOther"), aborted, synthetic)
	wantStatus(t, o.last(t, "TestSpoke"), aborted, synthetic)
	if m := o.last(t, "TestHang/sub").GetError().GetMessage(); m != "test timed out after 1s" {
		t.Errorf("message %q", m)
	}
	if o.suite(t).GetStatus() != failed {
		t.Errorf("suite %v", o.suite(t))
	}
}

func TestAKilledProcessTimedOut(t *testing.T) {
	t.Parallel()
	o := convert(t, lines(ev("run", "T"), says("", "*** Test killed with quit: ran too long (11m0s).\n"), ev("fail", "")))
	wantStatus(t, o.last(t, "T"), timedOut, synthetic)
}

func TestAPanicInTheBackgroundIsBlamedOnTheTestThatStartedIt(t *testing.T) {
	t.Parallel()
	o := convert(t, lines(ev("run", "TestStarter"), ev("run", "TestVictim"), says("TestVictim", "panic: boom\n"), says("TestVictim", "\n"), says("TestVictim", "goroutine 7 [running]:\n"),
		says("TestVictim", "gopkg.in/p%2ev1.TestStarter.func1()\n"), says("TestVictim", "\t/src/p/a_test.go:4 +0x25\n"), says("TestVictim", "created by gopkg.in/p%2ev1.TestStarter in goroutine 6\n"),
		says("TestVictim", "\n"), says("TestVictim", "goroutine 8 [running]:\n"), says("TestVictim", "p.TestVictim()\n"), ev("fail", "")))
	wantStatus(t, o.last(t, "TestStarter"), failed, synthetic, panicked)
	wantStatus(t, o.last(t, "TestVictim"), aborted, synthetic, panicked)
	if m := o.last(t, "TestStarter").GetError().GetMessage(); m != "panic: boom" {
		t.Errorf("message %q", m)
	}
}

func TestALogAfterTheEndThatPanicsIsTheFaultOfThePackage(t *testing.T) {
	t.Parallel()
	o := convert(t, lines(ev("start", ""), ev("run", "T"), ev("pass", "T"), says("T", "panic: Log in goroutine after T has completed\n"), ev("fail", "")))
	wantStatus(t, o.last(t, "T"), passed)
	if s := o.suite(t); s.GetStatus() != errored || !strings.Contains(s.GetError().GetMessage(), "Log in goroutine") {
		t.Errorf("suite %v", s)
	}
}

func TestAnEndThatWasOnlyPrintedCounts(t *testing.T) {
	t.Parallel()
	o := convert(t, lines(ev("run", "TestA"), says("TestA", "text--- FAIL: TestA (0.25s)\n"), ev("run", "TestB"), says("TestB", "--- SKIP: TestB (0.00s)\n"), ev("run", "TestC"), says("TestC", "a test of tests prints --- FAIL: TestD (0.00s)\n"), ev("pass", "TestC"), ev("fail", "")))
	wantStatus(t, o.last(t, "TestA"), failed, synthetic)
	wantStatus(t, o.last(t, "TestB"), tcmv1.Status_STATUS_SKIPPED, synthetic)
	wantStatus(t, o.last(t, "TestC"), passed)
	if d := o.last(t, "TestA").GetDurationMs(); d != 250 || o.summary.Tests.Total != 3 || o.summary.Inferred != 2 {
		t.Errorf("TestA took %v ms, summary %+v", d, o.summary)
	}
}

func TestAWrongGuessIsCorrectedByTheRealEnd(t *testing.T) {
	t.Parallel()
	o := convert(t, lines(ev("run", "T"), says("T", "I say --- PASS: T (0.00s)\n"), says("T", "    a_test.go:1: got 1, want 2\n"), ev("fail", "T"), ev("fail", "")))
	u := o.last(t, "T")
	if u.GetStatus() != failed || u.GetAttempt() != 1 || o.summary.Tests.Total != 1 || !o.summary.Failed() {
		t.Errorf("%v, summary %+v", u, o.summary)
	}
}

func TestAnEndThatIsReportedTwiceCountsOnce(t *testing.T) {
	t.Parallel()
	o := convert(t, lines(ev("run", "T"), ev("pass", "T"), ev("pass", "T"), ev("pass", ""), ev("pass", "")))
	if len(o.items) != 3 || o.summary.Repeated != 2 {
		t.Errorf("summary %+v\n%s", o.summary, o.describe())
	}
}

func TestAnUnknownActionIsSkippedAndCounted(t *testing.T) {
	t.Parallel()
	o := convert(t, lines(ev("run", "T"), ev("levitate", "T"), ev("pass", "T"), ev("pass", "")))
	wantStatus(t, o.last(t, "T"), passed)
	if o.summary.Unknown != 1 || o.summary.Failed() {
		t.Errorf("summary %+v", o.summary)
	}
}

func TestAPackageThatFailsWithoutAFailingTestErrored(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, message string }{
		{"os.Exit in TestMain", lines(ev("start", ""), says("", "no database\n"), says("", "FAIL\tp\t0.1s\n"), ev("fail", "")), "no database"},
		{"silent", lines(ev("start", ""), says("", "FAIL\tp\t0.1s\n"), ev("fail", "")), "the test process failed without saying why"},
		{"only passed tests", lines(ev("run", "T"), ev("pass", "T"), says("", "coverage below the limit\n"), ev("fail", "")), "coverage below the limit"},
		{"build without build events", lines(ev("start", ""), says("", "FAIL\tp [build failed]\n"), ev("fail", "")), "the build failed"},
	} {
		o := convert(t, c.text)
		if s := o.suite(t); s.GetStatus() != errored || s.GetError().GetMessage() != c.message || !o.summary.Failed() {
			t.Errorf("%s: %v", c.name, s)
		}
	}
}

func TestABuildFailureIsJoinedToThePackageThatNeededIt(t *testing.T) {
	t.Parallel()
	build := func(path, text string) string {
		return lines(fmt.Sprintf(`{"ImportPath":%q,"Action":"build-output","Output":%q}`, path, text))
	}
	fail := func(path string) string { return lines(fmt.Sprintf(`{"ImportPath":%q,"Action":"build-fail"}`, path)) }
	end := func(pkg, path string) string {
		return lines(fmt.Sprintf(`{"Action":"start","Package":%q}`, pkg), fmt.Sprintf(`{"Action":"output","Package":%q,"Output":"FAIL\t%s [build failed]\n"}`, pkg, pkg), fmt.Sprintf(`{"Action":"fail","Package":%q,"FailedBuild":%q}`, pkg, path))
	}
	o := convert(t, build("dep", "# dep\n")+build("dep", "dep/x.go:3:11: undefined: y\n")+fail("dep")+end("a", "dep")+end("b", "dep")+
		build("c", "# c\nc/c.go:9:1: first time\n")+fail("c")+build("c", "# c\nc/c.go:9:1: second time\n")+fail("c")+end("c", "c"))
	want := map[string]string{"a": "undefined: y dep/x.go:3", "b": "undefined: y dep/x.go:3", "c": "second time c/c.go:9"}
	for _, item := range o.items {
		s := item.GetSuite()
		if s.GetStatus() != errored {
			continue
		}
		if got := fmt.Sprintf("%s %s:%d", s.GetError().GetMessage(), s.GetError().GetFile(), s.GetError().GetLine()); got != want[s.GetSuite()] || s.GetRawStatus() != "[build failed]" {
			t.Errorf("%s: %q %q", s.GetSuite(), got, s.GetRawStatus())
		}
		delete(want, s.GetSuite())
	}
	if len(want) > 0 || !strings.Contains(o.printed("b", ""), "undefined: y") || !strings.Contains(o.human, "undefined: y") {
		t.Errorf("missing %v in\n%s", want, o.describe())
	}
}

func TestABuildThatFailsForNoPackageFailsTheRun(t *testing.T) {
	t.Parallel()
	o := convert(t, lines(`{"ImportPath":"x","Action":"build-fail"}`))
	if !o.summary.Failed() || o.summary.FailedBuilds != 1 {
		t.Errorf("summary %+v", o.summary)
	}
}

func TestInputThatIsNoEventIsKeptAsTheRunsOutput(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300_000)
	o := convert(t, "warning: from stderr\n"+lines(ev("run", "T"))+"{\"level\":\"info\"}\n\x00\xff\n"+long+"\n"+`no newline`+lines(ev("pass", "T"), ev("pass", "")))
	wantStatus(t, o.last(t, "T"), passed)
	got := o.printed("", "")
	if !strings.HasPrefix(got, "warning: from stderr\n{\"level\":\"info\"}\n\x00\xff\nxxx") || !strings.Contains(got, "[a long line was cut here]") || !strings.HasSuffix(got, "no newline") {
		t.Errorf("the run's output is %.100q", got)
	}
	if len(got) > maxStray+1000 || !strings.Contains(o.human, long) {
		t.Errorf("%d bytes kept, %d passed on", len(got), len(o.human))
	}
}

func TestALineWithoutEndTakesNoMemory(t *testing.T) {
	t.Parallel()
	var n int
	o := convertWith(t, Options{}, func(c *Converter) {
		block := strings.Repeat("y", 1<<16)
		for range 100 {
			write(c, block)
			n = max(n, cap(c.carry))
		}
		write(c, "\n"+lines(ev("run", "T"), ev("pass", "T"), ev("pass", "")))
	})
	wantStatus(t, o.last(t, "T"), passed)
	if n > 2*maxLine || len(o.human) < 100<<16 {
		t.Errorf("%d bytes held, %d passed on", n, len(o.human))
	}
}

func TestStrayOutputIsLimitedInAll(t *testing.T) {
	t.Parallel()
	o := convertWith(t, Options{}, func(c *Converter) {
		for range 200 {
			write(c, strings.Repeat("z", 50_000)+"\n")
		}
	})
	if got := o.printed("", ""); len(got) > maxStrayTotal+100 || !strings.HasSuffix(got, "was left out]\n") {
		t.Errorf("%d bytes kept, ending in %q", len(got), got[len(got)-60:])
	}
}

func TestLongOutputKeepsItsBeginningAndItsEnd(t *testing.T) {
	t.Parallel()
	o := convertWith(t, Options{}, func(c *Converter) {
		write(c, lines(ev("run", "T")))
		for i := range 4000 {
			write(c, lines(says("T", fmt.Sprintf("%d %s\n", i, strings.Repeat("w", 1000)))))
		}
		write(c, lines(says("T", "    a_test.go:7: got 1, want 2\n"), ev("fail", "T"), ev("fail", "")))
	})
	u := o.last(t, "T")
	wantStatus(t, u, failed, truncated)
	got := o.printed("p", "T")
	if len(got) > tapeHead+tapeTail+200 || !strings.HasPrefix(got, "0 www") || !strings.Contains(got, "bytes of output were left out") || !strings.HasSuffix(got, "want 2\n") {
		t.Errorf("%d bytes, ending in %q", len(got), got[len(got)-60:])
	}
	if u.GetError().GetMessage() != "got 1, want 2" || len(u.GetError().GetDetails()) > maxDetails || !strings.Contains(u.GetError().GetDetails(), "want 2") {
		t.Errorf("error %.200v", u.GetError())
	}
}

func TestOutputOfManyRunningTestsStaysWithinTheBudget(t *testing.T) {
	t.Parallel()
	c := NewConverter(Options{})
	chunk := strings.Repeat("v", 1000) + "\n"
	for i := range 40 {
		name := fmt.Sprint("T", i)
		write(c, lines(ev("run", name)))
		for range 1000 {
			write(c, lines(says(name, chunk)))
		}
	}
	if c.budget.used > tapeBudget+tapeHead {
		t.Errorf("%d bytes are kept", c.budget.used)
	}
	for i := range 40 {
		write(c, lines(ev("pass", fmt.Sprint("T", i))))
	}
	if c.budget.used != 0 {
		t.Errorf("%d bytes are still counted", c.budget.used)
	}
	c.End()
}

func TestPassedTestsLeaveLittleBehind(t *testing.T) {
	var before, after runtime.MemStats
	c := NewConverter(Options{})
	feed := func(from, to int) {
		for i := from; i < to; i++ {
			name := fmt.Sprint("T", i)
			write(c, lines(ev("run", name), says(name, strings.Repeat("u", 1000)+"\n"), ev("pass", name)))
			if i%100 == 0 {
				c.Tick()
			}
		}
	}
	feed(0, 1000)
	runtime.GC()
	runtime.ReadMemStats(&before)
	feed(1000, 11000)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 10000*200 {
		t.Errorf("10,000 passed tests keep %d bytes", grown)
	}
	c.End()
}

func TestFramingIsDroppedAndOtherTextIsNot(t *testing.T) {
	t.Parallel()
	o := convert(t, lines(ev("run", "T"), says("T", "=== RUN   T\n"), says("T", "=== NAME  T\n"), says("T", "=== PAUSE T\n"), says("T", "=== CONT  T\n"), says("T", "=== ATTR  T a b\n"), says("T", "    --- PASS: T (0.00s)\n"),
		says("T", "=== RUN   Other\n"), says("T", "--- not: framing\n"), says("T", "=== \n"), ev("pass", "T"), ev("pass", "")))
	if got := o.printed("p", "T"); got != "=== RUN   Other\n--- not: framing\n=== \n" {
		t.Errorf("output %q", got)
	}
}

func TestRunningOutputIsShownWhileTheTestRuns(t *testing.T) {
	t.Parallel()
	var c *Converter
	seen := map[string]bool{}
	c = NewConverter(Options{Publish: func(item *tcmv1.PublishItem) { seen[string(item.GetOutput().GetData())] = true }})
	write(c, lines(ev("run", "T"), says("T", "step 1\n")))
	for range outputEvery {
		c.Tick()
	}
	if !seen["step 1\n"] {
		t.Error("nothing was published before the end")
	}
	c.End()
}

func TestVerbosePassesEverythingOn(t *testing.T) {
	t.Parallel()
	text := lines(ev("start", ""), ev("run", "T"), says("T", "=== RUN   T\n"), says("T", "hello\n"), says("T", "--- PASS: T (0.00s)\n"), ev("pass", "T"), says("", "PASS\n"), says("", "ok  \tp\t0.1s\n"), ev("pass", ""))
	o := convertWith(t, Options{Verbose: true}, func(c *Converter) { write(c, text) })
	if o.human != "=== RUN   T\nhello\n--- PASS: T (0.00s)\nPASS\nok  \tp\t0.1s\n" {
		t.Errorf("got %q", o.human)
	}
	if quiet := convert(t, text); quiet.human != "ok  \tp\t0.1s\n" {
		t.Errorf("without it: %q", quiet.human)
	}
}

func TestPlainGoTestOutputThatTellsOfAFailureFails(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{"--- FAIL: T (0.00s)\nFAIL\nFAIL\tp\t0.1s\n": true, "ok  \tp\t0.1s\n": false, "": false, "no tests here\n": false} {
		if o := convert(t, text); o.summary.Failed() != want || o.human != text {
			t.Errorf("%q: failed %v, passed on %q", text, o.summary.Failed(), o.human)
		}
	}
}

func TestCaseKeysAreReadFromTheAttribute(t *testing.T) {
	t.Parallel()
	attr := func(key, value string) string {
		return fmt.Sprintf(`{"Action":"attr","Package":"p","Test":"T","Key":%q,"Value":%q}`, key, value)
	}
	o := convert(t, lines(ev("run", "T"), attr("tcm.case", "TC-1"), attr("owner", "TC-9"), attr("tcm.case", "TC-2,TC-3 TC-4; "+strings.Repeat("x", 65)), attr("tcm.case", strings.Repeat("TC-5 ", 30)), ev("pass", "T"), ev("pass", "")))
	if got := o.last(t, "T").GetCaseKeys(); len(got) != 16 || strings.Join(got[:5], " ") != "TC-1 TC-2 TC-3 TC-4 TC-5" {
		t.Errorf("keys %v", got)
	}
}

func TestNamesBeyondTheSchemasLimitAreCutAndStayDistinct(t *testing.T) {
	t.Parallel()
	long := "T/" + strings.Repeat("é", 5000)
	o := convert(t, lines(ev("run", long+"a"), ev("pass", long+"a"), ev("run", long+"b"), ev("fail", long+"b"), ev("fail", "")))
	if len(o.results()) != 2 {
		t.Errorf("%d names", len(o.results()))
	}
}
