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
	held  [tiers]waiting
	awake bool // there is a goroutine
}

// waiting are sessions that are flushed together when the tick comes.
type waiting struct {
	sessions []*Session
	tick     *time.Timer
	ripe     bool // it has come
}

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
		sessions, t := w.next()
		if sessions == nil {
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
		w.keep(sessions, t)
	}
}

// next takes the sessions whose tick has come, and says of which tier, or else
// those that are due, of no tier; nil when there are none, and the worker sleeps.
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
	w.awake = false
	return nil, tiers
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
