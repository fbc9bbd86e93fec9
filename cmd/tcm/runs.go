package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	tcmanager "github.com/tcmanager/tcmanager/clients/go"
	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func newRuns(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "runs",
		Short: "See a project's runs",
		Example: `  tcm runs list --project demo
  tcm runs show last --project demo
  tcm runs show 12 --project demo --json`,
		Args: cobra.NoArgs,
	}
	c.AddCommand(newRunsList(g), newRunsShow(g))
	return c
}

func newRunsList(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "list --project PROJECT",
		Short: "List a project's runs, newest first",
		Long: `list prints a line for each run, newest first. With --json it prints an array of
the objects that runs show prints as "run", each with its "counts".`,
		Example: `  tcm runs list --project demo
  tcm runs list --project demo --limit 5 --json | jq -r '.[] | [.number, .status] | @tsv'`,
		Args: cobra.NoArgs,
	}
	project := g.project(c)
	limit := c.Flags().Uint32("limit", 20, "at most this `many`, 1 to 200")
	asJSON := c.Flags().Bool("json", false, "print JSON")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := needProject(*project); err != nil {
			return err
		}
		if *limit < 1 || *limit > 200 {
			return errors.New("--limit must be from 1 to 200")
		}
		return g.call(cmd.Context(), func(ctx context.Context, client *tcmanager.Client) error {
			resp, err := client.Execution().ListRuns(ctx, &tcmv1.ListRunsRequest{Project: *project, PageSize: *limit})
			if err != nil {
				return err
			}
			if *asJSON {
				runs := make([]runJSON, 0, len(resp.GetRuns()))
				for _, r := range resp.GetRuns() {
					runs = append(runs, jsonOfRun(r, true))
				}
				return g.terminal.printJSON(runs)
			}
			return g.terminal.printRuns(resp.GetRuns())
		})
	}
	return c
}

func newRunsShow(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "show RUN",
		Short: "Show a run's state and its counts, in all and by package",
		Long: `show prints a run's state and its counts of tests, by their last attempt, in all
and by package. RUN is the run's id, its number in the project (12 or #12), or
last for the newest.

With --json it prints one object:

  run             id, number, name, state, status, started_at, ended_at, duration_ms, url, ...
  counts          total, passed, failed, errored, skipped, blocked, timed_out, aborted,
                  running, paused, queued, flaky: of tests and subtests
  package_counts  the same, of packages
  packages        name, status, duration_ms, counts, error`,
		Example: `  tcm runs show last --project demo
  tcm runs show 12 --project demo --json | jq .counts
  tcm runs show 01a21001-a18f-7099-acdf-c11221b2a119`,
		Args: cobra.ExactArgs(1),
	}
	project := g.project(c)
	asJSON := c.Flags().Bool("json", false, "print JSON")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return g.call(cmd.Context(), func(ctx context.Context, client *tcmanager.Client) error {
			id, err := findRun(ctx, client.Execution(), *project, args[0])
			if err != nil {
				return err
			}
			resp, err := client.Execution().GetRun(ctx, &tcmv1.GetRunRequest{RunId: id})
			if err != nil {
				return err
			}
			if *asJSON {
				return g.terminal.printJSON(jsonOfRunWithPackages(resp))
			}
			return g.terminal.printRun(resp)
		})
	}
	return c
}

// call runs fn with a client, and a bounded time for all of it.
func (g *global) call(ctx context.Context, fn func(context.Context, *tcmanager.Client) error) (err error) {
	client, err := g.dial(g.terminal.say)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := fn(ctx, client); err != nil {
		return errors.New(describe(err))
	}
	return nil
}

// findRun returns the id of the run that a person names.
func findRun(ctx context.Context, c tcmv1.ExecutionServiceClient, project, name string) (string, error) {
	if _, err := uuid.Parse(name); err == nil {
		return name, nil
	}
	page := &tcmv1.ListRunsRequest{Project: project, PageSize: 1}
	number := uint64(0)
	if name != "last" {
		var err error
		if number, err = strconv.ParseUint(strings.TrimPrefix(name, "#"), 10, 32); err != nil || number == 0 {
			return "", fmt.Errorf("which run is %q? Give its id, its number, or last", name)
		}
		page.PageSize = 200
	}
	if err := needProject(project); err != nil {
		return "", err
	}
	for {
		resp, err := c.ListRuns(ctx, page)
		if err != nil {
			return "", err
		}
		for _, r := range resp.GetRuns() {
			if name == "last" || uint64(r.GetNumber()) == number {
				return r.GetId(), nil
			}
		}
		if page.PageToken = resp.GetNextPageToken(); page.GetPageToken() == "" {
			break
		}
	}
	if name == "last" {
		return "", fmt.Errorf("project %s has no runs yet", project)
	}
	return "", fmt.Errorf("project %s has no run #%d; see tcm runs list --project %s", project, number, project)
}

// statusOf is how a run is, in the word the page shows.
func statusOf(r *tcmv1.Run) string {
	switch r.GetState() {
	case tcmv1.RunState_RUN_STATE_PLANNED:
		return "planned"
	case tcmv1.RunState_RUN_STATE_RUNNING:
		if c := r.GetCounts(); c.GetFailed()+c.GetErrored()+c.GetTimedOut()+r.GetSuites().GetErrored() > 0 {
			return "failing"
		}
		return "running"
	default:
		return word(r.GetEndReason().String(), "END_REASON_")
	}
}

// word is the name of an enum's value as people and JSON read it: timed_out.
func word(value, prefix string) string { return strings.ToLower(strings.TrimPrefix(value, prefix)) }

// lasted is how long a run took, or has been running.
func lasted(r *tcmv1.Run) time.Duration {
	if r.GetStartedAt() == nil {
		return 0
	}
	end := time.Now()
	if r.GetEndedAt() != nil {
		end = r.GetEndedAt().AsTime()
	}
	return max(0, end.Sub(r.GetStartedAt().AsTime()))
}

// statusColour is green for what is well, red for what is not.
func statusColour(status string) colour {
	switch status {
	case "passed":
		return green
	case "skipped", "running", "planned", "queued", "paused", "cancelled":
		return yellow
	default:
		return red
	}
}

// printRuns prints a line a run.
func (t *terminal) printRuns(runs []*tcmv1.Run) error {
	if len(runs) == 0 {
		t.say("no runs yet; make one with: go test -json ./... | tcm stream --project PROJECT")
		return nil
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "RUN\tSTATUS\tTESTS\tPASSED\tFAILED\tSKIPPED\tTOOK\tSTARTED\tNAME")
	for _, r := range runs {
		c := r.GetCounts()
		// A colour's bytes would count as width, so the column is padded by hand.
		status := paint(t.outColor, statusColour(statusOf(r)), fmt.Sprintf("%-11s", statusOf(r)))
		fmt.Fprintf(w, "#%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.GetNumber(), status, count(c.GetTotal()), count(c.GetPassed()),
			count(c.GetFailed()+c.GetErrored()+c.GetTimedOut()+c.GetAborted()), count(c.GetSkipped()),
			short(lasted(r)), started(r.GetStartedAt()), r.GetInfo().GetName())
	}
	return w.Flush()
}

// started prints a moment in the reader's own time.
func started(at *timestamppb.Timestamp) string {
	if at == nil {
		return "-"
	}
	return at.AsTime().Local().Format("2006-01-02 15:04")
}

// printRun prints a run for people.
func (t *terminal) printRun(resp *tcmv1.GetRunResponse) error {
	r := resp.GetRun()
	status := statusOf(r)
	_, err := fmt.Fprintf(t.out, "run #%d %s, %s in %s\n%s\n\n", r.GetNumber(), r.GetInfo().GetName(),
		paint(t.outColor, statusColour(status), status), short(lasted(r)), r.GetUrl())
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "total\tpassed\tfailed\terrored\tskipped\ttimed out\taborted\trunning\t")
	line := func(c *tcmv1.Counts, name string) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t  %s\n", count(c.GetTotal()), count(c.GetPassed()), count(c.GetFailed()),
			count(c.GetErrored()), count(c.GetSkipped()), count(c.GetTimedOut()), count(c.GetAborted()),
			count(c.GetRunning()+c.GetPaused()+c.GetQueued()), name)
	}
	line(r.GetCounts(), "tests")
	line(r.GetSuites(), "packages")
	fmt.Fprintln(w, "\t\t\t\t\t\t\t\t")
	for _, s := range resp.GetSuites() {
		status := word(s.GetStatus().String(), "STATUS_")
		line(s.GetCounts(), paint(t.outColor, statusColour(status), status)+"  "+s.GetName())
	}
	return w.Flush()
}

// printJSON prints what a program reads.
func (t *terminal) printJSON(v any) error {
	e := json.NewEncoder(t.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// countsJSON are counts as JSON.
type countsJSON struct {
	Total    uint32 `json:"total"`
	Passed   uint32 `json:"passed"`
	Failed   uint32 `json:"failed"`
	Errored  uint32 `json:"errored"`
	Skipped  uint32 `json:"skipped"`
	Blocked  uint32 `json:"blocked"`
	TimedOut uint32 `json:"timed_out"`
	Aborted  uint32 `json:"aborted"`
	Running  uint32 `json:"running"`
	Paused   uint32 `json:"paused"`
	Queued   uint32 `json:"queued"`
	Flaky    uint32 `json:"flaky"`
}

func jsonOfCounts(c *tcmv1.Counts) countsJSON {
	return countsJSON{
		Total: c.GetTotal(), Passed: c.GetPassed(), Failed: c.GetFailed(), Errored: c.GetErrored(), Skipped: c.GetSkipped(),
		Blocked: c.GetBlocked(), TimedOut: c.GetTimedOut(), Aborted: c.GetAborted(), Running: c.GetRunning(),
		Paused: c.GetPaused(), Queued: c.GetQueued(), Flaky: c.GetFlaky(),
	}
}

// runJSON is a run as JSON.
type runJSON struct {
	ID         string      `json:"id"`
	Number     uint32      `json:"number"`
	Key        string      `json:"key"`
	Name       string      `json:"name"`
	State      string      `json:"state"`  // planned, running, ended
	Status     string      `json:"status"` // as the page shows it: running, failing, passed, failed, ...
	Branch     string      `json:"branch,omitempty"`
	Commit     string      `json:"commit,omitempty"`
	CIURL      string      `json:"ci_url,omitempty"`
	StartedBy  string      `json:"started_by,omitempty"`
	StartedAt  string      `json:"started_at,omitempty"`
	EndedAt    string      `json:"ended_at,omitempty"`
	DurationMS int64       `json:"duration_ms"`
	URL        string      `json:"url"`
	Shards     []shardJSON `json:"shards,omitempty"`
	Counts     *countsJSON `json:"counts,omitempty"` // in lists
}

type shardJSON struct {
	Name      string `json:"name"`
	State     string `json:"state"`
	Committed uint64 `json:"committed_sequence"`
	ExitCode  *int32 `json:"exit_code,omitempty"`
}

// jsonOfRun is a run, with its counts for a list.
func jsonOfRun(r *tcmv1.Run, withCounts bool) runJSON {
	j := runJSON{
		ID: r.GetId(), Number: r.GetNumber(), Key: r.GetKey(), Name: r.GetInfo().GetName(),
		State: word(r.GetState().String(), "RUN_STATE_"), Status: statusOf(r),
		Branch: r.GetInfo().GetBranch(), Commit: r.GetInfo().GetCommit(), CIURL: r.GetInfo().GetCiUrl(),
		StartedBy: r.GetStartedBy().GetId(), StartedAt: rfc3339(r.GetStartedAt()), EndedAt: rfc3339(r.GetEndedAt()),
		DurationMS: lasted(r).Milliseconds(), URL: r.GetUrl(),
	}
	for _, s := range r.GetShards() {
		j.Shards = append(j.Shards, shardJSON{
			Name: s.GetName(), State: word(s.GetState().String(), "SHARD_STATE_"), Committed: s.GetCommittedSequence(), ExitCode: s.ExitCode,
		})
	}
	if withCounts {
		c := jsonOfCounts(r.GetCounts())
		j.Counts = &c
	}
	return j
}

func rfc3339(at *timestamppb.Timestamp) string {
	if at == nil {
		return ""
	}
	return at.AsTime().Format(time.RFC3339Nano)
}

// packageJSON is a package's line in a run.
type packageJSON struct {
	Name       string     `json:"name"`
	Status     string     `json:"status"`
	DurationMS float64    `json:"duration_ms"`
	Counts     countsJSON `json:"counts"`
	Error      string     `json:"error,omitempty"`
}

// runWithPackagesJSON is what runs show --json prints.
type runWithPackagesJSON struct {
	Run           runJSON       `json:"run"`
	Counts        countsJSON    `json:"counts"`
	PackageCounts countsJSON    `json:"package_counts"`
	Packages      []packageJSON `json:"packages"`
}

func jsonOfRunWithPackages(resp *tcmv1.GetRunResponse) runWithPackagesJSON {
	j := runWithPackagesJSON{
		Run: jsonOfRun(resp.GetRun(), false), Counts: jsonOfCounts(resp.GetRun().GetCounts()),
		PackageCounts: jsonOfCounts(resp.GetRun().GetSuites()), Packages: []packageJSON{},
	}
	for _, s := range resp.GetSuites() {
		j.Packages = append(j.Packages, packageJSON{
			Name: s.GetName(), Status: word(s.GetStatus().String(), "STATUS_"), DurationMS: s.GetDurationMs(),
			Counts: jsonOfCounts(s.GetCounts()), Error: s.GetError().GetMessage(),
		})
	}
	return j
}
