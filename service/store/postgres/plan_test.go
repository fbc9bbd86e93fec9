package postgres

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/postgres/pgtest"
	"github.com/tcmanager/tcmanager/service/store/storetest"
)

// statements are the texts of statements that stores have sent. It listens to their
// connections.
type statements struct {
	mu   sync.Mutex
	seen map[string]bool // guarded by mu
}

func (s *statements) note(sql string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[sql] = true
}

// TraceBatchStart and the others are pgx.BatchTracer, and as much of pgx.QueryTracer
// as has to be there.
func (s *statements) TraceBatchStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchStartData) context.Context {
	for _, q := range d.Batch.QueuedQueries {
		s.note(q.SQL)
	}
	return ctx
}
func (s *statements) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (s *statements) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}
func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (s *statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TestConformance runs the suite, and then looks at the plan of every statement
// that it made the store send: in an empty database, as plans are made when a
// server is new and kept, and in one with many rows.
func TestConformance(t *testing.T) {
	used := &statements{seen: map[string]bool{}}
	storetest.Run(t, func(t *testing.T) storetest.Opener {
		dsn := database(t)
		return func(t *testing.T, listener store.Listener) store.Store {
			t.Helper()
			return open(t, Options{DSN: dsn, Listener: listener, tracer: used})
		}
	})
	if t.Failed() {
		return
	}
	t.Run("every statement finds its rows by an index, in an empty database", func(t *testing.T) {
		c := pgtest.Shared(t)
		checkPlans(t, used, c.DSN(c.Database(t, databases.template))) // none that was used before
	})
	t.Run("every statement finds its rows by an index, in a large database", func(t *testing.T) {
		dsn := database(t)
		newBench(t, dsn).fill(0)
		fillOthers(t, dsn)
		checkPlans(t, used, dsn)
	})
}

// fillOthers puts many rows into the tables that a run doesn't fill, a million into
// the log, and has all of them counted.
func fillOthers(t *testing.T, dsn string) {
	id := "convert_to(md5(i::text), 'UTF8')"
	from := " FROM generate_series(100, 20000) i"
	execAt(t, dsn,
		"INSERT INTO users SELECT i, "+id+", "+id+", ''"+from,
		"INSERT INTO projects SELECT i, "+id+", "+id+", '', 0"+from,
		"INSERT INTO members SELECT 100 + i % 500, i, 1"+from,
		"INSERT INTO runs SELECT i, "+id+", 100 + i % 20, i, "+id+", 1 + i % 3, i % 4, '', '', 1, 0, 0, ''"+from,
		"INSERT INTO shards SELECT 100 + i / 3, "+id+", 1, 1, 1, 1"+from,
		"INSERT INTO run_suites SELECT 100 + i / 50, "+id+", ''"+from,
		"INSERT INTO output SELECT i, i / 100, i % 20, 1 + i % 2, ''"+from,
		"INSERT INTO test_cases SELECT i, "+id+", 100 + i % 20, i, '', ''"+from,
		"INSERT INTO comments SELECT i, "+id+", 100 + i % 500, ''"+from,
		"INSERT INTO notifications SELECT i, 100 + i % 500, "+id+", CASE WHEN i % 5 > 0 THEN 1 END, ''"+from,
		"INSERT INTO requests SELECT "+id+", "+id+", '', '', '', i"+from,
		"INSERT INTO rooms (num, name, newest_offset, newest_epoch, cut_offset, cut_at) SELECT i, "+id+", i % 900, 1, CASE WHEN i % 900 > 0 THEN 1 ELSE 0 END, i"+from,
		"INSERT INTO event_batches SELECT 100 + i / 30, i, i, 1, i, '' FROM generate_series(100, 1000000) i",
		"INSERT INTO purges SELECT i FROM generate_series(100, 200) i",
		"INSERT INTO results SELECT i / 1000, i, 2, i, i, 1, i % 9, true, '', '', ''"+from,
		"ANALYZE")
}

func execAt(t testing.TB, dsn string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	for _, s := range statements {
		if _, err := conn.Exec(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// sorted are beginnings of queries that sort what they return: a project's members,
// a user's projects, the pages of several statuses, the shards of some runs.
var sorted = []string{"SELECT u.id, u.name", "SELECT p.id, p.key", resultsByStatus, resultsByChange, selectShard + "WHERE run = ANY"}

// whole are parts of statements that read a whole index, and why they may.
var whole = map[string]string{
	"WHERE r.state = 2":          "it has only the running ones, and all are wanted",
	"tcmanager":                  "it has one row",
	"FROM rooms WHERE trimmable": "it has only those with enough events, and the first ones are wanted",
	"SELECT num, data FROM (":    "", // see indexes
}

// indexes are those that statements have to use, by a part of their text, with what
// has to be compared in it.
var indexes = []struct{ statement, index, cond string }{
	{"SELECT last, data, sum(length(data))", "event_batches_pkey", "(room = $1) AND (last > $2)"},
	{"SELECT data FROM event_batches WHERE room = $1 AND last > $2", "event_batches_pkey", "(room = $1) AND (last > $2)"},
	{resultsBySeq, "results_pkey", "(run = $1) AND (seq > $2)"},
	{resultsWithPassed, "results_pkey", "(run = $1) AND (seq > $2)"},
	{resultsByStatus, "results_status", "(run = $1) AND (status = s.status) AND (seq > $3)"},
	{resultsByChange, "results_change", "(run = $1) AND (status = s.status)"},
	{"(r.seq, r.attempt) > ($2, $3)", "results_pkey", "(run = $1) AND (ROW(seq, attempt) > ROW($2, $3))"},
	{markLast, "results_retried", "(run = $1) AND (seq >= $2) AND (seq <= $3)"},
	{markLast, "results_pkey", "(run = $1) AND (seq = results_1.seq) AND (attempt < (max(results_1.attempt)))"},
	{putResults, "", "Conflict Arbiter Indexes: results_pkey"},
	{"SELECT greatest(1,", "results_retried_name", "(run = $1) AND (name = $2)"},
	{"SELECT greatest(1,", "output_of", "(run = $1) AND (name = $2)"},
	{"sum(length(data)) OVER (ORDER BY num)", "output_of", "(run = $1) AND (name = $2) AND (attempt = $3) AND (num > $4)"},
	{"WHERE r.state = 2 AND r.project", "runs_running", "(project = $0)"},
	{"end_reason IN (1, 2)", "runs_completed", "(project = $0) AND (source = $2) AND (name = $3)"},
	{"r.number < $2 AND r.kept > 0 ORDER BY r.number DESC", "runs_kept", "(project = $0) AND (number < $2)"},
	{"SELECT data FROM run_suites WHERE run", "run_suites_order", "(run = $0)"},
	{"FROM comments WHERE test_case = $1 AND num > $2", "comments_of", "(test_case = $1) AND (num > $2)"},
	{"WHERE user_num = $1 AND num < $2 ORDER BY", "notifications_of", "(user_num = $1) AND (num < $2)"},
	{"num < $2 AND read_at IS NULL", "notifications_unread", "(user_num = $1) AND (num < $2)"},
	{"SELECT count(*) FROM notifications", "notifications_unread", "(user_num = $0)"},
	{"read_at IS NULL ORDER BY num", "notifications_unread", "(user_num = $1)"},
	{"SELECT user_id, id FROM requests WHERE at < $1", "requests_at", "(at < $1)"},
	{"DELETE FROM requests", "requests_pkey", "(user_id = d.user_id) AND (id = d.id)"},
	{longRooms, "rooms_long", "(length >= ($1 / 64))"},
	{oldRooms, "rooms_old", "(cut_at < $1)"},
	{longRooms, "event_batches_pkey", "(room = rooms.num)"},
	{"SELECT id FROM runs WHERE kept = $1", "runs_ended", "(kept = $1) AND (ended_at < $2)"},
	{surplusRuns, "runs_kept", "(project = p.num)"},
	{surplusRuns, "runs_kept", "(project = p.num) AND (number < runs.number)"},
	{"SELECT seq, attempt, 0::bigint", "results_pkey", "(run = $1) AND (ROW(seq, attempt) > ROW($2, $3))"},
	{"DELETE FROM results", "results_pkey", "(run = $1) AND (ROW(seq, attempt) > ROW($2, $3)) AND (ROW(seq, attempt) <= ROW($4, $5))"},
	{"SELECT name, attempt, num, length(data)", "output_of", "(run = $1) AND (ROW(name, attempt, num) > ROW($2, $3, $4))"},
	{"DELETE FROM output", "output_of", "(run = $1) AND (ROW(name, attempt, num) > ROW($2, $3, $4)) AND (ROW(name, attempt, num) <= ROW($5, $6, $7))"},
	{"DELETE FROM run_suites", "run_suites_order", "(run = $1)"},
	{"SELECT last, 0::bigint", "event_batches_pkey", "(room = $1) AND (last > $2)"},
	{"DELETE FROM event_batches WHERE", "event_batches_pkey", "(room = $1) AND (last > $2) AND (last <= $3)"},
	{"DELETE FROM event_batches b", "event_batches_pkey", "(room = d.room) AND (last <= d.last)"},
	{"UPDATE rooms r SET newest_offset", "rooms_pkey", "(num = u.num)"},
	{"FROM suite_names WHERE project = $1 AND sha256(name) = ANY", "suite_names_name", "(project = $1) AND (sha256(name) = ANY ($2))"},
	{"JOIN test_names n ON n.suite = k.suite", "test_names_name", "(suite = k.suite) AND (sha256(name) = k.digest)"},
}

// explain returns the plan that a connection of the store keeps for a statement.
func explainPlan(ctx context.Context, conn *pgx.Conn, sql string) (string, error) {
	if _, err := conn.Exec(ctx, "DEALLOCATE ALL"); err != nil {
		return "", err
	}
	d, err := conn.PgConn().Prepare(ctx, "it", sql, nil)
	if err != nil {
		return "", err
	}
	args := strings.TrimSuffix(strings.Repeat("NULL, ", len(d.ParamOIDs)), ", ")
	if args != "" {
		args = "(" + args + ")"
	}
	rows, err := conn.Query(ctx, "EXPLAIN (VERBOSE false, COSTS false) EXECUTE it"+args, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return "", err
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return strings.Join(lines, "\n"), err
}

func checkPlans(t *testing.T, used *statements, dsn string) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	pin(config)
	config.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	explained, found := 0, map[string]bool{}
	for _, sql := range slices.Sorted(maps.Keys(used.seen)) {
		verb, _, _ := strings.Cut(sql, " ")
		if !slices.Contains([]string{"SELECT", "INSERT", "UPDATE", "DELETE"}, verb) {
			continue
		}
		explained++
		plan, err := explainPlan(t.Context(), conn, sql)
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		if why := wrongPlan(sql, plan); why != "" {
			t.Errorf("%s:\n%.400s\n%s", why, sql, plan)
		}
		for _, want := range indexes {
			if !strings.Contains(sql, want.statement) {
				continue
			}
			found[want.statement] = true
			if !uses(plan, want.index, want.cond) {
				t.Errorf("%.400s\nuses\n%s\nwant %s %s", sql, plan, want.index, want.cond)
			}
		}
	}
	for _, want := range indexes {
		if !found[want.statement] {
			t.Errorf("no statement with %q was seen", want.statement)
		}
	}
	if explained < 50 {
		t.Errorf("only %d statements were seen", explained)
	}
}

// uses returns whether a plan scans an index with a condition.
func uses(plan, index, cond string) bool {
	if index == "" {
		return strings.Contains(plan, cond)
	}
	lines := strings.Split(plan, "\n")
	for i, line := range lines {
		if !strings.Contains(line, " using "+index+" ") || !strings.Contains(line, "Scan") {
			continue
		}
		for _, next := range lines[i+1:] {
			if strings.Contains(next, "->") {
				break
			}
			if strings.Contains(next, "Index Cond: ") && strings.Contains(withoutAliases(next), withoutAliases(cond)) {
				return true
			}
		}
	}
	return false
}

// withoutAliases makes conditions comparable: what a table is called and what is
// cast differs between plans.
func withoutAliases(s string) string {
	for _, cut := range []string{"::bigint", "::integer", "::bytea[]", "r.", "n.", "b.", "event_batches."} {
		s = strings.ReplaceAll(s, cut, "")
	}
	return s
}

// wrongPlan says why a plan isn't one that reads a bounded number of rows.
func wrongPlan(sql, plan string) string {
	for line := range strings.Lines(plan) {
		line = strings.TrimSpace(line)
		switch {
		case strings.Contains(line, "Seq Scan"), strings.Contains(line, "Bitmap"), strings.Contains(line, "Hash Join"), strings.Contains(line, "Merge Join"):
			if !strings.Contains(line, " on tcmanager") {
				return "reads a table"
			}
		case strings.HasSuffix(line, "Sort"):
			if !strings.HasSuffix(line, "Incremental Sort") && !slices.ContainsFunc(sorted, func(s string) bool { return strings.HasPrefix(sql, s) }) {
				return "sorts"
			}
		case strings.Contains(line, "Index") && strings.Contains(line, "Scan"):
			if !strings.Contains(plan, "Cond: ") && !partOf(sql) {
				return "reads an index"
			}
		}
	}
	return ""
}

func partOf(sql string) bool {
	for part := range whole {
		if strings.Contains(sql, part) {
			return true
		}
	}
	return false
}
