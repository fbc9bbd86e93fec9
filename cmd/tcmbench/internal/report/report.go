// Package report turns samples into the results that are kept and the tables that
// people read.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/target"
	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/workload"
)

// Result is what was measured of a server in a workload: medians of its rounds.
// What has no meaning is left out.
type Result struct {
	Workload   string   `json:"workload"`
	Server     string   `json:"server"`
	Carrier    string   `json:"carrier,omitempty"`
	Readers    int      `json:"readers,omitempty"`     // of the workload curve
	EmptyRooms int      `json:"empty_rooms,omitempty"` // likewise
	CPU        *float64 `json:"cpu_us,omitempty"`
	CPUMin     *float64 `json:"cpu_us_min,omitempty"`
	CPUMax     *float64 `json:"cpu_us_max,omitempty"`
	P50        *float64 `json:"p50_ms,omitempty"`
	P95        *float64 `json:"p95_ms,omitempty"`
	P99        *float64 `json:"p99_ms,omitempty"`
	P99Min     *float64 `json:"p99_ms_min,omitempty"`
	P99Max     *float64 `json:"p99_ms_max,omitempty"`
	PerS       *float64 `json:"per_s,omitempty"`
	PerSMin    *float64 `json:"per_s_min,omitempty"`
	PerSMax    *float64 `json:"per_s_max,omitempty"`
	KB         *float64 `json:"kb_per_conn,omitempty"`
	KBMin      *float64 `json:"kb_per_conn_min,omitempty"`
	KBMax      *float64 `json:"kb_per_conn_max,omitempty"`
	Lost       int      `json:"lost"`
	Rounds     int      `json:"rounds"`
}

// Sum makes a result of the rounds of a server.
func Sum(w workload.Workload, k target.Kind, rounds []workload.Sample) Result {
	r := Result{Workload: w.Name, Server: k.Server, Carrier: k.Carrier, Readers: w.Readers, EmptyRooms: w.EmptyRooms, Rounds: len(rounds)}
	for _, s := range rounds {
		r.Lost += s.Lost
	}
	spread := func(of func(workload.Sample) float64) (median, least, most *float64) {
		values := make([]float64, 0, len(rounds))
		for _, s := range rounds {
			values = append(values, of(s))
		}
		slices.Sort(values)
		if len(values) == 0 || values[len(values)-1] == 0 {
			return nil, nil, nil
		}
		n := len(values)
		m := (values[(n-1)/2] + values[n/2]) / 2
		return &m, &values[0], &values[n-1]
	}
	r.CPU, r.CPUMin, r.CPUMax = spread(func(s workload.Sample) float64 { return s.CPU })
	r.P50, _, _ = spread(func(s workload.Sample) float64 { return s.P50 })
	r.P95, _, _ = spread(func(s workload.Sample) float64 { return s.P95 })
	r.P99, r.P99Min, r.P99Max = spread(func(s workload.Sample) float64 { return s.P99 })
	r.PerS, r.PerSMin, r.PerSMax = spread(func(s workload.Sample) float64 { return s.PerS })
	r.KB, r.KBMin, r.KBMax = spread(func(s workload.Sample) float64 { return s.KB })
	return r
}

// Write writes results to a file, in place of those that were there.
func Write(path string, results []Result) error {
	b, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // for all to read
		return err
	}
	// Complete or not at all.
	next := path + ".next"
	if err := os.WriteFile(next, append(b, '\n'), 0o644); err != nil { //nolint:gosec // likewise
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(next))
	}
	return nil
}
