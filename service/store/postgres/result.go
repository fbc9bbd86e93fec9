package postgres

import (
	"fmt"
	"slices"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/column"
)

// putResults stores results. A new one is marked as the last of its test; markLast
// mends that where a test has several attempts.
const putResults = `INSERT INTO results (run, seq, attempt, name, change, shard_attempt, status, last, source, shard, data)
	SELECT $1, seq, attempt, name, change, shard_attempt, status, true, source, shard, data
	FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::integer[], $8::bytea[], $9::bytea[], $10::bytea[])
		AS u (seq, attempt, name, change, shard_attempt, status, source, shard, data)
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
	seq, attempt, change, shardAttempt []int64
	status                             []int32
	source, shard, data                [][]byte
	sources                            []string
	of                                 []testName
	bytes                              []byte // what data is part of
}

type attemptKey struct {
	seq     uint64
	attempt uint32
}

// columns turns results into columns. Of several of one attempt only the last one
// counts: one statement must not touch a row twice.
func columns(results []store.Result) *resultRows {
	at, size := make(map[attemptKey]int, len(results)), 0
	for i := range results {
		at[attemptKey{results[i].Seq, results[i].Attempt}] = i
		size += len(results[i].Update)
	}
	c := &resultRows{bytes: make([]byte, 0, size)}
	for i := range results {
		r := &results[i]
		if at[attemptKey{r.Seq, r.Attempt}] != i {
			continue
		}
		c.seq, c.attempt = append(c.seq, int64(r.Seq)), append(c.attempt, int64(r.Attempt))
		c.change, c.shardAttempt = append(c.change, int64(r.Offset)), append(c.shardAttempt, int64(r.ShardAttempt))
		c.status = append(c.status, int32(r.Status))
		c.source, c.shard = append(c.source, bytesOf(r.Source)), append(c.shard, bytesOf(r.Shard))
		from := len(c.bytes)
		c.bytes = append(c.bytes, r.Update...) // the caller's is his
		c.data = append(c.data, c.bytes[from:len(c.bytes):len(c.bytes)])
		c.sources, c.of = append(c.sources, r.Source), append(c.of, testName{r.Suite, r.Name})
	}
	return c
}

// PutResults stores attempts and makes their tests known.
func (t *tx) PutResults(runID string, results []store.Result) error {
	if len(results) == 0 {
		return nil
	}
	run, err := t.runRef(runID)
	if err != nil {
		return fmt.Errorf("store results: %w", err)
	}
	c := columns(results)
	names, err := t.testNames(run.project, c.of)
	if err == nil {
		err = t.knowTests(names, c.sources)
	}
	if err == nil {
		err = t.note(putResults, run.num, c.seq, c.attempt, names, c.change, c.shardAttempt, c.status, c.source, c.shard, c.data)
	}
	if err == nil {
		err = t.note(markLast, run.num, slices.Min(c.seq), slices.Max(c.seq))
	}
	if err != nil {
		return fmt.Errorf("store results of run %s: %w", runID, err)
	}
	t.bytes += len(c.bytes)
	return nil
}

const (
	resultColumns = "r.seq, r.attempt, r.source, n.suite, n.name, r.shard, r.shard_attempt, r.status, r.change, r.data"
	joinNames     = " JOIN test_names n ON n.num = r.name "
)

// results runs a query of resultColumns, and puts in the names of the suites.
func (r *reader) results(sql string, args ...any) ([]store.Result, error) {
	var (
		results []store.Result
		suites  []int64 // of the results
	)
	names := map[int64]string{}
	err := r.each(sql, args, func(rows rows) error {
		var (
			r                  store.Result
			seq, change, suite int64
		)
		err := rows.Scan(&seq, &r.Attempt, into(&r.Source), &suite, into(&r.Name), into(&r.Shard), &r.ShardAttempt, &r.Status, &change, &r.Update)
		r.Seq, r.Offset = uint64(seq), uint64(change)
		results, suites = append(results, r), append(suites, suite)
		names[suite] = ""
		return err
	})
	if err != nil || len(results) == 0 {
		return nil, err
	}
	nums := make([]int64, 0, len(names))
	for num := range names {
		nums = append(nums, num)
	}
	err = r.each("SELECT num, name FROM suite_names WHERE num = ANY($1::bigint[])", []any{nums}, func(rows rows) error {
		var num int64
		var name string
		err := rows.Scan(&num, into(&name))
		names[num] = name
		return err
	})
	for i, suite := range suites {
		results[i].Suite = names[suite]
	}
	return results, err
}

// Results returns the last attempts of a run's tests.
func (r *reader) Results(runID string, q store.ResultQuery) ([]store.Result, error) {
	if q.Limit <= 0 {
		return nil, fmt.Errorf("results of run %s: the limit must be positive", runID)
	}
	run, err := r.runRef(runID)
	if err != nil {
		return nil, column.OrNone(err)
	}
	sql, args := resultsQuery(run.num, q)
	results, err := r.results(sql, args...)
	if err != nil {
		return nil, fmt.Errorf("results of run %s: %w", runID, err)
	}
	return results, nil
}

// The queries of Results. An index is ordered within one status, so several
// statuses are several scans; each stops when the page is full.
const (
	resultsBySeq = "SELECT " + resultColumns + " FROM results r" + joinNames +
		"WHERE r.run = $1 AND r.last AND r.seq > $2 ORDER BY r.seq LIMIT $3"
	resultsByStatus = "SELECT " + resultColumns + ` FROM (
		SELECT l.seq, l.attempt, l.source, l.name, l.shard, l.shard_attempt, l.status, l.change, l.data FROM unnest($2::integer[]) AS s (status) CROSS JOIN LATERAL (
			SELECT seq, attempt, source, name, shard, shard_attempt, status, change, data FROM results WHERE run = $1 AND last AND status = s.status AND seq > $3 ORDER BY status, seq LIMIT $4) l
		ORDER BY l.seq LIMIT $4) r` + joinNames + "ORDER BY r.seq"
	resultsByChange = "SELECT " + resultColumns + ` FROM (
		SELECT l.seq, l.attempt, l.source, l.name, l.shard, l.shard_attempt, l.status, l.change, l.data FROM unnest($2::integer[]) AS s (status) CROSS JOIN LATERAL (
			SELECT seq, attempt, source, name, shard, shard_attempt, status, change, data FROM results WHERE run = $1 AND last AND status = s.status ORDER BY status DESC, change DESC LIMIT $3) l
		ORDER BY l.change DESC LIMIT $3) r` + joinNames + "ORDER BY r.change DESC"
)

func resultsQuery(run int64, q store.ResultQuery) (string, []any) {
	var statuses []int32
	for _, s := range slices.Compact(slices.Sorted(slices.Values(q.Statuses))) {
		statuses = append(statuses, int32(s))
	}
	switch {
	case len(statuses) == 0 && !q.Descending:
		return resultsBySeq, []any{run, int64(q.AfterSeq), q.Limit}
	case !q.Descending:
		return resultsByStatus, []any{run, statuses, int64(q.AfterSeq), q.Limit}
	}
	if len(statuses) == 0 {
		for s := range pb.Status_name {
			statuses = append(statuses, s)
		}
	}
	return resultsByChange, []any{run, statuses, q.Limit}
}

// eachPage is how many results EachResult holds at a time.
const eachPage = 1000

// EachResult walks over all attempts of a run's tests, page by page: fn may read
// in between.
func (r *reader) EachResult(runID string, fn func(store.Result) error) error {
	run, err := r.runRef(runID)
	if err != nil {
		return column.OrNone(err)
	}
	const sql = "SELECT " + resultColumns + " FROM results r" + joinNames +
		"WHERE r.run = $1 AND (r.seq, r.attempt) > ($2, $3) ORDER BY r.seq, r.attempt LIMIT $4"
	for seq, attempt := uint64(0), uint32(0); ; {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		page, err := r.results(sql, run.num, int64(seq), int64(attempt), eachPage)
		if err != nil {
			return fmt.Errorf("results of run %s: %w", runID, err)
		}
		for _, result := range page {
			if err := fn(result); err != nil {
				return err
			}
		}
		if len(page) < eachPage {
			return nil
		}
		seq, attempt = page[eachPage-1].Seq, page[eachPage-1].Attempt
	}
}
