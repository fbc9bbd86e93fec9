package postgres

import (
	"fmt"

	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/memory"
)

// before is called before each statement of a function: one that asks for tables with
// pending rows finds them noted.
func (w *writer) before(sql string) {
	if w.pending.Concerns(sql) {
		w.pending.Hold()
		w.flushPending()
	}
}

// flushPending notes the pending rows.
func (w *writer) flushPending() {
	w.noteRuns(w.pending.Runs.Rows)
	w.noteShards(w.pending.Shards.Rows)
	w.noteSuites(w.pending.Suites.Rows)
	w.noteResults(w.pending.Results.Rows)
	w.pending.Written()
}

// noteRuns notes the runs: one is the usual number, and seldom more than its counts
// change.
func (w *writer) noteRuns(rows []memory.Row[int64, memory.Run]) {
	if len(rows) == 1 && !rows[0].Row.Columns {
		w.session.note("UPDATE runs SET total = $1, data = $2 WHERE num = $3", int64(rows[0].Row.Total), rows[0].Row.Data, rows[0].Key)
		return
	}
	var nums, totals, states, reasons []int64
	var data, sources, names [][]byte
	var started, ended []*int64
	for _, r := range rows {
		nums, totals, data = append(nums, r.Key), append(totals, int64(r.Row.Total)), append(data, r.Row.Data)
		states, reasons = append(states, int64(r.Row.State)), append(reasons, int64(r.Row.EndReason))
		sources, names = append(sources, bytesOf(r.Row.Source)), append(names, bytesOf(r.Row.Name))
		started, ended = append(started, nullable(r.Row.StartedAt)), append(ended, nullable(r.Row.EndedAt))
	}
	if len(nums) > 0 {
		w.session.note(`UPDATE runs r SET state = u.state, end_reason = u.end_reason, source = u.source, name = u.name,
			total = u.total, started_at = u.started_at, ended_at = u.ended_at, data = u.data
			FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bytea[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bytea[])
				AS u (num, state, end_reason, source, name, total, started_at, ended_at, data)
			WHERE r.num = u.num`, nums, states, reasons, sources, names, totals, started, ended, data)
	}
}

// nullable is a column of moments as the driver takes it.
func nullable(micros any) *int64 {
	if n, ok := micros.(int64); ok {
		return &n
	}
	return nil
}

// putShards stores the shards that its SELECT or VALUES is of.
const putShards = "INSERT INTO shards (run, name, state, incarnation, committed, changed_at, exit_code) %s" +
	` ON CONFLICT (run, name) DO UPDATE SET state = excluded.state, incarnation = excluded.incarnation,
	committed = excluded.committed, changed_at = excluded.changed_at, exit_code = excluded.exit_code`

var (
	putShard     = fmt.Sprintf(putShards, "VALUES ($1, $2, $3, $4, $5, $6, $7)")
	putAllShards = fmt.Sprintf(putShards, `SELECT run, name, state, incarnation, committed, changed_at, exit_code
	FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::integer[])
		AS u (run, name, state, incarnation, committed, changed_at, exit_code)`)
)

func (w *writer) noteShards(rows []memory.Row[memory.RowKey, store.Shard]) {
	if len(rows) == 1 {
		k, s := rows[0].Key, &rows[0].Row
		w.session.note(putShard, k.Run, text(k.Name), int64(s.State), int64(s.Incarnation), int64(s.Committed), s.ChangedAt.UnixMicro(), s.ExitCode)
		return
	}
	var runs, states, incarnations, committed, changed []int64
	var names [][]byte
	var exits []*int32
	for _, r := range rows {
		runs, names, states = append(runs, r.Key.Run), append(names, bytesOf(r.Key.Name)), append(states, int64(r.Row.State))
		incarnations, committed = append(incarnations, int64(r.Row.Incarnation)), append(committed, int64(r.Row.Committed))
		changed, exits = append(changed, r.Row.ChangedAt.UnixMicro()), append(exits, r.Row.ExitCode)
	}
	if len(runs) > 0 {
		w.session.note(putAllShards, runs, names, states, incarnations, committed, changed, exits)
	}
}

func (w *writer) noteSuites(rows []memory.Row[memory.RowKey, []byte]) {
	var runs []int64
	var names, data [][]byte
	for _, r := range rows {
		runs, names, data = append(runs, r.Key.Run), append(names, bytesOf(r.Key.Name)), append(data, r.Row)
	}
	if len(runs) > 0 {
		w.session.note(`INSERT INTO run_suites (run, name, data) SELECT run, name, data FROM unnest($1::bigint[], $2::bytea[], $3::bytea[]) AS u (run, name, data)
			ON CONFLICT (run, sha256(name)) DO UPDATE SET data = excluded.data`, runs, names, data)
	}
}

// putResults stores results. A new one is marked as the last of its test; markLast
// mends that where a test has several attempts.
const putResults = `INSERT INTO results (run, seq, attempt, name, change, shard_attempt, status, last, source, shard, data)
	SELECT run, seq, attempt, name, change, shard_attempt, status, true, source, shard, data
	FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::integer[], $8::bytea[], $9::bytea[], $10::bytea[])
		AS u (run, seq, attempt, name, change, shard_attempt, status, source, shard, data)
	ON CONFLICT (run, seq, attempt) DO UPDATE SET name = excluded.name, change = excluded.change,
		shard_attempt = excluded.shard_attempt, status = excluded.status, source = excluded.source,
		shard = excluded.shard, data = excluded.data`

// markLast takes the mark of the last attempt from those results, just stored, that
// aren't, and from those that no longer are. Few tests have more than one attempt:
// an index holds only those. OFFSET keeps the planner from turning the inside out,
// which for a small table it did, and then read the whole run.
const markLast = `UPDATE results SET last = false WHERE ctid = ANY (ARRAY (
	SELECT r.ctid FROM (SELECT seq, max(attempt) AS attempt FROM results
		WHERE run = $1 AND seq BETWEEN $2 AND $3 AND attempt > 1 GROUP BY seq) m
	CROSS JOIN LATERAL (SELECT ctid, last FROM results WHERE run = $1 AND seq = m.seq AND attempt < m.attempt OFFSET 0) r WHERE r.last))`

// resultRows are columns of results.
type resultRows struct {
	run, seq, attempt, name, change, shardAttempt []int64
	status                                        []int32
	source, shard, data                           [][]byte
}

type attemptKey struct {
	run     int64
	seq     uint64
	attempt uint32
}

func keyOf(r *memory.Result) attemptKey { return attemptKey{r.Run, r.Seq, r.Attempt} }

// columns turns results into columns. Of several of one attempt only the last one
// counts: one statement must not touch a row twice.
func columns(results []memory.Result) *resultRows {
	at := make(map[attemptKey]int, len(results))
	for i := range results {
		at[keyOf(&results[i])] = i
	}
	n := len(at)
	c := &resultRows{
		run: make([]int64, 0, n), seq: make([]int64, 0, n), attempt: make([]int64, 0, n), name: make([]int64, 0, n),
		change: make([]int64, 0, n), shardAttempt: make([]int64, 0, n), status: make([]int32, 0, n),
		source: make([][]byte, 0, n), shard: make([][]byte, 0, n), data: make([][]byte, 0, n),
	}
	for i := range results {
		r := &results[i]
		if at[keyOf(r)] != i {
			continue
		}
		c.run, c.seq, c.attempt = append(c.run, r.Run), append(c.seq, int64(r.Seq)), append(c.attempt, int64(r.Attempt))
		c.name, c.change = append(c.name, r.Test), append(c.change, int64(r.Offset))
		c.shardAttempt, c.status = append(c.shardAttempt, int64(r.ShardAttempt)), append(c.status, int32(r.Status))
		c.source, c.shard = append(c.source, bytesOf(r.Source)), append(c.shard, bytesOf(r.Shard))
		c.data = append(c.data, r.Update)
	}
	return c
}

func (w *writer) noteResults(results []memory.Result) {
	if len(results) == 0 {
		return
	}
	c := columns(results)
	w.session.note(putResults, c.run, c.seq, c.attempt, c.name, c.change, c.shardAttempt, c.status, c.source, c.shard, c.data)
	type span struct{ lowest, highest uint64 }
	retried := map[int64]span{}
	for i := range results {
		if r := &results[i]; r.Retried {
			s, ok := retried[r.Run]
			if !ok {
				s.lowest = r.Seq
			}
			retried[r.Run] = span{min(s.lowest, r.Seq), max(s.highest, r.Seq)}
		}
	}
	for run, s := range retried {
		w.session.note(markLast, run, int64(s.lowest), int64(s.highest))
	}
}
