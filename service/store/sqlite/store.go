// Package sqlite is the store on one SQLite file: the embedded default.
//
// Everything lies in one file in WAL mode with synchronous=FULL: what Update
// returned from survives the end of the process and of the machine.
//
// # Concurrency
//
// One goroutine, the writer, owns the only connection that writes. It collects
// the functions that wait, runs them in one transaction, and answers them together
// after one commit, so that a hundred small updates cost one flush to disk. What
// runners write with every commit stays in memory until then, or until a statement
// asks for it: each row is written once. A function that issues a statement has a
// savepoint from there on, and one that issues none needs none. Views run on a few connections of their own, each in a read
// transaction, and neither wait for the writer nor make it wait; when all are
// busy, a view waits for one.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync"

	_ "modernc.org/sqlite" // the driver

	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

// Store is a store on one SQLite file. Open makes it, Close ends it.
type Store struct {
	path    string
	epoch   uint64
	lock    *os.File
	writeDB *sql.DB
	readDB  *sql.DB
	readers chan *conn // those no view uses
	opened  int        // how many there are
	writer  *writer

	closeOnce sync.Once
	closeErr  error
	closing   chan struct{} // closed when Close begins
}

var _ store.Store = (*Store)(nil)

func ignore([]event.Event) {}

// Epoch is the number of this history, drawn anew at each Open.
func (s *Store) Epoch() uint64 { return s.epoch }

// View runs fn on a consistent snapshot. It waits for a free connection as long
// as ctx allows.
func (s *Store) View(ctx context.Context, fn func(store.Reader) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	select { // so that a closed store is never used although it has connections
	case <-s.closing:
		return store.ErrClosed
	default:
	}
	var c *conn
	select {
	case c = <-s.readers:
	case <-s.closing:
		return store.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { s.readers <- c }()
	c.broken = nil
	if err := c.control("BEGIN"); err != nil { //nolint:contextcheck // see conn
		return fmt.Errorf("begin to read: %w", err)
	}
	defer func() { //nolint:contextcheck // see conn
		if e := c.control("ROLLBACK"); e != nil && err == nil {
			err = fmt.Errorf("end reading: %w", e)
		}
	}()
	return fn(&reader{ctx: ctx, c: c})
}

// Update runs fn in a transaction that it may share with others. Once fn has
// begun, Update waits for the outcome even if ctx ends.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) error {
	return s.writer.update(ctx, fn)
}

// Ready writes to the disk and reads back.
func (s *Store) Ready(ctx context.Context) error {
	err := s.Update(ctx, func(t store.Tx) error {
		if t, ok := t.(*tx); ok {
			return t.probe()
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write to the data file: %w", err)
	}
	err = s.View(ctx, func(r store.Reader) error {
		if r, ok := r.(*reader); ok {
			var at int64
			return r.c.row("SELECT at FROM probe", nil, &at)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read from the data file: %w", err)
	}
	return nil
}

// Close runs the updates that were accepted, waits for the views and closes the
// file. What comes later gets ErrClosed.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		close(s.closing)
		<-s.writer.stopped
		s.closeErr = s.release()
	})
	return s.closeErr
}

// release closes what Open has opened so far. It waits for the views.
func (s *Store) release() error {
	var errs []error
	if s.readDB != nil {
		for range s.opened {
			c := <-s.readers
			errs = append(errs, c.close())
		}
		errs = append(errs, s.readDB.Close())
	}
	if s.writer != nil {
		errs = append(errs, s.writer.c.close())
	}
	if s.writeDB != nil {
		errs = append(errs, s.writeDB.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close the data file: %w", err)
	}
	return nil
}
