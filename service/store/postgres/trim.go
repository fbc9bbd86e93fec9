package postgres

import (
	"fmt"

	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

// trimBounds is the work of one call of TrimLogs, some milliseconds of the writer.
var trimBounds = budget{rows: 500, bytes: 4 << 20}

// budget is what may still be dropped in a call.
type budget struct{ rows, bytes int }

func (b *budget) spent() bool { return b.rows <= 0 || b.bytes <= 0 }

// The oldest batches of the rooms of which the oldest one can go, by an index that
// has just those. What this group appended isn't written yet and doesn't count: so
// a batch that is written always stays.
const (
	oldestBatches = ` r CROSS JOIN LATERAL (
		SELECT last, epoch, at, length(data) AS bytes FROM event_batches WHERE room = r.num ORDER BY last LIMIT $2) b LIMIT 2 * $2`
	ofRooms   = "SELECT r.num, r.name, r.newest_offset, r.trim_offset, b.last, b.epoch, b.at, b.bytes FROM (SELECT num, name, newest_offset, trim_offset FROM rooms WHERE trimmable AND "
	longRooms = ofRooms + "length >= $1 / 64 AND newest_offset - cut_offset >= $1 ORDER BY length DESC LIMIT $2)" + oldestBatches
	oldRooms  = ofRooms + "cut_at < $1 ORDER BY cut_at LIMIT $2)" + oldestBatches
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
	done.More = done.More || left.spent()
	t.bytes += trimBounds.bytes - left.bytes
	return done, nil
}

// oldBatch is a row of event_batches, with the length of its data.
type oldBatch struct {
	last, epoch, at int64
	bytes           int
}

// oldRoom is a room as its row has it, with its oldest batches.
type oldRoom struct {
	num          int64
	name         event.Room
	newest, trim int64
	batches      []oldBatch
}

// cuts are columns of what is dropped.
type cuts struct{ room, last, epoch, next, nextAt []int64 }

// trimRooms drops batches of the rooms that a query finds, in two statements for
// all of them.
func (t *tx) trimRooms(done *store.Trimmed, left *budget, drop func(newest int64, b oldBatch) bool, sql string, arg int64) error {
	limit := left.rows + 1
	rooms, rows, err := t.oldRooms(sql, arg, limit)
	if err != nil {
		return fmt.Errorf("find logs to trim: %w", err)
	}
	if rows == 2*limit { // there may be rooms that the answer had no place for
		done.More = true
	}
	var c cuts
	for _, r := range rooms {
		t.trimRoom(done, left, &c, r, drop)
	}
	if len(c.room) == 0 {
		return nil
	}
	if err := t.note(`DELETE FROM event_batches b USING unnest($1::bigint[], $2::bigint[]) AS d (room, last)
		WHERE b.room = d.room AND b.last <= d.last`, c.room, c.last); err != nil {
		return err
	}
	return t.note(`UPDATE rooms r SET trim_offset = u.last, trim_epoch = u.epoch, cut_offset = u.next, cut_at = u.next_at
		FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) AS u (room, last, epoch, next, next_at)
		WHERE r.num = u.room`, c.room, c.last, c.epoch, c.next, c.nextAt)
}

// oldRooms reads rooms with their oldest batches.
func (t *tx) oldRooms(sql string, arg int64, limit int) (found []*oldRoom, n int, err error) {
	err = t.each(sql, []any{arg, limit}, func(rows rows) error {
		var (
			r    oldRoom
			b    oldBatch
			name text
		)
		if err := rows.Scan(&r.num, &name, &r.newest, &r.trim, &b.last, &b.epoch, &b.at, &b.bytes); err != nil {
			return err
		}
		n++
		if len(found) == 0 || found[len(found)-1].num != r.num {
			r.name = event.Room(name)
			found = append(found, &r)
		}
		last := found[len(found)-1]
		last.batches = append(last.batches, b)
		return nil
	})
	return found, n, err
}

// trimRoom drops a room's oldest batches while drop says so, but never the last one
// that was read: the row of the room says where the next one ends. The trim mark
// moves to the last event dropped, with the epoch that event had.
func (t *tx) trimRoom(done *store.Trimmed, left *budget, c *cuts, r *oldRoom, drop func(newest int64, b oldBatch) bool) {
	n := 0
	for n+1 < len(r.batches) && !left.spent() && drop(r.newest, r.batches[n]) {
		left.rows--
		left.bytes -= r.batches[n].bytes
		n++
	}
	if n == 0 {
		return
	}
	dropped, next := r.batches[n-1], r.batches[n]
	c.room, c.last, c.epoch = append(c.room, r.num), append(c.last, dropped.last), append(c.epoch, dropped.epoch)
	c.next, c.nextAt = append(c.next, next.last), append(c.nextAt, next.at)
	t.w.rooms.Trim(r.name, event.Position{Offset: uint64(dropped.last), Epoch: uint64(dropped.epoch)})
	done.Events += int(dropped.last - r.trim)
}
