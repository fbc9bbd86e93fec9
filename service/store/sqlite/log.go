package sqlite

import (
	"database/sql"
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

// flushLog writes the rooms and events of the group.
func (w *writer) flushLog() error {
	at := w.now().UnixMicro()
	for _, r := range w.rooms.Dirty() {
		if err := w.flushRoom(r, at); err != nil {
			return fmt.Errorf("room %s: %w", r.Name, err)
		}
		for _, b := range r.Batches {
			_, err := w.c.exec("INSERT INTO event_batches (room, first, last, epoch, at, data) VALUES (?, ?, ?, ?, ?, ?)",
				r.Num, int64(b.First), int64(b.Last), int64(w.epoch), at, b.Data)
			if err != nil {
				return fmt.Errorf("room %s: %w", r.Name, err)
			}
		}
	}
	w.rooms.Written()
	return nil
}

// flushRoom writes a room's row. With the first batch of a room it writes where
// that ends: there the log will be cut first.
func (w *writer) flushRoom(r *memory.Room, at int64) (err error) {
	newest := r.Head.Newest
	var cut, cutAt int64
	first := !r.Begun && len(r.Batches) > 0
	if first {
		cut, cutAt = int64(r.Batches[0].Last), at
		r.Begun = true
	}
	switch {
	case r.Num == 0:
		r.Num, err = w.c.insert("INSERT INTO rooms (name, newest_offset, newest_epoch, trim_epoch, cut_offset, cut_at) VALUES (?, ?, ?, ?, ?, ?)",
			string(r.Name), int64(newest.Offset), int64(newest.Epoch), int64(r.Head.Trim.Epoch), cut, cutAt)
		return err
	case first:
		return w.c.change("UPDATE rooms SET newest_offset = ?, newest_epoch = ?, cut_offset = ?, cut_at = ? WHERE num = ?",
			int64(newest.Offset), int64(newest.Epoch), cut, cutAt, r.Num)
	default:
		return w.c.change("UPDATE rooms SET newest_offset = ?, newest_epoch = ? WHERE num = ?",
			int64(newest.Offset), int64(newest.Epoch), r.Num)
	}
}

// findRoom reads a room's key and head.
func (r *reader) findRoom(name event.Room) (num int64, h store.Head, err error) {
	var newest, newestEpoch, trim, trimEpoch int64
	err = r.c.row("SELECT num, newest_offset, newest_epoch, trim_offset, trim_epoch FROM rooms WHERE name = ?",
		[]any{string(name)}, &num, &newest, &newestEpoch, &trim, &trimEpoch)
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

func (r *reader) readLog(room *memory.Room, after uint64, limit int) (store.LogPart, error) {
	p := memory.NewPage(room.Name, after, limit)
	if after >= room.Head.Newest.Offset {
		return store.LogPart{}, nil
	}
	err := r.c.each("SELECT data FROM event_batches WHERE room = ? AND last > ? ORDER BY last",
		[]any{room.Num, int64(after)}, func(rows *sql.Rows) error {
			var data []byte
			if err := rows.Scan(&data); err != nil {
				return err
			}
			if err := p.Add(data); err != nil {
				return err
			}
			if p.Full {
				return errStop
			}
			return nil
		})
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

func (r *reader) readTail(room *memory.Room, n int) ([]event.Event, error) {
	if n <= 0 {
		return nil, nil
	}
	var tail []event.Event
	add := func(data []byte) error {
		events, err := event.Split(room.Name, data)
		tail = append(events, tail...)
		return err
	}
	var err error
	for i := len(room.Batches) - 1; i >= 0 && err == nil && len(tail) < n; i-- {
		err = add(slices.Clone(room.Batches[i].Data))
	}
	if err == nil && len(tail) < n {
		err = r.c.each("SELECT data FROM event_batches WHERE room = ? ORDER BY last DESC LIMIT ?",
			[]any{room.Num, n}, func(rows *sql.Rows) error {
				var data []byte
				if err := rows.Scan(&data); err != nil {
					return err
				}
				if err := add(data); err != nil || len(tail) < n {
					return err
				}
				return errStop
			})
	}
	if err != nil {
		return nil, fmt.Errorf("recent events of %s: %w", room.Name, err)
	}
	return tail[max(0, len(tail)-n):], nil
}
