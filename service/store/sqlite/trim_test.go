package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/pressly/goose/v3"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

// trimAll drops all that a history doesn't keep.
func trimAll(t *testing.T, s *Store, h store.History) (events int) {
	t.Helper()
	for more := true; more; {
		err := s.Update(t.Context(), func(tx store.Tx) error {
			done, err := tx.TrimLogs(h)
			events, more = events+done.Events, done.More
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return events
}

func TestTrimmedPagesAreUsedAgain(t *testing.T) {
	s := open(t, Options{Path: dataPath(t)})
	defer func() { _ = s.Close() }()
	d, err := event.NewDraft("project:p", time.Now(), nil, &pb.Event{Payload: &pb.Event_TestExecution{
		TestExecution: &pb.TestExecutionUpdate{Comment: strings.Repeat("x", 20_000)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	pages := func() (n int) {
		t.Helper()
		err := s.View(t.Context(), func(r store.Reader) error { return r.(*reader).c.row("PRAGMA page_count", nil, &n) })
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	var first int
	for round := range 10 {
		for range 200 {
			err := s.Update(t.Context(), func(tx store.Tx) error {
				_, err := tx.Append(d)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if trimAll(t, s, store.History{Events: 50}) == 0 {
			t.Fatal("nothing was trimmed")
		}
		if round == 0 {
			first = pages()
		}
	}
	// Rounds of 200 events that 50 are kept of: the second needs those 50 more.
	if last := pages(); last > first*3/2 {
		t.Errorf("the file has %d pages after the first round and %d after the tenth", first, last)
	}
}

// TestLogsFromBeforeTheyWereTrimmed opens a file of the first schema.
func TestLogsFromBeforeTheyWereTrimmed(t *testing.T) {
	path := dataPath(t)
	alter(t, path, fmt.Sprintf("PRAGMA application_id = %d", applicationID))
	migrateTo(t, path, 1)
	alter(t, path,
		"INSERT INTO rooms (num, name, newest_offset, newest_epoch, trim_epoch) VALUES (1, 'project:p', 90, 8, 7), (2, 'project:q', 0, 7, 7)",
		`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 90)
		INSERT INTO event_batches (room, first, last, epoch, at, data) SELECT 1, i, i, 7 + (i > 40), 1000 + i, x'' FROM n ORDER BY i`)
	s := open(t, Options{Path: path})
	defer func() { _ = s.Close() }()
	if n := trimAll(t, s, store.History{Events: 60}); n != 30 {
		t.Errorf("%d events were dropped by count, want 30", n)
	}
	if n := trimAll(t, s, store.History{Since: time.UnixMicro(1051)}); n != 20 {
		t.Errorf("%d events were dropped by age, want 20", n)
	}
	if n := trimAll(t, s, store.History{Since: time.UnixMicro(1052)}); n != 1 {
		t.Errorf("%d events were dropped a microsecond later, want 1", n)
	}
	err := s.View(t.Context(), func(r store.Reader) error {
		head, err := r.Head("project:p")
		if want := (event.Position{Offset: 51, Epoch: 8}); head.Trim != want {
			t.Errorf("the trim mark is %v, want %v", head.Trim, want)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// migrateTo brings a file to a version of the schema.
func migrateTo(t *testing.T, path string, version int64) {
	t.Helper()
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", dsn(path, "rw"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(context.WithoutCancel(t.Context()), version); err != nil {
		t.Fatal(err)
	}
}

func TestCommitThatFailsLeavesTheTrimMark(t *testing.T) {
	f := newFaulty(t)
	for range 40 {
		if err := f.s.Update(t.Context(), func(st store.Tx) error { return put(st.(*tx), "a") }); err != nil {
			t.Fatal(err)
		}
	}
	errs := f.together(
		func(t *tx) error {
			_, err := t.TrimLogs(store.History{Events: 20})
			return err
		},
		func(t *tx) error {
			if _, err := t.c.exec("PRAGMA defer_foreign_keys = ON"); err != nil {
				return err
			}
			_, err := t.c.exec("INSERT INTO members (project, user, role) VALUES (77, 77, 1)")
			return err
		},
	)
	for i, err := range errs {
		if err == nil {
			t.Errorf("update %d of a failed commit succeeded", i)
		}
	}
	err := f.s.Update(t.Context(), func(tx store.Tx) error {
		head, err := tx.Head("project:p")
		if head.Trim.Offset != 0 {
			t.Errorf("the trim mark is %v after a commit that failed", head.Trim)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	f.goesOn(40)
}
