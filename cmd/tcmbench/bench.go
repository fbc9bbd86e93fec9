package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/load"
	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/report"
	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/target"
	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/workload"
)

// connections is above all that a workload has at once.
const connections = 12_000

// bench is one run of the benchmark.
type bench struct {
	options

	out, progress io.Writer
	plan          []workload.Workload
	programs      target.Programs
	results       []report.Result
}

func newBench(o options, out, progress io.Writer) (*bench, error) {
	b := &bench{options: o, out: out, progress: progress}
	plan := workload.Plan(o.small)
	names := split(o.only)
	for _, name := range names {
		if !slices.ContainsFunc(plan, func(w workload.Workload) bool { return w.Name == name }) {
			return nil, fmt.Errorf("there is no workload %q; see --help", name)
		}
	}
	servers := split(o.servers)
	known := map[string]bool{}
	for _, w := range plan {
		var kinds []target.Kind
		for _, k := range w.Kinds {
			known[k.Server], known[k.String()] = true, true
			if len(servers) == 0 || slices.Contains(servers, k.Server) || slices.Contains(servers, k.String()) {
				kinds = append(kinds, k)
			}
		}
		w.Kinds = kinds
		asked := slices.Contains(names, w.Name) || len(names) == 0 && !w.Extra
		if asked && len(kinds) > 0 {
			b.plan = append(b.plan, w)
		}
	}
	for _, name := range servers {
		if !known[name] {
			return nil, fmt.Errorf("there is no server %q; see --help", name)
		}
	}
	return b, nil
}

func split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

// workloadsText lists the workloads for --help.
func workloadsText() string {
	var b strings.Builder
	last := ""
	for _, w := range workload.Plan(false) {
		if w.Name == last { // another point of the curve
			continue
		}
		last = w.Name
		fmt.Fprintf(&b, "  %-17s %s\n", w.Name, w.About)
	}
	b.WriteString("\nServers: ")
	for i, k := range workload.Kinds() {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(k.String())
	}
	return b.String() + "\n"
}

// run measures all, and writes the results.
func (b *bench) run(ctx context.Context) (err error) {
	if err := load.Raise(connections); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "tcmbench-programs-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b.sayf("building the servers\n")
	if b.programs, err = target.Build(ctx, b.top, dir, b.server); err != nil {
		return err
	}
	began := time.Now()
	for _, w := range b.plan {
		if err := b.measure(ctx, w); err != nil {
			return err
		}
	}
	b.sayf("measured in %s\n\n", time.Since(began).Round(time.Second))
	report.Measurements(b.out, b.results)
	_, _ = fmt.Fprintln(b.out)
	report.Ratios(b.out, b.results)
	if b.options.results == "" {
		return nil
	}
	if err := report.Write(b.options.results, b.results); err != nil {
		return err
	}
	b.sayf("\nwritten to %s\n", b.options.results)
	return nil
}

// measure measures a workload: in each round every server once, so that what the
// machine does meanwhile hits all alike.
func (b *bench) measure(ctx context.Context, w workload.Workload) error {
	samples := make([][]workload.Sample, len(w.Kinds))
	for round := range b.rounds {
		for i, k := range w.Kinds {
			b.sayf("%s, %s, round %d of %d: ", w.Name, k, round+1, b.rounds)
			s, err := w.Measure(ctx, k, b.programs)
			if err != nil {
				b.sayf("failed\n")
				return fmt.Errorf("%s of %s: %w", w.Name, k, err)
			}
			b.sayf("%s\n", s)
			samples[i] = append(samples[i], s)
		}
	}
	for i, k := range w.Kinds {
		b.results = append(b.results, report.Sum(w, k, samples[i]))
	}
	return nil
}

// sayf tells what is going on.
func (b *bench) sayf(format string, args ...any) { _, _ = fmt.Fprintf(b.progress, format, args...) }
