package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	tcmanager "github.com/tcmanager/tcmanager/clients/go"
	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

func newRuns(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "runs",
		Short: "List and show runs",
		Example: `  tcm runs list --project demo
  tcm runs show last --project demo --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newRunsList(g), newRunsShow(g))
	return c
}

func newRunsList(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "list --project PROJECT",
		Short: "List the runs of a project, newest first",
		Long: `list prints the runs of a project, newest first: as a table in a terminal, as
lines of tab-separated fields when piped, and with --json as an array of the
objects that "runs show --json" has under "run" and "counts".`,
		Example: `  tcm runs list --project demo
  tcm runs list --project demo --limit 5 --json`,
		Args: cobra.NoArgs,
	}
	project := g.project(c)
	asJSON := c.Flags().Bool("json", false, "print JSON")
	n := c.Flags().Int("limit", 20, "print at most this `many` runs")
	c.RunE = func(c *cobra.Command, _ []string) error {
		return g.call(c.Context(), func(ctx context.Context, client *tcmanager.Client) error {
			if err := needProject(*project); err != nil {
				return err
			}
			runs, err := listRuns(ctx, client, *project, *n)
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(g.terminal.out, runSummaries(runs))
			}
			return printRuns(g.terminal, runs)
		})
	}
	return c
}

// call opens a client for one command and limits its time.
func (g *global) call(ctx context.Context, do func(context.Context, *tcmanager.Client) error) error {
	client, err := g.dial(g.terminal.sayf)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return do(ctx, client)
}

// listRuns returns the newest n runs, page by page.
func listRuns(ctx context.Context, client *tcmanager.Client, project string, n int) ([]*tcmv1.Run, error) {
	var runs []*tcmv1.Run
	token := ""
	for len(runs) < n {
		size := uint32(min(n-len(runs), 200))
		resp, err := client.Execution().ListRuns(ctx, &tcmv1.ListRunsRequest{Project: project, PageSize: size, PageToken: token})
		if err != nil {
			return nil, err
		}
		runs = append(runs, resp.GetRuns()...)
		if token = resp.GetNextPageToken(); token == "" {
			break
		}
	}
	return runs[:min(n, len(runs))], nil
}

func newRunsShow(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "show RUN [--project PROJECT]",
		Short: "Show a run and its counts, in all and by package",
		Long: `show prints a run: RUN is its id, its number in the project (12 or #12), or
"last" for the newest. A number and "last" need --project.

--json prints one object:

  run             id, number, key, name, project_id, state (planned, running, ended),
                  end_reason, branch, commit, ci_url, url, started_at, ended_at,
                  duration_ms, expected_total, expected_shards, started_by, shards
  counts          of tests and subtests by their last attempt: total, passed, failed,
                  errored, skipped, blocked, timed_out, aborted, running, paused,
                  queued, and flaky (of those passed)
  packages        by name: name, status, duration_ms, message, remark, counts
  package_counts  of the packages, like counts`,
		Example: `  tcm runs show last --project demo
  tcm runs show '#12' --project demo
  tcm runs show 0190b0c4-7e1f-7c3a-9d1e-1b2c3d4e5f60 --json | jq .counts.failed`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("which run? Give one id, a number such as 12, or last; tcm runs list shows them")
			}
			return nil
		},
	}
	project := g.project(c)
	asJSON := c.Flags().Bool("json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		return g.call(c.Context(), func(ctx context.Context, client *tcmanager.Client) error {
			id, err := findRun(ctx, client, *project, args[0])
			if err != nil {
				return err
			}
			resp, err := client.Execution().GetRun(ctx, &tcmv1.GetRunRequest{RunId: id})
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(g.terminal.out, describeRun(resp))
			}
			failures, err := failedRows(ctx, client, id)
			if err != nil {
				return err
			}
			return printRun(g.terminal, resp, failures)
		})
	}
	return c
}

// findRun turns what a person types into a run's id.
func findRun(ctx context.Context, client *tcmanager.Client, project, name string) (string, error) {
	if _, err := uuid.Parse(name); err == nil {
		return name, nil
	}
	number, err := strconv.ParseUint(strings.TrimPrefix(name, "#"), 10, 32)
	if err != nil && name != "last" {
		return "", fmt.Errorf("%q is no run: want an id, a number like 12, or last", name)
	}
	if err := needProject(project); err != nil {
		return "", err
	}
	token := ""
	for {
		resp, err := client.Execution().ListRuns(ctx, &tcmv1.ListRunsRequest{Project: project, PageSize: 200, PageToken: token})
		if err != nil {
			return "", err
		}
		for _, r := range resp.GetRuns() {
			if name == "last" || uint64(r.GetNumber()) == number {
				return r.GetId(), nil
			}
		}
		if token = resp.GetNextPageToken(); token == "" {
			return "", fmt.Errorf("project %s has no run %s (see tcm runs list)", project, name)
		}
	}
}

// failedRows returns the first tests of a run that did not pass.
func failedRows(ctx context.Context, client *tcmanager.Client, id string) (*tcmv1.ListResultsResponse, error) {
	return client.Execution().ListResults(ctx, &tcmv1.ListResultsRequest{RunId: id, PageSize: 20, Statuses: []tcmv1.Status{
		tcmv1.Status_STATUS_FAILED, tcmv1.Status_STATUS_ERRORED, tcmv1.Status_STATUS_TIMED_OUT, tcmv1.Status_STATUS_ABORTED, tcmv1.Status_STATUS_BLOCKED,
	}})
}

// printJSON prints v for programs.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
