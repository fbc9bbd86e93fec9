package session

import (
	"slices"
	"testing"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/router"
)

// pupil is one of a worker's, and keeps what it is told.
type pupil struct {
	worker *worker
	heard  []uint64
}

func (p *pupil) Group() router.Group { return p.worker }

func (p *pupil) Offer(b *router.Batch) {
	for _, ev := range b.Events {
		p.heard = append(p.heard, ev.Position.Offset)
	}
}

func TestWhatAWorkerHasToTellIsBoundedAndComesInOrder(t *testing.T) {
	const events = 3*maxTold + 7
	for name, size := range map[string]int{"many": 1, "large": maxToldBytes / 20} {
		r := router.New()
		w := &worker{awake: true} // whose goroutine is busy with something else
		class := make([]*pupil, toldAtOnce+1)
		for i := range class {
			class[i] = &pupil{worker: w}
			r.Subscribe("testrun:r", class[i])
		}
		var want []uint64
		offeredByPublisher := false
		for i := range uint64(events) {
			r.Publish([]event.Event{{
				Room: "testrun:r", Class: pb.DeliveryClass_DELIVERY_CLASS_DURABLE,
				Position: event.Position{Epoch: 1, Offset: i + 1}, Wire: make([]byte, size),
			}})
			want = append(want, i+1)
			if w.size > maxToldBytes || len(w.told)-w.done > maxTold || len(w.told) > 2*maxTold+1 {
				t.Fatalf("%s: after %d events %d wait, with %d bytes", name, i+1, len(w.told)-w.done, w.size)
			}
			offeredByPublisher = offeredByPublisher || len(class[0].heard) > 0
		}
		if !offeredByPublisher {
			t.Errorf("%s: the publisher never helped", name)
		}
		for w.offer() {
		}
		for i, p := range class {
			if !slices.Equal(p.heard, want) {
				t.Fatalf("%s: number %d heard %d events out of order or not all: %v", name, i, len(p.heard), p.heard)
			}
		}
		if w.size != 0 || w.done != 0 || len(w.told) != 0 {
			t.Errorf("%s: %d bytes wait in %d batches when all is told", name, w.size, len(w.told)-w.done)
		}
	}
}

func TestWhoHasLeftIsToldNothingThatWaited(t *testing.T) {
	r := router.New()
	w := &worker{awake: true}
	stays, leaves := &pupil{worker: w}, &pupil{worker: w}
	r.Subscribe("testrun:r", stays)
	leave := r.Subscribe("testrun:r", leaves)
	r.Publish([]event.Event{{Room: "testrun:r", Class: pb.DeliveryClass_DELIVERY_CLASS_DURABLE, Position: event.Position{Epoch: 1, Offset: 1}}})
	leave()
	for w.offer() {
	}
	if len(stays.heard) != 1 || len(leaves.heard) != 0 {
		t.Errorf("who stays heard %v, and who has left %v", stays.heard, leaves.heard)
	}
}
