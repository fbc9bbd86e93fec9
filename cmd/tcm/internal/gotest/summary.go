package gotest

import (
	"fmt"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// maxFailures is how many failures a Summary names.
const maxFailures = 200

// Counts counts tests or packages by how their last attempt ended.
type Counts struct {
	Total, Passed, Failed, Errored, Skipped, TimedOut, Aborted, Flaky int
}

// add counts one.
func (c *Counts) add(status tcmv1.Status, failedBefore bool) {
	c.Total++
	switch status {
	case tcmv1.Status_STATUS_PASSED:
		c.Passed++
		if failedBefore {
			c.Flaky++
		}
	case tcmv1.Status_STATUS_FAILED:
		c.Failed++
	case tcmv1.Status_STATUS_ERRORED:
		c.Errored++
	case tcmv1.Status_STATUS_SKIPPED:
		c.Skipped++
	case tcmv1.Status_STATUS_TIMED_OUT:
		c.TimedOut++
	case tcmv1.Status_STATUS_ABORTED:
		c.Aborted++
	default:
		// A suite or test that has not ended; End leaves none.
	}
}

// bad is how many did neither pass nor were left out.
func (c *Counts) bad() int { return c.Total - c.Passed - c.Skipped }

// FailedTest is one line of a Summary.
type FailedTest struct {
	Suite   string
	Name    string // empty for the package itself
	Status  tcmv1.Status
	Message string
	File    string // empty if unknown
	Line    uint32
}

// Summary is what a Converter found in its input.
type Summary struct {
	Events int // lines that were events
	// Unknown is how many events had an action that this version doesn't know,
	// Repeated how many said an end again, and Inferred how many ends were never
	// reported and were concluded from other signs.
	Unknown, Repeated, Inferred int
	StrayBytes                  int64 // input that was no event
	CutOff                      bool  // the input ended within a package
	FailedBuilds                int   // builds that failed for no package in particular
	PlainFailure                bool  // there was no event, and the text tells of a failure

	Tests    Counts // distinct tests and subtests, by their last attempt
	Packages Counts

	Failures     []FailedTest // in the order of their ends, the first 200
	MoreFailures int          // how many more there were
}

// Failed reports whether `go test` would have ended with an error: a test or a
// package did not pass, a build failed, or the input was cut off.
func (s *Summary) Failed() bool {
	return s.Tests.bad() > 0 || s.Packages.bad() > 0 || s.CutOff || s.FailedBuilds > 0 || s.PlainFailure
}

// addFailure remembers a failure.
func (s *Summary) addFailure(suite, name string, status tcmv1.Status, why *tcmv1.Failure) {
	if len(s.Failures) >= maxFailures {
		s.MoreFailures++
		return
	}
	s.Failures = append(s.Failures, FailedTest{suiteName(suite), name, status, why.GetMessage(), why.GetFile(), why.GetLine()})
}

// summarise counts at the end.
func (c *Converter) summarise() {
	for _, s := range c.order {
		if s.status != 0 {
			c.summary.Packages.add(s.status, false)
		}
		for _, r := range s.tests {
			c.summary.Tests.add(r.status, r.failed)
		}
	}
	c.summary.FailedBuilds = c.builds.orphans()
	c.summary.PlainFailure = c.summary.Events == 0 && c.strayBad
}

// plural is "1 subtest" or "3 subtests".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
