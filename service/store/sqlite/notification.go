package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/column"
)

// Notifications returns a page of a user's notifications.
func (r *reader) Notifications(userID, before string, unreadOnly bool, limit int) ([]*pb.Notification, error) {
	user, err := r.userNum(userID)
	if err != nil {
		return nil, column.OrNone(err)
	}
	below := int64(1<<63 - 1)
	if before != "" {
		if err := r.c.row("SELECT num FROM notifications WHERE user = ? AND id = ?", []any{user, before}, &below); err != nil {
			return nil, column.OrNone(err)
		}
	}
	query := "SELECT data, read_at FROM notifications WHERE user = ? AND num < ? ORDER BY num DESC LIMIT ?"
	if unreadOnly {
		query = "SELECT data, read_at FROM notifications WHERE user = ? AND num < ? AND read_at IS NULL ORDER BY num DESC LIMIT ?"
	}
	list, err := all(r.c, func(rows *sql.Rows) (*pb.Notification, error) {
		var (
			data []byte
			read *int64
		)
		if err := rows.Scan(&data, &read); err != nil {
			return nil, err
		}
		n := &pb.Notification{}
		err := column.Decode(data, n)
		n.ReadAt = column.Timestamp(read)
		return n, err
	}, query, user, below, max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("notifications of %s: %w", userID, err)
	}
	return list, nil
}

// Unread counts a user's unread notifications.
func (r *reader) Unread(userID string) (n uint32, err error) {
	err = r.c.row(`SELECT count(*) FROM notifications
		WHERE user = (SELECT num FROM users WHERE id = ?) AND read_at IS NULL`, []any{userID}, &n)
	if err != nil {
		return 0, fmt.Errorf("unread notifications of %s: %w", userID, err)
	}
	return n, nil
}

// AddNotification stores a user's copy.
func (t *tx) AddNotification(userID string, n *pb.Notification) error {
	user, err := t.userNum(userID)
	if err != nil {
		return fmt.Errorf("add a notification: %w", err)
	}
	data, err := column.Encode(n, "read_at")
	if err != nil {
		return err
	}
	_, err = t.c.exec("INSERT INTO notifications (user, id, read_at, data) VALUES (?, ?, ?, ?)", user, n.Id, column.Micros(n.ReadAt), data)
	if err != nil {
		return fmt.Errorf("add notification %s of %s: %w", n.Id, userID, err)
	}
	t.bytes += len(data)
	return nil
}

// MarkRead marks notifications and returns those that were unread, in the order of
// ids, or oldest first for all.
func (t *tx) MarkRead(userID string, ids []string, at time.Time) ([]string, error) {
	user, err := t.userNum(userID)
	if errors.Is(err, store.ErrNotFound) { // nobody has none
		return nil, nil
	}
	if err == nil && ids == nil {
		ids, err = all(t.c, func(rows *sql.Rows) (id string, err error) { return id, rows.Scan(&id) },
			"SELECT id FROM notifications WHERE user = ? AND read_at IS NULL ORDER BY num", user)
	}
	var changed []string
	for i := 0; i < len(ids) && err == nil; i++ {
		err = t.c.change("UPDATE notifications SET read_at = ? WHERE user = ? AND id = ? AND read_at IS NULL",
			at.UnixMicro(), user, ids[i])
		if err == nil {
			changed = append(changed, ids[i])
		} else if errors.Is(err, store.ErrNotFound) {
			err = nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("mark notifications of %s: %w", userID, err)
	}
	return changed, nil
}
