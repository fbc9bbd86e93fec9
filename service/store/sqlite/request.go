package sqlite

import (
	"fmt"
	"time"

	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/column"
)

// Request returns a request that was carried out.
func (r *reader) Request(userID, id string) (store.Request, error) {
	req := store.Request{UserID: userID, ID: id}
	var at int64
	err := r.c.row("SELECT method, hash, response, at FROM requests WHERE user = ? AND id = ?",
		[]any{userID, id}, &req.Method, &req.Hash, &req.Response, &at)
	if err != nil {
		return store.Request{}, fmt.Errorf("request %s of %s: %w", id, userID, err)
	}
	req.At = column.Moment(at)
	return req, nil
}

// PutRequest remembers a request; ErrExists if it is remembered already.
func (t *tx) PutRequest(r store.Request) error {
	_, err := t.c.exec("INSERT INTO requests (user, id, method, hash, response, at) VALUES (?, ?, ?, ?, ?, ?)",
		r.UserID, r.ID, r.Method, r.Hash, r.Response, r.At.UnixMicro())
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
	res, err := t.c.exec("DELETE FROM requests WHERE (user, id) IN (SELECT user, id FROM requests WHERE at < ? ORDER BY at LIMIT ?)",
		before.UnixMicro(), dropRequests)
	if err != nil {
		return false, fmt.Errorf("forget requests: %w", err)
	}
	n, err := res.RowsAffected()
	return n == dropRequests, err
}
