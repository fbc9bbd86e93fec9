package sqlite

import (
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/store"
)

// insertResults returns the statement that stores n results. A result that is
// new is the last of its test unless a higher attempt is there; putResults takes
// the mark from lower ones.
func insertResults(n int) string {
	const head = "INSERT INTO results (run, seq, attempt, name, source, shard, shard_attempt, status, change, data, last) VALUES "
	const tail = ` ON CONFLICT (run, seq, attempt) DO UPDATE SET name = excluded.name, source = excluded.source,
		shard = excluded.shard, shard_attempt = excluded.shard_attempt, status = excluded.status,
		change = excluded.change, data = excluded.data`
	const row = `(?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
		NOT EXISTS (SELECT 1 FROM results WHERE run = ? AND seq = ? AND attempt > ?))`
	return head + strings.Repeat(row+", ", n-1) + row + tail
}

// rowsAtOnce are the numbers of rows that a multi-row statement is prepared for,
// falling.
var rowsAtOnce = [...]int{64, 8, 1}

var insertResultsOf = func() map[int]string {
	m := map[int]string{}
	for _, n := range rowsAtOnce {
		m[n] = insertResults(n)
	}
	return m
}()

// PutResults stores attempts and makes their tests known.
func (t *tx) PutResults(runID string, results []store.Result) error {
	run, err := t.runRef(runID)
	if err != nil {
		return fmt.Errorf("store results: %w", err)
	}
	for _, n := range rowsAtOnce {
		for len(results) >= n {
			if err := t.putResults(run, results[:n]); err != nil {
				return fmt.Errorf("store results of run %s: %w", runID, err)
			}
			results = results[n:]
		}
	}
	return nil
}

func (t *tx) putResults(run runRef, results []store.Result) error {
	args := make([]any, 0, 13*len(results))
	for i := range results {
		r := &results[i]
		name, err := t.testName(run.project, r.Suite, r.Name)
		if err != nil {
			return err
		}
		if err := t.knowTest(name, r.Source); err != nil {
			return err
		}
		seq, attempt := int64(r.Seq), int64(r.Attempt)
		args = append(args, run.num, seq, attempt, name, r.Source, r.Shard, int64(r.ShardAttempt),
			int64(r.Status), int64(r.Offset), r.Update, run.num, seq, attempt)
		t.bytes += len(r.Update)
	}
	if _, err := t.c.exec(insertResultsOf[len(results)], args...); err != nil {
		return err
	}
	for i := range results {
		if r := &results[i]; r.Attempt > 1 {
			_, err := t.c.exec("UPDATE results SET last = 0 WHERE run = ? AND seq = ? AND attempt < ? AND last = 1",
				run.num, int64(r.Seq), int64(r.Attempt))
			if err != nil {
				return err
			}
		}
	}
	return nil
}

const (
	resultColumns = "r.seq, r.attempt, r.source, n.suite, n.name, r.shard, r.shard_attempt, r.status, r.change, r.data"
	fromResults   = " FROM results r JOIN test_names n ON n.num = r.name "
)

// resultScanner reads results and puts in the names of their suites after them.
type resultScanner struct {
	results []store.Result
	suites  []int64 // of the results
}

func (s *resultScanner) scan(rows *sql.Rows) error {
	var (
		r                  store.Result
		seq, change, suite int64
	)
	err := rows.Scan(&seq, &r.Attempt, &r.Source, &suite, &r.Name, &r.Shard, &r.ShardAttempt, &r.Status, &change, &r.Update)
	r.Seq, r.Offset = uint64(seq), uint64(change)
	s.results, s.suites = append(s.results, r), append(s.suites, suite)
	return err
}

func (s *resultScanner) name(c *conn) error {
	names := map[int64]string{}
	for i, suite := range s.suites {
		name, ok := names[suite]
		if !ok {
			if err := c.row("SELECT name FROM suite_names WHERE num = ?", []any{suite}, &name); err != nil {
				return fmt.Errorf("suite %d: %w", suite, err)
			}
			names[suite] = name
		}
		s.results[i].Suite = name
	}
	return nil
}

// results runs a query of resultColumns.
func (r *reader) results(query string, args ...any) ([]store.Result, error) {
	s := &resultScanner{}
	if err := r.c.each(query, args, s.scan); err != nil {
		return nil, err
	}
	return s.results, s.name(r.c)
}

// Results returns the last attempts of a run's tests.
func (r *reader) Results(runID string, q store.ResultQuery) ([]store.Result, error) {
	if q.Limit <= 0 {
		return nil, fmt.Errorf("results of run %s: the limit must be positive", runID)
	}
	run, err := r.runRef(runID)
	if err != nil {
		return nil, orNone(err)
	}
	query, args := resultsQuery(run.num, q)
	results, err := r.results(query, args...)
	if err != nil {
		return nil, fmt.Errorf("results of run %s: %w", runID, err)
	}
	return results, nil
}

// resultsQuery picks the index. An index is ordered within one status, so several
// statuses are several scans, merged; each stops when the page is full.
func resultsQuery(run int64, q store.ResultQuery) (string, []any) {
	statuses := slices.Compact(slices.Sorted(slices.Values(q.Statuses)))
	one := "SELECT " + resultColumns + fromResults + "WHERE r.run = ? AND r.last = 1 "
	switch {
	case q.Descending && len(statuses) == 0:
		for s := range maps.Keys(pb.Status_name) {
			statuses = append(statuses, pb.Status(s))
		}
	case len(statuses) == 0:
		return one + "AND r.seq > ? ORDER BY r.seq LIMIT ?", []any{run, int64(q.AfterSeq), q.Limit}
	}
	var args []any
	for _, s := range statuses {
		args = append(args, run, int64(s))
		if !q.Descending {
			args = append(args, int64(q.AfterSeq))
		}
	}
	one += "AND r.status = ? "
	order := "ORDER BY change DESC LIMIT ?"
	if !q.Descending {
		one += "AND r.seq > ? "
		order = "ORDER BY seq LIMIT ?"
	}
	return strings.Repeat(one+"UNION ALL ", len(statuses)-1) + one + order, append(args, q.Limit)
}

// eachPage is how many results EachResult holds at a time.
const eachPage = 500

// EachResult walks over all attempts of a run's tests, page by page: fn may read
// in between.
func (r *reader) EachResult(runID string, fn func(store.Result) error) error {
	run, err := r.runRef(runID)
	if err != nil {
		return orNone(err)
	}
	const query = "SELECT " + resultColumns + fromResults +
		"WHERE r.run = ? AND (r.seq, r.attempt) > (?, ?) ORDER BY r.seq, r.attempt LIMIT ?"
	for seq, attempt := uint64(0), uint32(0); ; {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		page, err := r.results(query, run.num, int64(seq), int64(attempt), eachPage)
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
