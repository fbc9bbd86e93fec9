package main

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// cell is a field of a table.
type cell struct {
	text string
	as   colour
	num  bool // right-aligned
}

// table prints rows: aligned in a terminal, separated by tabs when piped. The
// first row is the header.
func table(t *terminal, rows [][]cell) error {
	widths := map[int]int{}
	for _, r := range rows {
		for i, c := range r {
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	var b strings.Builder
	for _, r := range rows {
		for i, c := range r {
			if i > 0 && !t.outTTY {
				b.WriteByte('\t')
			} else if i > 0 {
				b.WriteString("  ")
			}
			b.WriteString(c.print(t, widths[i], i == len(r)-1))
		}
		b.WriteByte('\n')
	}
	_, err := fmt.Fprint(t.out, b.String())
	return err
}

// print pads the cell for a terminal.
func (c cell) print(t *terminal, width int, last bool) string {
	text := paint(t.outColor && c.as != "", c.as, c.text)
	pad := strings.Repeat(" ", width-utf8.RuneCountInString(c.text))
	switch {
	case !t.outTTY, last && !c.num:
		return text
	case c.num:
		return pad + text
	}
	return text + pad
}

// stateOf is a run's state for people, and its colour.
func stateOf(r *tcmv1.Run) (string, colour) {
	failing := bad(r.GetCounts()) > 0 || bad(r.GetSuites()) > 0
	switch {
	case r.GetState() == tcmv1.RunState_RUN_STATE_ENDED && r.GetEndReason() == tcmv1.EndReason_END_REASON_PASSED:
		return "passed", green
	case r.GetState() == tcmv1.RunState_RUN_STATE_ENDED:
		return strings.ReplaceAll(word(r.GetEndReason()), "_", " "), red
	case failing:
		return "failing", red
	}
	return word(r.GetState()), yellow
}

// bad is how many neither passed, nor were left out, nor are under way.
func bad(c *tcmv1.Counts) uint32 {
	return c.GetFailed() + c.GetErrored() + c.GetTimedOut() + c.GetAborted()
}

// digits prints a count for a column, where thousands aren't set apart.
func digits(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// printRuns prints a list of runs.
func printRuns(t *terminal, runs []*tcmv1.Run) error {
	rows := [][]cell{{{text: "RUN", num: true}, {text: "STATE"}, {text: "TESTS", num: true}, {text: "BAD", num: true}, {text: "SKIPPED", num: true}, {text: "TOOK", num: true}, {text: "STARTED"}, {text: "BRANCH"}, {text: "NAME"}}}
	for _, r := range runs {
		state, as := stateOf(r)
		badColour := colour("")
		if bad(r.GetCounts()) > 0 {
			badColour = red
		}
		rows = append(rows, []cell{
			{text: fmt.Sprintf("#%d", r.GetNumber()), num: true},
			{text: state, as: as},
			{text: digits(r.GetCounts().GetTotal()), num: true},
			{text: digits(bad(r.GetCounts())), num: true, as: badColour},
			{text: digits(r.GetCounts().GetSkipped()), num: true},
			{text: short(runTime(r)), num: true},
			{text: r.GetStartedAt().AsTime().Local().Format("2006-01-02 15:04:05")},
			{text: printable(r.GetInfo().GetBranch())},
			{text: printable(r.GetInfo().GetName())},
		})
	}
	if len(runs) == 0 {
		t.sayf("there are no runs yet")
		return nil
	}
	return table(t, rows)
}

// printRun prints one run with its packages and its first failures.
func printRun(t *terminal, r *tcmv1.GetRunResponse, failures *tcmv1.ListResultsResponse) error {
	if err := printHead(t, r.GetRun()); err != nil {
		return err
	}
	rows := [][]cell{{{text: "PACKAGE"}, {text: "STATE"}, {text: "TESTS", num: true}, {text: "PASSED", num: true}, {text: "BAD", num: true}, {text: "SKIPPED", num: true}, {text: "REMARK"}}}
	for _, s := range r.GetSuites() {
		as := green
		switch s.GetStatus() {
		case tcmv1.Status_STATUS_PASSED:
		case tcmv1.Status_STATUS_FAILED, tcmv1.Status_STATUS_ERRORED, tcmv1.Status_STATUS_TIMED_OUT, tcmv1.Status_STATUS_ABORTED:
			as = red
		default:
			as = yellow
		}
		remark := s.GetRawStatus()
		if m := s.GetError().GetMessage(); m != "" {
			remark = strings.TrimSpace(remark + " " + m)
		}
		c := s.GetCounts()
		rows = append(rows, []cell{
			{text: printable(s.GetName())}, {text: strings.ReplaceAll(word(s.GetStatus()), "_", " "), as: as},
			{text: digits(c.GetTotal()), num: true}, {text: digits(c.GetPassed()), num: true}, {text: digits(bad(c)), num: true}, {text: digits(c.GetSkipped()), num: true},
			{text: printable(remark)},
		})
	}
	if err := table(t, rows); err != nil {
		return err
	}
	return printFailures(t, r.GetRun(), failures)
}

// printHead prints what stands above the packages.
func printHead(t *terminal, r *tcmv1.Run) error {
	state, as := stateOf(r)
	c := r.GetCounts()
	lines := []string{
		fmt.Sprintf("run #%d  %s  %s", r.GetNumber(), paint(t.outColor, as, state), printable(r.GetInfo().GetName())),
		"id      " + r.GetId(),
		"page    " + r.GetUrl(),
	}
	if b := r.GetInfo().GetBranch(); b != "" || r.GetInfo().GetCommit() != "" {
		lines = append(lines, printable(fmt.Sprintf("commit  %s %s", r.GetInfo().GetCommit(), b)))
	}
	lines = append(lines,
		fmt.Sprintf("tests   %d: %d passed, %d failed, %d errored, %d skipped, %d timed out, %d aborted, %d blocked, %d running, %d flaky",
			c.GetTotal(), c.GetPassed(), c.GetFailed(), c.GetErrored(), c.GetSkipped(), c.GetTimedOut(), c.GetAborted(), c.GetBlocked(), c.GetRunning()+c.GetPaused(), c.GetFlaky()),
		"took    "+short(runTime(r)), "")
	_, err := fmt.Fprintln(t.out, strings.Join(lines, "\n"))
	return err
}

// printFailures prints the first tests that did not pass.
func printFailures(t *terminal, r *tcmv1.Run, failures *tcmv1.ListResultsResponse) error {
	var b strings.Builder
	for _, row := range failures.GetRows() {
		suite := ""
		if i := int(row.GetSuite()); i < len(failures.GetSuites()) {
			suite = failures.GetSuites()[i]
		}
		where := ""
		if row.GetFile() != "" {
			where = fmt.Sprintf(" (%s:%d)", row.GetFile(), row.GetLine())
		}
		fmt.Fprintf(&b, "%s %s %s: %s%s\n", paint(t.outColor, red, strings.ReplaceAll(word(row.GetStatus()), "_", " ")), printable(suite), printable(row.GetName()), printable(row.GetMessage()), printable(where))
	}
	if failures.GetNextPageToken() != "" {
		fmt.Fprintf(&b, "more on %s\n", r.GetUrl())
	}
	if b.Len() == 0 {
		return nil
	}
	_, err := fmt.Fprint(t.out, "\n"+b.String())
	return err
}

// printable replaces what would move the cursor or break a line: names and
// messages come from whoever published them.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}
