package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/peer"
	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/target"
)

// Storm is all readers of a room cut at once, while it is published to: all come
// back together, when they have missed an event, and again after a while if it is turned away, until all are live.
//
// TCManager's readers go on where they were and must have every event in the end.
// The peers' make no such promise: what they miss is counted, and fails nothing.
type Storm struct {
	Readers int
	Rate    float64       // events a second
	Calm    time.Duration // before and after
}

// resumer is a protocol that goes on where it was.
type resumer interface{ Resume() peer.Protocol }

// storm is what is going on in one.
type storm struct {
	back    time.Time // when all came back
	took    Latencies // until each reader was live
	waiting []comeback
}

type comeback struct {
	m  *member
	at time.Time
}

// away is how long all are cut off: time enough for an event to be published.
const away = 100 * time.Millisecond

// How long one waits who was turned away: at first up to the least, then twice as
// long each time, up to the most, as clients do.
const (
	leastRetry = time.Second
	mostRetry  = 16 * time.Second
	// mostStorm is after how long a storm is given up.
	mostStorm = 3 * time.Minute
)

// again lets a member come back later.
func (s *storm) again(m *member) {
	most := min(mostRetry, leastRetry<<min(m.refused, 8))
	m.refused++
	s.waiting = append(s.waiting, comeback{m, time.Now().Add(rand.N(most))})
}

// Measure measures a server.
func (w Storm) Measure(ctx context.Context, t *target.Target) (s Sample, err error) {
	c, err := newCrowd(ctx, t)
	if err != nil {
		return s, err
	}
	defer func() { err = first(err, c.close()) }()
	c.forgiving = t.Kind.Server != target.TCManager
	if err := c.open(1); err != nil {
		return s, err
	}
	if err := c.enter(w.Readers, c.rooms...); err != nil {
		return s, err
	}
	began := time.Now()
	if err := w.publish(c, began, func() bool { return time.Since(began) > w.Calm }); err != nil {
		return s, err
	}
	before, err := t.CPU()
	if err != nil {
		return s, err
	}
	if err := w.cut(c); err != nil {
		return s, err
	}
	if err := w.publish(c, began, func() bool { return c.isJoined == w.Readers }); err != nil {
		return s, err
	}
	took := time.Since(c.storm.back)
	after, err := t.CPU()
	if err != nil {
		return s, err
	}
	calm := time.Now()
	if err := w.publish(c, began, func() bool { return time.Since(calm) > w.Calm }); err != nil {
		return s, err
	}
	if err := w.complete(c); err != nil {
		return s, err
	}
	readers, all := float64(w.Readers), &c.storm.took
	return Sample{
		CPU: micro(after-before) / readers, PerS: readers / took.Seconds(), Lost: c.lost,
		P50: all.Quantile(.5), P95: all.Quantile(.95), P99: all.Quantile(.99),
	}, nil
}

// cut cuts all readers and lets them come back.
func (w Storm) cut(c *crowd) error {
	for _, m := range c.readers {
		m.conn.Cut()
		m.ready, m.joined = false, false
	}
	c.isJoined = 0
	// Each misses an event: that it is heard in the end is what is looked at.
	if err := c.publish(1); err != nil {
		return err
	}
	for back := time.Now().Add(away); time.Now().Before(back); {
		if err := c.step(back); err != nil {
			return err
		}
	}
	c.storm = &storm{back: time.Now()}
	for _, m := range c.readers {
		if err := c.comeBack(m); err != nil {
			return err
		}
	}
	return nil
}

func (c *crowd) comeBack(m *member) error {
	p := c.target.Reader()
	if r, ok := m.conn.Protocol.(resumer); ok {
		p = r.Resume()
	}
	return c.dial(m, c.target.Readers, p)
}

// publish publishes at the rate until something is so, and lets those come back
// who were turned away.
func (w Storm) publish(c *crowd, began time.Time, done func() bool) error {
	last, since, end := -1, time.Now(), time.Now().Add(mostStorm)
	for !done() {
		if due := int(time.Since(began).Seconds()*w.Rate) + 1 - c.published; due > 0 {
			if err := c.publish(due); err != nil {
				return err
			}
		}
		if c.storm != nil {
			waiting := c.storm.waiting
			c.storm.waiting = nil
			for _, b := range waiting {
				if time.Now().Before(b.at) {
					c.storm.waiting = append(c.storm.waiting, b)
				} else if err := c.comeBack(b.m); err != nil {
					return err
				}
			}
		}
		if err := c.step(began.Add(time.Duration(float64(c.published) / w.Rate * float64(time.Second)))); err != nil {
			return err
		}
		if now := c.isJoined + c.delivered; now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) > patience || time.Now().After(end) {
			return fmt.Errorf("given up after %s while waiting for reader %d of %d to be back", time.Since(end.Add(-mostStorm)), c.isJoined+1, len(c.readers))
		}
	}
	return nil
}

// complete waits until every reader has the last event.
func (w Storm) complete(c *crowd) error {
	behind := func() int {
		n := 0
		for _, m := range c.readers {
			if m.next != m.room.published+1 {
				n++
			}
		}
		return n
	}
	return c.until(func() bool { return behind() == 0 }, func() int { return c.delivered },
		func() string { return fmt.Sprintf("%d readers to have all events", behind()) })
}
