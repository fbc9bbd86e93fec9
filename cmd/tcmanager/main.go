// Command tcmanager is the server: test runs and test cases, live.
//
//	tcmanager serve --dev     start it to try it out
//	tcmanager config          print what is in force, and where it came from
//	tcmanager token           sign a token with the configured secret
//	tcmanager backup          write a backup, also while the server runs
//	tcmanager restore         put a backup in the place of the data
//	tcmanager version
//	tcmanager completion      for bash, zsh, fish and PowerShell
//
// It ends with 0 after a clean stop, 1 if something failed, and 2 if it was
// asked for something that it can't do.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(realMain()) }

func realMain() int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	go func() { // ends with the process
		<-signals
		cancel()
		second := <-signals
		fmt.Fprintln(os.Stderr, "tcmanager: a second signal: ending at once")
		os.Exit(exitSignal + signalNumber(second))
	}()
	err := rootCommand().ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "tcmanager:", err)
	if usage := (*usageError)(nil); errors.As(err, &usage) {
		return 2
	}
	return 1
}

// exitSignal and the number of a signal are how shells say that it ended a program.
const exitSignal = 128

func signalNumber(s os.Signal) int {
	if n, ok := s.(syscall.Signal); ok {
		return int(n)
	}
	return 0
}
