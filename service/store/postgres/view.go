package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tcmanager/tcmanager/service/store"
)

type rows = pgx.Rows

// view is one View: a connection of the pool from its first question on.
type view struct {
	s    *Store
	ctx  context.Context
	conn *pgxpool.Conn
}

const beginView = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"

// ask asks a question. The first one begins the transaction; if the connection
// turns out to be dead, it is asked on another one.
func (v *view) ask(q *query) error {
	if v.conn != nil {
		return v.end(v.once(q, false))
	}
	until := time.Now().Add(v.s.writer.patience)
	for delay := 10 * time.Millisecond; ; delay = min(2*delay, retryDelay) {
		err := v.first(q)
		if err == nil || q.began || v.ctx.Err() != nil || !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrFull) {
			return err
		}
		if v.s.writer.down.Load() == nil && delay == 10*time.Millisecond {
			continue // the next connection may be alive
		}
		if time.Now().Add(delay).After(until) || v.s.writer.tooLong() {
			return err
		}
		select {
		case <-time.After(delay):
		case <-v.s.closing:
			return store.ErrClosed
		case <-v.ctx.Done():
			return v.ctx.Err()
		}
	}
}

// first takes a connection and asks the first question on it.
func (v *view) first(q *query) error {
	conn, err := v.s.pool.Acquire(v.ctx)
	if err != nil {
		switch {
		case v.ctx.Err() != nil:
			return v.ctx.Err()
		case v.s.isClosing():
			return store.ErrClosed
		}
		return fmt.Errorf("%w: %w", store.ErrUnavailable, explainConnect(v.s.where, v.s.writer.config.User, err))
	}
	v.conn = conn
	err = v.once(q, true)
	if err != nil && conn.Conn().IsClosed() {
		v.release()
	}
	return v.end(err)
}

// once asks a question on the connection, behind BEGIN if it is the first.
func (v *view) once(q *query, first bool) error {
	b := &pgx.Batch{}
	if first {
		b.Queue(beginView)
	}
	b.Queue(q.sql, q.args...)
	results := v.conn.Conn().SendBatch(v.ctx, b)
	var err error
	if first {
		_, err = results.Exec()
	}
	if err == nil {
		err = readRows(results, q)
	}
	return errors.Join(err, results.Close())
}

// end says what an error of the driver means.
func (v *view) end(err error) error {
	if err == nil {
		return nil
	}
	var e rowError
	switch {
	case errors.As(err, &e):
		return e.error
	case v.ctx.Err() != nil:
		return v.ctx.Err()
	case v.conn == nil || sort(v.conn.Conn(), err) != wrong:
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return explain(v.s.where, err)
}

// release gives the connection back.
func (v *view) release() {
	if v.conn == nil {
		return
	}
	conn := v.conn
	v.conn = nil
	if !conn.Conn().IsClosed() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(v.ctx), closeTimeout)
		defer cancel()
		if _, err := conn.Conn().PgConn().Exec(ctx, "ROLLBACK").ReadAll(); err != nil {
			_ = conn.Conn().Close(ctx) // so that the pool doesn't give it to anybody
		}
	}
	conn.Release()
}
