package session

import (
	"sync"
	"time"

	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/wire"
)

// reads keeps what was read from logs just now, as the frames that were sent. After
// a burst that no queue holds, or a restart, all readers of a room are behind at the
// same place and read the same: the log is read, and the frame made, once.
type reads struct {
	mu    sync.Mutex // guards the rest
	at    map[readFrom]read
	order []readFrom // oldest first
	bytes int
}

// readFrom is where a read begins: behind a place in a room.
type readFrom struct {
	room  event.Room
	after event.Position
}

// read is what there was, at least a frame full.
type read struct {
	frame wire.Frame
	last  event.Position
	until time.Time
}

const (
	keptReads = 8 << 20         // bytes
	readsLast = 5 * time.Second // so long, what is deleted may be sent still
)

func (r *reads) get(from readFrom, now time.Time) (read, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	found, is := r.at[from]
	return found, is && now.Before(found.until)
}

func (r *reads) put(from readFrom, frame wire.Frame, last event.Position, now time.Time) {
	if frame.Size() < frameBytes {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if old, is := r.at[from]; is {
		r.bytes -= old.frame.Size()
	} else {
		r.order = append(r.order, from)
	}
	if r.at == nil {
		r.at = map[readFrom]read{}
	}
	r.at[from] = read{frame, last, now.Add(readsLast)}
	r.bytes += frame.Size()
	for len(r.order) > 0 && (r.bytes > keptReads || now.After(r.at[r.order[0]].until)) {
		r.bytes -= r.at[r.order[0]].frame.Size()
		delete(r.at, r.order[0])
		r.order[0] = readFrom{}
		r.order = r.order[1:]
	}
}
