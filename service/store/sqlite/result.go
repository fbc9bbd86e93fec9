package sqlite

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/column"
)

// rowsAtOnce are the numbers of rows that a multi-row statement is prepared for,
// falling.
var rowsAtOnce = [...]int{64, 8, 1}

// forRows makes a statement for each of these numbers.
func forRows(statement func(n int) string) map[int]string {
	m := map[int]string{}
	for _, n := range rowsAtOnce {
		m[n] = statement(n)
	}
	return m
}

// rowsOf is n rows of parameters, for VALUES.
func rowsOf(n, columns int) string {
	row := "(?" + strings.Repeat(", ?", columns-1) + ")"
	return row + strings.Repeat(", "+row, n-1)
}

// inRows calls fn with as many of rows at once as there is a statement for.
func inRows[T any](rows []T, fn func([]T) error) error {
	for _, n := range rowsAtOnce {
		for ; len(rows) >= n; rows = rows[n:] {
			if err := fn(rows[:n]); err != nil {
				return err
			}
		}
	}
	return nil
}

// PutResults stores attempts and makes their tests known.
func (t *tx) PutResults(runID string, results []store.Result) error {
	if len(results) == 0 {
		return nil
	}
	run, err := t.run(runID)
	if err != nil {
		return fmt.Errorf("store results: %w", err)
	}
	names, err := t.testsOf(run.project, results)
	if err != nil {
		return fmt.Errorf("store results of run %s: %w", runID, err)
	}
	if !run.retried && slices.ContainsFunc(results, func(r store.Result) bool { return r.Attempt > 1 }) {
		run.retried = true
		t.w.names.runs.Put(strings.Clone(runID), run)
	}
	t.bytes += t.w.pending.Results.Put(run.num, run.retried, names, results)
	return nil
}

// testsOf returns the numbers of the results' names, and makes their tests known.
func (t *tx) testsOf(project int64, results []store.Result) ([]int64, error) {
	of, nums := make([]sourced, len(results)), make([]int64, len(results))
	asked := map[nameKey]bool{}
	var unknown []sourced
	for i := range results {
		r := &results[i]
		if i > 0 && r.Suite == results[i-1].Suite {
			of[i].suite = of[i-1].suite
		} else {
			var err error
			if of[i].suite, err = t.suiteName(project, r.Suite); err != nil {
				return nil, err
			}
		}
		of[i].name, of[i].source = r.Name, r.Source
		if num, ok := t.w.names.knownTest(of[i]); ok {
			nums[i] = num
			continue
		}
		if !asked[of[i].nameKey] {
			asked[of[i].nameKey] = true
			unknown = append(unknown, of[i])
		}
	}
	if err := t.learn(unknown); err != nil {
		return nil, err
	}
	for i := range of {
		if nums[i] != 0 {
			continue
		}
		var ok bool
		if nums[i], ok = t.w.names.knownTest(of[i]); ok {
			continue
		}
		// Another source's result of this call, or one that fell out of memory.
		if err := t.learn(of[i : i+1]); err != nil {
			return nil, err
		}
		nums[i], _ = t.w.names.knownTest(of[i])
	}
	return nums, nil
}

const (
	resultColumns = "r.seq, r.attempt, r.source, n.suite, n.name, r.shard, r.shard_attempt, r.status, r.change, r.data"
	fromResults   = " FROM results r JOIN test_names n ON n.num = r.name "

	// Left to itself SQLite would walk over the whole run.
	fromResultsByStatus = " FROM results r INDEXED BY results_status JOIN test_names n ON n.num = r.name "
	fromResultsByChange = " FROM results r INDEXED BY results_change JOIN test_names n ON n.num = r.name "
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
	if err := q.Check(); err != nil {
		return nil, fmt.Errorf("results of run %s: %w", runID, err)
	}
	run, err := r.runRef(runID)
	if err != nil {
		return nil, column.OrNone(err)
	}
	query, args := resultsQuery(run.num, q)
	results, err := r.results(query, args...)
	if err != nil {
		return nil, fmt.Errorf("results of run %s: %w", runID, err)
	}
	return results, nil
}

// resultsQuery picks the index. Those that passed are in none: the table has them in
// the order of pages. An index is ordered within one status, so several
// statuses are several scans, merged; each stops when the page is full.
func resultsQuery(run int64, q store.ResultQuery) (string, []any) {
	const where = "WHERE r.run = ? AND r.last = 1 "
	statuses := slices.Compact(slices.Sorted(slices.Values(q.Statuses)))
	var args []any
	if len(statuses) == 0 || slices.Contains(statuses, pb.Status_STATUS_PASSED) {
		one := "SELECT " + resultColumns + fromResults + where + "AND r.seq > ? "
		args = append(args, run, int64(q.AfterSeq))
		if len(statuses) > 0 {
			one += "AND r.status IN (?" + strings.Repeat(", ?", len(statuses)-1) + ") "
		}
		for _, s := range statuses {
			args = append(args, int64(s))
		}
		return one + "ORDER BY r.seq LIMIT ?", append(args, q.Limit)
	}
	one := "SELECT " + resultColumns + fromResultsByStatus + where + "AND r.status <> 4 AND r.status = ? AND r.seq > ? "
	order := "ORDER BY seq LIMIT ?"
	if q.Descending {
		one = "SELECT " + resultColumns + fromResultsByChange + where + "AND r.status <> 4 AND r.status = ? "
		order = "ORDER BY change DESC LIMIT ?"
	}
	for _, s := range statuses {
		args = append(args, run, int64(s))
		if !q.Descending {
			args = append(args, int64(q.AfterSeq))
		}
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
		return column.OrNone(err)
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
