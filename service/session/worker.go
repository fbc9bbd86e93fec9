package session

import (
	"sync"
	"time"
)

// worker flushes the sessions that are its own, one after the other. It has a
// goroutine while there is something to do.
type worker struct {
	hands *hands

	mu    sync.Mutex // guards the rest
	due   []*Session // in the order in which they are flushed
	spare []*Session // memory for the next due
	held  []*Session // to be flushed when the tick comes
	ripe  bool       // it has come
	awake bool       // there is a goroutine
	tick  *time.Timer
}

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
// tick, in so long at most. That one comes when the time of the first is up: then
// there is one timer for all of them, and readers of a room are flushed at once and
// share frames.
func (w *worker) hold(s *Session, wait time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = append(w.held, s)
	switch {
	case len(w.held) > 1:
	case w.tick == nil:
		w.tick = time.AfterFunc(wait, w.ripen)
	default:
		w.tick.Reset(wait)
	}
}

func (w *worker) ripen() {
	w.mu.Lock()
	w.ripe = true
	w.wakeLocked()
}

// run flushes until nobody is due.
func (w *worker) run() {
	for {
		sessions, ripe := w.next()
		if sessions == nil {
			return
		}
		for _, s := range sessions {
			s.visit(ripe)
		}
		w.keep(sessions)
	}
}

// next takes the sessions whose tick has come, or else those that are due; nil
// when there are none, and the worker sleeps.
func (w *worker) next() (sessions []*Session, ripe bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.ripe && len(w.held) > 0:
		sessions, w.held, w.ripe = w.held, nil, false
		return sessions, true
	case len(w.due) > 0:
		sessions, w.due, w.spare = w.due, w.spare, nil
		return sessions, false
	default:
		w.awake, w.ripe = false, false
		return nil, false
	}
}

// keep keeps the memory of a list.
func (w *worker) keep(list []*Session) {
	clear(list)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case cap(list) > keptDue:
	case w.held == nil:
		w.held = list[:0]
	default:
		w.spare = list[:0]
	}
}
