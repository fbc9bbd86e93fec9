package postgres

import (
	"context"

	"github.com/tcmanager/tcmanager/service/store"
)

// asker is what a reader reads through: a view, or the writer.
type asker interface{ ask(q *query) error }

// reader reads in the transaction of its connection.
type reader struct {
	ctx context.Context // of the View or Update; long reads look at it
	db  asker
}

var _ store.Reader = (*reader)(nil)

// text is a column of text, which is kept as bytes.
type text string //nolint:recvcheck // one method writes

// BytesValue is what goes into the column: never NULL.
func (t text) BytesValue() ([]byte, error) { return bytesOf(string(t)), nil }

// ScanBytes reads the column.
func (t *text) ScanBytes(v []byte) error {
	*t = text(v)
	return nil
}

// bytesOf returns s as a column of text; an empty one isn't NULL.
func bytesOf(s string) []byte {
	if s == "" {
		return []byte{}
	}
	return []byte(s)
}

// into reads a column of text into a string.
func into(s *string) *text { return (*text)(s) }

// each calls fn for every row, which scans it; fn must not read.
func (r *reader) each(sql string, args []any, fn func(rows) error) error {
	return r.db.ask(&query{sql: sql, args: args, row: fn})
}

// row scans the first row; ErrNotFound if there is none.
func (r *reader) row(sql string, args []any, dest ...any) error {
	found := false
	err := r.each(sql, args, func(rows rows) error {
		found = true
		if err := rows.Scan(dest...); err != nil {
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
func all[T any](r *reader, scan func(rows) (T, error), sql string, args ...any) ([]T, error) {
	var out []T
	err := r.each(sql, args, func(rows rows) error {
		v, err := scan(rows)
		out = append(out, v)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
