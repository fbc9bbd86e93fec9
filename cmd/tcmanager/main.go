// Command tcmanager is the server: test runs and test cases, live.
//
//	tcmanager serve --dev     start it to try it out
//	tcmanager config          print what is in force, and where it came from
//	tcmanager token           sign a token with the configured secret
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
	// The second signal ends the process at once: stop is called after the first.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
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
