package postgres

import (
	"fmt"
	"slices"
	"strings"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/column"
)

// PutResults stores attempts and makes their tests known.
func (t *tx) PutResults(runID string, results []store.Result) error {
	if len(results) == 0 {
		return nil
	}
	run, err := t.run(runID)
	if err != nil {
		return fmt.Errorf("store results: %w", err)
	}
	of, sources := make([]testName, len(results)), make([]string, len(results))
	for i := range results {
		of[i], sources[i] = testName{results[i].Suite, results[i].Name}, results[i].Source
	}
	names, err := t.testNames(run.project, of)
	if err == nil {
		err = t.knowTests(names, sources)
	}
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
	if err := q.Check(); err != nil {
		return nil, fmt.Errorf("results of run %s: %w", runID, err)
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

// The queries of Results. Those that passed are in no index but the table's own, in the
// order of pages. An index is ordered within one status, so several
// statuses are several scans; each stops when the page is full.
const (
	resultsBySeq = "SELECT " + resultColumns + " FROM results r" + joinNames +
		"WHERE r.run = $1 AND r.last AND r.seq > $2 ORDER BY r.seq LIMIT $3"
	resultsWithPassed = "SELECT " + resultColumns + " FROM results r" + joinNames +
		"WHERE r.run = $1 AND r.last AND r.seq > $2 AND r.status = ANY($3::integer[]) ORDER BY r.seq LIMIT $4"
	resultsByStatus = "SELECT " + resultColumns + ` FROM (
		SELECT l.seq, l.attempt, l.source, l.name, l.shard, l.shard_attempt, l.status, l.change, l.data FROM unnest($2::integer[]) AS s (status) CROSS JOIN LATERAL (
			SELECT seq, attempt, source, name, shard, shard_attempt, status, change, data FROM results WHERE run = $1 AND last AND status <> 4 AND status = s.status AND seq > $3 ORDER BY status, seq LIMIT $4) l
		ORDER BY l.seq LIMIT $4) r` + joinNames + "ORDER BY r.seq"
	resultsByChange = "SELECT " + resultColumns + ` FROM (
		SELECT l.seq, l.attempt, l.source, l.name, l.shard, l.shard_attempt, l.status, l.change, l.data FROM unnest($2::integer[]) AS s (status) CROSS JOIN LATERAL (
			SELECT seq, attempt, source, name, shard, shard_attempt, status, change, data FROM results WHERE run = $1 AND last AND status <> 4 AND status = s.status ORDER BY status DESC, change DESC LIMIT $3) l
		ORDER BY l.change DESC LIMIT $3) r` + joinNames + "ORDER BY r.change DESC"
)

func resultsQuery(run int64, q store.ResultQuery) (string, []any) {
	var statuses []int32
	for _, s := range slices.Compact(slices.Sorted(slices.Values(q.Statuses))) {
		statuses = append(statuses, int32(s))
	}
	switch {
	case len(statuses) == 0:
		return resultsBySeq, []any{run, int64(q.AfterSeq), q.Limit}
	case slices.Contains(statuses, int32(pb.Status_STATUS_PASSED)):
		return resultsWithPassed, []any{run, int64(q.AfterSeq), statuses, q.Limit}
	case q.Descending:
		return resultsByChange, []any{run, statuses, q.Limit}
	default:
		return resultsByStatus, []any{run, statuses, int64(q.AfterSeq), q.Limit}
	}
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
