// Command tcm brings test results to a TCManager server and shows runs in a
// terminal.
//
// `tcm stream` reads `go test -json` from its standard input, `tcm run` starts
// the command itself. Both pass on what a person would have read without them,
// and neither fails or slows a build because of the upload.
package main

import (
	"os"
)

func main() { os.Exit(run()) }

// run is main with an exit code.
func run() int {
	t := newTerminal(os.Stdin, os.Stdout, os.Stderr)
	return execute(t, os.Args[1:])
}
