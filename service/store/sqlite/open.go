package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/tcmanager/tcmanager/service/disk"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/column"
)

// applicationID marks a data file as ours, see PRAGMA application_id: "TCMg".
const applicationID = 0x54434d67

// busyTimeout is how long a statement waits for another program's lock. Our own
// connections never wait for each other.
const busyTimeout = 5 * time.Second

//go:embed migrations/*.sql
var migrations embed.FS

// Options say where the data is and who hears of events.
type Options struct {
	// Path is the data file. Its folder is made if it is missing, readable by
	// the user alone. Beside it lie PATH-wal and PATH-shm, which belong to it,
	// and PATH.lock, which keeps a second server out.
	Path string
	// Listener hears of committed events; nil for nobody.
	Listener store.Listener
	// Now is the clock; nil for time.Now.
	Now func() time.Time
}

// Open opens the data file, making it if it is missing, and brings it to the
// newest schema. It refuses, before anything is changed, a file that another
// server has open, one that isn't TCManager's, and one that a newer version wrote.
func Open(ctx context.Context, o Options) (_ *Store, err error) {
	path, err := filepath.Abs(o.Path)
	if err != nil {
		return nil, fmt.Errorf("data file %s: %w", o.Path, err)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Listener == nil {
		o.Listener = ignore
	}
	s := &Store{path: path, closing: make(chan struct{})}
	defer func() {
		if err != nil {
			_ = s.release()
		}
	}()
	if s.epoch, err = column.NewEpoch(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the data file: %w", err)
	}
	if s.lock, err = acquire(path); err != nil {
		return nil, err
	}
	if err := prepareFile(ctx, path); err != nil {
		return nil, err
	}
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	c, err := newConn(ctx, s.writeDB, path)
	if err != nil {
		return nil, err
	}
	s.writer = newWriter(c, s.epoch, o, s.closing)
	go s.writer.run() //nolint:contextcheck // it lives until Close, and see conn
	return s, nil
}

// acquire takes the lock file of a data file.
func acquire(path string) (*os.File, error) {
	f, err := disk.Lock(path + ".lock")
	if held := (*disk.HeldError)(nil); errors.As(err, &held) {
		return nil, fmt.Errorf("data file %s is in use by %s; stop it or choose another path", path, held.Holder("another server"))
	}
	return f, err
}

// prepareFile marks a new file as ours, or checks that an old one is ours and not
// newer than this program.
func prepareFile(ctx context.Context, path string) error {
	info, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("data file %s: %w", path, err)
	}
	if err == nil && info.Size() > 0 {
		return checkFile(ctx, path)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("make the data file: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("make the data file: %w", err)
	}
	return onConn(ctx, path, "rw", func(c *sql.Conn) error {
		_, err := c.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", applicationID))
		return err
	})
}

func checkFile(ctx context.Context, path string) error {
	return onConn(ctx, path, "ro", func(c *sql.Conn) error {
		var id int64
		if err := c.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
			return err
		}
		if id != applicationID {
			return fmt.Errorf("data file %s is another program's SQLite file; choose another path", path)
		}
		schema, newest, err := schemaOf(ctx, c)
		if err == nil && schema > newest {
			err = fmt.Errorf("data file %s was written by a newer version (schema %d; this one knows %d); install that version or restore an older backup",
				path, schema, newest)
		}
		return err
	})
}

// schemaOf returns the newest migration of a file, 0 for none, and the newest that
// this program knows.
func schemaOf(ctx context.Context, c *sql.Conn) (schema, newest int64, err error) {
	if newest, err = newestMigration(); err != nil {
		return 0, 0, err
	}
	var migrated int64
	const tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'goose_db_version'"
	if err := c.QueryRowContext(ctx, tables).Scan(&migrated); err != nil || migrated == 0 {
		return 0, newest, err
	}
	const versions = "SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied"
	return schema, newest, c.QueryRowContext(ctx, versions).Scan(&schema)
}

// newestMigration returns the number at the beginning of the last file's name.
func newestMigration() (int64, error) {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil || len(names) == 0 {
		return 0, fmt.Errorf("list the migrations: %w", err)
	}
	return goose.NumericComponent(names[len(names)-1])
}

// onConn opens the file for fn alone, with nothing set that would change it.
func onConn(ctx context.Context, path, mode string, fn func(*sql.Conn) error) (err error) {
	return explain(path, onDSN(ctx, dsn(path, mode), fn))
}

// onDSN opens one connection for fn alone.
func onDSN(ctx context.Context, name string, fn func(*sql.Conn) error) (err error) {
	db, err := sql.Open("sqlite", name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return fn(c)
}

func dsn(path, mode string, pragmas ...string) string {
	q := url.Values{"mode": {mode}}
	q.Add("_pragma", fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()))
	for _, p := range pragmas {
		q.Add("_pragma", p)
	}
	return uri(path, q)
}

// uri names a file as SQLite wants it.
func uri(path string, q url.Values) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

// connect opens the two pools and migrates.
func (s *Store) connect(ctx context.Context) error {
	var err error
	s.writeDB, err = sql.Open("sqlite", dsn(s.path, "rw",
		"journal_mode(WAL)",
		"synchronous(FULL)",
		"foreign_keys(1)",
		"temp_store(MEMORY)",
		"cache_size(-32768)",           // KiB
		"journal_size_limit(67108864)", // bytes that are kept of PATH-wal after a peak
	))
	if err != nil {
		return fmt.Errorf("open the data file: %w", err)
	}
	s.writeDB.SetMaxOpenConns(1)
	if err := s.migrate(ctx); err != nil {
		return fmt.Errorf("migrate the data file %s: %w", s.path, explain(s.path, err))
	}
	s.readDB, err = sql.Open("sqlite", dsn(s.path, "rw", "query_only(1)", "temp_store(MEMORY)", "cache_size(-8192)"))
	if err != nil {
		return fmt.Errorf("open the data file: %w", err)
	}
	n := readers()
	s.readers = make(chan *conn, n)
	for range n {
		c, err := newConn(ctx, s.readDB, s.path)
		if err != nil {
			return err
		}
		s.readers <- c
		s.opened++
	}
	return nil
}

// readers is how many views run at the same time. Reading is work for the
// processor, so that more than a few for each would only hold memory.
func readers() int { return max(4, 2*runtime.GOMAXPROCS(0)) }

func (s *Store) migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, s.writeDB, files)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}
