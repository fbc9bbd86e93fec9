package postgres

import (
	"errors"
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
	err = r.row("SELECT num, project FROM runs WHERE id = $1 AND kept > 0", []any{text(id)}, &ref.num, &ref.project)
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
func (t *tx) run(id string) (run knownRun, err error) {
	if run, ok := t.w.names.runs.Get(id); ok {
		return run, t.w.broken
	}
	err = t.row(`SELECT r.num, r.project, EXISTS (SELECT 1 FROM results WHERE run = r.num AND attempt > 1)
		FROM runs r WHERE r.id = $1 AND r.kept > 0`, []any{text(id)}, &run.num, &run.project, &run.retried)
	if err != nil {
		return knownRun{}, fmt.Errorf("run %s: %w", id, err)
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

func scanRun(rows rows) (storedRun, error) {
	var (
		num              int64
		id, project, key string
		number           uint32
		kept             store.Kept
		data             []byte
	)
	if err := rows.Scan(&num, into(&id), into(&project), &number, into(&key), &kept, &data); err != nil {
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
	found, err := all(r, scanRun, selectRun+where, args...)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	runs, nums, byNum := make([]*pb.Run, len(found)), make([]int64, len(found)), map[int64]*pb.Run{}
	for i, f := range found {
		runs[i], nums[i], byNum[f.num] = f.run, f.num, f.run
	}
	err = r.each(selectShard+"WHERE run = ANY($1::bigint[]) ORDER BY run, name", []any{nums}, func(rows rows) error {
		run, s, err := scanShard(rows)
		if err == nil {
			byNum[run].Shards = append(byNum[run].Shards, column.Shard(s))
		}
		return err
	})
	return runs, err
}

// Run returns a run with its shards.
func (r *reader) Run(id string) (*pb.Run, error) {
	run, err := r.oneRun("WHERE r.id = $1 AND r.kept > 0", text(id))
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", id, err)
	}
	return run, nil
}

// RunByKey returns a project's run with its shards.
func (r *reader) RunByKey(projectID, key string) (*pb.Run, error) {
	run, err := r.oneRun("WHERE p.id = $1 AND r.key = $2 AND r.kept > 0", text(projectID), text(key))
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
	runs, err := all(r, func(rows rows) (*pb.Run, error) {
		f, err := scanRun(rows)
		return f.run, err
	}, selectRun+"WHERE r.project = (SELECT num FROM projects WHERE id = $1) AND r.number < $2 AND r.kept > 0 ORDER BY r.number DESC LIMIT $3", text(projectID), below, max(limit, 0))
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
		runs, err = r.runsWithShards("WHERE r.state = 2 AND r.project = (SELECT num FROM projects WHERE id = $1)", text(projectID))
	}
	if err != nil {
		return nil, fmt.Errorf("running runs: %w", err)
	}
	return runs, nil
}

// LastTotal returns how many tests the last completed run like this one had; 1
// and 2 are the end reasons PASSED and FAILED.
func (r *reader) LastTotal(projectID, source, name string) (total uint32, err error) {
	err = r.row(`SELECT total FROM runs WHERE project = (SELECT num FROM projects WHERE id = $1)
		AND source = $2 AND name = $3 AND end_reason IN (1, 2) ORDER BY number DESC LIMIT 1`, []any{text(projectID), text(source), text(name)}, &total)
	if column.OrNone(err) != nil {
		return 0, fmt.Errorf("total of the last run of project %s: %w", projectID, err)
	}
	return total, nil
}

// AddRun stores a new run with the project's next number, and makes its room.
func (t *tx) AddRun(run *pb.Run) error {
	project, err := t.projectNum(run.ProjectId)
	if err != nil {
		return fmt.Errorf("add a run: %w", err)
	}
	data, err := column.EncodeRun(run)
	if err != nil {
		return err
	}
	number, err := t.runNumber(project, run)
	ref := runRef{project: project}
	if err == nil {
		ref.num = next(&t.w.nums.runs)
		err = t.note(`INSERT INTO runs (num, id, project, number, key, state, end_reason, source, name, total, started_at, ended_at, data)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`, ref.num,
			text(run.Id), project, int64(number), text(run.Key), int64(run.State), int64(run.EndReason), text(run.GetInfo().GetSource()), text(run.GetInfo().GetName()),
			int64(run.GetCounts().GetTotal()), column.Micros(run.StartedAt), column.Micros(run.EndedAt), data)
	}
	if err == nil {
		t.w.names.runs.Put(run.Id, knownRun{runRef: ref})
		_, err = t.makeRoom(event.RunRoom(run.Id))
	}
	if err != nil {
		return fmt.Errorf("add run %s: %w", run.Key, err)
	}
	run.Number = number
	t.bytes += len(data)
	return nil
}

// runNumber returns the next number of a project; ErrExists if the run's id or key
// is taken.
func (t *tx) runNumber(project int64, run *pb.Run) (number uint32, err error) {
	err = errors.Join(checkKey("the id", run.Id), checkKey("the key", run.Key), checkIndexed(run))
	var taken bool
	if err == nil {
		err = t.row(`SELECT coalesce((SELECT max(number) FROM runs WHERE project = $1), 0) + 1,
			EXISTS (SELECT 1 FROM runs WHERE project = $1 AND key = $2) OR EXISTS (SELECT 1 FROM runs WHERE id = $3)`,
			[]any{project, text(run.Key), text(run.Id)}, &number, &taken)
	}
	if taken {
		err = store.ErrExists
	}
	return number, err
}

// checkIndexed checks what the index of completed runs has of a run.
func checkIndexed(run *pb.Run) error {
	return errors.Join(checkKey("the source", run.GetInfo().GetSource()), checkKey("the name", run.GetInfo().GetName()))
}

// PutRun stores what can change of a run.
func (t *tx) PutRun(run *pb.Run) error {
	ref, err := t.runRef(run.Id)
	if err == nil {
		err = checkIndexed(run)
	}
	var n int
	if err == nil {
		n, err = t.w.pending.PutRun(ref.num, run)
	}
	if err != nil {
		return fmt.Errorf("store run %s: %w", run.Id, err)
	}
	t.bytes += n
	return nil
}

const selectShard = "SELECT run, name, state, incarnation, committed, changed_at, exit_code FROM shards "

func scanShard(rows rows) (run int64, s store.Shard, err error) {
	var incarnation, committed, changed int64
	err = rows.Scan(&run, into(&s.Name), &s.State, &incarnation, &committed, &changed, &s.ExitCode)
	s.Incarnation, s.Committed, s.ChangedAt = uint64(incarnation), uint64(committed), column.Moment(changed)
	return run, s, err
}

func scanShardOf(runID string) func(rows) (store.Shard, error) {
	return func(rows rows) (store.Shard, error) {
		_, s, err := scanShard(rows)
		s.RunID = runID
		return s, err
	}
}

// Shards returns a run's shards.
func (r *reader) Shards(runID string) ([]store.Shard, error) {
	shards, err := all(r, scanShardOf(runID), selectShard+"WHERE run = (SELECT num FROM runs WHERE id = $1 AND kept > 0) ORDER BY name", text(runID))
	if err != nil {
		return nil, fmt.Errorf("shards of run %s: %w", runID, err)
	}
	return shards, nil
}

// Shard returns a shard of a run.
func (r *reader) Shard(runID, name string) (store.Shard, error) {
	shards, err := all(r, scanShardOf(runID), selectShard+"WHERE run = (SELECT num FROM runs WHERE id = $1 AND kept > 0) AND name = $2", text(runID), text(name))
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
		return shard, t.w.broken
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
	if err := checkKey("the name", s.Name); err != nil {
		return fmt.Errorf("store shard %q of run %s: %w", s.Name, s.RunID, err)
	}
	t.w.names.shards.Put(s)
	s, _ = t.w.names.shards.Get(s.RunID, s.Name) // whose texts are no part of a request
	t.w.pending.Shards.Put(memory.RowKey{Run: run.num, Name: s.Name}, s)
	return nil
}

// Suites returns a run's suites. The index has how their names begin; what it says
// of the order is only sorted within equal beginnings.
func (r *reader) Suites(runID string, limit int) ([]*pb.Suite, error) {
	suites, err := all(r, func(rows rows) (*pb.Suite, error) {
		var data []byte
		if err := rows.Scan(&data); err != nil {
			return nil, err
		}
		s := &pb.Suite{}
		return s, column.Decode(data, s)
	}, `SELECT data FROM run_suites WHERE run = (SELECT num FROM runs WHERE id = $1 AND kept > 0)
		ORDER BY substring(name FROM 1 FOR 512), name LIMIT $2`, text(runID), max(limit, 0))
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
