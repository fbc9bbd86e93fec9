// Package workload is what is measured: what clients do with a server, and how
// what it used and how quick it was is found out.
//
// Every event has a number, and every reader checks that it gets each exactly once
// and in order; a run in which one doesn't fails. A run that is stuck fails too,
// with what it was waiting for.
package workload

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/target"
)

// Sample is what one round found. What has no meaning for a workload is 0.
type Sample struct {
	CPU           float64 // the server's CPU time a delivery, or whatever the workload counts, in microseconds
	P50, P95, P99 float64 // milliseconds
	PerS          float64 // deliveries, or whatever is counted, a second
	KB            float64 // memory a connection
	Lost          int
}

// String is the sample for people.
func (s Sample) String() string {
	var b strings.Builder
	part := func(format string, v float64) {
		if v != 0 {
			fmt.Fprintf(&b, format, v)
		}
	}
	part("%.2f us, ", s.CPU)
	part("%.0f/s, ", s.PerS)
	part("%.1f KB a connection, ", s.KB)
	part("p50 %.1f ms, ", s.P50)
	part("p95 %.1f ms, ", s.P95)
	part("p99 %.1f ms, ", s.P99)
	fmt.Fprintf(&b, "%d lost", s.Lost)
	return b.String()
}

// Measurer measures a server that runs.
type Measurer interface {
	Measure(ctx context.Context, t *target.Target) (Sample, error)
}

// served starts a server, measures it, and stops it: each round has a process that
// did nothing before.
func served(ctx context.Context, k target.Kind, p target.Programs, m Measurer) (s Sample, err error) {
	t, err := target.Start(ctx, k, p)
	if err != nil {
		return s, err
	}
	s, err = m.Measure(ctx, t)
	if err != nil {
		err = fmt.Errorf("%w\nthe server said last:\n%s", err, t.Said())
	}
	return s, errors.Join(err, t.Stop())
}

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// first is an error, and one of cleaning up, which matters only without the other.
func first(err, cleanup error) error {
	if err != nil {
		return err
	}
	return errors.Join(cleanup)
}
