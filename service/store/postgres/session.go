package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// roundTimeout is how long one round trip to the database may take. Statements
// read or write a bounded number of rows by an index and wait at most lockTimeout
// for another program's lock: what takes longer than this has no answer to come.
const roundTimeout = 30 * time.Second

// statement is a write.
type statement struct {
	sql  string
	args []any
}

// query is a read. Its row is called for every row; errStop ends it without an error.
type query struct {
	sql   string
	args  []any
	row   func(pgx.Rows) error
	began bool // row was called
}

// errStop ends a query without an error.
var errStop = errors.New("stop")

// session is what was said on the writing connection since the last commit. A
// write is only noted. It is sent together with the next question, or with the
// COMMIT, in one round trip, and stays noted until the commit: so a transaction
// that the server has lost can be said again.
type session struct {
	conn *pgx.Conn // nil while there is none
	log  []statement
	sent int  // so many of log the transaction has
	open bool // the server has a transaction
}

// note adds a write.
func (s *session) note(sql string, args ...any) { s.log = append(s.log, statement{sql, args}) }

// say sends what was noted, then a query or a COMMIT if asked for, in one round
// trip. With an error it returns which of the noted statements failed; len(log)
// stands for what came after them.
func (s *session) say(q *query, commit bool) (at int, err error) {
	if s.conn == nil {
		return len(s.log), errNoConnection
	}
	b := &pgx.Batch{}
	if !s.open {
		b.Queue("BEGIN ISOLATION LEVEL READ COMMITTED")
	}
	for _, st := range s.log[s.sent:] {
		b.Queue(st.sql, st.args...)
	}
	if q != nil {
		b.Queue(q.sql, q.args...)
	}
	if commit {
		b.Queue("COMMIT")
	}
	if err := s.conn.PgConn().Conn().SetDeadline(time.Now().Add(roundTimeout)); err != nil {
		return len(s.log), err
	}
	results := s.conn.SendBatch(context.Background(), b)
	at, err = s.hear(results, q, commit)
	if e := results.Close(); e != nil && err == nil {
		at, err = len(s.log), e
	}
	return at, err
}

// hear reads the answers to what say sent.
func (s *session) hear(results pgx.BatchResults, q *query, commit bool) (at int, err error) {
	if !s.open {
		if _, err := results.Exec(); err != nil {
			return len(s.log), err
		}
		s.open = true
	}
	for s.sent < len(s.log) {
		if _, err := results.Exec(); err != nil {
			return s.sent, err
		}
		s.sent++
	}
	if q != nil {
		if err := readRows(results, q); err != nil {
			return len(s.log), err
		}
	}
	if commit {
		tag, err := results.Exec()
		if err == nil && tag.String() != "COMMIT" {
			err = errors.New("the database answered " + tag.String() + " to COMMIT")
		}
		if err != nil {
			return len(s.log), err
		}
		s.reset()
	}
	return 0, nil
}

// rowError is an error of the function that reads rows: none of the database.
type rowError struct{ error }

func (e rowError) Unwrap() error { return e.error }

func readRows(results pgx.BatchResults, q *query) error {
	rows, err := results.Query()
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		q.began = true
		if err := q.row(rows); errors.Is(err, errStop) {
			return nil
		} else if err != nil {
			return rowError{err}
		}
	}
	return rows.Err()
}

// reset forgets what was noted.
func (s *session) reset() {
	clear(s.log)
	s.log, s.sent, s.open = s.log[:0], 0, false
}

// rewind ends the server's transaction. What is noted is said anew in the next one.
func (s *session) rewind() {
	s.sent = 0
	if !s.open {
		return
	}
	s.open = false
	if s.conn == nil {
		return
	}
	err := s.conn.PgConn().Conn().SetDeadline(time.Now().Add(roundTimeout))
	if err == nil {
		_, err = s.conn.PgConn().Exec(context.Background(), "ROLLBACK").ReadAll()
	}
	if err != nil {
		s.drop()
	}
}

// drop closes the connection. What is noted stays.
func (s *session) drop() {
	s.sent, s.open = 0, false
	if s.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = s.conn.Close(ctx) // it is of no use anyway
	s.conn = nil
}
