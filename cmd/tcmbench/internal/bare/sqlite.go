package bare

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite" // the store's driver

	"github.com/tcmanager/tcmanager/service/store/sqlite"
)

// SQLite writes results to a data file in a folder, dir/bare.db, which must not be there yet: by modernc's driver, with a
// write-ahead log and synchronous=FULL, so that a commit is on disk when it returns.
func SQLite(ctx context.Context, dir string, rows, perCommit int) (_ Result, err error) {
	path, err := filepath.Abs(filepath.Join(dir, "bare.db"))
	if err != nil {
		return Result{}, err
	}
	s, err := sqlite.Open(ctx, sqlite.Options{Path: path})
	if err != nil {
		return Result{}, err
	}
	if err := begin(ctx, s); err != nil {
		return Result{}, err
	}
	// As service/store/sqlite has them.
	q := url.Values{"mode": {"rw"}, "_pragma": {
		"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "temp_store(MEMORY)",
		"cache_size(-32768)", "journal_size_limit(67108864)",
	}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String())
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	w := &sqliteWriter{ctx: context.WithoutCancel(ctx), conn: conn, prepared: map[string]*sql.Stmt{}}
	defer func() { err = errors.Join(err, w.close()) }()
	const at = "SELECT r.project, r.num, m.num, m.newest_epoch FROM runs r, rooms m WHERE r.id = ? AND m.name LIKE '%' || r.id"
	if err := conn.QueryRowContext(ctx, at, runID).Scan(&w.at.project, &w.at.run, &w.at.room, &w.at.epoch); err != nil {
		return Result{}, fmt.Errorf("find the run: %w", err)
	}
	return measure(ctx, w.at, rows, perCommit, w.write)
}

// sqliteWriter writes on one connection, by statements that are prepared once. They have a context that can't end: the driver would
// start a goroutine for each to watch another.
type sqliteWriter struct {
	ctx      context.Context
	conn     *sql.Conn
	prepared map[string]*sql.Stmt
	at       place
	args     []any
}

func (w *sqliteWriter) close() error {
	var errs []error
	for _, s := range w.prepared {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

func (w *sqliteWriter) exec(query string, args ...any) error {
	s, ok := w.prepared[query]
	if !ok {
		var err error
		if s, err = w.conn.PrepareContext(w.ctx, query); err != nil {
			return err
		}
		w.prepared[query] = s
	}
	_, err := s.ExecContext(w.ctx, args...)
	return err
}

// rowsAtOnce is how many rows a statement has, as in the store: with more, making the arguments costs more than it saves.
const rowsAtOnce = 64

// into inserts n rows of a table, many at a time.
func (w *sqliteWriter) into(table, row string, n int, args func(dst []any, i int) []any) error {
	for from := 0; from < n; from += rowsAtOnce {
		to := min(from+rowsAtOnce, n)
		w.args = w.args[:0]
		for i := from; i < to; i++ {
			w.args = args(w.args, i)
		}
		if err := w.exec("INSERT INTO "+table+" VALUES "+strings.Repeat(row+", ", to-from-1)+row, w.args...); err != nil {
			return fmt.Errorf("%s: %w", table, err)
		}
	}
	return nil
}

func (w *sqliteWriter) write(c *commit) error {
	err := w.exec("BEGIN IMMEDIATE")
	for _, part := range []func(*commit) error{w.names, w.results, w.counts} {
		if err == nil {
			err = part(c)
		}
	}
	if err != nil {
		return err // the connection is closed, and nothing of this commit is kept
	}
	return w.exec("COMMIT")
}

func (w *sqliteWriter) names(c *commit) error {
	err := w.into("suite_names (num, project, name)", "(?, ?, ?)", len(c.made), func(dst []any, i int) []any {
		return append(dst, c.made[i].num, w.at.project, c.made[i].name)
	})
	if err != nil {
		return err
	}
	err = w.into("test_names (num, suite, name)", "(?, ?, ?)", len(c.results), func(dst []any, i int) []any {
		r := &c.results[i]
		return append(dst, r.seq, r.suite, r.name)
	})
	if err != nil {
		return err
	}
	return w.into("tests (name, source)", "(?, ?)", len(c.results), func(dst []any, i int) []any {
		return append(dst, c.results[i].seq, source)
	})
}

func (w *sqliteWriter) results(c *commit) error {
	const columns = "results (run, seq, attempt, name, source, shard, shard_attempt, status, change, data, last)"
	return w.into(columns, "(?, ?, 1, ?, ?, '', 1, ?, ?, ?, 1)", len(c.results), func(dst []any, i int) []any {
		r := &c.results[i]
		return append(dst, w.at.run, r.seq, r.seq, source, r.status, r.seq, r.update)
	})
}

// counts writes the suites, the run, and the log.
func (w *sqliteWriter) counts(c *commit) error {
	for _, s := range c.suites {
		err := w.exec("INSERT INTO run_suites (run, name, data) VALUES (?, ?, ?) ON CONFLICT (run, name) DO UPDATE SET data = excluded.data",
			w.at.run, s.name, s.data)
		if err != nil {
			return fmt.Errorf("run_suites: %w", err)
		}
	}
	for _, b := range c.batches {
		err := w.exec("INSERT INTO event_batches (room, first, last, epoch, at, data) VALUES (?, ?, ?, ?, ?, ?)",
			w.at.room, b.first, b.last, w.at.epoch, c.at, b.data)
		if err != nil {
			return fmt.Errorf("event_batches: %w", err)
		}
	}
	if err := w.exec("UPDATE rooms SET newest_offset = ? WHERE num = ?", c.last(), w.at.room); err != nil {
		return fmt.Errorf("rooms: %w", err)
	}
	if err := w.exec("UPDATE runs SET total = ?, data = ? WHERE num = ?", c.total, c.run, w.at.run); err != nil {
		return fmt.Errorf("runs: %w", err)
	}
	return nil
}
