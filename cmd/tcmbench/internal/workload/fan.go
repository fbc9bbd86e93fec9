package workload

import (
	"context"
	"fmt"
	"time"

	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/target"
)

// Fan is a fan-out: publishers publish to rooms and each reader gets all of its
// room.
type Fan struct {
	Readers int
	Rooms   int // over which the readers are spread evenly
	Empty   int // rooms beside them that nobody is in
	Events  int // measured; a fifth more warm the server up

	// Rate is how many events a second are published; 0 means as fast as it can,
	// with at most InFlight published that not all were sent.
	Rate     float64
	InFlight int
	// Tick is the least time between two publications; 0 means as Rate says.
	Tick time.Duration
}

// Measure measures a server.
func (f Fan) Measure(ctx context.Context, t *target.Target) (s Sample, err error) {
	c, err := newCrowd(ctx, t)
	if err != nil {
		return s, err
	}
	defer func() { err = first(err, c.close()) }()
	if err := t.Rooms(ctx, f.Empty); err != nil {
		return s, err
	}
	if err := c.open(f.Rooms); err != nil {
		return s, err
	}
	if err := c.enter(f.Readers, c.rooms...); err != nil {
		return s, err
	}
	const warm = 5
	if err := f.run(c, (f.Events+warm-1)/warm); err != nil {
		return s, fmt.Errorf("warming up: %w", err)
	}
	c.latencies = Latencies{}
	delivered := c.delivered
	before, err := t.CPU()
	if err != nil {
		return s, err
	}
	began := time.Now()
	if err := f.run(c, f.Events); err != nil {
		return s, err
	}
	took := time.Since(began)
	after, err := t.CPU()
	deliveries := float64(c.delivered - delivered)
	return Sample{
		CPU: micro(after-before) / deliveries, PerS: deliveries / took.Seconds(), Lost: c.lost,
		P50: c.latencies.Quantile(.5), P95: c.latencies.Quantile(.95), P99: c.latencies.Quantile(.99),
	}, err
}

// run publishes events until all readers have all of them.
func (f Fan) run(c *crowd, events int) error {
	from, had, began := c.published, c.delivered, time.Now()
	perEvent := f.Readers / f.Rooms
	want := had + events*perEvent
	last, since := c.delivered, began
	for c.delivered < want {
		published := c.published - from
		due, wake := f.due(published, published-(c.delivered-had)/perEvent, time.Since(began))
		if due = min(due, events-published); due > 0 {
			if err := c.publish(due); err != nil {
				return err
			}
		}
		if wake > 0 && published+due < events {
			if err := c.step(began.Add(wake)); err != nil {
				return err
			}
		} else if err := c.step(time.Time{}); err != nil {
			return err
		}
		if c.delivered != last {
			last, since = c.delivered, time.Now()
		}
		if time.Since(since) > patience {
			return fmt.Errorf("nothing came for %s after %d of %d deliveries", patience, c.delivered-had, want-had)
		}
	}
	return nil
}

// due is how many events are to be published now, and when, since the beginning,
// more will be; 0 if that isn't a question of time.
func (f Fan) due(published, inFlight int, since time.Duration) (n int, wake time.Duration) {
	if f.Rate == 0 {
		// Half the window at once, so that it isn't filled in drops.
		if inFlight > f.InFlight/2 {
			return 0, 0
		}
		return f.InFlight - inFlight, 0
	}
	tick := max(f.Tick, time.Duration(float64(time.Second)/f.Rate))
	ticks := int(since / tick)
	n = int(float64(ticks+1)*tick.Seconds()*f.Rate+.5) - published
	return n, time.Duration(ticks+1) * tick
}
