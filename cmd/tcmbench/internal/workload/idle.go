package workload

import (
	"context"
	"time"

	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/target"
)

// Idle is what a connection holds that says nothing: memory.
//
// A server that collects garbage does so when it has made some, so one more client,
// in a room of its own, sends updates for a while before the memory is looked at:
// what was only needed to connect is collected then, as it is on a server that
// lives. After that nobody says anything, and the least of that time counts.
type Idle struct {
	Readers int
	Updates int           // that make garbage
	Settle  time.Duration // how long nobody says anything
}

// Measure measures a server.
func (w Idle) Measure(ctx context.Context, t *target.Target) (s Sample, err error) {
	c, err := newCrowd(ctx, t)
	if err != nil {
		return s, err
	}
	defer func() { err = first(err, c.close()) }()
	if err := c.open(2); err != nil {
		return s, err
	}
	// One of the readers is there before, so that what the first one needs is no
	// share of a connection.
	if err := c.enter(2, c.rooms...); err != nil {
		return s, err
	}
	before, err := w.settled(c)
	if err != nil {
		return s, err
	}
	if err := c.enter(w.Readers, c.rooms[0]); err != nil {
		return s, err
	}
	after, err := w.settled(c)
	return Sample{KB: float64(after-before) / 1024 / float64(w.Readers)}, err
}

func (w Idle) settled(c *crowd) (least int64, err error) {
	busy := c.readers[1:2]
	from := int(busy[0].acked)
	if err := (Ingest{Window: 256, Write: 16}).run(c, busy, from, from+w.Updates/16*16); err != nil {
		return 0, err
	}
	for began := time.Now(); time.Since(began) < w.Settle || least == 0; {
		if err := c.step(time.Time{}); err != nil {
			return 0, err
		}
		now, err := c.target.Resident()
		if err != nil {
			return 0, err
		}
		if least == 0 || now < least {
			least = now
		}
	}
	return least, nil
}
