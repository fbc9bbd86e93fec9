package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tcmanager/tcmanager/service/store"
)

const (
	// attemptTimeout is how long one attempt to connect may take.
	attemptTimeout = 3 * time.Second
	// closeTimeout is how long saying goodbye may take.
	closeTimeout = time.Second
	// retryDelay is how often a database that is away is looked for.
	retryDelay = 200 * time.Millisecond
	// againDelay is how long a transaction that the server undid waits, times the
	// number of its tries.
	againDelay = 10 * time.Millisecond
	// idleCheck is how often a connection with nothing to do is tried: a database
	// that was away is found before somebody needs it.
	idleCheck = 5 * time.Second
)

// outage is a time without a connection.
type outage struct {
	since time.Time
	why   error
}

// tooLong returns whether nobody is to wait for its end any more.
func (l *link) tooLong() bool {
	o := l.down.Load()
	return o != nil && time.Since(o.since) >= l.patience
}

var errNoConnection = errors.New("not connected")

// link is how the writer reaches the database: one connection at a time, which
// holds the lock that says who writes.
type link struct {
	config  *pgx.ConnConfig
	where   string
	log     *slog.Logger
	epoch   uint64
	commits int64 // that are known to be in the database
	// patience is how long updates wait for a database that is away.
	patience time.Duration
	fenced   error // why there must be no connection any more

	down atomic.Pointer[outage] // nil while there is a connection
}

// trouble says what an error of say means.
func (s *session) trouble(err error) trouble {
	if s.conn == nil {
		return lost
	}
	return sort(s.conn, err)
}

// hopeless returns whether updates are to be refused at once.
func (w *writer) hopeless() bool { return w.fenced != nil || w.tooLong() }

// unavailable is what callers are told.
func (w *writer) unavailable() error {
	if w.fenced != nil {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, w.fenced)
	}
	if o := w.down.Load(); o != nil {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, o.why)
	}
	return store.ErrUnavailable
}

// pause waits, but not longer than the store is open.
func (w *writer) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-w.closing:
	}
}

func (w *writer) isClosing() bool {
	select {
	case <-w.closing:
		return true
	default:
		return false
	}
}

// lose notes that the connection is gone.
func (w *writer) lose(cause error) {
	w.session.drop()
	if w.down.Load() == nil {
		w.down.Store(&outage{time.Now(), cause})
		w.log.Warn("the connection to the database is lost; updates wait for it", "database", w.where, "error", explain(w.where, cause))
	}
}

// reconnect waits for the database, for patience since it was lost. It returns
// whether the commit that was in doubt arrived.
func (w *writer) reconnect(cause error) (committed bool, err error) {
	w.lose(cause)
	for delay := 10 * time.Millisecond; ; delay = min(2*delay, retryDelay) {
		if committed, err = w.attempt(); err == nil {
			return committed, nil
		}
		if w.hopeless() || w.isClosing() {
			return false, w.unavailable()
		}
		w.pause(delay)
	}
}

// attempt connects once, takes the lock again and looks where the database is.
func (w *writer) attempt() (committed bool, err error) {
	if w.fenced != nil {
		return false, w.fenced
	}
	ctx, cancel := context.WithTimeout(context.Background(), attemptTimeout)
	defer cancel()
	committed, err = w.takeBack(ctx)
	o := w.down.Load()
	if err != nil {
		w.session.drop()
		w.down.Store(&outage{o.since, err})
		return false, err
	}
	w.log.Info("the connection to the database is back", "database", w.where, "after", time.Since(o.since).Round(time.Millisecond))
	w.down.Store(nil)
	return committed, nil
}

func (w *writer) takeBack(ctx context.Context) (committed bool, err error) {
	conn, err := connect(ctx, w.config, w.where)
	if err != nil {
		return false, err
	}
	w.session.conn = conn
	if err := endOthers(ctx, conn, w.epoch); err != nil {
		return false, explain(w.where, err)
	}
	if err := lock(ctx, conn, w.where); err != nil {
		return false, err
	}
	var epoch, commits int64
	if err := conn.QueryRow(ctx, "SELECT epoch, commits FROM tcmanager").Scan(&epoch, &commits); err != nil {
		return false, explain(w.where, err)
	}
	switch {
	case uint64(epoch) != w.epoch:
		w.fencef("another server has written to the database meanwhile; restart this one")
	case commits == w.commits+1 && w.inDoubt():
		return true, nil
	case commits != w.commits:
		w.fencef("the database has gone back to before commits that were acknowledged (%d of %d); restart the server, so that clients notice", commits, w.commits)
	}
	return false, w.fenced
}

// fencef ends this store's writing for good.
func (w *writer) fencef(format string, args ...any) {
	w.fenced = fmt.Errorf("database %s: %s", w.where, fmt.Sprintf(format, args...))
	w.log.Error("the store can't write any more", "error", w.fenced)
}

// inDoubt returns whether a COMMIT was sent that may have arrived.
func (w *writer) inDoubt() bool { return w.doubt != nil || w.group != nil && w.group.ending }

// retry looks once for a database that is away.
func (w *writer) retry() {
	committed, err := w.attempt()
	if err != nil {
		return
	}
	g := w.doubt
	w.doubt = nil
	if g == nil || !committed {
		return
	}
	w.commits++
	if len(g.events) > 0 {
		w.listen(g.events)
	}
}

// look finds out whether an idle connection still works.
func (w *writer) look() {
	conn := w.session.conn
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), attemptTimeout)
	defer cancel()
	err := conn.PgConn().Conn().SetDeadline(time.Now().Add(attemptTimeout))
	if err == nil {
		err = conn.Ping(ctx)
	}
	if err != nil {
		w.lose(err)
	}
}

// away says why there is no connection.
func (l *link) away() error {
	if o := l.down.Load(); o != nil {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, o.why)
	}
	return nil
}
