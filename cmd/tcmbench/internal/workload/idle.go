package workload

import (
	"context"
	"time"

	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/target"
)

// Idle is what a connection holds that says nothing: memory.
type Idle struct {
	Readers int
	// Settle is how long the server is left alone before its memory is looked at,
	// so that what was only needed to come is collected and given back; the least
	// of its second half counts.
	Settle time.Duration
}

// Measure measures a server.
func (w Idle) Measure(ctx context.Context, t *target.Target) (s Sample, err error) {
	c, err := newCrowd(ctx, t)
	if err != nil {
		return s, err
	}
	defer func() { err = first(err, c.close()) }()
	if err := c.open(1); err != nil {
		return s, err
	}
	if err := c.enter(1); err != nil { // what the first one needs is no share of a connection
		return s, err
	}
	before, err := w.settled(c)
	if err != nil {
		return s, err
	}
	if err := c.enter(w.Readers); err != nil {
		return s, err
	}
	after, err := w.settled(c)
	return Sample{KB: float64(after-before) / 1024 / float64(w.Readers)}, err
}

func (w Idle) settled(c *crowd) (least int64, err error) {
	for began := time.Now(); time.Since(began) < w.Settle; {
		if err := c.step(time.Time{}); err != nil {
			return 0, err
		}
		if time.Since(began) < w.Settle/2 {
			continue
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
