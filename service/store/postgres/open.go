package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/column"
	"github.com/tcmanager/tcmanager/service/store/memory"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// defaultPatience is how long updates and views wait for a database that is
	// away: PostgreSQL restarts in some seconds, and callers give up after 20.
	defaultPatience = 10 * time.Second
	// lockPatience is how long Open waits for the lock: a server that was killed has
	// it until PostgreSQL notices.
	lockPatience = 2 * time.Second
	// lockTimeout is how long a statement waits for another program's lock before the
	// transaction is undone and said again.
	lockTimeout = "5000" // ms
)

// Options say where the database is and who hears of events.
type Options struct {
	// DSN is the address: postgres://user:password@host:5432/database, or any other
	// form that PostgreSQL's own programs take. No error and no log ever has the
	// password.
	DSN string
	// Listener hears of committed events; nil for nobody.
	Listener store.Listener
	// Now is the clock; nil for time.Now.
	Now func() time.Time
	// Log hears of lost connections; nil for nobody.
	Log *slog.Logger
	// Patience is how long updates and views wait for a database that is away; 0 for
	// 10 seconds.
	Patience time.Duration

	// For tests: who hears of what is sent, and how often an idle connection is tried.
	tracer pgx.QueryTracer
	idle   time.Duration
}

// Open connects to the database, takes the lock that says who writes, and brings
// the tables to the newest schema, making them if there are none. It refuses,
// before anything is changed, a database that another server writes to, one that
// isn't TCManager's, and one that a newer version wrote.
func Open(ctx context.Context, o Options) (_ *Store, err error) {
	config, err := parse(o.DSN)
	if err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Listener == nil {
		o.Listener = ignore
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.idle == 0 {
		o.idle = idleCheck
	}
	if o.Patience == 0 {
		o.Patience = defaultPatience
	}
	s := &Store{where: address(config.ConnConfig), closing: make(chan struct{})}
	epoch, err := column.NewEpoch()
	if err != nil {
		return nil, err
	}
	pin(config.ConnConfig)
	config.ConnConfig.Tracer = o.tracer
	w := newWriter(s, o, config.ConnConfig.Copy(), epoch)
	defer func() { //nolint:contextcheck // ctx may be what ended
		if err != nil {
			w.session.drop()
		}
	}()
	if w.session.conn, err = connect(ctx, w.config, s.where); err != nil {
		return nil, err
	}
	if err := prepare(ctx, w); err != nil {
		return nil, err
	}
	config.ConnConfig.RuntimeParams["application_name"] = "tcmanager"
	config.BeforeConnect = nil
	if s.pool, err = pgxpool.NewWithConfig(context.WithoutCancel(ctx), config); err != nil {
		return nil, explainConnect(s.where, w.config.User, err)
	}
	s.writer = w
	go w.run() //nolint:contextcheck // it lives until Close
	return s, nil
}

func newWriter(s *Store, o Options, config *pgx.ConnConfig, epoch uint64) *writer {
	config.RuntimeParams["application_name"] = writerName(epoch)
	return &writer{
		link: link{config: config, where: s.where, log: o.Log, epoch: epoch, patience: o.Patience},
		now:  o.Now, listen: o.Listener,
		jobs: make(chan *job, queueLength), closing: s.closing, stopped: make(chan struct{}),
		bounds: groupBounds, idle: o.idle, rooms: memory.NewRooms(), names: newNames(), pending: memory.NewPending(),
	}
}

// writerName is how the connection that writes is called in pg_stat_activity: by it
// a server finds what is left of its own.
func writerName(epoch uint64) string { return fmt.Sprintf("tcmanager writer %016x", epoch) }

// pin sets what every connection needs. Each statement finds its rows by an index.
// A plan is kept, so one that was made while a table was small would read all of
// it once it is large: other ways are switched off.
func pin(c *pgx.ConnConfig) {
	maps.Copy(c.RuntimeParams, map[string]string{
		"enable_seqscan": "off", "enable_bitmapscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off", "enable_sort": "off", "jit": "off",
		"lock_timeout": lockTimeout, "statement_timeout": "0", "idle_in_transaction_session_timeout": "0",
	})
	if c.ConnectTimeout == 0 || c.ConnectTimeout > attemptTimeout {
		c.ConnectTimeout = attemptTimeout
	}
	// A client that goes away lets its statement, which takes milliseconds, end. To
	// cut it would cost the connection.
	c.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, CancelRequestDelay: closeTimeout, DeadlineDelay: 2 * closeTimeout}
	}
}

// connect opens a connection that can write.
func connect(ctx context.Context, config *pgx.ConnConfig, where string) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, explainConnect(where, config.User, err)
	}
	if err := checkServer(ctx, conn, where); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	tuneArrays(conn.TypeMap())
	return conn, nil
}

// prepare takes the lock, checks whose database it is, and migrates.
func prepare(ctx context.Context, w *writer) error {
	conn := w.session.conn
	if err := lockSoon(ctx, conn, w.where); err != nil {
		return err
	}
	warnUnsafe(ctx, conn, w.log, w.where)
	pending, err := checkSchema(ctx, conn, w.where)
	if err != nil {
		return err
	}
	if pending {
		if err := migrate(ctx, w.config); err != nil {
			return fmt.Errorf("migrate: %w", explain(w.where, err))
		}
	}
	if _, err := conn.Exec(ctx, "UPDATE tcmanager SET epoch = $1, commits = 0, pad = NULL", int64(w.epoch)); err != nil {
		return explain(w.where, err)
	}
	if err := w.nums.load(ctx, conn); err != nil {
		return explain(w.where, err)
	}
	return nil
}

// migrate brings the schema to the newest version.
func migrate(ctx context.Context, config *pgx.ConnConfig) (err error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	db := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, db.Close()) }()
	p, err := goose.NewProvider(goose.DialectPostgres, db, files)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// newestMigration returns the number at the beginning of the last file's name.
func newestMigration() (int64, error) {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil || len(names) == 0 {
		return 0, fmt.Errorf("list the migrations: %w", err)
	}
	return goose.NumericComponent(names[len(names)-1])
}

// leave gives the lock back and closes the connection.
func (w *writer) leave() error {
	conn := w.session.conn
	if conn == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), attemptTimeout)
	defer cancel()
	_ = conn.PgConn().Conn().SetDeadline(time.Now().Add(attemptTimeout))
	_, err := conn.Exec(ctx, "SELECT pg_advisory_unlock_all()")
	err = errors.Join(err, conn.Close(ctx))
	if err != nil && sort(conn, err) == lost {
		return nil // the database went away before we did
	}
	return err
}
