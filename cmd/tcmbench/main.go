// Command tcmbench measures TCManager and its peers side by side, on this machine:
// what a delivery costs the server, how soon it is there, what a connection holds.
// README.md says how it works and what was found.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

const usage = `tcmbench measures TCManager and its peers side by side, on this machine. It starts
each server as a process of its own, counts every event that readers are sent, and
fails if one is lost.

Usage:
  tcmbench [flags]          from the top of the repository; "make bench" does

Examples:
  tcmbench                                  # everything, in about half an hour
  tcmbench -only paced,burst-1000 -rounds 1
  tcmbench -only hot -servers tcmanager/web,socketio
  BENCH_ONLY=curve make bench               # what a delivery costs by readers and by empty rooms

Flags (and the variables that set them too):
`

// options are what is asked for.
type options struct {
	only, servers string
	rounds        int
	server        string // the program
	results       string // where they are written
	top           string
	small         bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := start(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	default:
		fmt.Fprintln(os.Stderr, "tcmbench:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

// start reads the options and runs the benchmark. The tables go to out, and what is
// going on to progress.
func start(ctx context.Context, args []string, env func(string) string, out, progress io.Writer) error {
	rounds := 3
	if s := env("BENCH_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("BENCH_ROUNDS=%s: it has to be a number", s)
		}
		rounds = n
	}
	var o options
	flags := flag.NewFlagSet("tcmbench", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.StringVar(&o.only, "only", env("BENCH_ONLY"), "`workloads`, comma-separated; all but curve if empty [BENCH_ONLY]")
	flags.StringVar(&o.servers, "servers", env("BENCH_SERVERS"), "`servers`, comma-separated, each also with a carrier, as tcmanager/web; all if empty [BENCH_SERVERS]")
	flags.IntVar(&o.rounds, "rounds", rounds, "how `often` each is measured; servers take turns [BENCH_ROUNDS]")
	flags.StringVar(&o.server, "server", "", "TCManager's `program`; built from this source if empty")
	flags.StringVar(&o.results, "results", "cmd/tcmbench/results/latest.json", "the `file` that the results are written to; none if empty")
	flags.StringVar(&o.top, "top", ".", "the `folder` of the repository")
	flags.BoolVar(&o.small, "small", false, "few clients and events, to see that all works")
	flags.Usage = func() {
		_, _ = fmt.Fprint(out, usage)
		flags.PrintDefaults()
		_, _ = fmt.Fprint(out, "\nWorkloads:\n", workloadsText())
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%q is no option; see --help", flags.Arg(0))
	}
	if o.rounds < 1 {
		return errors.New("there has to be a round at least")
	}
	b, err := newBench(o, out, progress)
	if err != nil {
		return err
	}
	return b.run(ctx)
}
