// Package bare writes to a database the rows that TCManager's stores write for results, with the same driver, tables and durability,
// and nothing else: no protocol, no rules, no validation, no lookups. It is the limit that the durable workloads are compared with.
//
// # The rows
//
// They are those of a project's first run, so that every test is new. A result is a row of results, test_names and tests, and an
// event in a batch of the run's log; a commit has, beside its results, that batch, the suites that they are of (100 tests each) in
// suite_names and run_suites, and the new counts in the rows of the run and its room.
//
// # What is measured
//
// The time of the commits, from BEGIN until COMMIT has returned. The rows are made, and the tables by the product's own migrations,
// outside of it.
package bare

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

// Result is what a measurement found.
type Result struct {
	Rows    int           // results; each is four rows, see the package
	Elapsed time.Duration // of all commits together
	// CPU is what this process took for them. With SQLite that is all; PostgreSQL takes more in processes of its own.
	CPU time.Duration
	// Of one commit.
	CommitP50, CommitP99 time.Duration
}

const (
	runID      = "0190a000-0000-7000-8000-00000000000a"
	projectID  = "0190a000-0000-7000-8000-0000000000bb"
	source     = "go"
	suiteTests = 100
	batchBytes = 64 << 10 // as the stores have it: the length of a row of the log
)

// place is where the run is: the numbers of its rows, and the epoch of its log.
type place struct {
	project, run, room, epoch int64
}

// begin makes a project and a run in a store that is empty, and closes it.
func begin(ctx context.Context, s interface {
	Update(ctx context.Context, fn func(store.Tx) error) error
	Close() error
}) error {
	err := s.Update(ctx, func(tx store.Tx) error {
		if err := tx.PutProject(&pb.Project{Id: projectID, Key: "BARE"}); err != nil {
			return err
		}
		return tx.AddRun(&pb.Run{Id: runID, Key: "1", ProjectId: projectID, State: pb.RunState_RUN_STATE_RUNNING})
	})
	if err != nil {
		err = fmt.Errorf("begin a run, for which the database has to be empty: %w", err)
	}
	return errors.Join(err, s.Close())
}

// result is one attempt of one test.
type result struct {
	seq, suite int64 // seq is the test's number too, and the offset of its event
	status     int64
	name       string
	update     []byte
}

type suite struct {
	num  int64
	name string
	data []byte
}

// batch is a row of the log.
type batch struct {
	first, last int64
	data        []byte
}

// commit is what one transaction writes.
type commit struct {
	results []result
	suites  []suite // that results are of
	made    []suite // those that are new
	batches []batch
	total   int64 // results, with these
	run     []byte
	at      int64 // microseconds since 1970
}

// last is the offset of the newest event.
func (c *commit) last() int64 { return c.results[len(c.results)-1].seq }

// makeCommit makes the results (from, to].
func makeCommit(p place, from, to int) (*commit, error) {
	c := &commit{total: int64(to), at: time.Now().UnixMicro()}
	var err error
	if c.run, err = proto.Marshal(&pb.Run{
		Id: runID, Key: "1", ProjectId: projectID, State: pb.RunState_RUN_STATE_RUNNING, Counts: &pb.Counts{Total: uint32(to)},
	}); err != nil {
		return nil, err
	}
	for seq := from + 1; seq <= to; seq++ {
		if err := c.add(p, seq); err != nil {
			return nil, err
		}
	}
	for num := from/suiteTests + 1; num <= (to-1)/suiteTests+1; num++ {
		count := uint32(min(to-(num-1)*suiteTests, suiteTests))
		s := suite{num: int64(num), name: suiteName(num)}
		if s.data, err = proto.Marshal(&pb.Suite{Name: s.name, Counts: &pb.Counts{Total: count, Passed: count}}); err != nil {
			return nil, err
		}
		c.suites = append(c.suites, s)
		if (num-1)*suiteTests >= from {
			c.made = append(c.made, s)
		}
	}
	return c, nil
}

func suiteName(num int) string { return fmt.Sprintf("golang.org/x/text/package%d", num) }

// add adds one result and its event.
func (c *commit) add(p place, seq int) error {
	suite := (seq-1)/suiteTests + 1
	u := &pb.TestExecutionUpdate{
		RunId: runID, Attempt: 1, Status: pb.Status_STATUS_PASSED, DurationMs: 12.5,
		Test:      &pb.TestRef{Source: source, Suite: suiteName(suite), Name: fmt.Sprintf("TestSomething/case_%06d", seq), Parent: "TestSomething"},
		User:      &pb.UserRef{Id: "0190a000-0000-7000-8000-0000000000aa", Name: "Ada Lovelace"},
		Timestamp: timestamppb.New(time.UnixMicro(c.at)),
	}
	data, err := proto.Marshal(u)
	if err != nil {
		return err
	}
	c.results = append(c.results, result{seq: int64(seq), suite: int64(suite), status: int64(u.Status), name: u.Test.Name, update: data})
	draft, err := event.NewDraft(event.RunRoom(runID), time.UnixMicro(c.at), nil, &pb.Event{Payload: &pb.Event_TestExecution{TestExecution: u}})
	if err != nil {
		return err
	}
	wire := draft.At(event.Position{Epoch: uint64(p.epoch), Offset: uint64(seq)}).Wire
	if n := len(c.batches); n == 0 || len(c.batches[n-1].data)+len(wire) > batchBytes {
		c.batches = append(c.batches, batch{first: int64(seq)})
	}
	b := &c.batches[len(c.batches)-1]
	b.last, b.data = int64(seq), append(b.data, wire...)
	return nil
}

// measure calls write until it has written so many rows, perCommit at a time.
func measure(ctx context.Context, p place, rows, perCommit int, write func(*commit) error) (Result, error) {
	if rows <= 0 || perCommit <= 0 {
		return Result{}, errors.New("the numbers of rows and of those in a commit must be positive")
	}
	r := Result{Rows: rows}
	var took []time.Duration
	for from := 0; from < rows; from += perCommit {
		if err := ctx.Err(); err != nil {
			return Result{}, err
		}
		c, err := makeCommit(p, from, min(from+perCommit, rows))
		if err != nil {
			return Result{}, err
		}
		start, before := time.Now(), cpu()
		if err := write(c); err != nil {
			return Result{}, fmt.Errorf("write the results from %d on: %w", from+1, err)
		}
		r.CPU += cpu() - before
		took = append(took, time.Since(start))
		r.Elapsed += took[len(took)-1]
	}
	slices.Sort(took)
	r.CommitP50, r.CommitP99 = took[len(took)*50/100], took[len(took)*99/100]
	return r, nil
}

// cpu is what this process has taken.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
