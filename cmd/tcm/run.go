package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	tcmanager "github.com/tcmanager/tcmanager/clients/go"
)

// pipeWait is how long a command's output is still read after it ended, in case
// it left a process behind that holds the pipe.
const pipeWait = 5 * time.Second

func newRun(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "run --project PROJECT -- COMMAND [ARGUMENT...]",
		Short: "Run a test command and upload its results while they come",
		Long: `run starts the command, uploads what go test -json tells of on its standard
output, and prints what go test would have printed without -json. -json is added
to a go test command that lacks it.

Signals are forwarded to the command, and its exit code is the exit code of run;
the upload never changes it.`,
		Example: `  tcm run --project demo -- go test ./...
  tcm run --project demo --name nightly -- go test -race -count=2 ./...
  tcm run --project demo -- make test-json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("which command? Give it after --, such as: tcm run --project demo -- go test ./pkg")
			}
			return nil
		},
	}
	o := g.addUploadFlags(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		config, err := o.publisherConfig(locate(os.Getenv, askGit), args)
		if err != nil {
			return err
		}
		o.verbose = o.verbose || verboseGoTest(args)
		return exitWith(runCommand(g, o, config, args))
	}
	return c
}

// runCommand runs args, and returns the exit code.
func runCommand(g *global, o *uploadOptions, config tcmanager.PublisherConfig, args []string) int {
	t := g.terminal
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	child, err := startChild(t.in, withJSON(args))
	if err != nil {
		t.sayf("%s: %v", args[0], err)
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			return exitNotFound
		}
		return exitFailed
	}
	u := g.startUpload(config)
	defer u.close()
	p := newPump(t, u, o.verbose, signals)
	p.onSignal = child.forward
	found := p.read(child.out, child.err)
	code := child.wait()

	reported := int32(code)
	report := p.finish(tcmanager.FinishOptions{Timeout: o.timeout, ExitCode: &reported})
	p.summarise(&found, &report)
	if found.Events == 0 {
		t.sayf("%s printed no results of go test -json", args[0])
	}
	return code
}

// child is a started command.
type child struct {
	cmd      *exec.Cmd
	out, err *input
	pipes    []io.Closer
	ended    chan error // what Wait returned
}

// startChild starts a command whose output is read block by block.
func startChild(in io.Reader, args []string) (*child, error) {
	c := &child{cmd: exec.Command(args[0], args[1:]...), ended: make(chan error, 1)} //nolint:gosec,noctx // running it is what was asked for; signals end it, not a context
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	errRead, errWrite, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, outRead.Close(), outWrite.Close())
	}
	// As plain files they are handed on as they are: Wait waits for nothing but
	// the process.
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = in, outWrite, errWrite
	err = c.cmd.Start()
	_ = outWrite.Close()
	_ = errWrite.Close()
	if err != nil {
		return nil, errors.Join(err, outRead.Close(), errRead.Close())
	}
	c.pipes = []io.Closer{outRead, errRead}
	c.out, c.err = readBlocks(outRead), readBlocks(errRead)
	go func() {
		c.ended <- c.cmd.Wait()
		// The output ends with the process, or soon after it.
		time.AfterFunc(pipeWait, c.closePipes)
	}()
	return c, nil
}

// closePipes ends reading. A second time does no harm.
func (c *child) closePipes() {
	for _, p := range c.pipes {
		_ = p.Close()
	}
}

// forward sends a signal on. A process that has ended needs none.
func (c *child) forward(s os.Signal) { _ = c.cmd.Process.Signal(s) }

// wait returns the exit code, as a shell would give it.
func (c *child) wait() int {
	_ = <-c.ended //nolint:staticcheck // ProcessState says more
	c.closePipes()
	state := c.cmd.ProcessState
	if state == nil {
		return exitFailed
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exitSignal + int(status.Signal())
	}
	return state.ExitCode()
}

// isGoTest reports whether args is a go test command, perhaps with flags of go
// itself before it.
func isGoTest(args []string) bool {
	if len(args) < 2 {
		return false
	}
	name := strings.TrimSuffix(filepath.Base(args[0]), ".exe")
	return (name == "go" || strings.HasPrefix(name, "go1.")) && args[1] == "test"
}

// testFlags are the arguments of go test up to -args, which go to the tests.
func testFlags(args []string) []string {
	if i := slices.IndexFunc(args, func(a string) bool { return a == "-args" || a == "--args" }); i >= 0 {
		return args[:i]
	}
	return args
}

// withJSON adds -json to a go test command that lacks it.
func withJSON(args []string) []string {
	if !isGoTest(args) {
		return args
	}
	for _, a := range testFlags(args[2:]) {
		if name := strings.TrimLeft(a, "-"); a != name && (name == "json" || strings.HasPrefix(name, "json=")) {
			return args
		}
	}
	return slices.Concat(args[:2], []string{"-json"}, args[2:])
}

// verboseGoTest reports whether args asks go test for -v.
func verboseGoTest(args []string) bool {
	if !isGoTest(args) {
		return false
	}
	for _, a := range testFlags(args[2:]) {
		switch strings.TrimLeft(a, "-") {
		case "v", "v=true", "test.v", "test.v=true":
			return strings.HasPrefix(a, "-")
		}
	}
	return false
}
