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
	runs   map[string]*pace // those that were told of within progressEvery
	closed bool
}

// pace is what is known of one run.
type pace struct {
	newest progressOf
	waits  bool // newest is yet to be told
	timer  *time.Timer
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

// note tells readers of a run's progress, now or soon. Two commits may be noted
// in the wrong order: the older one is passed over.
func (p *progress) note(of progressOf) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if known := p.runs[of.RunId]; known != nil {
		if of.at >= known.newest.at {
			known.newest, known.waits = of, true
		}
		return
	}
	p.tellLocked(of)
	p.runs[of.RunId] = &pace{newest: of, timer: time.AfterFunc(progressEvery, func() { p.next(of.RunId) })}
}

// next tells what came in the meantime, and stops when nothing did.
func (p *progress) next(runID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.runs[runID]
	if known == nil {
		return // closed
	}
	if !known.waits {
		delete(p.runs, runID)
		return
	}
	known.waits = false
	p.tellLocked(known.newest)
	known.timer.Reset(progressEvery)
}

func (p *progress) tellLocked(of progressOf) {
	d, err := event.NewDraft(event.RunRoom(of.RunId), time.Now(), nil, &pb.Event{
		Key: of.RunId, Payload: &pb.Event_RunProgress{RunProgress: of.RunProgress},
	})
	if err != nil {
		return // a fault of this package, which its tests would show
	}
	p.publish([]event.Event{d.At(event.Position{}), d.For(event.ProjectRoom(of.projectID)).At(event.Position{})})
}
