package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/tcmanager/tcmanager/service/store"
)

// conn is one connection with its prepared statements. It is used by one
// goroutine at a time. Statements run without a context: the driver would start
// a goroutine for each to interrupt it, and each reads or writes a bounded
// number of rows by an index.
type conn struct {
	sql   *sql.Conn
	stmts map[string]*sql.Stmt // by their text, of which there is a fixed number
	where string               // the data file, for errors
	// before is called before a statement runs, for the writer's functions; nil for
	// nobody.
	before func(query string) error
	// broken is the first error after which the transaction can't be trusted.
	// SQLite may have rolled it back by itself, so that a statement after it
	// would commit on its own: there is none until the next transaction.
	broken error
}

func newConn(ctx context.Context, db *sql.DB, where string) (*conn, error) {
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, explain(where, err)
	}
	return &conn{sql: c, stmts: map[string]*sql.Stmt{}, where: where}, nil
}

func (c *conn) close() error {
	var errs []error
	for _, s := range c.stmts {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, c.sql.Close())...)
}

// prepare returns a statement that close closes.
func (c *conn) prepare(query string) (*sql.Stmt, error) {
	if c.broken != nil {
		return nil, c.broken
	}
	if c.before != nil {
		if err := c.before(query); err != nil {
			return nil, err
		}
	}
	if s, ok := c.stmts[query]; ok {
		return s, nil
	}
	s, err := c.sql.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, c.check(fmt.Errorf("prepare %q: %w", query, err))
	}
	c.stmts[query] = s
	return s, nil
}

// check translates an error and remembers whether the transaction is over.
func (c *conn) check(err error) error {
	err = explain(c.where, err)
	if err != nil && !errors.Is(err, store.ErrExists) {
		c.broken = err
	}
	return err
}

// control runs BEGIN, COMMIT and their like, also on a broken transaction.
func (c *conn) control(query string) error {
	was, before := c.broken, c.before
	c.broken, c.before = nil, nil
	_, err := c.exec(query)
	c.broken, c.before = was, before
	return err
}

// exec runs a statement; ErrExists if a unique key is taken.
func (c *conn) exec(query string, args ...any) (sql.Result, error) {
	s, err := c.prepare(query) //nolint:sqlclosecheck // close closes it
	if err != nil {
		return nil, err
	}
	r, err := s.ExecContext(context.Background(), args...)
	if err != nil {
		return nil, c.check(err)
	}
	return r, nil
}

// insert runs an INSERT of one row and returns its integer key.
func (c *conn) insert(query string, args ...any) (int64, error) {
	r, err := c.exec(query, args...)
	if err != nil {
		return 0, err
	}
	return r.LastInsertId()
}

// change runs a statement that should change something; ErrNotFound if it didn't.
func (c *conn) change(query string, args ...any) error {
	r, err := c.exec(query, args...)
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n > 0 {
		return err
	}
	return store.ErrNotFound
}

// errStop ends each without an error.
var errStop = errors.New("stop")

// each calls fn for every row, which scans it; fn must not use the connection.
func (c *conn) each(query string, args []any, fn func(*sql.Rows) error) (err error) {
	s, err := c.prepare(query) //nolint:sqlclosecheck // close closes it
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(context.Background(), args...)
	if err != nil {
		return c.check(err)
	}
	defer func() {
		if e := rows.Close(); e != nil && err == nil {
			err = c.check(e)
		}
	}()
	for rows.Next() {
		if err := fn(rows); errors.Is(err, errStop) {
			return nil
		} else if err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return c.check(err)
	}
	return nil
}

// row scans the first row; ErrNotFound if there is none.
func (c *conn) row(query string, args []any, dest ...any) error {
	found := false
	err := c.each(query, args, func(r *sql.Rows) error {
		found = true
		if err := r.Scan(dest...); err != nil {
			return err
		}
		return errStop
	})
	if err == nil && !found {
		return store.ErrNotFound
	}
	return err
}

// all collects what scan makes of the rows.
func all[T any](c *conn, scan func(*sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	var out []T
	err := c.each(query, args, func(r *sql.Rows) error {
		v, err := scan(r)
		out = append(out, v)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
