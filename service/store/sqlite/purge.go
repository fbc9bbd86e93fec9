package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

// purgeBounds is the work of one call of PurgeRuns, some milliseconds of the writer.
var purgeBounds = budget{rows: 500, bytes: 1 << 20}

func scanID(rows *sql.Rows) (id string, err error) { return id, rows.Scan(&id) }

// EndedRuns returns runs that ended before a moment.
func (r *reader) EndedRuns(kept store.Kept, before time.Time, limit int) ([]string, error) {
	ids, err := all(r.c, scanID, "SELECT id FROM runs WHERE kept = ? AND ended_at < ? ORDER BY ended_at LIMIT ?",
		int64(kept), before.UnixMicro(), max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("runs that ended before %s: %w", before, err)
	}
	return ids, nil
}

// SurplusRuns returns runs that are not among the newest of their project. The
// number of the last that is among them is looked up once a project.
func (r *reader) SurplusRuns(newest int, before time.Time, limit int) ([]string, error) {
	ids, err := all(r.c, scanID, `SELECT r.id FROM projects p CROSS JOIN runs r INDEXED BY runs_kept
		WHERE r.project = p.num AND r.kept > 0 AND r.number <
			(SELECT n.number FROM runs n INDEXED BY runs_kept WHERE n.project = p.num AND n.kept > 0 ORDER BY n.number DESC LIMIT 1 OFFSET ?)
		AND r.ended_at < ? LIMIT ?`, max(newest-1, 0), before.UnixMicro(), max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("runs behind the newest %d: %w", newest, err)
	}
	return ids, nil
}

// DeletedRun returns the project of a run that was deleted.
func (r *reader) DeletedRun(id string) (project string, err error) {
	err = r.c.row("SELECT p.id FROM runs r JOIN projects p ON p.num = r.project WHERE r.id = ? AND r.kept = 0", []any{id}, &project)
	if err != nil {
		return "", fmt.Errorf("deleted run %s: %w", id, err)
	}
	return project, nil
}

// beginPurge has PurgeRuns begin with a run, also if a part of it was purged.
const beginPurge = "INSERT INTO purges (run) VALUES (?) ON CONFLICT (run) DO UPDATE SET stage = 0, a = 0, b = 0, c = 0"

// TrimRun marks a run as trimmed.
func (t *tx) TrimRun(id string) error {
	run, err := t.runRef(id)
	if err == nil {
		err = t.c.change("UPDATE runs SET kept = 1 WHERE num = ? AND kept = 2", run.num)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
	}
	if err == nil {
		_, err = t.c.exec(beginPurge, run.num)
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
		shards, err = t.shards(run.num, id)
	}
	if err == nil {
		_, err = t.c.exec(`UPDATE runs SET kept = 0, state = 0, end_reason = 0, source = '', name = '', total = 0, started_at = NULL, ended_at = NULL, data = NULL
			WHERE num = ?`, run.num)
	}
	if err == nil {
		_, err = t.c.exec(beginPurge, run.num)
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
	// counted says that drop is told how many rows go, instead of the key of the last
	// one: SQLite finds no end by a number that is in an index for being the row's.
	counted bool
}

// The results of tests that did not pass stay in a run that is trimmed: FAILED,
// ERRORED, TIMED_OUT and ABORTED are 5, 6, 9 and 10.
var stages = []stage{
	{
		keys: 2, trim: " AND status NOT IN (5, 6, 9, 10)",
		page: "SELECT seq, attempt, 0, length(data), status IN (5, 6, 9, 10) FROM results WHERE run = ? AND (seq, attempt) > (?, ?) ORDER BY seq, attempt LIMIT ?",
		drop: "DELETE FROM results WHERE run = ? AND (seq, attempt) > (?, ?) AND (seq, attempt) <= (?, ?)",
	},
	{
		keys: 3, counted: true,
		page: "SELECT name, attempt, num, length(data), 0 FROM output WHERE run = ? AND (name, attempt, num) > (?, ?, ?) ORDER BY name, attempt, num LIMIT ?",
		drop: "DELETE FROM output WHERE num IN (SELECT num FROM output WHERE run = ? AND (name, attempt, num) > (?, ?, ?) ORDER BY name, attempt, num LIMIT ?)",
	},
	{
		keys: 1, ofRoom: true, whole: true,
		page: "SELECT last, 0, 0, length(data), 0 FROM event_batches WHERE room = ? AND last > ? ORDER BY last LIMIT ?",
		drop: "DELETE FROM event_batches WHERE room = ? AND last > ? AND last <= ?",
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
		err := t.c.row("SELECT q.run, r.id, r.kept, q.stage, q.a, q.b, q.c FROM purges q JOIN runs r ON r.num = q.run ORDER BY q.run LIMIT 1", nil,
			&p.run, &p.id, &kept, &p.stage, &p.after[0], &p.after[1], &p.after[2])
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
		if _, err := t.c.exec("DELETE FROM shards WHERE run = ?", p.run); err != nil {
			return err
		}
		if _, err := t.c.exec("DELETE FROM rooms WHERE name = ?", string(event.RunRoom(p.id))); err != nil {
			return err
		}
	}
	_, err := t.c.exec("DELETE FROM purges WHERE run = ?", p.run)
	return err
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
	to := key(p.after, s.keys)
	if s.counted {
		to = []any{read}
	}
	if _, err := t.c.exec(drop, slices.Concat([]any{of}, from, to)...); err != nil {
		return err
	}
	if last {
		return t.nextStage(p)
	}
	_, err = t.c.exec("UPDATE purges SET a = ?, b = ?, c = ? WHERE run = ?", p.after[0], p.after[1], p.after[2], p.run)
	return err
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
	err = t.c.row("SELECT num FROM rooms WHERE name = ?", []any{string(room)}, &num)
	return num, err
}

// page looks at the next rows of a stage, as many as may still be dropped, and moves
// p behind them. It returns how many that were, and whether they are the last.
func (t *tx) page(done *store.Purged, left *budget, p *purge, s stage, of int64) (read int, last bool, err error) {
	limit := max(left.rows, 1)
	cut := false
	err = t.c.each(s.page, slices.Concat([]any{of}, key(p.after, s.keys), []any{limit}), func(rows *sql.Rows) error {
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
	_, err := t.c.exec("UPDATE purges SET stage = ?, a = 0, b = 0, c = 0 WHERE run = ?", p.stage+1, p.run)
	return err
}

// purgeSuites drops the next suites of a run.
func (t *tx) purgeSuites(done *store.Purged, left *budget, p purge) error {
	limit := max(left.rows, 1)
	r, err := t.c.exec("DELETE FROM run_suites WHERE run = ? AND name IN (SELECT name FROM run_suites WHERE run = ? ORDER BY name LIMIT ?)", p.run, p.run, limit)
	if err != nil {
		return err
	}
	n, err := r.RowsAffected()
	if err != nil {
		return err
	}
	done.Rows += int(n)
	left.rows -= int(n)
	if int(n) < limit {
		return t.nextStage(p)
	}
	return nil
}
