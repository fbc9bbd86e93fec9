package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/tcmanager/tcmanager/cmd/tcm/internal/gotest"
)

// timed are the recordings that are long enough to be timed.
var timed = []string{
	"golang.org/x/text@v0.43.0",
	"github.com/expr-lang/expr@v1.17.8",
}

// measure streams the large recordings as fast as they go, a few rounds one after
// the other, and prints for each how many events a second the parser takes alone
// and tcm takes with a server behind it, and what processor time either process
// used for it. The server keeps up while its time is below that of the whole.
func measure(ctx context.Context, o options) (err error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	s, err := startServer(ctx, o.bin)
	if err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "input\tevents\ttests\tparser alone\ttcm stream\ttook\ttcm's CPU\tserver's CPU\t")
	for range o.rounds {
		for _, module := range timed {
			recording, err := record(ctx, o.cache, module)
			if err != nil {
				return fmt.Errorf("record %s: %w", module, err)
			}
			if err := s.measure(ctx, w, module, recording); err != nil {
				return fmt.Errorf("%s: %w", module, err)
			}
		}
	}
	return w.Flush()
}

// measure prints a line about one recording.
func (s *server) measure(ctx context.Context, w io.Writer, module, recording string) error {
	data, err := os.ReadFile(recording)
	if err != nil {
		return err
	}
	begun := time.Now()
	c := gotest.NewConverter(gotest.Options{})
	for block := range slices.Chunk(data, 64<<10) {
		_, _ = c.Write(block) // it never fails
	}
	summary := c.End()
	alone := time.Since(begun)

	before, err := processorTime(s.cmd.Process.Pid)
	if err != nil {
		return err
	}
	f, err := os.Open(recording)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	begun = time.Now()
	cmd := s.tcm(ctx, "stream", "--project", "demo", "--name", module, "--upload-timeout", "5m")
	cmd.Stdin = f
	err = cmd.Run()
	if failed, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || failed.ExitCode() != 1) {
		return fmt.Errorf("tcm stream: %w", err)
	}
	took := time.Since(begun)
	after, err := processorTime(s.cmd.Process.Pid)
	if err != nil {
		return err
	}
	perSecond := func(d time.Duration) string { return fmt.Sprintf("%.0f/s", float64(summary.Events)/d.Seconds()) }
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	_, err = fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%.2fs\t%.2fs\t%.2fs\t\n", module, summary.Events, summary.Tests.Total,
		perSecond(alone), perSecond(took), took.Seconds(), used.Seconds(), (after - before).Seconds())
	return err
}

// processorTime is how long a process has used the processor, to 10 ms.
func processorTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("the time of a process can be read on Linux only: %w", err)
	}
	// The name in parentheses may hold anything; utime and stime are the 12th and
	// the 13th field behind it.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat is cut off", pid)
	}
	user, err := strconv.Atoi(string(fields[11]))
	system, err2 := strconv.Atoi(string(fields[12]))
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err, err2)
}
