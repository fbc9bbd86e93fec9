package sqlite

import (
	"database/sql"
	"fmt"
	"math"
	"strings"

	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/memory"
)

// before is called before each statement of a function. The first one begins what is
// undone if the function fails: most functions that runners call have none. One that
// asks for tables with pending rows finds them written.
func (w *writer) before(query string) error {
	if !w.saved {
		if err := w.c.control("SAVEPOINT job"); err != nil {
			w.c.broken = fmt.Errorf("begin to write: %w", err)
			w.group.err = w.c.broken
			return w.c.broken
		}
		w.saved = true
	}
	if !w.pending.Concerns(query) {
		return nil
	}
	w.pending.Hold()
	return w.flushPending()
}

// flushPending writes the pending rows.
func (w *writer) flushPending() error {
	before := w.c.before
	w.c.before = nil
	defer func() { w.c.before = before }()
	for _, r := range w.pending.Runs.Rows {
		if err := w.putRun(r.Key, r.Row); err != nil {
			return fmt.Errorf("write a run: %w", err)
		}
	}
	if err := inRows(w.pending.Shards.Rows, w.putShards); err != nil {
		return fmt.Errorf("write %d shards: %w", len(w.pending.Shards.Rows), err)
	}
	if err := inRows(w.pending.Suites.Rows, w.putSuites); err != nil {
		return fmt.Errorf("write %d suites: %w", len(w.pending.Suites.Rows), err)
	}
	if err := w.flushResults(w.pending.Results.Rows); err != nil {
		return fmt.Errorf("write %d results: %w", len(w.pending.Results.Rows), err)
	}
	w.pending.Written()
	return nil
}

// putRun writes a run. SQLite takes a row out of each index that has a column that is
// set, and puts it in again, also if nothing of it changes: this is the statement of
// every commit of a runner, and seldom more than the counts change.
func (w *writer) putRun(num int64, r memory.Run) error {
	if !r.Columns {
		return w.c.change("UPDATE runs SET total = ?, data = ? WHERE num = ?", int64(r.Total), r.Data, num)
	}
	return w.c.change("UPDATE runs SET state = ?, end_reason = ?, source = ?, name = ?, total = ?, started_at = ?, ended_at = ?, data = ? WHERE num = ?",
		int64(r.State), int64(r.EndReason), r.Source, r.Name, int64(r.Total), r.StartedAt, r.EndedAt, r.Data, num)
}

var putShardsOf = forRows(func(n int) string {
	return "INSERT INTO shards (run, name, state, incarnation, committed, changed_at, exit_code) VALUES " + rowsOf(n, 7) + `
		ON CONFLICT (run, name) DO UPDATE SET state = excluded.state, incarnation = excluded.incarnation,
		committed = excluded.committed, changed_at = excluded.changed_at, exit_code = excluded.exit_code`
})

func (w *writer) putShards(some []memory.Row[memory.RowKey, store.Shard]) error {
	args := w.args[:0]
	for i := range some {
		s := &some[i].Row
		var exit any
		if s.ExitCode != nil {
			exit = int64(*s.ExitCode)
		}
		args = append(args, some[i].Key.Run, some[i].Key.Name, int64(s.State), int64(s.Incarnation), int64(s.Committed), s.ChangedAt.UnixMicro(), exit)
	}
	return w.put(putShardsOf[len(some)], args)
}

var putSuitesOf = forRows(func(n int) string {
	return "INSERT INTO run_suites (run, name, data) VALUES " + rowsOf(n, 3) + " ON CONFLICT (run, name) DO UPDATE SET data = excluded.data"
})

func (w *writer) putSuites(some []memory.Row[memory.RowKey, []byte]) error {
	args := w.args[:0]
	for i := range some {
		args = append(args, some[i].Key.Run, some[i].Key.Name, some[i].Row)
	}
	return w.put(putSuitesOf[len(some)], args)
}

// put runs a statement with many parameters, and keeps their memory for the next one.
func (w *writer) put(query string, args []any) error {
	_, err := w.c.exec(query, args...)
	clear(args)
	w.args = args
	return err
}

// insertResults returns the statement that stores n results. A new one is marked
// as the last of its test; markLast mends that where a test has several attempts.
//
// It compares no column with a parameter: since SQLite 3.54 the plan of such a term
// depends on whether the value is 0 or 1, and a statement of 64 rows would be
// planned anew for most batches, which took longer than running it.
func insertResults(n int) string {
	const head = "INSERT INTO results (run, seq, attempt, name, source, shard, shard_attempt, status, change, data, last) VALUES "
	const row = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)"
	const tail = ` ON CONFLICT (run, seq, attempt) DO UPDATE SET name = excluded.name, source = excluded.source,
		shard = excluded.shard, shard_attempt = excluded.shard_attempt, status = excluded.status,
		change = excluded.change, data = excluded.data`
	return head + strings.Repeat(row+", ", n-1) + row + tail
}

var insertResultsOf = forRows(insertResults)

func (w *writer) flushResults(rows []memory.Result) error {
	if err := inRows(rows, w.putResults); err != nil {
		return err
	}
	return w.markLast(rows)
}

func (w *writer) putResults(some []memory.Result) error {
	args := w.args[:0]
	for i := range some {
		r := &some[i]
		args = append(args, r.Run, int64(r.Seq), int64(r.Attempt), r.Test, r.Source, r.Shard, int64(r.ShardAttempt),
			int64(r.Status), int64(r.Offset), r.Update)
	}
	return w.put(insertResultsOf[len(some)], args)
}

// markLast takes the mark of the last attempt from those results, just stored, that
// aren't, and from those that no longer are. Few tests have more than one attempt:
// an index holds only those.
func (w *writer) markLast(rows []memory.Result) error {
	var runs map[int64]map[uint64]bool // the tests of each run that were put
	for i := range rows {
		r := &rows[i]
		if !r.Retried {
			continue
		}
		if runs == nil {
			runs = map[int64]map[uint64]bool{}
		}
		if runs[r.Run] == nil {
			runs[r.Run] = map[uint64]bool{}
		}
		runs[r.Run][r.Seq] = true
	}
	for run, put := range runs {
		if err := w.markLastOf(run, put); err != nil {
			return err
		}
	}
	return nil
}

// markLastOf does that for the tests of a run.
func (w *writer) markLastOf(run int64, put map[uint64]bool) error {
	lowest, highest := uint64(math.MaxInt64), uint64(0)
	for seq := range put {
		lowest, highest = min(lowest, seq), max(highest, seq)
	}
	type retried struct{ seq, last int64 }
	tests, err := all(w.c, func(rows *sql.Rows) (r retried, err error) { return r, rows.Scan(&r.seq, &r.last) },
		"SELECT seq, max(attempt) FROM results WHERE run = ? AND seq BETWEEN ? AND ? AND attempt > 1 GROUP BY seq",
		run, int64(lowest), int64(highest))
	if err != nil {
		return err
	}
	for _, test := range tests {
		if !put[uint64(test.seq)] {
			continue
		}
		_, err := w.c.exec("UPDATE results SET last = 0 WHERE run = ? AND seq = ? AND attempt < ? AND last = 1", run, test.seq, test.last)
		if err != nil {
			return err
		}
	}
	return nil
}
