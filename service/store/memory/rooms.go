package memory

import (
	"slices"

	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

// batchBytes is where a row of the log is cut. A reader decodes a whole row to
// find its first event, so rows are not longer than a frame.
const batchBytes = 64 << 10

// maxRooms is how many heads are kept between groups, about 200 bytes each.
const maxRooms = 20_000

// Batch is a row of the log: consecutive events, joined as the wire carries them.
type Batch struct {
	First, Last uint64
	Data        []byte
}

// Room is a room as the writer knows it: its head, and the events of this group,
// which are written at its end.
type Room struct {
	Name    event.Room
	Num     int64 // 0: not in the table yet
	Head    store.Head
	Begun   bool // a batch of it is in the table
	Batches []Batch

	dirty  bool // the head or batches are not written yet
	marked bool // Rooms.undos has how it was
}

// roomUndo is how a room was before the running function changed it.
type roomUndo struct {
	room    *Room
	made    bool // it wasn't there
	head    store.Head
	dirty   bool
	batches int
	last    Batch // the last of batches, which may have grown
}

// Rooms is the writer's memory of rooms. It mirrors the transaction as it stands.
type Rooms struct {
	byName map[event.Room]*Room
	dirty  []*Room // those to write at the end of the group, in the order of their first change
	undos  []roomUndo
}

// NewRooms returns an empty memory.
func NewRooms() Rooms { return Rooms{byName: map[event.Room]*Room{}} }

// Get returns a room that is remembered; nil for one that isn't.
func (r *Rooms) Get(name event.Room) *Room { return r.byName[name] }

// Know remembers a room that is in the table.
func (r *Rooms) Know(room *Room) { r.byName[room.Name] = room }

// Make remembers a new room, to be written.
func (r *Rooms) Make(name event.Room, epoch uint64) *Room {
	born := event.Position{Epoch: epoch}
	room := &Room{Name: name, Head: store.Head{Newest: born, Trim: born}}
	r.byName[name] = room
	r.touch(room, true)
	return room
}

// Dirty returns the rooms to write, in the order of their first change. Written
// says that they are.
func (r *Rooms) Dirty() []*Room { return r.dirty }

// Written ends a group whose rooms and batches are written.
func (r *Rooms) Written() {
	for _, room := range r.dirty {
		room.Batches, room.dirty = nil, false
	}
	r.Mark()
	clear(r.dirty)
	r.dirty = r.dirty[:0]
}

// Shrink forgets everything when it has become much. It is called between groups,
// when nothing is dirty.
func (r *Rooms) Shrink() {
	if len(r.byName) > maxRooms {
		r.Clear()
	}
}

// Clear forgets everything, also what wasn't written.
func (r *Rooms) Clear() {
	clear(r.byName)
	r.dirty, r.undos = r.dirty[:0], r.undos[:0]
}

// Mark begins a function: Undo returns to here.
func (r *Rooms) Mark() {
	for _, u := range r.undos {
		u.room.marked = false
	}
	clear(r.undos)
	r.undos = r.undos[:0]
}

// Undo takes back what was done since Mark.
func (r *Rooms) Undo() {
	for _, u := range r.undos {
		if u.made {
			delete(r.byName, u.room.Name)
		}
		u.room.Head, u.room.dirty = u.head, u.dirty
		u.room.Batches = u.room.Batches[:u.batches]
		if u.batches > 0 {
			u.room.Batches[u.batches-1] = u.last
		}
	}
	r.dirty = slices.DeleteFunc(r.dirty, func(room *Room) bool { return !room.dirty })
	r.Mark()
}

// remember is called before a room changes, for Undo.
func (r *Rooms) remember(room *Room, made bool) {
	if room.marked {
		return
	}
	u := roomUndo{room: room, made: made, head: room.Head, dirty: room.dirty, batches: len(room.Batches)}
	if u.batches > 0 {
		u.last = room.Batches[u.batches-1]
	}
	r.undos = append(r.undos, u)
	room.marked = true
}

// touch is called before a room changes in a way that is written at the end of
// the group.
func (r *Rooms) touch(room *Room, made bool) {
	r.remember(room, made)
	if !room.dirty {
		room.dirty = true
		r.dirty = append(r.dirty, room)
	}
}

// Append gives a durable draft the next place in its room, to be written. The
// event's Wire is a part of the batch's Data. About so many bytes as more says are
// to follow it, of this room or others.
func (r *Rooms) Append(room *Room, d event.Draft, epoch uint64, more int) event.Event {
	r.touch(room, false)
	at := event.Position{Epoch: epoch, Offset: room.Head.Newest.Offset + 1}
	room.Head.Newest = at
	size := d.WireSize(at)
	if n := len(room.Batches); n == 0 || len(room.Batches[n-1].Data)+size > batchBytes {
		capacity := max(size, min(size+more, batchBytes))
		room.Batches = append(room.Batches, Batch{First: at.Offset, Data: make([]byte, 0, capacity)})
	}
	b := &room.Batches[len(room.Batches)-1]
	var ev event.Event
	b.Data, ev = d.AppendAt(b.Data, at)
	b.Last = at.Offset
	return ev
}

// Forget forgets a room whose row is being deleted. It returns false, and forgets
// nothing, if something of the room isn't written yet.
func (r *Rooms) Forget(name event.Room) bool {
	room := r.byName[name]
	if room != nil && room.dirty {
		return false
	}
	delete(r.byName, name)
	return true
}

// Trim moves the trim mark of a room that is remembered, as its row's was moved.
func (r *Rooms) Trim(name event.Room, mark event.Position) {
	if room := r.byName[name]; room != nil {
		r.remember(room, false)
		room.Head.Trim = mark
	}
}
