package run

import (
	"container/list"
	"errors"
	"fmt"

	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

// testsKept is how many tests the lives together keep before old runs are
// forgotten, which is some 200 MB.
const testsKept = 1_000_000

// lives keeps the counters of the runs that are reported to in memory, so that
// a result costs no reading. It is only used inside store.Update, which runs one
// function at a time.
//
// What is in memory may be ahead of the store: the function that changed it may
// have been undone. Each Live remembers where its room's log was when it was
// last settled, so that the next one to load it finds out and reads it anew.
// That holds because whoever writes to a run's room loads it first.
type lives struct {
	max   int // runs
	tests int // of all runs
	byID  map[string]*list.Element
	order *list.List // of *Live, the least recently used first
}

func newLives(maxLive int) *lives {
	return &lives{max: maxLive, tests: testsKept, byID: map[string]*list.Element{}, order: list.New()}
}

// load returns a run. An unknown one is access.ErrDenied.
func (l *lives) load(tx store.Tx, runID string) (*Live, error) {
	head, err := tx.Head(event.RunRoom(runID))
	if errors.Is(err, store.ErrNotFound) {
		return nil, access.ErrDenied
	}
	if err != nil {
		return nil, fmt.Errorf("read the head of run %s: %w", runID, err)
	}
	if e := l.byID[runID]; e != nil {
		if live := valueOf(e); live.head == head.Newest {
			l.order.MoveToBack(e)
			return live, nil
		}
		l.drop(runID)
	}
	live, err := readLive(tx, runID)
	if err != nil {
		return nil, err
	}
	live.head = head.Newest
	l.byID[runID] = l.order.PushBack(live)
	l.trim()
	return live, nil
}

// trim forgets the runs that were not used for the longest time, but never the
// one in use, which is the last.
func (l *lives) trim() {
	kept := 0
	for _, e := range l.byID {
		kept += len(valueOf(e).tests)
	}
	for l.order.Len() > 1 && (l.order.Len() > l.max || kept > l.tests) {
		oldest := valueOf(l.order.Front())
		kept -= len(oldest.tests)
		l.drop(oldest.Run.Id)
	}
}

func valueOf(e *list.Element) *Live {
	live, _ := e.Value.(*Live)
	return live
}

// settle notes that what was done to a Live is written, in this transaction.
func (l *lives) settle(tx store.Tx, live *Live) error {
	head, err := tx.Head(event.RunRoom(live.Run.Id))
	if err != nil {
		return fmt.Errorf("read the head of run %s: %w", live.Run.Id, err)
	}
	live.head = head.Newest
	return nil
}

// drop forgets a run.
func (l *lives) drop(runID string) {
	if e := l.byID[runID]; e != nil {
		l.order.Remove(e)
		delete(l.byID, runID)
	}
}

// readLive rebuilds a run's counters from its rows.
func readLive(r store.Reader, runID string) (*Live, error) {
	run, err := r.Run(runID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, access.ErrDenied
	}
	if err != nil {
		return nil, fmt.Errorf("read run %s: %w", runID, err)
	}
	suites, err := r.Suites(runID, maxSuites)
	if err != nil {
		return nil, fmt.Errorf("read the suites of run %s: %w", runID, err)
	}
	live := newLive(run, suites)
	if err := r.EachResult(runID, live.restore); err != nil {
		return nil, fmt.Errorf("read the results of run %s: %w", runID, err)
	}
	return live, nil
}
