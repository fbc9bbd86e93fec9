package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Exit codes. A test command's own code is passed on as it is.
const (
	exitOK       = 0
	exitFailed   = 1   // tests or packages failed
	exitUsage    = 2   // the command line, or a call of the server, was wrong
	exitNotFound = 127 // the command to run doesn't exist, as in a shell
	exitSignal   = 128 // plus the number of the signal
)

// exitError ends the program with a code and nothing more to say.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// execute runs the command line and returns the exit code.
func execute(t *terminal, args []string) int {
	root := newRoot(t)
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	var code exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	}
	t.sayf("%s", describe(err))
	return exitUsage
}

// global are the options of every command.
type global struct {
	terminal  *terminal
	server    string
	tokenFile string
	plaintext bool
	caFile    string
	color     string
}

func newRoot(t *terminal) *cobra.Command {
	g := &global{terminal: t}
	root := &cobra.Command{
		Use:   "tcm",
		Short: "Bring test results to TCManager, and see runs",
		Long: `tcm brings test results to a TCManager server while the tests run, and shows
runs in a terminal.

The server is --server or TCM_SERVER. It is spoken to by TLS unless it is on this
machine; https:// or http:// before the address, --ca-file and --plaintext say
otherwise. The token is read from --token-file, or
else TCM_TOKEN, or else the file named by TCM_TOKEN_FILE; against a development
server on this machine tcm signs itself in as ` + devUser + ` if there is none.`,
		Example: `  go test -json ./... | tcm stream --project demo
  tcm run --project demo -- go test ./...
  tcm runs list --project demo
  tcm runs show last --project demo
  tcm whoami --server https://tcm.example.com:9090 --ca-file company-ca.pem`,
		Version:       programVersion(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			if g.caFile != "" && g.plain() && c.Flags().Changed("ca-file") {
				return errors.New("--ca-file is for TLS, and --plaintext or http:// says that there is none: leave one of them out")
			}
			return t.setColor(g.color)
		},
	}
	root.SetIn(t.in)
	root.SetOut(t.out)
	root.SetErr(t.err)
	f := root.PersistentFlags()
	f.StringVar(&g.server, "server", envOr("TCM_SERVER", "127.0.0.1:9090"), "the server's gRPC `address` (TCM_SERVER)")
	f.StringVar(&g.tokenFile, "token-file", "", "read the token from this `file`, again whenever it is needed (TCM_TOKEN_FILE)")
	f.BoolVar(&g.plaintext, "plaintext", os.Getenv("TCM_PLAINTEXT") == "true", "don't use TLS, also beyond this machine (TCM_PLAINTEXT)")
	f.StringVar(&g.caFile, "ca-file", os.Getenv("TCM_CA_FILE"), "trust the authorities in this PEM `file` and no others, and use TLS also on this machine (TCM_CA_FILE)")
	f.StringVar(&g.color, "color", "auto", "`when` to use colours: auto, always or never")
	root.AddCommand(newStream(g), newRun(g), newRuns(g), newWhoami(g))
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w (see %s --help)", err, c.CommandPath())
	})
	return root
}

// version is set by the linker: -ldflags "-X main.version=0.1.0".
var version string

// programVersion is the version this program was built from.
func programVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}

// envOr returns an environment variable, or otherwise if it is empty.
func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// project adds the flag of the commands that need one.
func (g *global) project(c *cobra.Command) *string {
	return c.Flags().StringP("project", "p", os.Getenv("TCM_PROJECT"), "the `project`'s key or id (TCM_PROJECT)")
}

// needProject refuses an empty project.
func needProject(project string) error {
	if project == "" {
		return errors.New("which project? Give --project, for example --project demo, or set TCM_PROJECT")
	}
	return nil
}
