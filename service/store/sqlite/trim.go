package sqlite

import (
	"database/sql"
	"fmt"

	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

// trimBounds is the work of one call of TrimLogs, 2 to 3 ms of the writer: rows of
// one event cost 3.6 µs each, those of a frame 2.3 ms a megabyte.
var trimBounds = budget{rows: 500, bytes: 1 << 20}

// budget is what may still be dropped in a call.
type budget struct{ rows, bytes int }

func (b *budget) spent() bool { return b.rows <= 0 || b.bytes <= 0 }

// The rooms of which the oldest batch can go. What this group appended isn't
// written yet and doesn't count: so a batch that is written always stays.
const (
	longRooms = "SELECT num, name, newest_offset, trim_offset FROM rooms WHERE newest_offset - cut_offset >= ? AND newest_offset - cut_offset >= 20 ORDER BY newest_offset - cut_offset DESC LIMIT ?"
	oldRooms  = "SELECT num, name, newest_offset, trim_offset FROM rooms WHERE cut_at < ? AND newest_offset - cut_offset >= 20 ORDER BY cut_at LIMIT ?"
)

// TrimLogs drops old events, first of the longest logs, then of the oldest.
func (t *tx) TrimLogs(h store.History) (store.Trimmed, error) {
	var done store.Trimmed
	left := trimBounds
	keep := int64(max(h.Events, store.LeastHistory))
	if h.Events > 0 {
		long := func(newest int64, b oldBatch) bool { return newest-b.last >= keep }
		if err := t.trimRooms(&done, &left, long, longRooms, keep); err != nil {
			return store.Trimmed{}, err
		}
	}
	if !h.Since.IsZero() && !left.spent() {
		since := h.Since.UnixMicro()
		old := func(newest int64, b oldBatch) bool { return b.at < since && newest-b.last >= store.LeastHistory }
		if err := t.trimRooms(&done, &left, old, oldRooms, since); err != nil {
			return store.Trimmed{}, err
		}
	}
	done.More = left.spent()
	t.bytes += trimBounds.bytes - left.bytes
	return done, nil
}

// written is a room as its row has it.
type written struct {
	num          int64
	name         event.Room
	newest, trim int64
}

// oldBatch is a row of event_batches, with the length of its data.
type oldBatch struct {
	last, epoch, at int64
	bytes           int
}

// trimRooms drops batches of the rooms that a query finds, by an index that has
// just those with something to drop.
func (t *tx) trimRooms(done *store.Trimmed, left *budget, drop func(newest int64, b oldBatch) bool, query string, arg int64) error {
	rooms, err := all(t.c, func(rows *sql.Rows) (r written, err error) {
		err = rows.Scan(&r.num, &r.name, &r.newest, &r.trim)
		return r, err
	}, query, arg, left.rows)
	if err != nil {
		return fmt.Errorf("find logs to trim: %w", err)
	}
	for _, r := range rooms {
		if left.spent() {
			return nil
		}
		if err := t.trimRoom(done, left, r, drop); err != nil {
			return fmt.Errorf("trim the log of %s: %w", r.name, err)
		}
	}
	return nil
}

// trimRoom drops a room's oldest batches while drop says so. The trim mark moves
// to the last event dropped, with the epoch that event had.
func (t *tx) trimRoom(done *store.Trimmed, left *budget, r written, drop func(newest int64, b oldBatch) bool) error {
	var dropped, next oldBatch
	err := t.c.each("SELECT last, epoch, at, length(data) FROM event_batches WHERE room = ? ORDER BY last LIMIT ?",
		[]any{r.num, left.rows + 1}, func(rows *sql.Rows) error {
			if err := rows.Scan(&next.last, &next.epoch, &next.at, &next.bytes); err != nil {
				return err
			}
			if left.spent() || !drop(r.newest, next) {
				return errStop
			}
			dropped = next
			left.rows--
			left.bytes -= next.bytes
			return nil
		})
	if err != nil || dropped.last == 0 {
		return err
	}
	if _, err := t.c.exec("DELETE FROM event_batches WHERE room = ? AND last <= ?", r.num, dropped.last); err != nil {
		return err
	}
	err = t.c.change("UPDATE rooms SET trim_offset = ?, trim_epoch = ?, cut_offset = ?, cut_at = ? WHERE num = ?",
		dropped.last, dropped.epoch, next.last, next.at, r.num)
	if err != nil {
		return err
	}
	t.w.rooms.Trim(r.name, event.Position{Offset: uint64(dropped.last), Epoch: uint64(dropped.epoch)})
	done.Events += int(dropped.last - r.trim)
	return nil
}
