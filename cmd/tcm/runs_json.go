package main

import (
	"strings"
	"time"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// The JSON that "runs show --json" prints, as its help describes it. It is for
// scripts: names may be added, and are not changed.
type (
	jsonReport struct {
		Run           jsonRun       `json:"run"`
		Counts        jsonCounts    `json:"counts"`
		Packages      []jsonPackage `json:"packages"`
		PackageCounts jsonCounts    `json:"package_counts"`
	}
	jsonSummary struct {
		Run           jsonRun    `json:"run"`
		Counts        jsonCounts `json:"counts"`
		PackageCounts jsonCounts `json:"package_counts"`
	}
	jsonRun struct {
		ID             string      `json:"id"`
		Number         uint32      `json:"number"`
		Key            string      `json:"key"`
		Name           string      `json:"name"`
		ProjectID      string      `json:"project_id"`
		State          string      `json:"state"`
		EndReason      string      `json:"end_reason,omitempty"`
		Branch         string      `json:"branch,omitempty"`
		Commit         string      `json:"commit,omitempty"`
		CIURL          string      `json:"ci_url,omitempty"`
		URL            string      `json:"url"`
		StartedAt      string      `json:"started_at,omitempty"`
		EndedAt        string      `json:"ended_at,omitempty"`
		DurationMs     int64       `json:"duration_ms"`
		ExpectedTotal  uint32      `json:"expected_total,omitempty"`
		ExpectedShards uint32      `json:"expected_shards,omitempty"`
		StartedBy      string      `json:"started_by,omitempty"`
		Shards         []jsonShard `json:"shards,omitempty"`
	}
	jsonShard struct {
		Name     string `json:"name"`
		State    string `json:"state"`
		ExitCode *int32 `json:"exit_code,omitempty"`
	}
	jsonPackage struct {
		Name       string     `json:"name"`
		Status     string     `json:"status"`
		DurationMs float64    `json:"duration_ms"`
		Message    string     `json:"message,omitempty"`
		Remark     string     `json:"remark,omitempty"`
		Counts     jsonCounts `json:"counts"`
	}
	jsonCounts struct {
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
)

// describeRun makes the JSON of a run.
func describeRun(r *tcmv1.GetRunResponse) jsonReport {
	report := jsonReport{
		Run:           runJSON(r.GetRun()),
		Counts:        countsJSON(r.GetRun().GetCounts()),
		PackageCounts: countsJSON(r.GetRun().GetSuites()),
		Packages:      []jsonPackage{},
	}
	for _, s := range r.GetSuites() {
		report.Packages = append(report.Packages, jsonPackage{
			Name: s.GetName(), Status: word(s.GetStatus()), DurationMs: s.GetDurationMs(),
			Message: s.GetError().GetMessage(), Remark: s.GetRawStatus(), Counts: countsJSON(s.GetCounts()),
		})
	}
	return report
}

// runSummaries makes the JSON of a list of runs.
func runSummaries(runs []*tcmv1.Run) []jsonSummary {
	list := []jsonSummary{}
	for _, r := range runs {
		list = append(list, jsonSummary{runJSON(r), countsJSON(r.GetCounts()), countsJSON(r.GetSuites())})
	}
	return list
}

func runJSON(r *tcmv1.Run) jsonRun {
	j := jsonRun{
		ID: r.GetId(), Number: r.GetNumber(), Key: r.GetKey(), Name: r.GetInfo().GetName(), ProjectID: r.GetProjectId(),
		State: word(r.GetState()), Branch: r.GetInfo().GetBranch(), Commit: r.GetInfo().GetCommit(), CIURL: r.GetInfo().GetCiUrl(), URL: r.GetUrl(),
		StartedAt: timeJSON(r.GetStartedAt()), EndedAt: timeJSON(r.GetEndedAt()), DurationMs: runTime(r).Milliseconds(),
		ExpectedTotal: r.GetExpectedTotal(), ExpectedShards: r.GetExpectedShards(), StartedBy: r.GetStartedBy().GetName(),
	}
	if r.GetEndReason() != 0 {
		j.EndReason = word(r.GetEndReason())
	}
	for _, s := range r.GetShards() {
		j.Shards = append(j.Shards, jsonShard{s.GetName(), word(s.GetState()), s.ExitCode})
	}
	return j
}

// countsJSON copies counts by name.
func countsJSON(c *tcmv1.Counts) jsonCounts {
	return jsonCounts{
		Total: c.GetTotal(), Passed: c.GetPassed(), Failed: c.GetFailed(), Errored: c.GetErrored(), Skipped: c.GetSkipped(), Blocked: c.GetBlocked(),
		TimedOut: c.GetTimedOut(), Aborted: c.GetAborted(), Running: c.GetRunning(), Paused: c.GetPaused(), Queued: c.GetQueued(), Flaky: c.GetFlaky(),
	}
}

// timeJSON prints a moment as RFC 3339; empty if it is unset.
func timeJSON(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().UTC().Format(time.RFC3339Nano)
}

// runTime is how long a run took, or has taken until now.
func runTime(r *tcmv1.Run) time.Duration {
	if r.GetStartedAt() == nil {
		return 0
	}
	end := time.Now()
	if r.GetEndedAt() != nil {
		end = r.GetEndedAt().AsTime()
	}
	return max(0, end.Sub(r.GetStartedAt().AsTime()))
}

// word is the name of a value of an enum without its type, in lower case:
// "timed_out".
func word(v interface{ String() string }) string {
	s := v.String()
	for _, prefix := range []string{"STATUS_", "RUN_STATE_", "END_REASON_", "SHARD_STATE_"} {
		s = strings.TrimPrefix(s, prefix)
	}
	return strings.ToLower(s)
}
