package session

import (
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tcmanager/tcmanager/service/router"
)

// newest holds the newest event of each key, in the order in which the keys came.
// The zero value is empty and takes no memory but its own.
type newest struct {
	queue []latest
	at    map[latestKey]int // of those in queue, how many came before; nil while they are few
	gone  int               // how many have left the queue at its head
}

// latest is the newest event of a key.
type latest struct {
	key   latestKey
	piece *router.Piece
}

type latestKey struct {
	of   *place
	kind protoreflect.FieldNumber
	key  string
}

// fewLatest is how many are searched one by one, which is cheaper than a map.
const fewLatest = 16

func (l *newest) len() int { return len(l.queue) }

// put replaces the event of a key. Above maxLatest the oldest key makes room.
func (l *newest) put(k latestKey, piece *router.Piece) {
	if i := l.find(k); i >= 0 {
		l.queue[i].piece = piece
		return
	}
	if len(l.queue) >= maxLatest {
		delete(l.at, l.queue[0].key)
		l.queue[0] = latest{}
		l.queue = l.queue[1:]
		l.gone++
	}
	l.queue = append(l.queue, latest{k, piece})
	switch {
	case l.at != nil:
		l.at[k] = l.gone + len(l.queue) - 1
	case len(l.queue) > fewLatest:
		l.index()
	}
}

// find returns where a key is in the queue; -1 if it isn't.
func (l *newest) find(k latestKey) int {
	if l.at != nil {
		if i, is := l.at[k]; is {
			return i - l.gone
		}
		return -1
	}
	for i := range l.queue {
		if l.queue[i].key == k {
			return i
		}
	}
	return -1
}

func (l *newest) index() {
	l.gone, l.at = 0, nil
	if len(l.queue) <= fewLatest {
		return
	}
	l.at = make(map[latestKey]int, 2*len(l.queue))
	for i, e := range l.queue {
		l.at[e.key] = i
	}
}

// take removes events up to about so many bytes and returns them behind others. The
// answer to the join of a room may hold an older state than an event that was told
// before it: what comes of the room meanwhile has to wait for it.
func (l *newest) take(size int, others []*router.Piece) []*router.Piece {
	kept := l.queue[:0]
	for _, e := range l.queue {
		if size <= 0 || e.key.of.joining {
			kept = append(kept, e)
			continue
		}
		others = append(others, e.piece)
		size -= e.piece.Frame.Size()
	}
	l.shorten(kept)
	return others
}

// drop removes the events of a place.
func (l *newest) drop(p *place) {
	kept := l.queue[:0]
	for _, e := range l.queue {
		if e.key.of != p {
			kept = append(kept, e)
		}
	}
	l.shorten(kept)
}

// shorten makes what is kept of the queue, in its memory, the queue.
func (l *newest) shorten(kept []latest) {
	before := len(l.queue)
	clear(l.queue[len(kept):])
	if l.queue = kept; len(kept) == 0 && cap(kept) > keptEntries {
		l.queue = nil
	}
	if len(kept) != before {
		l.index()
	}
}
