package report

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Measurements writes the table of what was measured.
func Measurements(w io.Writer, results []Result) {
	row := "%-17s %-20s %8s %15s %8s %8s %8s %10s %7s %5s\n"
	sayf(w, row, "workload", "server", "cpu us", "min..max", "p50 ms", "p95 ms", "p99 ms", "per s", "KB/conn", "lost")
	for i, r := range results {
		name := r.Workload
		if r.Readers > 0 {
			name = fmt.Sprintf("%s %d", name, r.Readers)
		}
		if r.EmptyRooms > 0 {
			name = fmt.Sprintf("%s +%d", name, r.EmptyRooms)
		}
		if i > 0 && results[i-1].Workload != r.Workload {
			sayf(w, "\n")
		}
		server := r.Server
		if r.Carrier != "" {
			server += "/" + r.Carrier
		}
		spread := ""
		switch {
		case r.CPU != nil:
			spread = figure(r.CPUMin) + ".." + figure(r.CPUMax)
		case r.KB != nil:
			spread = figure(r.KBMin) + ".." + figure(r.KBMax)
		case r.PerS != nil:
			spread = figure(r.PerSMin) + ".." + figure(r.PerSMax)
		}
		sayf(w, row, name, server, figure(r.CPU), spread, figure(r.P50), figure(r.P95), figure(r.P99), figure(r.PerS), figure(r.KB), strconv.Itoa(r.Lost))
	}
}

// sayf writes for people; one who has gone away stops nothing.
func sayf(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }

// figure writes three digits of a number, or more where they are whole, and
// nothing for nil.
func figure(v *float64) string {
	if v == nil {
		return ""
	}
	return number(*v)
}

func number(v float64) string {
	switch {
	case math.Abs(v) >= 1e6:
		return strings.TrimSuffix(fmt.Sprintf("%.2f", v/1e6), ".00") + " M"
	case math.Abs(v) >= 1e4:
		return fmt.Sprintf("%.1f k", v/1e3)
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}
