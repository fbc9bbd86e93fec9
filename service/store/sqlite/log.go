package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

// batchBytes is where a row of the log is cut. A reader decodes a whole row to
// find its first event, so rows are not longer than a frame.
const batchBytes = 64 << 10

// maxRooms is how many heads the writer keeps between groups, about 200 bytes each.
const maxRooms = 20_000

// batch is a row of event_batches.
type batch struct {
	first, last uint64
	data        []byte
}

// room is a room as the writer knows it: its head, and the events of this group,
// which are written at its end.
type room struct {
	name    event.Room
	num     int64 // 0: not in the table yet
	head    store.Head
	begun   bool // a batch of it is in the table
	batches []batch
	dirty   bool // the head or batches are not written yet
	marked  bool // rooms.undos has how it was
}

// roomUndo is how a room was before the running function changed it.
type roomUndo struct {
	room    *room
	made    bool // it wasn't there
	head    store.Head
	dirty   bool
	batches int
	last    batch // the last of batches, which may have grown
}

// rooms is the writer's memory of rooms.
type rooms struct {
	byName map[event.Room]*room
	dirty  []*room // those to write at the end of the group, in the order of their first change
	undos  []roomUndo
}

func newRooms() rooms { return rooms{byName: map[event.Room]*room{}} }

// trim forgets everything when it has become much; nothing is dirty between groups.
func (r *rooms) trim() {
	if len(r.byName) > maxRooms {
		r.clear()
	}
}

func (r *rooms) clear() {
	clear(r.byName)
	r.dirty, r.undos = r.dirty[:0], r.undos[:0]
}

// mark begins a function: undo returns to here.
func (r *rooms) mark() {
	for _, u := range r.undos {
		u.room.marked = false
	}
	clear(r.undos)
	r.undos = r.undos[:0]
}

func (r *rooms) undo() {
	for _, u := range r.undos {
		if u.made {
			delete(r.byName, u.room.name)
		}
		u.room.head, u.room.dirty = u.head, u.dirty
		u.room.batches = u.room.batches[:u.batches]
		if u.batches > 0 {
			u.room.batches[u.batches-1] = u.last
		}
	}
	r.dirty = slices.DeleteFunc(r.dirty, func(room *room) bool { return !room.dirty })
	r.mark()
}

// remember is called before a room changes, for undo.
func (r *rooms) remember(room *room, made bool) {
	if room.marked {
		return
	}
	u := roomUndo{room: room, made: made, head: room.head, dirty: room.dirty, batches: len(room.batches)}
	if u.batches > 0 {
		u.last = room.batches[u.batches-1]
	}
	r.undos = append(r.undos, u)
	room.marked = true
}

// touch is called before a room changes in a way that is written at the end of
// the group.
func (r *rooms) touch(room *room, made bool) {
	r.remember(room, made)
	if !room.dirty {
		room.dirty = true
		r.dirty = append(r.dirty, room)
	}
}

// append puts an event into its place at the end.
func (r *room) append(ev event.Event) {
	r.head.Newest = ev.Position
	if n := len(r.batches); n > 0 && len(r.batches[n-1].data)+len(ev.Wire) <= batchBytes {
		b := &r.batches[n-1]
		b.last, b.data = ev.Position.Offset, append(b.data, ev.Wire...)
		return
	}
	r.batches = append(r.batches, batch{first: ev.Position.Offset, last: ev.Position.Offset, data: slices.Clone(ev.Wire)})
}

// room returns a room by name; ErrNotFound if it was never made.
func (t *tx) room(name event.Room) (*room, error) {
	if r, ok := t.w.rooms.byName[name]; ok {
		return r, nil
	}
	num, head, err := t.findRoom(name)
	if err != nil {
		return nil, err
	}
	r := &room{name: name, num: num, head: head, begun: head.Newest.Offset > 0}
	t.w.rooms.byName[name] = r
	return r, nil
}

// makeRoom returns a room by name, making it if need be.
func (t *tx) makeRoom(name event.Room) (*room, error) {
	r, err := t.room(name)
	if !errors.Is(err, store.ErrNotFound) {
		return r, err
	}
	born := event.Position{Epoch: t.w.epoch}
	r = &room{name: name, head: store.Head{Newest: born, Trim: born}}
	t.w.rooms.byName[name] = r
	t.w.rooms.touch(r, true)
	return r, nil
}

// Append gives drafts their places.
func (t *tx) Append(drafts ...event.Draft) ([]event.Event, error) {
	events := make([]event.Event, len(drafts))
	for i, d := range drafts {
		r, err := t.makeRoom(d.Room)
		if err != nil {
			return nil, fmt.Errorf("append to %s: %w", d.Room, err)
		}
		if d.Class != pb.DeliveryClass_DELIVERY_CLASS_DURABLE {
			events[i] = d.At(event.Position{})
			continue
		}
		t.w.rooms.touch(r, false)
		events[i] = d.At(event.Position{Epoch: t.w.epoch, Offset: r.head.Newest.Offset + 1})
		r.append(events[i])
		t.bytes += len(events[i].Wire)
	}
	t.events = append(t.events, events...)
	return events, nil
}

// flushLog writes the rooms and events of the group.
func (w *writer) flushLog() error {
	at := w.now().UnixMicro()
	for _, r := range w.rooms.dirty {
		if err := w.flushRoom(r, at); err != nil {
			return fmt.Errorf("room %s: %w", r.name, err)
		}
		for _, b := range r.batches {
			_, err := w.c.exec("INSERT INTO event_batches (room, first, last, epoch, at, data) VALUES (?, ?, ?, ?, ?, ?)",
				r.num, int64(b.first), int64(b.last), int64(w.epoch), at, b.data)
			if err != nil {
				return fmt.Errorf("room %s: %w", r.name, err)
			}
		}
		r.batches, r.dirty = nil, false
	}
	w.rooms.mark()
	clear(w.rooms.dirty)
	w.rooms.dirty = w.rooms.dirty[:0]
	return nil
}

// flushRoom writes a room's row. With the first batch of a room it writes where
// that ends: there the log will be cut first.
func (w *writer) flushRoom(r *room, at int64) (err error) {
	newest := r.head.Newest
	var cut, cutAt int64
	first := !r.begun && len(r.batches) > 0
	if first {
		cut, cutAt = int64(r.batches[0].last), at
		r.begun = true
	}
	switch {
	case r.num == 0:
		r.num, err = w.c.insert("INSERT INTO rooms (name, newest_offset, newest_epoch, trim_epoch, cut_offset, cut_at) VALUES (?, ?, ?, ?, ?, ?)",
			string(r.name), int64(newest.Offset), int64(newest.Epoch), int64(r.head.Trim.Epoch), cut, cutAt)
		return err
	case first:
		return w.c.change("UPDATE rooms SET newest_offset = ?, newest_epoch = ?, cut_offset = ?, cut_at = ? WHERE num = ?",
			int64(newest.Offset), int64(newest.Epoch), cut, cutAt, r.num)
	default:
		return w.c.change("UPDATE rooms SET newest_offset = ?, newest_epoch = ? WHERE num = ?",
			int64(newest.Offset), int64(newest.Epoch), r.num)
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
	return r.head, nil
}

// Log returns a part of a room's log.
func (r *reader) Log(name event.Room, after uint64, limit int) (store.LogPart, error) {
	num, head, err := r.findRoom(name)
	if err != nil {
		return store.LogPart{}, fmt.Errorf("log of %s: %w", name, err)
	}
	return r.readLog(&room{name: name, num: num, head: head}, after, limit)
}

// Log returns a part of a room's log, with this transaction's events.
func (t *tx) Log(name event.Room, after uint64, limit int) (store.LogPart, error) {
	r, err := t.room(name)
	if err != nil {
		return store.LogPart{}, fmt.Errorf("log of %s: %w", name, err)
	}
	return t.readLog(r, after, limit)
}

// logPage collects events until it is full.
type logPage struct {
	room   event.Room
	after  uint64
	limit  int // bytes
	size   int
	events []event.Event
	full   bool
}

func (p *logPage) add(data []byte) error {
	events, err := event.Split(p.room, data)
	if err != nil {
		return err
	}
	for _, ev := range events {
		if ev.Position.Offset <= p.after {
			continue
		}
		if len(p.events) > 0 && p.size+len(ev.Wire) > p.limit {
			p.full = true
			return nil
		}
		p.events = append(p.events, ev)
		p.size += len(ev.Wire)
	}
	p.full = p.size >= p.limit
	return nil
}

func (r *reader) readLog(room *room, after uint64, limit int) (store.LogPart, error) {
	p := &logPage{room: room.name, after: after, limit: limit}
	if after >= room.head.Newest.Offset {
		return store.LogPart{}, nil
	}
	err := r.c.each("SELECT data FROM event_batches WHERE room = ? AND last > ? ORDER BY last",
		[]any{room.num, int64(after)}, func(rows *sql.Rows) error {
			var data []byte
			if err := rows.Scan(&data); err != nil {
				return err
			}
			if err := p.add(data); err != nil {
				return err
			}
			if p.full {
				return errStop
			}
			return nil
		})
	for i := 0; i < len(room.batches) && err == nil && !p.full; i++ {
		err = p.add(slices.Clone(room.batches[i].data))
	}
	if err != nil {
		return store.LogPart{}, fmt.Errorf("log of %s: %w", room.name, err)
	}
	more := len(p.events) > 0 && p.events[len(p.events)-1].Position.Offset < room.head.Newest.Offset
	return store.LogPart{Events: p.events, More: more}, nil
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
	return r.readTail(&room{name: name, num: num, head: head}, n)
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

func (r *reader) readTail(room *room, n int) ([]event.Event, error) {
	if n <= 0 {
		return nil, nil
	}
	var tail []event.Event
	add := func(data []byte) error {
		events, err := event.Split(room.name, data)
		tail = append(events, tail...)
		return err
	}
	var err error
	for i := len(room.batches) - 1; i >= 0 && err == nil && len(tail) < n; i-- {
		err = add(slices.Clone(room.batches[i].data))
	}
	if err == nil && len(tail) < n {
		err = r.c.each("SELECT data FROM event_batches WHERE room = ? ORDER BY last DESC LIMIT ?",
			[]any{room.num, n}, func(rows *sql.Rows) error {
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
		return nil, fmt.Errorf("recent events of %s: %w", room.name, err)
	}
	return tail[max(0, len(tail)-n):], nil
}
