package sqlite

import (
	"database/sql"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/storetest"
)

// TestConformance runs the suite, and then looks at the plan of every statement
// that it made the store prepare.
func TestConformance(t *testing.T) {
	used := &statements{seen: map[string]bool{}}
	storetest.Run(t, func(t *testing.T) storetest.Opener {
		path := filepath.Join(t.TempDir(), "data", "tcmanager.db")
		return func(t *testing.T, listener store.Listener) store.Store {
			t.Helper()
			return &watched{open(t, Options{Path: path, Listener: listener}), used}
		}
	})
	if !t.Failed() {
		t.Run("every statement finds its rows by an index", func(t *testing.T) { checkPlans(t, used) })
	}
}

// statements are the texts of prepared statements.
type statements struct {
	mu   sync.Mutex
	seen map[string]bool // guarded by mu
}

// watched is a store that tells its statements when it closes.
type watched struct {
	*Store
	used *statements
}

func (w *watched) Close() error {
	w.closeOnce.Do(func() {
		close(w.closing)
		<-w.writer.stopped
		w.used.mu.Lock()
		defer w.used.mu.Unlock()
		for q := range w.writer.c.stmts {
			w.used.seen[q] = true
		}
		for range w.opened { // waits for the views
			c := <-w.readers
			for q := range c.stmts {
				w.used.seen[q] = true
			}
			w.readers <- c
		}
		w.closeErr = w.release()
	})
	return w.closeErr
}

// accepted are the steps of plans that read more than they return, each with a bound.
var accepted = map[string]string{
	"SCAN probe":                      "it has one row",
	"SCAN k":                          "these are the rows of the statement itself",
	"SCAN r USING INDEX runs_running": "it has only the running ones, and all are wanted",
	"SCAN q":                          "it has only runs of which something is left to drop, and the first is wanted",
	"SCAN p USING COVERING INDEX sqlite_autoindex_projects_2": "each project is looked at, once a sweep",
}

// sorted are beginnings of queries that sort what they return: a project's members,
// a user's projects.
var sorted = []string{"SELECT u.id, u.name", "SELECT p.id, p.key"}

// indexes are those that statements have to use, by a part of their text: another
// one, or the order of a table, would also do without a scan, and read far more.
var indexes = []struct{ statement, index string }{
	{"FROM event_batches WHERE room = ? AND last > ?", "event_batches_place (room=? AND last>?"},
	{"FROM event_batches WHERE room = ? ORDER BY last DESC", "event_batches_place (room=?)"},
	{"CROSS JOIN test_names n", "sqlite_autoindex_test_names_1 (suite=? AND name=?)"},
	{"r.last = 1 AND r.seq > ?", "PRIMARY KEY (run=? AND seq>?)"},
	{"AND r.seq > ? AND r.status IN", "PRIMARY KEY (run=? AND seq>?)"},
	{"AND r.status = ? AND r.seq > ?", "results_status (run=? AND status=? AND seq>?)"},
	{"AND r.status = ? ORDER BY change DESC", "results_change (run=? AND status=?)"},
	{"(r.seq, r.attempt) > (?, ?)", "PRIMARY KEY (run=? AND (seq,attempt)>(?,?))"},
	{"SELECT seq, max(attempt) FROM results", "results_retried (run=? AND seq>? AND seq<?)"},
	{"SELECT max(attempt) FROM results", "results_retried_name (run=? AND name=? AND attempt>?)"},
	{"SELECT max(attempt) FROM output", "output_of (run=? AND name=?)"},
	{"SELECT num, data FROM output", "output_of (run=? AND name=? AND attempt=? AND rowid>?)"},
	{"WHERE r.state = 2 AND p.id = ?", "runs_running (project=?)"},
	{"r.end_reason IN (1, 2)", "runs_completed (project=? AND source=? AND name=?)"},
	{"FROM comments WHERE test_case = ? AND num > ?", "comments_of (test_case=? AND rowid>?)"},
	{"FROM notifications WHERE user = ? AND num < ? ORDER BY", "notifications_of (user=? AND rowid<?)"},
	{"FROM notifications WHERE user = ? AND num < ? AND read_at IS NULL", "notifications_unread (user=? AND rowid<?)"},
	{"SELECT count(*) FROM notifications", "notifications_unread (user=?)"},
	{"SELECT id FROM notifications", "notifications_unread (user=?)"},
	{"SELECT user, id FROM requests WHERE at < ?", "requests_at (at<?)"},
	{"DELETE FROM requests", "PRIMARY KEY (user=? AND id=?)"},
	{"FROM rooms WHERE newest_offset - cut_offset >= ?", "rooms_long (<expr>>?)"},
	{"FROM rooms WHERE cut_at < ?", "rooms_old (cut_at<?)"},
	{"SELECT last, epoch, at, length(data)", "event_batches_place (room=?)"},
	{"SELECT id FROM runs WHERE kept = ? AND ended_at < ?", "runs_ended (kept=? AND ended_at<?)"},
	{"FROM projects p CROSS JOIN runs r", "runs_kept (project=? AND number<?)"},
	{"FROM projects p CROSS JOIN runs r", "runs_kept (project=?)"},
	{"AND r.number < ? AND r.kept > 0", "runs_kept (project=? AND number<?)"},
	{"SELECT seq, attempt, 0, length(data)", "PRIMARY KEY (run=? AND (seq,attempt)>(?,?))"},
	{"DELETE FROM results WHERE", "PRIMARY KEY (run=? AND (seq,attempt)>(?,?) AND (seq,attempt)<(?,?))"},
	{"SELECT name, attempt, num, length(data)", "output_of (run=? AND (name,attempt)>(?,?))"},
	{"DELETE FROM output", "INTEGER PRIMARY KEY (rowid=?)"},
	{"SELECT last, 0, 0, length(data)", "event_batches_place (room=? AND last>?)"},
	{"DELETE FROM event_batches WHERE room = ? AND last <= ?", "event_batches_place (room=? AND last<?)"},
}

func checkPlans(t *testing.T, used *statements) {
	s := open(t, Options{Path: dataPath(t)})
	defer func() { _ = s.Close() }()
	queries := slices.Sorted(maps.Keys(used.seen))
	explained, found := 0, map[string]bool{}
	err := s.View(t.Context(), func(r store.Reader) error {
		for _, q := range queries {
			verb, _, _ := strings.Cut(q, " ")
			if !slices.Contains([]string{"SELECT", "INSERT", "UPDATE", "DELETE", "WITH"}, verb) {
				continue
			}
			explained++
			args := make([]any, strings.Count(q, "?"))
			var plan []string
			err := r.(*reader).c.each("EXPLAIN QUERY PLAN "+q, args, func(rows *sql.Rows) error {
				var id, parent, unused int
				var step string
				if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
					return err
				}
				plan = append(plan, step)
				if wrong(q, step) {
					t.Errorf("%.300s\n  %s", q, step)
				}
				return nil
			})
			if err != nil {
				return err
			}
			checkIndexes(t, found, q, strings.Join(plan, "\n  "))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
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

func checkIndexes(t *testing.T, found map[string]bool, query, plan string) {
	t.Helper()
	for _, want := range indexes {
		if !strings.Contains(query, want.statement) {
			continue
		}
		found[want.statement] = true
		if !strings.Contains(plan, want.index) {
			t.Errorf("%.300s\nuses\n  %s\nwant %s", query, plan, want.index)
		}
	}
}

// wrong returns whether a step of a query's plan reads a whole table or sorts.
func wrong(query, step string) bool {
	if strings.Contains(step, "TEMP B-TREE") {
		return !slices.ContainsFunc(sorted, func(s string) bool { return strings.HasPrefix(query, s) })
	}
	if !strings.HasPrefix(step, "SCAN ") || strings.Contains(step, " CONSTANT ROW") || strings.HasSuffix(step, "-ROW VALUES CLAUSE") {
		return false
	}
	_, ok := accepted[step]
	return !ok
}
