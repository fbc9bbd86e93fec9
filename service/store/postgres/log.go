package postgres

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/memory"
)

// room returns a room by name; ErrNotFound if it was never made.
func (t *tx) room(name event.Room) (*memory.Room, error) {
	if t.w.broken != nil {
		return nil, t.w.broken
	}
	if r := t.w.rooms.Get(name); r != nil {
		return r, nil
	}
	num, head, err := t.findRoom(name)
	if err != nil {
		return nil, err
	}
	r := &memory.Room{Name: name, Num: num, Head: head, Begun: head.Newest.Offset > 0}
	t.w.rooms.Know(r)
	return r, nil
}

// makeRoom returns a room by name, making it if need be.
func (t *tx) makeRoom(name event.Room) (*memory.Room, error) {
	if err := checkKey("the room", string(name)); err != nil {
		return nil, err
	}
	r, err := t.room(name)
	if !errors.Is(err, store.ErrNotFound) {
		return r, err
	}
	return t.w.rooms.Make(name, t.w.epoch), nil
}

// Append gives drafts their places.
func (t *tx) Append(drafts ...event.Draft) ([]event.Event, error) {
	events, more := make([]event.Event, len(drafts)), 0
	for i := range drafts {
		more += drafts[i].Size()
	}
	for i, d := range drafts {
		more -= d.Size()
		r, err := t.makeRoom(d.Room)
		if err != nil {
			return nil, fmt.Errorf("append to %s: %w", d.Room, err)
		}
		if d.Class != pb.DeliveryClass_DELIVERY_CLASS_DURABLE {
			events[i] = d.At(event.Position{})
			continue
		}
		events[i] = t.w.rooms.Append(r, d, t.w.epoch, more)
		t.bytes += len(events[i].Wire)
	}
	if t.events == nil {
		t.events = slices.Clip(events)
	} else {
		t.events = append(t.events, events...)
	}
	return events, nil
}

// roomRows are columns of rooms, and batchRows of event_batches.
type (
	roomRows struct {
		num, newest, newestEpoch, trimEpoch, cut, cutAt []int64
		name                                            [][]byte
	}
	batchRows struct {
		room, first, last []int64
		data              [][]byte
	}
)

func (c *roomRows) add(r *memory.Room, cut, cutAt int64) {
	c.num, c.name = append(c.num, r.Num), append(c.name, bytesOf(string(r.Name)))
	c.newest, c.newestEpoch = append(c.newest, int64(r.Head.Newest.Offset)), append(c.newestEpoch, int64(r.Head.Newest.Epoch))
	c.trimEpoch = append(c.trimEpoch, int64(r.Head.Trim.Epoch))
	c.cut, c.cutAt = append(c.cut, cut), append(c.cutAt, cutAt)
}

// flushLog notes the rooms and events of the group. With the first batch of a room
// it notes where that ends: there the log will be cut first.
func (w *writer) flushLog() {
	at := w.now().UnixMicro()
	var made, changed roomRows
	var batches batchRows
	for _, r := range w.rooms.Dirty() {
		var cut, cutAt int64
		if !r.Begun && len(r.Batches) > 0 {
			cut, cutAt = int64(r.Batches[0].Last), at
			r.Begun = true
		}
		if r.Num == 0 {
			r.Num = next(&w.nums.rooms)
			made.add(r, cut, cutAt)
		} else {
			changed.add(r, cut, cutAt)
		}
		for _, b := range r.Batches {
			batches.room, batches.first = append(batches.room, r.Num), append(batches.first, int64(b.First))
			batches.last, batches.data = append(batches.last, int64(b.Last)), append(batches.data, b.Data)
		}
	}
	w.rooms.Written()
	if len(made.num) > 0 {
		w.session.note(`INSERT INTO rooms (num, name, newest_offset, newest_epoch, trim_epoch, cut_offset, cut_at)
			SELECT num, name, newest, epoch, trim_epoch, cut, cut_at
			FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
				AS u (num, name, newest, epoch, trim_epoch, cut, cut_at)`,
			made.num, made.name, made.newest, made.newestEpoch, made.trimEpoch, made.cut, made.cutAt)
	}
	if len(changed.num) > 0 {
		w.session.note(`UPDATE rooms r SET newest_offset = u.newest, newest_epoch = u.epoch,
			cut_offset = CASE WHEN u.cut > 0 THEN u.cut ELSE r.cut_offset END, cut_at = CASE WHEN u.cut > 0 THEN u.cut_at ELSE r.cut_at END
			FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) AS u (num, newest, epoch, cut, cut_at)
			WHERE r.num = u.num`, changed.num, changed.newest, changed.newestEpoch, changed.cut, changed.cutAt)
	}
	if len(batches.room) > 0 {
		w.session.note(`INSERT INTO event_batches (room, first, last, epoch, at, data)
			SELECT room, first, last, $4, $5, data FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $6::bytea[]) AS u (room, first, last, data)`,
			batches.room, batches.first, batches.last, int64(w.epoch), at, batches.data)
	}
}

// findRoom reads a room's key and head.
func (r *reader) findRoom(name event.Room) (num int64, h store.Head, err error) {
	var newest, newestEpoch, trim, trimEpoch int64
	err = r.row("SELECT num, newest_offset, newest_epoch, trim_offset, trim_epoch FROM rooms WHERE name = $1",
		[]any{text(name)}, &num, &newest, &newestEpoch, &trim, &trimEpoch)
	h.Newest = event.Position{Offset: uint64(newest), Epoch: uint64(newestEpoch)}
	h.Trim = event.Position{Offset: uint64(trim), Epoch: uint64(trimEpoch)}
	return num, h, err
}

// Head returns where a room's log is.
func (r *reader) Head(name event.Room) (store.Head, error) {
	_, h, err := r.findRoom(name)
	if err != nil {
		return store.Head{}, fmt.Errorf("head of %s: %w", name, err)
	}
	return h, nil
}

// Head returns where a room's log is, with this transaction's events.
func (t *tx) Head(name event.Room) (store.Head, error) {
	r, err := t.room(name)
	if err != nil {
		return store.Head{}, fmt.Errorf("head of %s: %w", name, err)
	}
	return r.Head, nil
}

// Log returns a part of a room's log.
func (r *reader) Log(name event.Room, after uint64, limit int) (store.LogPart, error) {
	num, head, err := r.findRoom(name)
	if err != nil {
		return store.LogPart{}, fmt.Errorf("log of %s: %w", name, err)
	}
	return r.readLog(&memory.Room{Name: name, Num: num, Head: head}, after, limit)
}

// Log returns a part of a room's log, with this transaction's events.
func (t *tx) Log(name event.Room, after uint64, limit int) (store.LogPart, error) {
	r, err := t.room(name)
	if err != nil {
		return store.LogPart{}, fmt.Errorf("log of %s: %w", name, err)
	}
	return t.readLog(r, after, limit)
}

// selectBatches returns rows until their data is longer than a limit.
const selectBatches = `SELECT data FROM (
		SELECT last, data, sum(length(data)) OVER (ORDER BY last) - length(data) AS before
		FROM event_batches WHERE room = $1 AND last > $2 ORDER BY last LIMIT $3) b
	WHERE before <= $4 ORDER BY last`

func (r *reader) readLog(room *memory.Room, after uint64, limit int) (store.LogPart, error) {
	p := memory.NewPage(room.Name, after, limit)
	if after >= room.Head.Newest.Offset {
		return store.LogPart{}, nil
	}
	// The first row may have more events that were asked to be left out than others,
	// so that the limit is reached a row later than the database thinks.
	err := error(nil)
	for from, found := after, true; found && from < room.Head.Newest.Offset && !p.Full && err == nil; {
		found = false
		err = r.each(selectBatches, []any{room.Num, int64(from), pageRows, int64(max(limit, 0))}, func(rows rows) error {
			var data []byte
			if err := rows.Scan(&data); err != nil {
				return err
			}
			found = true
			if err := p.Add(data); err != nil {
				return err
			}
			if p.Full {
				return errStop
			}
			return nil
		})
		if n := len(p.Events); n > 0 {
			from = p.Events[n-1].Position.Offset
		}
	}
	for i := 0; i < len(room.Batches) && err == nil && !p.Full; i++ {
		err = p.Add(slices.Clone(room.Batches[i].Data))
	}
	if err != nil {
		return store.LogPart{}, fmt.Errorf("log of %s: %w", room.Name, err)
	}
	more := len(p.Events) > 0 && p.Events[len(p.Events)-1].Position.Offset < room.Head.Newest.Offset
	return store.LogPart{Events: p.Events, More: more}, nil
}

// Recent returns the newest events of a room; none for a room that was never made.
func (r *reader) Recent(name event.Room, n int) ([]event.Event, error) {
	num, head, err := r.findRoom(name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("recent events of %s: %w", name, err)
	}
	return r.readTail(&memory.Room{Name: name, Num: num, Head: head}, n)
}

// Recent returns the newest events of a room, with this transaction's.
func (t *tx) Recent(name event.Room, n int) ([]event.Event, error) {
	r, err := t.room(name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("recent events of %s: %w", name, err)
	}
	return t.readTail(r, n)
}

// readTail reads the rows that end within the newest n offsets: there is no gap.
func (r *reader) readTail(room *memory.Room, n int) ([]event.Event, error) {
	if n <= 0 {
		return nil, nil
	}
	var tail []event.Event
	add := func(data []byte) error {
		events, err := event.Split(room.Name, data)
		tail = append(tail, events...)
		return err
	}
	after := int64(room.Head.Newest.Offset) - int64(n)
	err := r.each("SELECT data FROM event_batches WHERE room = $1 AND last > $2 ORDER BY last", []any{room.Num, after}, func(rows rows) error {
		var data []byte
		if err := rows.Scan(&data); err != nil {
			return err
		}
		return add(data)
	})
	for i := 0; i < len(room.Batches) && err == nil; i++ {
		err = add(slices.Clone(room.Batches[i].Data))
	}
	if err != nil {
		return nil, fmt.Errorf("recent events of %s: %w", room.Name, err)
	}
	return tail[max(0, len(tail)-n):], nil
}

// probe writes. To a database that couldn't before it writes as much as needs new
// pages.
func (t *tx) probe() error {
	var pad []byte
	if t.w.sick.Load() != nil {
		pad = make([]byte, probeBytes)
		if _, err := rand.Read(pad); err != nil {
			return fmt.Errorf("make something to write: %w", err)
		}
	}
	return t.note("UPDATE tcmanager SET pad = $1 WHERE epoch = $2", pad, int64(t.w.epoch))
}
