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
}

// progress conflates: the first news of a run is told at once, later ones at most
// once in progressEvery, and the newest always in the end.
type progress struct {
	publish func([]event.Event)

	mu   sync.Mutex
	runs map[string]*pace
}

// pace is what waits to be told of one run.
type pace struct {
	newest *progressOf // nil if nothing does
}

func newProgress(publish func([]event.Event)) *progress {
	return &progress{publish: publish, runs: map[string]*pace{}}
}

// note tells readers of a run's progress, now or soon.
func (p *progress) note(of progressOf) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if waiting := p.runs[of.RunId]; waiting != nil {
		waiting.newest = &of
		return
	}
	p.runs[of.RunId] = &pace{}
	p.tellLocked(of)
	time.AfterFunc(progressEvery, func() { p.next(of.RunId) })
}

// next tells what came in the meantime, and stops when nothing did.
func (p *progress) next(runID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	waiting := p.runs[runID]
	if waiting == nil || waiting.newest == nil {
		delete(p.runs, runID)
		return
	}
	of := *waiting.newest
	waiting.newest = nil
	p.tellLocked(of)
	time.AfterFunc(progressEvery, func() { p.next(runID) })
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
