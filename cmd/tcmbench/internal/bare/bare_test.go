package bare

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/postgres"
	"github.com/tcmanager/tcmanager/service/store/postgres/pgtest"
	"github.com/tcmanager/tcmanager/service/store/sqlite"
)

func TestMain(m *testing.M) {
	code := pgtest.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// A number of rows that fills neither the last commit, nor the last suite, nor the last statement.
const rows = 1234

// product is the product's own store, which has to take what was written for its own.
type product interface {
	View(ctx context.Context, fn func(store.Reader) error) error
	Close() error
}

// countRows are how many rows each table has.
const countRows = "SELECT (SELECT count(*) FROM results), (SELECT count(*) FROM tests), (SELECT count(*) FROM test_names), (SELECT count(*) FROM suite_names)"

// written is a database after a measurement.
type written struct {
	Result
	product
	counts [4]int // see countRows
}

func inSQLite(t *testing.T, perCommit int) (w written, err error) {
	dir := t.TempDir()
	if w.Result, err = SQLite(t.Context(), dir, rows, perCommit); err != nil {
		return w, err
	}
	path := filepath.Join(dir, "bare.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return w, err
	}
	err = db.QueryRowContext(t.Context(), countRows).Scan(&w.counts[0], &w.counts[1], &w.counts[2], &w.counts[3])
	if err := errors.Join(err, db.Close()); err != nil {
		return w, err
	}
	w.product, err = sqlite.Open(t.Context(), sqlite.Options{Path: path})
	return w, err
}

func inPostgres(t *testing.T, perCommit int) (w written, err error) {
	c := pgtest.Shared(t)
	dsn := c.DSN(c.Database(t, ""))
	if w.Result, err = Postgres(t.Context(), dsn, rows, perCommit); err != nil {
		return w, err
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		return w, err
	}
	err = conn.QueryRow(t.Context(), countRows).Scan(&w.counts[0], &w.counts[1], &w.counts[2], &w.counts[3])
	if err := errors.Join(err, conn.Close(t.Context())); err != nil {
		return w, err
	}
	w.product, err = postgres.Open(t.Context(), postgres.Options{DSN: dsn})
	return w, err
}

func TestTheRowsAreThere(t *testing.T) {
	for name, write := range map[string]func(*testing.T, int) (written, error){"sqlite": inSQLite, "postgres": inPostgres} {
		for _, perCommit := range []int{100, 150, 1000, 5000} {
			t.Run(fmt.Sprintf("%s, %d a commit", name, perCommit), func(t *testing.T) {
				w, err := write(t, perCommit)
				if err != nil {
					t.Fatal(err)
				}
				defer func() {
					if err := w.Close(); err != nil {
						t.Error(err)
					}
				}()
				if r := w.Result; r.Rows != rows || r.Elapsed <= 0 || r.CPU <= 0 || r.CommitP50 <= 0 || r.CommitP50 > r.CommitP99 || r.CommitP99 > r.Elapsed {
					t.Errorf("the result is %+v", r)
				}
				if want := [4]int{rows, rows, rows, (rows + suiteTests - 1) / suiteTests}; w.counts != want {
					t.Errorf("the tables have %v rows, not %v", w.counts, want)
				}
				if err := w.View(t.Context(), func(r store.Reader) error { return check(t, r) }); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// check reads all that was written as the product does.
func check(t *testing.T, r store.Reader) error {
	results, err := r.Results(runID, store.ResultQuery{Limit: 2 * rows})
	if err != nil {
		return err
	}
	if len(results) != rows {
		t.Errorf("%d results", len(results))
	}
	want, err := makeCommit(place{}, 0, rows)
	if err != nil {
		return err
	}
	for i := range results {
		got, want := &results[i], &want.results[i]
		if got.Seq != uint64(want.seq) || got.Suite != suiteName(int(want.suite)) || got.Name != want.name || got.Source != source ||
			got.Offset != got.Seq {
			t.Fatalf("result %d is %+v", i, got)
		}
		u := &pb.TestExecutionUpdate{}
		if err := proto.Unmarshal(got.Update, u); err != nil || u.Test.Name != want.name {
			t.Fatalf("the update of result %d is %v (%v)", i, u, err)
		}
	}
	suites, err := r.Suites(runID, 2*rows)
	if err != nil {
		return err
	}
	total := 0
	for _, s := range suites {
		total += int(s.Counts.Total)
	}
	if len(suites) != len(want.suites) || total != rows {
		t.Errorf("%d suites of %d tests", len(suites), total)
	}
	run, err := r.Run(runID)
	if err != nil {
		return err
	}
	if run.Counts.Total != rows {
		t.Errorf("the run has %d tests", run.Counts.Total)
	}
	return checkLog(t, r)
}

func checkLog(t *testing.T, r store.Reader) error {
	room := event.RunRoom(runID)
	for offset := uint64(0); offset < rows; {
		part, err := r.Log(room, offset, 1<<20)
		if err != nil {
			return err
		}
		if len(part.Events) == 0 {
			t.Fatalf("the log ends after %d events", offset)
		}
		for _, e := range part.Events {
			if offset++; e.Position.Offset != offset {
				t.Fatalf("event %d is at %d", offset, e.Position.Offset)
			}
		}
	}
	return nil
}

func TestWhatCannotBeMeasuredIsAnError(t *testing.T) {
	dir := t.TempDir()
	if _, err := SQLite(t.Context(), dir, 0, 100); err == nil {
		t.Error("no rows are measured")
	}
	if _, err := SQLite(t.Context(), dir, 10, 5); err == nil {
		t.Error("a database that isn't empty is measured")
	}
	ended, cancel := context.WithTimeout(t.Context(), -time.Second)
	defer cancel()
	if _, err := SQLite(ended, t.TempDir(), 10, 5); err == nil {
		t.Error("the context has ended and all was measured")
	}
}
