package session

import (
	"sync"
	"time"

	"github.com/tcmanager/tcmanager/service/router"
)

// worker flushes the sessions that are its own, one after the other. It has a
// goroutine while there is something to do. What is published it offers to them
// itself, to some at a time, which it flushes before it goes on: what it needs of them
// is then brought from memory once, and by no other core.
type worker struct {
	hands *hands

	offering sync.Mutex // held while batches are offered: who holds it offers those that came first

	mu    sync.Mutex // guards the rest; it is taken after offering and after an outbox's lock
	told  []telling  // in the order in which they came, but for those in front that are done
	done  int        // how many those are
	begun int        // how many of the next one's sessions were offered it
	size  int        // of what is not done, in bytes
	due   []*Session // in the order in which they are flushed
	spare []*Session // memory for the next due
	held  [tiers]waiting
	awake bool // there is a goroutine
}

// telling is a batch that is to be offered to some sessions.
type telling struct {
	batch *router.Batch
	to    []*router.Subscription
}

// Bounds of what a worker has still to offer. Above them the publisher offers it.
const (
	maxTold      = 256
	maxToldBytes = 1 << 20
)

// toldAtOnce is to how many sessions a worker offers a batch before it flushes them:
// so many fit into the nearest cache.
const toldAtOnce = 32

// Deliver has a batch offered to sessions of this worker.
func (w *worker) Deliver(b *router.Batch, to []*router.Subscription) {
	w.mu.Lock()
	w.told = append(w.told, telling{b, to})
	w.size += b.Piece.Frame.Size()
	full := len(w.told)-w.done > maxTold || w.size > maxToldBytes
	w.wakeLocked()
	for full && w.offer() {
	}
}

// offer offers the first of what was published to some of the sessions that hear it.
// It reports whether there is more.
func (w *worker) offer() bool {
	w.offering.Lock()
	defer w.offering.Unlock()
	b, to := w.nextTold()
	for _, s := range to {
		s.Offer(b)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.done < len(w.told)
}

// nextTold returns what is offered next, and to whom; to nobody if there is nothing.
func (w *worker) nextTold() (*router.Batch, []*router.Subscription) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done == len(w.told) {
		return nil, nil
	}
	next := w.told[w.done]
	from, to := w.begun, min(w.begun+toldAtOnce, len(next.to))
	if w.begun = to; to == len(next.to) {
		w.told[w.done], w.begun = telling{}, 0
		w.size -= next.batch.Piece.Frame.Size()
		w.done++
		w.tidyLocked()
	}
	return next.batch, next.to[from:to]
}

// tidyLocked moves what is not done to the front once as much is.
func (w *worker) tidyLocked() {
	if w.done < len(w.told)-w.done {
		return
	}
	n := copy(w.told, w.told[w.done:])
	clear(w.told[n:])
	w.told, w.done = w.told[:n], 0
}

// waiting are sessions that are flushed together when the tick comes.
type waiting struct {
	sessions []*Session
	tick     *time.Timer
	ripe     bool // it has come
}

// asleep stands for no tier, and nothing to do.
const asleep = tiers + 1

// visitsAtOnce is how many visits a worker makes by one look at the clock: they take
// some microseconds each.
const visitsAtOnce = 8

// keptDue is for how many sessions a worker keeps the memory of its lists.
const keptDue = 16 << 10

// add puts a session on the list.
func (w *worker) add(s *Session) {
	w.mu.Lock()
	w.due = append(w.due, s)
	w.wakeLocked()
}

// wakeLocked unlocks, too.
func (w *worker) wakeLocked() {
	asleep := !w.awake
	w.awake = true
	w.mu.Unlock()
	if asleep {
		w.hands.do(w.run)
	}
}

// hold puts a session on the list of those that are flushed together at the next
// tick of a tier, in so long at most. That one comes when the time of the first is
// up: then there is one timer for all of them, and readers of a room are flushed at
// once and share frames.
func (w *worker) hold(s *Session, wait time.Duration, t tier) {
	w.mu.Lock()
	defer w.mu.Unlock()
	held := &w.held[t]
	held.sessions = append(held.sessions, s)
	switch {
	case len(held.sessions) > 1:
	case held.tick == nil:
		held.tick = time.AfterFunc(wait, func() { w.ripen(t) })
	default:
		held.tick.Reset(wait)
	}
}

func (w *worker) ripen(t tier) {
	w.mu.Lock()
	w.held[t].ripe = true
	w.wakeLocked()
}

// run flushes until nobody is due.
func (w *worker) run() {
	for {
		w.offer()
		sessions, t := w.next()
		if t == asleep {
			return
		}
		var now time.Time
		for i, s := range sessions {
			if i%visitsAtOnce == 0 {
				now = time.Now()
			}
			if t == tiers {
				s.visit(now)
			} else {
				s.ripen(t, now)
			}
		}
		if sessions != nil {
			w.keep(sessions, t)
		}
	}
}

// next takes the sessions whose tick has come, and says of which tier, or else
// those that are due, of no tier; asleep when there is nothing to do, and the worker
// sleeps.
func (w *worker) next() (sessions []*Session, t tier) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for t := range tiers {
		held := &w.held[t]
		if held.ripe && len(held.sessions) > 0 {
			sessions, held.sessions, held.ripe = held.sessions, nil, false
			return sessions, t
		}
		held.ripe = false
	}
	if len(w.due) > 0 {
		sessions, w.due, w.spare = w.due, w.spare, nil
		return sessions, tiers
	}
	if w.done < len(w.told) {
		return nil, tiers
	}
	w.awake = false
	return nil, asleep
}

// keep keeps the memory of a list.
func (w *worker) keep(list []*Session, t tier) {
	clear(list)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case cap(list) > keptDue:
	case t == tiers:
		w.spare = list[:0]
	case w.held[t].sessions == nil:
		w.held[t].sessions = list[:0]
	}
}
