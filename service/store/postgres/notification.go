package postgres

import (
	"errors"
	"fmt"
	"math"
	"slices"
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
	below := int64(math.MaxInt64)
	if before != "" {
		if err := r.row("SELECT num FROM notifications WHERE user_num = $1 AND id = $2", []any{user, text(before)}, &below); err != nil {
			return nil, column.OrNone(err)
		}
	}
	sql := "SELECT data, read_at FROM notifications WHERE user_num = $1 AND num < $2 ORDER BY num DESC LIMIT $3"
	if unreadOnly {
		sql = "SELECT data, read_at FROM notifications WHERE user_num = $1 AND num < $2 AND read_at IS NULL ORDER BY num DESC LIMIT $3"
	}
	list, err := all(r, func(rows rows) (*pb.Notification, error) {
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
	}, sql, user, below, max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("notifications of %s: %w", userID, err)
	}
	return list, nil
}

// Unread counts a user's unread notifications.
func (r *reader) Unread(userID string) (n uint32, err error) {
	err = r.row(`SELECT count(*) FROM notifications
		WHERE user_num = (SELECT num FROM users WHERE id = $1) AND read_at IS NULL`, []any{text(userID)}, &n)
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
	err = checkKey("the id", n.Id)
	var taken bool
	if err == nil {
		err = t.row("SELECT EXISTS (SELECT 1 FROM notifications WHERE user_num = $1 AND id = $2)", []any{user, text(n.Id)}, &taken)
	}
	if taken {
		err = store.ErrExists
	}
	if err == nil {
		err = t.note("INSERT INTO notifications (num, user_num, id, read_at, data) VALUES ($1, $2, $3, $4, $5)",
			next(&t.w.nums.notifications), user, text(n.Id), column.Micros(n.ReadAt), data)
	}
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
	if err == nil {
		ids, err = t.unread(user, ids)
	}
	if err == nil && len(ids) > 0 {
		err = t.note(`UPDATE notifications SET read_at = $1 WHERE user_num = $2 AND id = ANY($3::bytea[]) AND read_at IS NULL`,
			at.UnixMicro(), user, texts(ids))
	}
	if err != nil {
		return nil, fmt.Errorf("mark notifications of %s: %w", userID, err)
	}
	return ids, nil
}

// unread returns which of some notifications are unread, each once, in the order
// of ids; all of them, oldest first, if ids is nil.
func (t *tx) unread(user int64, ids []string) ([]string, error) {
	scan := func(rows rows) (id string, err error) { return id, rows.Scan(into(&id)) }
	if ids == nil {
		return all(&t.reader, scan, "SELECT id FROM notifications WHERE user_num = $1 AND read_at IS NULL ORDER BY num", user)
	}
	found, err := all(&t.reader, scan, "SELECT id FROM notifications WHERE user_num = $1 AND id = ANY($2::bytea[]) AND read_at IS NULL",
		user, texts(ids))
	var out []string
	for _, id := range ids {
		if slices.Contains(found, id) && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out, err
}

// texts returns texts as an array of them.
func texts(list []string) [][]byte {
	out := make([][]byte, len(list))
	for i, s := range list {
		out[i] = bytesOf(s)
	}
	return out
}
