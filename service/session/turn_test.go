package session

import (
	"testing"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
)

// What comes between the last look and the rest, which is a race elsewhere, is done
// here in the order that would lose it.
func TestNothingThatComesJustBeforeARestIsLost(t *testing.T) {
	now := time.Now()
	for name, tc := range map[string]struct {
		unflushed bool
		comes     func(*outbox, *place)
		lost      bool // it is nothing to go on for
	}{
		"nothing":                        {comes: func(*outbox, *place) {}, lost: true},
		"an answer":                      {comes: func(o *outbox, _ *place) { o.post(pong()) }},
		"an ack":                         {comes: func(o *outbox, _ *place) { o.ack(7) }},
		"an event":                       {comes: func(o *outbox, p *place) { o.offer(p, batch(durableEvent(p, 1))) }},
		"an event out of order":          {comes: func(o *outbox, p *place) { o.offer(p, batch(durableEvent(p, 9))) }},
		"a right that changes":           {comes: func(o *outbox, _ *place) { o.call(askCheck) }},
		"a flush":                        {unflushed: true, comes: func(o *outbox, _ *place) { o.ready() }},
		"a right, unflushed":             {unflushed: true, comes: func(o *outbox, _ *place) { o.call(askCheck) }},
		"an answer that can't be sent":   {unflushed: true, comes: func(o *outbox, _ *place) { o.post(pong()) }, lost: true},
		"an answer to a room that waits": {comes: func(o *outbox, _ *place) { o.begin(o.enter("testrun:q"), event.Position{}, 3, false) }},
	} {
		t.Run(name, func(t *testing.T) {
			summoned := 0
			o := newOutbox(1<<10, func() { summoned++ })
			p := o.enter("testrun:r")
			o.begin(p, event.Position{Epoch: 1}, 0, false)
			if o.start(now, false) != goOn || summoned != 1 {
				t.Fatal("the session is not due")
			}
			if _, found, err := o.take(now); found || err != nil {
				t.Fatal(found, err)
			}
			o.nextBehind()
			tc.comes(o, p)
			if got := o.finish(now, tc.unflushed); (got == goOn) == tc.lost || summoned != 1 {
				t.Errorf("what comes next is %v, and the worker was summoned %d times", got, summoned)
			}
			if !tc.lost {
				return
			}
			// It rests now: what comes next summons the worker.
			if tc.unflushed {
				o.ready()
			} else {
				o.post(pong())
			}
			if summoned != 2 || o.start(now, false) != goOn {
				t.Errorf("the worker was summoned %d times", summoned)
			}
		})
	}
}

func durableEvent(p *place, offset uint64) event.Event {
	return event.Event{Room: p.room, Class: pb.DeliveryClass_DELIVERY_CLASS_DURABLE, Position: event.Position{Epoch: 1, Offset: offset}, Wire: []byte("event")}
}

func TestAWorkerWithTwoEntriesOfASessionSendsOnce(t *testing.T) {
	now := time.Now()
	o := newOutbox(1<<10, func() {})
	o.turn.linger = time.Second
	p := o.enter("testrun:r")
	o.begin(p, event.Position{Epoch: 1}, 0, false)
	if o.start(now, false) != goOn {
		t.Fatal("the session is not due")
	}
	o.offer(p, batch(durableEvent(p, 1)))
	if _, found, _ := o.take(now); !found {
		t.Fatal("nothing waits")
	}
	o.offer(p, batch(durableEvent(p, 2)))
	if got := o.finish(now, false); got != holdIt {
		t.Fatalf("what comes next is %v, want to be held", got)
	}
	o.post(pong()) // goes at once
	if o.start(now, false) != goOn {
		t.Fatal("the session is not due")
	}
	if _, found, _ := o.take(now); !found {
		t.Fatal("the answer is gone")
	}
	if got := o.finish(now, false); got != leaveIt || o.turn.is != held {
		t.Fatalf("what comes next is %v; it is held already", got)
	}
	if got := o.start(now, true); got != goOn {
		t.Errorf("when its time has come: %v", got)
	}
}
