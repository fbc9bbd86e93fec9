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
	Readers       int // only of the workload curve
	EmptyRooms    int // likewise
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
	if s.P99 != 0 {
		fmt.Fprintf(&b, "p50 %.1f p95 %.1f p99 %.1f ms, ", s.P50, s.P95, s.P99)
	}
	fmt.Fprintf(&b, "%d lost", s.Lost)
	return b.String()
}

// Measurer is a workload.
type Measurer interface {
	Measure(ctx context.Context, t *target.Target) (Sample, error)
}

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// first is an error, and one of cleaning up, which matters only without the other.
func first(err, cleanup error) error {
	if err != nil {
		return err
	}
	return errors.Join(cleanup)
}
