// Package postgres is the store on a PostgreSQL database: for more data or more
// safety than one file on the server's own disk gives.
//
// What Update returned from is committed with synchronous_commit, so it survives
// the end of this process, of PostgreSQL and of the machine.
//
// One server writes. It holds an advisory lock on the connection that it writes on,
// so that a second server is refused, and one that lost the connection can't write
// before it has the lock again.
//
// # Concurrency
//
// One goroutine, the writer, owns the only connection that writes. It collects the
// functions that wait, runs them in one transaction, and answers them together
// after one commit. What a function writes is noted and sent with the next question
// or with the commit, and is kept until then: if PostgreSQL restarts in the middle,
// it is said again, and functions wait for that without noticing. A row that counts
// the commits tells whether one arrived whose answer was lost. Views run on a pool
// of connections, each in a REPEATABLE READ transaction, and neither wait for the
// writer nor make it wait; when all are busy, a view waits for one.
package postgres

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

// Store is a store on a database. Open makes it, Close ends it.
type Store struct {
	where  string // the database, for errors
	pool   *pgxpool.Pool
	writer *writer

	closeOnce sync.Once
	closeErr  error
	closing   chan struct{} // closed when Close begins
}

var _ store.Store = (*Store)(nil)

func ignore([]event.Event) {}

// Epoch is the number of this history, drawn anew at each Open.
func (s *Store) Epoch() uint64 { return s.writer.epoch }

func (s *Store) isClosing() bool { return s.writer.isClosing() }

// View runs fn on a consistent snapshot, which is that of its first question. It
// waits for a free connection, and for a database that restarts, as long as ctx
// allows. If the database goes away while fn reads, fn gets ErrUnavailable.
func (s *Store) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.isClosing() { // so that a closed store is never used although it has connections
		return store.ErrClosed
	}
	v := &view{s: s, ctx: ctx}
	defer v.release() //nolint:contextcheck // it has it
	return fn(&reader{ctx: ctx, db: v})
}

// Update runs fn in a transaction that it may share with others. Once fn has
// begun, Update waits for the outcome even if ctx ends.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) error {
	return s.writer.update(ctx, fn, false)
}

const (
	// readyTimeout is how long Ready waits: who asks has more than one server, or
	// wants to know now.
	readyTimeout = 3 * time.Second
	// probeBytes is what Ready writes to a database that couldn't write before: an
	// update in place works on a full disk, new pages don't.
	probeBytes = 256 << 10
)

// Ready writes to the database and reads back. It doesn't wait for a database that
// is away.
func (s *Store) Ready(ctx context.Context) error {
	if s.isClosing() {
		return store.ErrClosed
	}
	if s.writer.down.Load() != nil {
		return s.writer.away()
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	err := s.writer.update(ctx, func(t store.Tx) error {
		if t, ok := t.(*tx); ok {
			return t.probe()
		}
		return nil
	}, true)
	if err != nil {
		return fmt.Errorf("write to the database: %w", err)
	}
	err = s.View(ctx, func(r store.Reader) error {
		if r, ok := r.(*reader); ok {
			var commits int64
			return r.row("SELECT commits FROM tcmanager", nil, &commits)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read from the database: %w", err)
	}
	return nil
}

// Close runs the updates that were accepted, waits for the views and closes the
// connections. What comes later gets ErrClosed.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		close(s.closing)
		<-s.writer.stopped
		s.pool.Close()
		s.closeErr = s.writer.leave()
	})
	return s.closeErr
}
