// Command verifyinputs streams the recorded tests of well-known modules through
// bin/tcm into a real bin/tcmanager, and compares what the store then counts
// with an independent count of the recorded JSON. It ends with 1 if they differ.
//
// The recordings are made once, by `go test -json -short ./...` in a copy of
// each module, and kept in .cache/inputs. Run it from the root of the project:
//
//	go run ./cmd/tcm/internal/verifyinputs
//
// With -speed 3 it times two large recordings instead, three times each: how many
// events a second the parser takes alone, and tcm with a server behind it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"text/tabwriter"
	"time"
)

// modules are the inputs: one large, one with failures and parallel tests, one
// with a build failure.
var modules = []string{
	"golang.org/x/text@v0.43.0",
	"github.com/stretchr/testify@v1.12.1",
	"github.com/itchyny/gojq@v0.12.20",
}

// options are the flags.
type options struct {
	bin, cache string
	timeout    time.Duration
	rounds     int
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "the `directory` of tcmanager and tcm")
	flag.StringVar(&o.cache, "cache", filepath.Join(".cache", "inputs"), "the `directory` of recordings")
	flag.DurationVar(&o.timeout, "timeout", 20*time.Minute, "how `long` all of it may take")
	flag.IntVar(&o.rounds, "speed", 0, "time the large recordings in so many `rounds`, instead of comparing counts")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	do := verify
	if o.rounds > 0 {
		do = measure
	}
	err := do(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "verify-inputs:", err)
		os.Exit(1)
	}
}

// verify runs all modules through a server of its own.
func verify(ctx context.Context, o options) (err error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	recordings := make([]string, len(modules))
	for i, module := range modules {
		if recordings[i], err = record(ctx, o.cache, module); err != nil {
			return fmt.Errorf("record %s: %w", module, err)
		}
	}
	s, err := startServer(ctx, o.bin)
	if err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	differences := 0
	for i, module := range modules {
		n, err := compare(ctx, w, s, module, recordings[i])
		if err != nil {
			return fmt.Errorf("%s: %w", module, err)
		}
		differences += n
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if differences > 0 {
		return fmt.Errorf("%d counts differ", differences)
	}
	fmt.Println("all counts are equal")
	return nil
}

// compare streams a recording and prints the counts of both sides. It returns
// how many differ.
func compare(ctx context.Context, w *tabwriter.Writer, s *server, module, recording string) (differences int, err error) {
	want, err := countFile(recording)
	if err != nil {
		return 0, err
	}
	used, err := s.stream(ctx, module, recording)
	if err != nil {
		return 0, err
	}
	got, err := s.show(ctx)
	if err != nil {
		return 0, err
	}
	_, _ = fmt.Fprintf(w, "%s\t%d events\t%s\t\n", module, want.events, used)
	_, _ = fmt.Fprintln(w, "\tcounted\tstored\t")
	line := func(what string, want, got any) {
		mark := ""
		if want != got {
			mark = "DIFFERENT"
			differences++
		}
		_, _ = fmt.Fprintf(w, "  %s\t%v\t%v\t%s\n", what, want, got, mark)
	}
	for _, field := range fields {
		line("tests "+field, want.tests[field], got.Counts[field])
	}
	for _, field := range fields {
		line("packages "+field, want.packages[field], got.PackageCounts[field])
	}
	equal := 0
	for name, p := range want.byPackage {
		stored := got.find(name)
		if stored == p.String() {
			equal++
			continue
		}
		line(name, p.String(), stored)
	}
	line("packages with equal status and counts", len(want.byPackage), equal)
	line("packages stored", len(want.byPackage), len(got.Packages))
	_, _ = fmt.Fprintln(w, "\t\t\t")
	return differences, nil
}
