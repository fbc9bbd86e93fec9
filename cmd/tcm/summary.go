package main

import (
	"fmt"
	"strings"
	"time"

	tcmanager "github.com/tcmanager/tcmanager/clients/go"
	"github.com/tcmanager/tcmanager/cmd/tcm/internal/gotest"
)

// maxShown is how many failures the summary names.
const maxShown = 10

// signInNote begins the note of a sign-in.
const signInNote = "signed in"

func isSignIn(note string) bool { return strings.HasPrefix(note, signInNote) }

// summarise says at the end what there was, what failed, what was not uploaded
// and where to look.
func (p *pump) summarise(found *gotest.Summary, r *tcmanager.Report) {
	t := p.terminal
	if found.Events > 0 {
		t.sayf("%s", verdictLine(t.errColor, found, p.tookTime))
		sayFailures(t, found)
	}
	sayOdd(t, found)
	sayUpload(t, p.upload, r)
	if p.run != nil {
		t.sayf("watch %s", paint(t.errColor, bold, p.run.GetUrl()))
	}
}

// verdictLine is the summary in one line.
func verdictLine(color bool, found *gotest.Summary, took time.Duration) string {
	word := paint(color, green, "passed")
	switch {
	case found.CutOff:
		word = paint(color, red, "broke off")
	case found.Failed():
		word = paint(color, red, "failed")
	}
	line := fmt.Sprintf("%s: %s", word, tally(color, "test", found.Tests))
	if found.Packages.Total > 0 {
		line += "; " + tally(color, "package", found.Packages)
	}
	return line + " in " + short(took)
}

// tally is "910 tests: 878 passed, 28 failed", with what there is any of.
func tally(color bool, noun string, c gotest.Counts) string {
	plural := "s"
	if c.Total == 1 {
		plural = ""
	}
	var parts []string
	for _, p := range []struct {
		n    int
		word string
		as   colour
	}{
		{c.Passed, "passed", green}, {c.Failed, "failed", red}, {c.Errored, "errored", red}, {c.TimedOut, "timed out", red},
		{c.Aborted, "aborted", red}, {c.Skipped, "skipped", yellow}, {c.Flaky, "flaky", yellow},
	} {
		if p.n > 0 {
			parts = append(parts, paint(color, p.as, count(p.n)+" "+p.word))
		}
	}
	if len(parts) == 0 {
		return fmt.Sprintf("%s %s%s", count(c.Total), noun, plural)
	}
	return fmt.Sprintf("%s %s%s, %s", count(c.Total), noun, plural, strings.Join(parts, ", "))
}

// short prints a duration with as many digits as one cares for.
func short(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// sayFailures names what did not pass.
func sayFailures(t *terminal, found *gotest.Summary) {
	for i, f := range found.Failures {
		if i == maxShown {
			t.sayf("  and %s more", count(len(found.Failures)-maxShown+found.MoreFailures))
			return
		}
		what := f.Suite
		if f.Name != "" {
			what += " " + f.Name
		}
		where := ""
		if f.File != "" {
			where = paint(t.errColor, dim, fmt.Sprintf(" (%s:%d)", printable(f.File), f.Line))
		}
		t.sayf("  %s %s: %s%s", paint(t.errColor, red, "FAIL"), printable(what), limit(printable(f.Message), 300), where)
	}
}

// sayOdd mentions what was strange about the input.
func sayOdd(t *terminal, found *gotest.Summary) {
	if found.FailedBuilds > 0 {
		t.sayf("builds failed that no package was reported for: %d", found.FailedBuilds)
	}
	if found.Unknown > 0 {
		t.sayf("%s events of a kind this tcm doesn't know were skipped", count(found.Unknown))
	}
	if found.Inferred > 0 {
		t.sayf("ends of tests that were not reported, and were concluded: %s", count(found.Inferred))
	}
	if found.Repeated > 0 {
		t.sayf("ends of tests that were reported twice: %s", count(found.Repeated))
	}
}

// sayUpload says what was not uploaded.
func sayUpload(t *terminal, u *upload, r *tcmanager.Report) {
	if u.publisher == nil {
		return // that was said at the beginning
	}
	if r.Rejected > 0 {
		t.sayf("the server refused %s items: %s", count(r.Rejected), r.FirstRejection.GetMessage())
	}
	if r.NotUploaded > 0 {
		why := ": the server took too long"
		if r.Err != nil {
			why = ": " + r.Err.Error() + tlsAdvice(r.Err.Error())
		}
		t.sayf("%s of %s items were not uploaded%s", paint(t.errColor, yellow, count(r.NotUploaded)), count(r.Published), why)
		return
	}
	if !r.Finished {
		t.sayf("all items were uploaded, but the server didn't confirm the end of the run")
	}
}
