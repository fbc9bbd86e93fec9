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
			if o.start(now) != goOn || summoned != 1 {
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
			if summoned != 2 || o.start(now) != goOn {
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
	if o.start(now) != goOn {
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
	if o.start(now) != goOn {
		t.Fatal("the session is not due")
	}
	if _, found, _ := o.take(now); !found {
		t.Fatal("the answer is gone")
	}
	if got := o.finish(now, false); got != leaveIt || o.turn.is != held {
		t.Fatalf("what comes next is %v; it is held already", got)
	}
	if got := o.ripen(brief); got != goOn {
		t.Errorf("when its time has come: %v", got)
	}
}

// TestWhatIsNewestGoesWithTheNextEvent follows a session that was sent an event just
// now and then hears news of class LATEST, which cost no frame of their own.
func TestWhatIsNewestGoesWithTheNextEvent(t *testing.T) {
	now := time.Now()
	summoned := 0
	o := newOutbox(1<<10, func() { summoned++ })
	o.turn.linger = 10 * time.Millisecond
	p := o.enter("testrun:r")
	o.begin(p, event.Position{Epoch: 1}, 0, false)
	turn := func(want verdict) (sent string) {
		t.Helper()
		if got := o.start(now); got != want {
			t.Fatalf("what comes is %v, not %v", got, want)
		}
		if want != goOn {
			return ""
		}
		frame, _, err := o.take(now)
		if got := o.finish(now, false); got != leaveIt || err != nil {
			t.Fatal("more comes:", got, err)
		}
		return string(frame.Bytes())
	}
	news := batch(event.Event{Room: p.room, Class: pb.DeliveryClass_DELIVERY_CLASS_LATEST, Key: "r", Wire: []byte("news")})
	turn(goOn)
	o.offer(p, batch(durableEvent(p, 1)))
	if got := turn(goOn); got != "event" {
		t.Fatalf("%q goes first", got)
	}
	now = now.Add(20 * time.Millisecond)
	o.offer(p, news)
	turn(holdIt)
	if left, tier := o.heldFor(now); left != calmLinger-20*time.Millisecond || tier != calm {
		t.Errorf("it is held for %v, as %v", left, tier)
	}
	before := summoned
	o.offer(p, news)
	if summoned != before {
		t.Error("more news do not wait")
	}
	now = now.Add(20 * time.Millisecond)
	o.offer(p, batch(durableEvent(p, 2)))
	if summoned != before+1 {
		t.Error("an event waits with the news")
	}
	if got := turn(goOn); got != "eventnews" {
		t.Errorf("%q goes together", got)
	}
	if got := o.ripen(calm); got != leaveIt {
		t.Errorf("when the time of what has gone has come: %v", got)
	}
	o.offer(p, news)
	turn(holdIt)
	if o.ripen(brief) != leaveIt || o.ripen(calm) != goOn {
		t.Error("the news do not go when their time has come")
	}
	if frame, _, _ := o.take(now); string(frame.Bytes()) != "news" || o.finish(now, false) != leaveIt {
		t.Error("news are not sent alone")
	}
	now = now.Add(calmLinger)
	o.offer(p, news)
	if got := turn(goOn); got != "news" {
		t.Errorf("after a pause %q goes at once", got)
	}
}
