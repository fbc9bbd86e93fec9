// Command soak keeps a server busy with many clients that come and go on all
// carriers, and sees that it is as it was once they have left: as many goroutines
// and open files, and no more memory.
//
// The server is a process of its own, with its defaults but for the number of
// sessions and the heartbeats, which are as many in a short soak as in a long one.
// What a part of the clients is told is held against the guarantees.
//
// # Concurrency
//
// Each client has a goroutine that does something every few seconds, and one that
// listens. One more reads the server's metrics.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"
)

// options are what is asked for.
type options struct {
	bin         string        // the server's program
	connections int           // clients at the same time
	length      time.Duration // of the soak itself; warming up and settling come in addition
	seed        uint64
	progress    io.Writer // nil for none
}

func main() {
	o := options{seed: 1}
	flag.StringVar(&o.bin, "server", "bin/tcmanager", "the server's program")
	flag.IntVar(&o.connections, "connections", 1000, "how many clients there are at the same time")
	seconds := flag.Int("seconds", 600, "how long they come and go")
	flag.Uint64Var(&o.seed, "seed", 1, "repeats the choices of the clients")
	flag.Parse()
	o.length = time.Duration(*seconds) * time.Second
	if term.IsTerminal(int(os.Stderr.Fd())) {
		o.progress = os.Stderr
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := soak(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}
