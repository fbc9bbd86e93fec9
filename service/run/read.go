package run

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"

	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/page"
	"github.com/tcmanager/tcmanager/service/store"
)

const (
	defaultRuns    = 50
	defaultRows    = 5000
	outputBytes    = 256 << 10
	snapshotTests  = 200 // running tests, and failures, in a snapshot
	suitesReturned = maxSuites
	detailsBytes   = 1 << 20 // of failures' details in one answer; the client takes 4 MiB at once
)

// The lists that are read in pages.
const (
	runList    page.List = "runs"
	resultList page.List = "results"
	outputList page.List = "output"
)

// view runs fn on a run that the caller may read.
func (s *Service) view(ctx context.Context, runID string, fn func(store.Reader, *pb.Run) error) error {
	caller, err := identity.From(ctx)
	if err != nil {
		return err
	}
	return s.store.View(ctx, func(r store.Reader) error {
		run, err := s.readable(r, caller.User.Id, runID)
		if err != nil {
			return err
		}
		return fn(r, run)
	})
}

// readable returns a run that a user may read.
func (s *Service) readable(r store.Reader, userID, runID string) (*pb.Run, error) {
	return s.runFor(r, userID, runID, access.Read)
}

// runFor returns a run that a user may do something to.
func (s *Service) runFor(r store.Reader, userID, runID string, action access.Action) (*pb.Run, error) {
	run, err := r.Run(runID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, missing(r, userID, runID, action)
	}
	if err != nil {
		return nil, fmt.Errorf("read run %s: %w", runID, err)
	}
	if err := access.Check(r, userID, run.ProjectId, action); err != nil {
		return nil, err
	}
	return s.withURL(run), nil
}

// GetRun returns a run with its suites.
func (s *Service) GetRun(ctx context.Context, req *pb.GetRunRequest) (*pb.GetRunResponse, error) {
	resp := &pb.GetRunResponse{}
	err := s.view(ctx, req.RunId, func(r store.Reader, run *pb.Run) (err error) {
		resp.Run = run
		resp.Suites, err = suitesOf(r, run.Id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// ListRuns returns a page of a project's runs.
func (s *Service) ListRuns(ctx context.Context, req *pb.ListRunsRequest) (*pb.ListRunsResponse, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	before, err := runList.Number(req.PageToken)
	if err != nil {
		return nil, err
	}
	if before > math.MaxUint32 {
		return nil, page.ErrToken
	}
	size := page.Size(req.PageSize, defaultRuns)
	resp := &pb.ListRunsResponse{}
	err = s.store.View(ctx, func(r store.Reader) error {
		p, err := access.Project(r, caller.User.Id, req.Project, access.Read)
		if err != nil {
			return err
		}
		resp.Runs, err = r.Runs(p.Id, uint32(before), size+1)
		return err
	})
	if err != nil {
		return nil, err
	}
	var last string
	resp.Runs, last = page.Cut(resp.Runs, size, func(run *pb.Run) string { return strconv.FormatUint(uint64(run.Number), 10) })
	resp.NextPageToken = runList.Token(last)
	for _, run := range resp.Runs {
		s.withURL(run)
	}
	return resp, nil
}

// ListResults returns a page of a run's rows.
func (s *Service) ListResults(ctx context.Context, req *pb.ListResultsRequest) (*pb.ListResultsResponse, error) {
	after, err := resultList.Number(req.PageToken)
	if err != nil {
		return nil, err
	}
	rows := rowsPage{size: page.Size(req.PageSize, defaultRows), suites: map[string]uint32{}}
	err = s.view(ctx, req.RunId, func(r store.Reader, run *pb.Run) error { return rows.read(r, run.Id, after, req.Statuses) })
	if err != nil {
		return nil, err
	}
	return &rows.ListResultsResponse, nil
}

// The bounds of a page of rows beside the number that was asked for: what its
// reader decodes at a time, and what fits a client that takes no more than
// gRPC's usual 4 MiB at once.
const (
	rowsAtOnce = 1000
	rowsBytes  = 2 << 20
)

// rowsPage is a page of rows that is being filled.
type rowsPage struct {
	pb.ListResultsResponse
	size   int
	bytes  int
	suites map[string]uint32 // their indices
}

// read fills the page with the rows after a place.
func (p *rowsPage) read(r store.Reader, runID string, after uint64, statuses []pb.Status) error {
	for {
		limit := min(rowsAtOnce, p.size-len(p.Rows)+1) // one more shows that there is a next page
		results, err := r.Results(runID, store.ResultQuery{AfterSeq: after, Statuses: statuses, Limit: limit})
		if err != nil {
			return fmt.Errorf("read results of run %s: %w", runID, err)
		}
		for _, res := range results {
			if len(p.Rows) >= p.size || p.bytes >= rowsBytes {
				p.NextPageToken = resultList.NumberToken(after)
				return nil
			}
			if err := p.add(res); err != nil {
				return err
			}
			after = res.Seq
		}
		if len(results) < limit {
			return nil
		}
	}
}

// add translates a stored result into a row, with each suite's name once.
func (p *rowsPage) add(res store.Result) error {
	i, ok := p.suites[res.Suite]
	if !ok {
		i = uint32(len(p.Suites))
		p.suites[res.Suite] = i
		p.Suites = append(p.Suites, res.Suite)
		p.bytes += len(res.Suite)
	}
	var u pb.TestExecutionUpdate
	if err := proto.Unmarshal(res.Update, &u); err != nil {
		return fmt.Errorf("decode the row of %s in %s: %w", res.Name, res.Suite, err)
	}
	row := &pb.ResultRow{
		Suite: i, Name: res.Name, Parent: u.Test.GetParent(), Kind: u.Test.GetKind(),
		Status: res.Status, Attempt: res.Attempt, DurationMs: u.DurationMs,
		Message: u.Error.GetMessage(), File: u.Error.GetFile(), Line: u.Error.GetLine(),
		Flags: u.Flags, Offset: res.Offset, StartedAt: u.StartedAt, Progress: u.Progress, TestCaseId: u.TestCaseId,
	}
	p.Rows = append(p.Rows, row)
	p.bytes += proto.Size(row)
	return nil
}

// ReadOutput returns a part of what was printed.
func (s *Service) ReadOutput(ctx context.Context, req *pb.ReadOutputRequest) (*pb.ReadOutputResponse, error) {
	after, err := outputList.Number(req.PageToken)
	if err != nil {
		return nil, err
	}
	resp := &pb.ReadOutputResponse{}
	err = s.view(ctx, req.RunId, func(r store.Reader, run *pb.Run) error {
		key := store.OutputKey{RunID: run.Id, Suite: req.Suite, Name: req.Name, Attempt: req.Attempt}
		part, err := r.Output(key, int64(after), outputBytes)
		if err != nil {
			return fmt.Errorf("read output: %w", err)
		}
		resp.Data, resp.More, resp.NextToken = part.Data, part.More, outputList.NumberToken(uint64(part.Next))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// Room is the source of testrun: rooms.
type Room struct{ *Service }

// Enter checks that a user may do something in a run's room. It returns
// access.ErrDenied also for a run that doesn't exist, and RUN_DELETED for one that was
// deleted if the user may do it to others of its project.
func (m Room) Enter(r store.Reader, userID string, room event.Room, action access.Action) (event.Room, error) {
	_, err := m.runFor(r, userID, room.ID(), action)
	return room, err
}

// Snapshot is the run, its suites, the tests in flight and the newest failures.
func (m Room) Snapshot(r store.Reader, userID string, room event.Room, j *pb.Joined) error {
	run, err := m.readable(r, userID, room.ID())
	if err != nil {
		return err
	}
	snap := &pb.RunSnapshot{Run: run}
	if snap.Suites, err = suitesOf(r, run.Id); err != nil {
		return err
	}
	if snap.Running, err = newest(r, run.Id, pb.Status_STATUS_RUNNING, pb.Status_STATUS_PAUSED); err != nil {
		return err
	}
	if snap.Failures, err = newest(r, run.Id, pb.Status_STATUS_FAILED, pb.Status_STATUS_ERRORED,
		pb.Status_STATUS_TIMED_OUT, pb.Status_STATUS_ABORTED); err != nil {
		return err
	}
	j.Snapshot = &pb.Joined_Run{Run: snap}
	return nil
}

// newest returns the tests in some states, the newest change first.
func newest(r store.Reader, runID string, statuses ...pb.Status) ([]*pb.TestExecutionUpdate, error) {
	results, err := r.Results(runID, store.ResultQuery{Statuses: statuses, Limit: snapshotTests, Descending: true})
	if err != nil {
		return nil, fmt.Errorf("read results of run %s: %w", runID, err)
	}
	out := make([]*pb.TestExecutionUpdate, 0, len(results))
	details := 0
	for _, res := range results {
		u := &pb.TestExecutionUpdate{}
		if err := proto.Unmarshal(res.Update, u); err != nil {
			return nil, fmt.Errorf("decode the row of %s in %s: %w", res.Name, res.Suite, err)
		}
		out = append(out, u)
		details = shorten(u.Error, details)
	}
	return out, nil
}

// suitesOf returns the suites of a run.
func suitesOf(r store.Reader, runID string) ([]*pb.Suite, error) {
	suites, err := r.Suites(runID, suitesReturned)
	if err != nil {
		return nil, fmt.Errorf("read the suites of run %s: %w", runID, err)
	}
	details := 0
	for _, s := range suites {
		details = shorten(s.Error, details)
	}
	return suites, nil
}

// shorten drops the details of a failure if those before it take as much as fits
// an answer; the output has them too. It returns how much they take now.
func shorten(f *pb.Failure, sofar int) int {
	if f == nil {
		return sofar
	}
	if sofar += len(f.Details); sofar > detailsBytes {
		f.Details = ""
	}
	return sofar
}
