package bare

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

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

func TestTheRowsAreThere(t *testing.T) {
	sqliteStore := func(t *testing.T, perCommit int) (Result, product, error) {
		dir := t.TempDir()
		r, err := SQLite(t.Context(), dir, rows, perCommit)
		if err != nil {
			return r, nil, err
		}
		s, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(dir, "bare.db")})
		return r, s, err
	}
	postgresStore := func(t *testing.T, perCommit int) (Result, product, error) {
		c := pgtest.Shared(t)
		dsn := c.DSN(c.Database(t, ""))
		r, err := Postgres(t.Context(), dsn, rows, perCommit)
		if err != nil {
			return r, nil, err
		}
		s, err := postgres.Open(t.Context(), postgres.Options{DSN: dsn})
		return r, s, err
	}
	for name, written := range map[string]func(*testing.T, int) (Result, product, error){"sqlite": sqliteStore, "postgres": postgresStore} {
		for _, perCommit := range []int{100, 150, 1000, 5000} {
			t.Run(fmt.Sprintf("%s, %d a commit", name, perCommit), func(t *testing.T) {
				r, s, err := written(t, perCommit)
				if err != nil {
					t.Fatal(err)
				}
				defer func() {
					if err := s.Close(); err != nil {
						t.Error(err)
					}
				}()
				if r.Rows != rows || r.Elapsed <= 0 || r.CPU <= 0 || r.CommitP50 <= 0 || r.CommitP50 > r.CommitP99 || r.CommitP99 > r.Elapsed {
					t.Errorf("the result is %+v", r)
				}
				if err := s.View(t.Context(), func(r store.Reader) error { return check(t, r) }); err != nil {
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
