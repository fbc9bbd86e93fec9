package text_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/text"
)

func TestALineIsTrimmedVisibleAndOneLine(t *testing.T) {
	for _, tc := range []struct{ in, want, broken string }{
		{in: "Sign in", want: "Sign in"},
		{in: "  Sign in\n", want: "Sign in"},
		{in: "日本 👩‍👧 é", want: "日本 👩‍👧 é"},
		{in: strings.Repeat("é", 10), want: strings.Repeat("é", 10)},
		{in: strings.Repeat("é", 11), broken: "must have at most 10 characters"},
		{in: "", broken: "must not be blank"},
		{in: " \t\u00a0\u2003", broken: "must not be blank"},
		{in: "\u200b\u200d\ufeff", broken: "must not be blank"},
		{in: "two\nlines", broken: "must be one line without control characters"},
		{in: "two\u2028lines", broken: "must be one line without control characters"},
		{in: "a\x1b[31mb", broken: "must be one line without control characters"},
		{in: "a\x00b", broken: "must be one line without control characters"},
	} {
		got, err := text.Line("title", tc.in, 10)
		check(t, tc.in, got, err, tc.want, tc.broken)
	}
}

func TestABlockMayBeBlankAndKeepsItsLines(t *testing.T) {
	for _, tc := range []struct{ in, want, broken string }{
		{in: "", want: ""},
		{in: " 1. open\r\n\t2. close\r3. wait\n", want: " 1. open\n\t2. close\n3. wait\n"},
		{in: "a\x00b", broken: "must be plain text without control characters"},
		{in: "a\x1bb", broken: "must be plain text without control characters"},
	} {
		got, err := text.Block("title", tc.in)
		check(t, tc.in, got, err, tc.want, tc.broken)
	}
}

func TestARemarkHasSomethingToSee(t *testing.T) {
	for _, tc := range []struct{ in, want, broken string }{
		{in: "\n one\r\ntwo \n", want: "one\ntwo"},
		{in: " \n\u200b", broken: "must not be blank"},
		{in: "a\x00b", broken: "must be plain text without control characters"},
	} {
		got, err := text.Remark("title", tc.in)
		check(t, tc.in, got, err, tc.want, tc.broken)
	}
}

func check(t *testing.T, in, got string, err error, want, broken string) {
	t.Helper()
	if broken == "" {
		if err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", in, got, err, want)
		}
		return
	}
	f := fault.Of(err)
	if f == nil || f.Kind != fault.Invalid || f.Violations[0] != (fault.Violation{Field: "title", Description: broken}) {
		t.Errorf("%q: got %q, %v; want a fault that says %q", in, got, err, broken)
	}
}

func TestCutKeepsCharactersWhole(t *testing.T) {
	const s = "aé日👩"
	for n := 0; n <= len(s)+1; n++ {
		got, cut := text.Cut(s, n)
		if len(got) > n || !utf8.ValidString(got) || !strings.HasPrefix(s, got) || cut != (got != s) {
			t.Errorf("to %d bytes: %q, %v", n, got, cut)
		}
		if n-len(got) >= utf8.UTFMax {
			t.Errorf("to %d bytes: %q is shorter than it needs to be", n, got)
		}
	}
}
