package main

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc/codes"
)

// TestScripts runs the conversations in testdata/script. Beside testscript's own
// verbs they have:
//
//	server [dev] [token=T] [refuse]   start a server; until then TCM_SERVER is an address where nobody listens
//	exits CODE COMMAND...             run a command and compare its exit code
//	stored TEXT                       the server has a line with this text
//	await TEXT                        wait until it has
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			nobody, err := silentAddr()
			e.Vars = append(e.Vars, "TCM_SERVER="+nobody, "GIT_DIR=/nowhere", "SPOOL="+e.WorkDir)
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"server": scriptServer,
			"exits":  scriptExits,
			"stored": scriptStored,
			"await":  scriptAwait,
		},
	})
}

// silentAddr is an address where nobody listens.
func silentAddr() (string, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// servers are the servers of the running scripts, by *testscript.TestScript.
var servers sync.Map

func scriptServer(ts *testscript.TestScript, _ bool, args []string) {
	f := &fakeServer{token: "secret"}
	for _, arg := range args {
		switch name, value, _ := strings.Cut(arg, "="); name {
		case "dev":
			f.dev = true
		case "token":
			f.token = value
		case "refuse":
			f.refuse = codes.PermissionDenied
		default:
			ts.Fatalf("server: what is %q?", arg)
		}
	}
	startFake(ts, f, ts.Defer)
	servers.Store(ts, f)
	ts.Defer(func() { servers.Delete(ts) })
	ts.Setenv("TCM_SERVER", f.addr)
}

func scriptExits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	if err != nil {
		ts.Fatalf("exits: %v", err)
	}
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		got = failed.ExitCode()
	} else if err != nil {
		ts.Fatalf("exits: %v", err)
	}
	if got != want {
		ts.Fatalf("%s ended with %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

func scriptStored(ts *testscript.TestScript, neg bool, args []string) {
	f := serverOf(ts)
	if ok, _ := f.has(args[0]); ok == neg {
		ts.Fatalf("stored %q is %v, in\n%s", args[0], ok, f.lines())
	}
}

func scriptAwait(ts *testscript.TestScript, _ bool, args []string) {
	if f := serverOf(ts); !f.await(args[0]) {
		ts.Fatalf("%q was never stored, but\n%s", args[0], f.lines())
	}
}

func serverOf(ts *testscript.TestScript) *fakeServer {
	f, ok := servers.Load(ts)
	if !ok {
		ts.Fatalf("there is no server: use the verb server first")
	}
	return f.(*fakeServer)
}
