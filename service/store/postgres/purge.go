package postgres

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

// purgeBounds is the work of one call of PurgeRuns, some milliseconds of the writer.
var purgeBounds = budget{rows: 500, bytes: 4 << 20}

func scanID(rows rows) (id string, err error) { return id, rows.Scan(into(&id)) }

// EndedRuns returns runs that ended before a moment.
func (r *reader) EndedRuns(kept store.Kept, before time.Time, limit int) ([]string, error) {
	ids, err := all(r, scanID, "SELECT id FROM runs WHERE kept = $1 AND ended_at < $2 ORDER BY ended_at LIMIT $3",
		int64(kept), before.UnixMicro(), max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("runs that ended before %s: %w", before, err)
	}
	return ids, nil
}

// surplusRuns looks up once a project which number the last of the newest has.
const surplusRuns = `SELECT r.id FROM projects p CROSS JOIN LATERAL (
		SELECT number FROM runs WHERE project = p.num AND kept > 0 ORDER BY number DESC LIMIT 1 OFFSET $1) n
	CROSS JOIN LATERAL (
		SELECT id FROM runs WHERE project = p.num AND kept > 0 AND number < n.number AND ended_at < $2 ORDER BY number LIMIT $3) r
	LIMIT $3`

// SurplusRuns returns runs that are not among the newest of their project.
func (r *reader) SurplusRuns(newest int, before time.Time, limit int) ([]string, error) {
	ids, err := all(r, scanID, surplusRuns, int64(max(newest-1, 0)), before.UnixMicro(), int64(max(limit, 0)))
	if err != nil {
		return nil, fmt.Errorf("runs behind the newest %d: %w", newest, err)
	}
	return ids, nil
}

// DeletedRun returns the project of a run that was deleted.
func (r *reader) DeletedRun(id string) (project string, err error) {
	err = r.row("SELECT p.id FROM runs r JOIN projects p ON p.num = r.project WHERE r.id = $1 AND r.kept = 0", []any{text(id)}, into(&project))
	if err != nil {
		return "", fmt.Errorf("deleted run %s: %w", id, err)
	}
	return project, nil
}

// beginPurge has PurgeRuns begin with a run, also if a part of it was purged.
const beginPurge = "INSERT INTO purges (run) VALUES ($1) ON CONFLICT (run) DO UPDATE SET stage = 0, a = 0, b = 0, c = 0"

// TrimRun marks a run as trimmed.
func (t *tx) TrimRun(id string) error {
	run, err := t.runRef(id)
	var kept store.Kept
	if err == nil {
		err = t.row("SELECT kept FROM runs WHERE num = $1", []any{run.num}, &kept)
	}
	if err == nil && kept == store.KeptWhole {
		err = errors.Join(t.note("UPDATE runs SET kept = 1 WHERE num = $1", run.num), t.note(beginPurge, run.num))
	}
	if err != nil {
		return fmt.Errorf("trim run %s: %w", id, err)
	}
	return nil
}

// DeleteRun leaves of a run what keeps its id, its number and its key taken.
func (t *tx) DeleteRun(id string) error {
	run, err := t.runRef(id)
	var shards []store.Shard
	if err == nil {
		shards, err = t.Shards(id)
	}
	if err == nil {
		err = t.note(`UPDATE runs SET kept = 0, state = 0, end_reason = 0, source = '', name = '', total = 0, started_at = NULL, ended_at = NULL, data = NULL
			WHERE num = $1`, run.num)
	}
	if err == nil {
		err = t.note(beginPurge, run.num)
	}
	if err != nil {
		return fmt.Errorf("delete run %s: %w", id, err)
	}
	t.w.names.runs.Drop(id)
	for _, s := range shards {
		t.w.names.shards.Drop(id, s.Name)
	}
	return nil
}

// purge is a run of which something is to be dropped.
type purge struct {
	run   int64
	id    string
	whole bool // it was deleted
	stage int
	after [3]int64 // the key of the row behind which the stage goes on; zero at its beginning
}

// stage is what is dropped one after the other: the rows of a run, or of its room,
// by a key of up to three numbers. It goes on behind the last row that was looked
// at, so that rows that stay are passed once.
type stage struct {
	page, drop string
	trim       string // what is added to drop for a run that is only trimmed
	keys       int    // how many numbers a key has
	ofRoom     bool   // the rows are of the run's room
	whole      bool   // they stay in a run that is only trimmed
}

// The results of tests that did not pass stay in a run that is trimmed: FAILED,
// ERRORED, TIMED_OUT and ABORTED are 5, 6, 9 and 10.
var stages = []stage{
	{
		keys: 2, trim: " AND status NOT IN (5, 6, 9, 10)",
		page: "SELECT seq, attempt, 0::bigint, length(data), status IN (5, 6, 9, 10) FROM results WHERE run = $1 AND (seq, attempt) > ($2, $3) ORDER BY seq, attempt LIMIT $4",
		drop: "DELETE FROM results WHERE run = $1 AND (seq, attempt) > ($2, $3) AND (seq, attempt) <= ($4, $5)",
	},
	{
		keys: 3,
		page: "SELECT name, attempt, num, length(data), false FROM output WHERE run = $1 AND (name, attempt, num) > ($2, $3, $4) ORDER BY name, attempt, num LIMIT $5",
		drop: "DELETE FROM output WHERE run = $1 AND (name, attempt, num) > ($2, $3, $4) AND (name, attempt, num) <= ($5, $6, $7)",
	},
	{
		keys: 1, ofRoom: true, whole: true,
		page: "SELECT last, 0::bigint, 0::bigint, length(data), false FROM event_batches WHERE room = $1 AND last > $2 ORDER BY last LIMIT $3",
		drop: "DELETE FROM event_batches WHERE room = $1 AND last > $2 AND last <= $3",
	},
}

// stepRows is what a step costs beside its rows, in rows: many small runs, too, are
// a bounded piece of work.
const stepRows = 5

// errUnwritten says that the last events of a run's room are written at the end of
// the group.
var errUnwritten = errors.New("events of the run are not written yet")

// PurgeRuns drops what is left of runs, of one after the other.
func (t *tx) PurgeRuns() (store.Purged, error) {
	var done store.Purged
	left := purgeBounds
	for !left.spent() {
		p := purge{}
		var kept store.Kept
		err := t.row("SELECT q.run, r.id, r.kept, q.stage, q.a, q.b, q.c FROM purges q JOIN runs r ON r.num = q.run ORDER BY q.run LIMIT 1", nil,
			&p.run, into(&p.id), &kept, &p.stage, &p.after[0], &p.after[1], &p.after[2])
		if errors.Is(err, store.ErrNotFound) {
			return done, nil
		}
		p.whole = kept == 0
		if err == nil {
			left.rows -= stepRows
			err = t.purgeStep(&done, &left, p)
		}
		if errors.Is(err, errUnwritten) {
			break
		}
		if err != nil {
			return store.Purged{}, fmt.Errorf("drop what is left of run %s: %w", p.id, err)
		}
	}
	t.bytes += purgeBounds.bytes - left.bytes
	done.More = true
	return done, nil
}

func (t *tx) purgeStep(done *store.Purged, left *budget, p purge) error {
	switch {
	case p.stage < len(stages):
		return t.purgeRows(done, left, p, stages[p.stage])
	case p.stage == len(stages) && p.whole:
		return t.purgeSuites(done, left, p)
	case p.whole:
		err := errors.Join(t.note("DELETE FROM shards WHERE run = $1", p.run),
			t.note("DELETE FROM rooms WHERE name = $1", text(event.RunRoom(p.id))))
		if err != nil {
			return err
		}
	}
	return t.note("DELETE FROM purges WHERE run = $1", p.run)
}

// purgeRows drops the next rows of a stage.
func (t *tx) purgeRows(done *store.Purged, left *budget, p purge, s stage) error {
	if s.whole && !p.whole {
		return t.nextStage(p)
	}
	of, err := t.owner(p, s)
	if errors.Is(err, store.ErrNotFound) {
		return t.nextStage(p)
	}
	if err != nil {
		return err
	}
	from := key(p.after, s.keys)
	read, last, err := t.page(done, left, &p, s, of)
	if err != nil {
		return err
	}
	if read == 0 {
		return t.nextStage(p)
	}
	drop := s.drop
	if !p.whole {
		drop += s.trim
	}
	if err := t.note(drop, slices.Concat([]any{of}, from, key(p.after, s.keys))...); err != nil {
		return err
	}
	if last {
		return t.nextStage(p)
	}
	return t.note("UPDATE purges SET a = $1, b = $2, c = $3 WHERE run = $4", p.after[0], p.after[1], p.after[2], p.run)
}

// owner returns the number by which the rows of a stage are found: the run's or its
// room's; ErrNotFound if there is none.
func (t *tx) owner(p purge, s stage) (num int64, err error) {
	if !s.ofRoom {
		return p.run, nil
	}
	room := event.RunRoom(p.id)
	if !t.w.rooms.Forget(room) {
		return 0, errUnwritten
	}
	err = t.row("SELECT num FROM rooms WHERE name = $1", []any{text(room)}, &num)
	return num, err
}

// page looks at the next rows of a stage, as many as may still be dropped, and moves
// p behind them. It returns how many that were, and whether they are the last.
func (t *tx) page(done *store.Purged, left *budget, p *purge, s stage, of int64) (read int, last bool, err error) {
	limit := max(left.rows, 1)
	cut := false
	err = t.each(s.page, slices.Concat([]any{of}, key(p.after, s.keys), []any{limit}), func(rows rows) error {
		if left.spent() && read > 0 {
			cut = true
			return errStop
		}
		var bytes *int64 // NULL for a row without data
		var failure bool
		if err := rows.Scan(&p.after[0], &p.after[1], &p.after[2], &bytes, &failure); err != nil {
			return err
		}
		read++
		left.rows--
		if bytes != nil {
			left.bytes -= int(*bytes)
		}
		if p.whole || !failure {
			done.Rows++
		}
		return nil
	})
	return read, !cut && read < limit, err
}

// key returns the parameters of a key.
func key(k [3]int64, n int) []any {
	args := make([]any, n)
	for i := range args {
		args[i] = k[i]
	}
	return args
}

func (t *tx) nextStage(p purge) error {
	return t.note("UPDATE purges SET stage = $1, a = 0, b = 0, c = 0 WHERE run = $2", p.stage+1, p.run)
}

// purgeSuites drops the next suites of a run.
func (t *tx) purgeSuites(done *store.Purged, left *budget, p purge) error {
	limit := max(left.rows, 1)
	var n int
	err := t.row("SELECT count(*) FROM (SELECT 1 FROM run_suites WHERE run = $1 LIMIT $2) s", []any{p.run, limit}, &n)
	if err == nil && n > 0 {
		err = t.note("DELETE FROM run_suites WHERE ctid = ANY (ARRAY (SELECT ctid FROM run_suites WHERE run = $1 LIMIT $2))", p.run, limit)
	}
	if err != nil {
		return err
	}
	done.Rows += n
	left.rows -= n
	if n < limit {
		return t.nextStage(p)
	}
	return nil
}
