package gotest

import (
	"strings"
	"testing"
)

func TestTheTellingLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, message, file string }{
		{"one error", "    foo_test.go:12: got 1, want 2\n", "got 1, want 2", "foo_test.go:12"},
		{"logs before", "    foo_test.go:3: connecting\n    foo_test.go:9: done\n    foo_test.go:12: got 1, want 2\n    foo_test.go:20: closing\n", "got 1, want 2", "foo_test.go:12"},
		{"only logs: the last", "    foo_test.go:3: connecting\n    foo_test.go:9: gave up\n", "gave up", "foo_test.go:9"},
		{"after text without newline", "oops    foo_test.go:5: broken\n", "broken", "foo_test.go:5"},
		{"nested", "        sub_test.go:7: unexpected EOF\n", "unexpected EOF", "sub_test.go:7"},
		{"path with spaces is not guessed", "plain text only\n", "plain text only", ":0"},
		{"nothing", "", "failed without saying why", ":0"},
		{"blank", "\n\n  \n", "failed without saying why", ":0"},
		{"example", "got:\na\nb\nwant:\nc\n", "got: a b want: c", ":0"},
		{"testify", "    a_test.go:10: \n        \tError Trace:\t/src/p/a_test.go:10\n        \t            \t\t\t\t/src/p/b_test.go:99\n        \tError:      \tNot equal: \n        \t            \texpected: 1\n        \t            \tactual  : 2\n        \t            \t\n        \t            \tDiff:\n        \t            \t--- Expected\n        \tTest:       \tTestA\n        \tMessages:   \tsum of parts\n", "sum of parts: Not equal: expected: 1 actual : 2", "/src/p/a_test.go:10"},
		{"testify without trace", "    a_test.go:10: \n        \tError Trace:\t\n        \tError:      \tShould be true\n", "Should be true", "a_test.go:10"},
		{"panic", "    a_test.go:1: got 1, want 2\npanic: boom [recovered, repanicked]\n\ngoroutine 9 [running]:\ntesting.tRunner.func1.2({0x1, 0x2})\n\t/usr/local/go/src/testing/testing.go:1974 +0x232\npanic({0x55?, 0x6?})\n\t/usr/local/go/src/runtime/panic.go:860 +0x13a\np.helper(...)\n\t/src/p/p.go:3\np.TestX(0x1)\n\t/src/p/p_test.go:8 +0x1d\n", "panic: boom", "/src/p/p_test.go:8"},
		{"concurrent map writes", "fatal error: concurrent map writes\n\ngoroutine 3 [running]:\np.do()\n\t/src/p/p.go:30 +0x1\n", "fatal error: concurrent map writes", "/src/p/p.go:30"},
		{"race", "WARNING: DATA RACE\nRead at 0x1 by goroutine 9:\n  p.TestR.func1()\n      /src/p/r_test.go:3 +0x33\n    testing.go:1712: race detected during execution of test\n", "data race", "/src/p/r_test.go:3"},
		{"control and invalid bytes", "    foo_test.go:12: got \xff\n", "got \uFFFD", "foo_test.go:12"},
	} {
		f := explain([]byte(c.text))
		if got := f.GetMessage(); got != c.message {
			t.Errorf("%s: %q, want %q", c.name, got, c.message)
		}
		if got := f.GetFile() + ":" + formatElapsed(float64(f.GetLine())); got != c.file {
			t.Errorf("%s: at %s, want %s", c.name, got, c.file)
		}
	}
}

func TestDetailsHoldTheTellingLineWithinTheLimit(t *testing.T) {
	t.Parallel()
	noise := strings.Repeat("    foo_test.go:1: noise é\n", 3000)
	for _, text := range []string{noise + "    foo_test.go:12: got 1, want 2\n", "    foo_test.go:12: got 1, want 2\n" + noise, noise + "    foo_test.go:12: got 1, want 2\n" + noise} {
		f := explain([]byte(text))
		if len(f.GetDetails()) > maxDetails || !strings.Contains(f.GetDetails(), "want 2") {
			t.Errorf("%d bytes of details", len(f.GetDetails()))
		}
	}
	if f := explain([]byte("    a_test.go:1: got " + strings.Repeat("\xff", 20000))); len(f.GetDetails()) > maxDetails || len(f.GetMessage()) > maxMessage {
		t.Errorf("%d bytes of details, %d of message", len(f.GetDetails()), len(f.GetMessage()))
	}
}

func TestTheCompilersFirstComplaint(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"# p [p.test]\np/a_test.go:3:11: undefined: y\np/a_test.go:4:1: more\n": "undefined: y",
		"# p\npackage p imports x: is not in std\n":                             "package p imports x: is not in std",
		"# p\n": "the build failed",
		"":      "the build failed",
	} {
		if got := explainBuild([]byte(text)).GetMessage(); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
