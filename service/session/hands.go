package session

import (
	"slices"
	"sync"
	"time"
)

// hands are goroutines for what may wait, or needs a deep stack: so a session that
// does nothing needs neither. There are as many as are at work at once. Some stay
// for a moment, since their stacks have grown already, but only while there are
// sessions.
type hands struct {
	mu       sync.Mutex // guards the rest
	sessions int
	idle     []*hand // the one that was at work last is last
}

// hand is a goroutine that waits for a job; nil means that it should go.
type hand struct {
	job  chan func()
	rest *time.Timer
}

const (
	keptHands = 64                     // with 8 to 32 KB of stack each
	handsRest = 100 * time.Millisecond // longer than between two flushes of a busy server
)

// do runs a job on another goroutine and doesn't wait for it.
func (h *hands) do(job func()) {
	if one := h.call(); one != nil {
		one.job <- job // it has room for it
		return
	}
	go h.work(job)
}

// call returns a hand that is idle, and will be given a job; nil if there is none.
func (h *hands) call() *hand {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := len(h.idle) - 1
	if last < 0 {
		return nil
	}
	one := h.idle[last]
	h.idle[last] = nil
	h.idle = h.idle[:last]
	return one
}

func (h *hands) work(job func()) {
	var one hand
	for job != nil {
		job()
		job = h.await(&one)
	}
}

// await returns the next job; nil if there was none for so long.
func (h *hands) await(one *hand) func() {
	if !h.keep(one) {
		return nil
	}
	select {
	case job := <-one.job:
		one.rest.Stop()
		return job
	case <-one.rest.C:
	}
	h.mu.Lock()
	i := slices.Index(h.idle, one)
	if i >= 0 {
		h.idle = slices.Delete(h.idle, i, i+1)
	}
	h.mu.Unlock()
	if i >= 0 {
		return nil
	}
	return <-one.job // it was called just now
}

// keep puts a hand among those that are idle, unless there are enough of them.
func (h *hands) keep(one *hand) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sessions == 0 || len(h.idle) >= keptHands {
		return false
	}
	if one.job == nil { // most are never kept
		one.job, one.rest = make(chan func(), 1), time.NewTimer(handsRest)
	} else {
		one.rest.Reset(handsRest)
	}
	h.idle = append(h.idle, one)
	return true
}

// comes and goes count the sessions.
func (h *hands) comes() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sessions++
}

func (h *hands) goes() {
	h.mu.Lock()
	var idle []*hand
	if h.sessions--; h.sessions == 0 {
		idle, h.idle = h.idle, nil
	}
	h.mu.Unlock()
	for _, one := range idle {
		one.job <- nil
	}
}
