package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	tcmanager "github.com/tcmanager/tcmanager/clients/go"
	"github.com/tcmanager/tcmanager/cmd/tcm/internal/gotest"
)

func newStream(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "stream --project PROJECT",
		Short: "Upload the output of go test -json while it comes",
		Long: `stream reads the output of go test -json from its standard input, uploads each
result as it comes, and prints what go test would have printed without -json.

It ends with 1 if a test or a package failed or the input broke off, and with 0
otherwise; never with another code because of the upload. If the server can't be
reached, results are kept and tried again, and at the end it says how many were
not uploaded. Input that is no go test -json is passed through.`,
		Example: `  go test -json ./... | tcm stream --project demo
  go test -json ./a/... | tcm stream --project demo --run-key $PIPELINE --shard a --shards 2
  tcm stream --project demo --name nightly < recorded.json`,
		Args: cobra.NoArgs,
	}
	o := g.addUploadFlags(c)
	c.RunE = func(*cobra.Command, []string) error {
		config, err := o.publisherConfig(locate(os.Getenv, askGit), nil)
		if err != nil {
			return err
		}
		return exitWith(stream(g, o, config))
	}
	return c
}

// exitWith makes an error of an exit code that isn't 0.
func exitWith(code int) error {
	if code == exitOK {
		return nil
	}
	return exitError(code)
}

// stream uploads standard input, and returns the exit code.
func stream(g *global, o *uploadOptions, config tcmanager.PublisherConfig) int {
	t := g.terminal
	if t.inTTY {
		t.sayf("reading go test -json from the terminal; it is meant to be used as: go test -json ./... | tcm stream --project %s", *o.project)
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	u := g.startUpload(config)
	defer u.close()
	p := newPump(t, u, o.verbose, signals)
	in := readBlocks(t.in)
	defer in.release()
	found := p.read(in, nil)

	code := streamCode(&found, p.signal)
	finish := tcmanager.FinishOptions{Timeout: o.timeout}
	if found.Failed() {
		// The command's own code isn't known in a pipe, but it was not 0.
		failed := int32(exitFailed)
		finish.ExitCode = &failed
	}
	report := p.finish(finish)
	p.summarise(&found, &report)
	if found.Events == 0 {
		sayNoEvents(t, &found)
	}
	return code
}

// streamCode is the exit code after input with these results.
func streamCode(found *gotest.Summary, stopped os.Signal) int {
	switch {
	case stopped != nil:
		return signalCode(stopped)
	case found.Failed():
		return exitFailed
	}
	return exitOK
}

// sayNoEvents explains why there are no results.
func sayNoEvents(t *terminal, found *gotest.Summary) {
	if found.StrayBytes == 0 {
		t.sayf("the input was empty")
		return
	}
	t.sayf("the input had no results: it was passed through, but it isn't the output of go test -json (is -json missing?)")
}
