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
	"SCAN r USING INDEX runs_running": "it has only the running ones, and all are wanted",
}

// sorted are beginnings of queries that sort what they return: a project's members,
// a user's projects.
var sorted = []string{"SELECT u.id, u.name", "SELECT p.id, p.key"}

func checkPlans(t *testing.T, used *statements) {
	s := open(t, Options{Path: dataPath(t)})
	defer func() { _ = s.Close() }()
	queries := slices.Sorted(maps.Keys(used.seen))
	explained := 0
	err := s.View(t.Context(), func(r store.Reader) error {
		for _, q := range queries {
			verb, _, _ := strings.Cut(q, " ")
			if !slices.Contains([]string{"SELECT", "INSERT", "UPDATE", "DELETE"}, verb) {
				continue
			}
			explained++
			args := make([]any, strings.Count(q, "?"))
			err := r.(*reader).c.each("EXPLAIN QUERY PLAN "+q, args, func(rows *sql.Rows) error {
				var id, parent, unused int
				var step string
				if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
					return err
				}
				if wrong(q, step) {
					t.Errorf("%.300s\n  %s", q, step)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if explained < 50 {
		t.Errorf("only %d statements were seen", explained)
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
