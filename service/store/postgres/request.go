package postgres

import (
	"errors"
	"fmt"
	"time"

	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/column"
)

// Request returns a request that was carried out.
func (r *reader) Request(userID, id string) (store.Request, error) {
	req := store.Request{UserID: userID, ID: id}
	var at int64
	err := r.row("SELECT method, hash, response, at FROM requests WHERE user_id = $1 AND id = $2",
		[]any{text(userID), text(id)}, into(&req.Method), &req.Hash, &req.Response, &at)
	if err != nil {
		return store.Request{}, fmt.Errorf("request %s of %s: %w", id, userID, err)
	}
	req.At = column.Moment(at)
	return req, nil
}

// PutRequest remembers a request; ErrExists if it is remembered already.
func (t *tx) PutRequest(r store.Request) error {
	_, err := t.Request(r.UserID, r.ID)
	if err == nil {
		err = store.ErrExists
	}
	if errors.Is(err, store.ErrNotFound) {
		err = t.note("INSERT INTO requests (user_id, id, method, hash, response, at) VALUES ($1, $2, $3, $4, $5, $6)",
			text(r.UserID), text(r.ID), text(r.Method), r.Hash, r.Response, r.At.UnixMicro())
	}
	if err != nil {
		return fmt.Errorf("remember request %s of %s: %w", r.ID, r.UserID, err)
	}
	t.bytes += len(r.Response)
	return nil
}

// dropRequests is how many requests are forgotten at a time, 2 to 4 ms of the
// writer.
const dropRequests = 500

// DropRequests forgets old requests.
func (t *tx) DropRequests(before time.Time) (more bool, err error) {
	var users, ids [][]byte
	err = t.each("SELECT user_id, id FROM requests WHERE at < $1 ORDER BY at LIMIT $2", []any{before.UnixMicro(), dropRequests}, func(rows rows) error {
		var user, id []byte
		err := rows.Scan(&user, &id)
		users, ids = append(users, user), append(ids, id)
		return err
	})
	if err == nil && len(ids) > 0 {
		err = t.note(`DELETE FROM requests r USING unnest($1::bytea[], $2::bytea[]) AS d (user_id, id)
			WHERE r.user_id = d.user_id AND r.id = d.id`, users, ids)
	}
	if err != nil {
		return false, fmt.Errorf("forget requests: %w", err)
	}
	return len(ids) == dropRequests, nil
}
