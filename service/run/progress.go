package run

import (
	"sync"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
)

// progressEvery is how often readers are told of one run's counts: often enough
// for a bar to move smoothly, and at most 10 small events a second and run.
const progressEvery = 100 * time.Millisecond

// progressLate is when they are told at the latest. In between a commit may take the
// counts along, so that readers get them in one piece with its results.
const progressLate = progressEvery * 3 / 2

// progressOf is how far one run is.
type progressOf struct {
	*pb.RunProgress
	projectID string
	at        uint64 // the offset of the run's room, which grows with the run
}

// progress conflates: the first news of a run is told at once, later ones at most
// once in progressEvery, and the newest always in the end.
type progress struct {
	publish func([]event.Event)

	mu     sync.Mutex
	runs   map[string]*pace // those that were told of within progressLate
	closed bool
}

// pace is what is known of one run.
type pace struct {
	newest  progressOf
	waits   bool      // newest is yet to be told
	told    time.Time // when something last was
	carried bool      // by a commit of which it isn't known yet how it ends
	timer   *time.Timer
}

func newProgress(publish func([]event.Event)) *progress {
	return &progress{publish: publish, runs: map[string]*pace{}}
}

// close stops all timers. Nothing is told any more.
func (p *progress) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, known := range p.runs {
		known.timer.Stop()
	}
	clear(p.runs)
}

// carry returns what a commit is to tell of a run's progress; nothing if it isn't time.
// If it returns something, noted or lost has to follow.
func (p *progress) carry(of progressOf) []event.Draft {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.runs[of.RunId]
	if p.closed || known != nil && (known.carried || time.Since(known.told) < progressEvery) {
		return nil
	}
	drafts := of.drafts()
	if len(drafts) > 0 {
		if known == nil {
			known = p.addLocked(of.RunId)
		} else {
			known.told = time.Now()
			known.timer.Reset(progressLate)
		}
		known.carried = true
	}
	return drafts
}

// addLocked begins to keep the pace of a run that is told of now.
func (p *progress) addLocked(runID string) *pace {
	known := &pace{told: time.Now(), timer: time.AfterFunc(progressLate, func() { p.next(runID) })}
	p.runs[runID] = known
	return known
}

// lost notes that the commit that was to tell of a run has failed.
func (p *progress) lost(runID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if known := p.runs[runID]; known != nil {
		known.carried = false
	}
}

// note tells readers of a run's progress, now or soon, unless its commit has. Two
// commits may be noted in the wrong order: the older one is passed over.
func (p *progress) note(of progressOf, carried bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	known := p.runs[of.RunId]
	if known == nil {
		p.tellLocked(of)
		p.addLocked(of.RunId).newest = of
		return
	}
	if carried {
		known.carried = false
	}
	if of.at >= known.newest.at {
		known.newest, known.waits = of, !carried
	}
}

// next tells what came in the meantime, and stops when nothing did.
func (p *progress) next(runID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.runs[runID]
	switch {
	case known == nil: // closed
	case known.carried: // what waits may be older
		known.timer.Reset(progressEvery)
	case known.waits:
		known.waits, known.told = false, time.Now()
		p.tellLocked(known.newest)
		known.timer.Reset(progressLate)
	default:
		delete(p.runs, runID)
	}
}

func (p *progress) tellLocked(of progressOf) {
	var events []event.Event
	for _, d := range of.drafts() {
		events = append(events, d.At(event.Position{}))
	}
	p.publish(events)
}

// drafts returns the events that tell of it.
func (of progressOf) drafts() []event.Draft {
	d, err := event.NewDraft(event.RunRoom(of.RunId), time.Now(), nil, &pb.Event{
		Key: of.RunId, Payload: &pb.Event_RunProgress{RunProgress: of.RunProgress},
	})
	if err != nil {
		return nil // a fault of this package, which its tests would show
	}
	return []event.Draft{d, d.For(event.ProjectRoom(of.projectID))}
}
