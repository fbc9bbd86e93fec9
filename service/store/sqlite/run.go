package sqlite

import (
	"database/sql"
	"fmt"
	"strings"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/column"
	"github.com/tcmanager/tcmanager/service/store/memory"
)

// runRef is what the rows of a run need to know about it.
type runRef struct{ num, project int64 }

func (r *reader) runRef(id string) (ref runRef, err error) {
	err = r.c.row("SELECT num, project FROM runs WHERE id = ? AND kept > 0", []any{id}, &ref.num, &ref.project)
	if err != nil {
		return runRef{}, fmt.Errorf("run %s: %w", id, err)
	}
	return ref, nil
}

// knownRun is what the writer remembers of a run that is kept.
type knownRun struct {
	runRef
	retried bool // some test may have more than one attempt
}

// run returns what is remembered of a run.
func (t *tx) run(id string) (knownRun, error) {
	if run, ok := t.w.names.runs.Get(id); ok {
		return run, t.c.broken
	}
	ref, err := t.reader.runRef(id)
	if err != nil {
		return knownRun{}, err
	}
	run := knownRun{runRef: ref}
	err = t.c.row("SELECT EXISTS (SELECT 1 FROM results WHERE run = ? AND attempt > 1)", []any{ref.num}, &run.retried)
	if err != nil {
		return knownRun{}, fmt.Errorf("attempts of run %s: %w", id, err)
	}
	t.w.names.runs.Put(strings.Clone(id), run)
	return run, nil
}

func (t *tx) runRef(id string) (runRef, error) {
	run, err := t.run(id)
	return run.runRef, err
}

const selectRun = `SELECT r.num, r.id, p.id, r.number, r.key, r.kept, r.data
	FROM runs r JOIN projects p ON p.num = r.project `

// storedRun is a run with its key.
type storedRun struct {
	num int64
	run *pb.Run
}

func scanRun(rows *sql.Rows) (storedRun, error) {
	var (
		num              int64
		id, project, key string
		number           uint32
		kept             store.Kept
		data             []byte
	)
	if err := rows.Scan(&num, &id, &project, &number, &key, &kept, &data); err != nil {
		return storedRun{}, err
	}
	run := &pb.Run{}
	if err := column.Decode(data, run); err != nil {
		return storedRun{}, err
	}
	run.Id, run.ProjectId, run.Number, run.Key = id, project, number, key
	run.ResultsTrimmed = kept == store.KeptTrimmed
	return storedRun{num, run}, nil
}

// oneRun returns the first run of a query, with its shards.
func (r *reader) oneRun(where string, args ...any) (*pb.Run, error) {
	runs, err := r.runsWithShards(where, args...)
	if err != nil {
		return nil, err
	}
	if len(runs) == 0 {
		return nil, store.ErrNotFound
	}
	return runs[0], nil
}

func (r *reader) runsWithShards(where string, args ...any) ([]*pb.Run, error) {
	found, err := all(r.c, scanRun, selectRun+where, args...)
	if err != nil {
		return nil, err
	}
	runs := make([]*pb.Run, len(found))
	for i, f := range found {
		shards, err := r.shards(f.num, f.run.Id)
		if err != nil {
			return nil, err
		}
		for _, s := range shards {
			f.run.Shards = append(f.run.Shards, column.Shard(s))
		}
		runs[i] = f.run
	}
	return runs, nil
}

// Run returns a run with its shards.
func (r *reader) Run(id string) (*pb.Run, error) {
	run, err := r.oneRun("WHERE r.id = ? AND r.kept > 0", id)
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", id, err)
	}
	return run, nil
}

// RunByKey returns a project's run with its shards.
func (r *reader) RunByKey(projectID, key string) (*pb.Run, error) {
	run, err := r.oneRun("WHERE p.id = ? AND r.key = ? AND r.kept > 0", projectID, key)
	if err != nil {
		return nil, fmt.Errorf("run with key %q of project %s: %w", key, projectID, err)
	}
	return run, nil
}

// Runs returns a page of a project's runs.
func (r *reader) Runs(projectID string, before uint32, limit int) ([]*pb.Run, error) {
	below := int64(before)
	if before == 0 {
		below = 1 << 32
	}
	runs, err := all(r.c, func(rows *sql.Rows) (*pb.Run, error) {
		f, err := scanRun(rows)
		return f.run, err
	}, selectRun+"WHERE p.id = ? AND r.number < ? AND r.kept > 0 ORDER BY r.number DESC LIMIT ?", projectID, below, max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("runs of project %s: %w", projectID, err)
	}
	return runs, nil
}

// RunningRuns returns the runs in state RUNNING; 2 is that state, written out so
// that the index of only those is used.
func (r *reader) RunningRuns(projectID string) (runs []*pb.Run, err error) {
	if projectID == "" {
		runs, err = r.runsWithShards("WHERE r.state = 2")
	} else {
		runs, err = r.runsWithShards("WHERE r.state = 2 AND p.id = ?", projectID)
	}
	if err != nil {
		return nil, fmt.Errorf("running runs: %w", err)
	}
	return runs, nil
}

// LastTotal returns how many tests the last completed run like this one had; 1
// and 2 are the end reasons PASSED and FAILED.
func (r *reader) LastTotal(projectID, source, name string) (uint32, error) {
	var totals []uint32
	totals, err := all(r.c, func(rows *sql.Rows) (n uint32, err error) { return n, rows.Scan(&n) },
		`SELECT r.total FROM projects p JOIN runs r ON r.project = p.num
		WHERE p.id = ? AND r.source = ? AND r.name = ? AND r.end_reason IN (1, 2)
		ORDER BY r.number DESC LIMIT 1`, projectID, source, name)
	if err != nil {
		return 0, fmt.Errorf("total of the last run of project %s: %w", projectID, err)
	}
	if len(totals) == 0 {
		return 0, nil
	}
	return totals[0], nil
}

// AddRun stores a new run with the project's next number, and makes its room.
func (t *tx) AddRun(run *pb.Run) error {
	project, err := t.projectNum(run.ProjectId)
	if err != nil {
		return fmt.Errorf("add a run: %w", err)
	}
	var number uint32
	if err := t.c.row("SELECT coalesce(max(number), 0) + 1 FROM runs WHERE project = ?", []any{project}, &number); err != nil {
		return fmt.Errorf("number a run: %w", err)
	}
	data, err := column.EncodeRun(run)
	if err != nil {
		return err
	}
	_, err = t.c.exec(`INSERT INTO runs (id, project, number, key, state, end_reason, source, name, total, started_at, ended_at, data)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		run.Id, project, number, run.Key, int64(run.State), int64(run.EndReason), run.GetInfo().GetSource(), run.GetInfo().GetName(),
		run.GetCounts().GetTotal(), column.Micros(run.StartedAt), column.Micros(run.EndedAt), data)
	if err == nil {
		_, err = t.makeRoom(event.RunRoom(run.Id))
	}
	if err != nil {
		return fmt.Errorf("add run %s: %w", run.Key, err)
	}
	run.Number = number
	t.bytes += len(data)
	return nil
}

// PutRun stores what can change of a run.
func (t *tx) PutRun(run *pb.Run) error {
	ref, err := t.runRef(run.Id)
	if err != nil {
		return fmt.Errorf("store a run: %w", err)
	}
	n, err := t.w.pending.PutRun(ref.num, run)
	if err != nil {
		return fmt.Errorf("store run %s: %w", run.Id, err)
	}
	t.bytes += n
	return nil
}

const selectShard = "SELECT name, state, incarnation, committed, changed_at, exit_code FROM shards "

func scanShard(runID string) func(*sql.Rows) (store.Shard, error) {
	return func(rows *sql.Rows) (store.Shard, error) {
		var incarnation, committed, changed int64
		s := store.Shard{RunID: runID}
		err := rows.Scan(&s.Name, &s.State, &incarnation, &committed, &changed, &s.ExitCode)
		s.Incarnation, s.Committed, s.ChangedAt = uint64(incarnation), uint64(committed), column.Moment(changed)
		return s, err
	}
}

func (r *reader) shards(run int64, runID string) ([]store.Shard, error) {
	return all(r.c, scanShard(runID), selectShard+"WHERE run = ? ORDER BY name", run)
}

// Shards returns a run's shards.
func (r *reader) Shards(runID string) ([]store.Shard, error) {
	shards, err := all(r.c, scanShard(runID), selectShard+"WHERE run = (SELECT num FROM runs WHERE id = ? AND kept > 0) ORDER BY name", runID)
	if err != nil {
		return nil, fmt.Errorf("shards of run %s: %w", runID, err)
	}
	return shards, nil
}

// Shard returns a shard of a run.
func (r *reader) Shard(runID, name string) (store.Shard, error) {
	shards, err := all(r.c, scanShard(runID), selectShard+"WHERE run = (SELECT num FROM runs WHERE id = ? AND kept > 0) AND name = ?", runID, name)
	if err == nil && len(shards) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return store.Shard{}, fmt.Errorf("shard %q of run %s: %w", name, runID, err)
	}
	return shards[0], nil
}

// Shard returns a shard of a run, as this transaction has it.
func (t *tx) Shard(runID, name string) (store.Shard, error) {
	if shard, ok := t.w.names.shards.Get(runID, name); ok {
		return shard, t.c.broken
	}
	shard, err := t.reader.Shard(runID, name)
	if err == nil {
		t.w.names.shards.Put(shard)
	}
	return shard, err
}

// PutShard makes or changes a shard.
func (t *tx) PutShard(s store.Shard) error {
	run, err := t.runRef(s.RunID)
	if err != nil {
		return fmt.Errorf("store shard %q: %w", s.Name, err)
	}
	t.w.names.shards.Put(s)
	s, _ = t.w.names.shards.Get(s.RunID, s.Name) // whose texts are no part of a request
	t.w.pending.Shards.Put(memory.RowKey{Run: run.num, Name: s.Name}, s)
	return nil
}

// Suites returns a run's suites.
func (r *reader) Suites(runID string, limit int) ([]*pb.Suite, error) {
	suites, err := all(r.c, func(rows *sql.Rows) (*pb.Suite, error) {
		var data []byte
		if err := rows.Scan(&data); err != nil {
			return nil, err
		}
		s := &pb.Suite{}
		return s, column.Decode(data, s)
	}, "SELECT data FROM run_suites WHERE run = (SELECT num FROM runs WHERE id = ? AND kept > 0) ORDER BY name LIMIT ?", runID, max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("suites of run %s: %w", runID, err)
	}
	return suites, nil
}

// PutSuites makes or changes suites of a run.
func (t *tx) PutSuites(runID string, suites []*pb.Suite) error {
	run, err := t.runRef(runID)
	if err != nil {
		return fmt.Errorf("store suites: %w", err)
	}
	for _, s := range suites {
		data, err := column.Encode(s)
		if err != nil {
			return err
		}
		t.w.pending.Suites.Put(memory.RowKey{Run: run.num, Name: s.Name}, data)
		t.bytes += len(data)
	}
	return nil
}
