package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/certificate/certtest"
)

// TestConversations runs the scripts of testdata/script: each is a conversation
// between people, runners and a real server with real listeners.
//
// The people are manager, tester and viewer, who have those roles in the project
// demo, and whoever else is named, who has none. "tester/2" is the tester's
// second tab. The verbs:
//
//	server [FLAG...]                  start the server; --dev on free ports unless said otherwise
//	stop, restart [FLAG...]           stop it cleanly, and start it again at the same addresses
//	join WHO ROOM [detail=all]        come into a room (project:demo, testrun:KEY, testcase:TC-1, user:WHO)
//	leave WHO [ROOM]                  leave a room, or go altogether
//	drop WHO                          lose the connection without a word
//	resume WHO                        connect again and go on in every room where one was
//	hears WHO ROOM KIND [PATH=VALUE]  wait for an event; "! hears": there has been none so far
//	here WHO ROOM [PERSON...]         who WHO was told is in the room, when joining
//	start WHO KEY, finish WHO KEY     start and finish a run
//	report WHO KEY SUITE TEST STATUS [PATH=VALUE]
//	publish WHO KEY SUITE TEST STATUS [PATH=VALUE]   the same on a runner's stream, until
//	complete KEY, cut KEY             it finishes, or breaks
//	run WHO KEY [PATH=VALUE]          wait until GetRun shows it
//	write WHO TITLE [PRIORITY]        make a test case
//	edit WHO TC-1 FIELD VALUE REVISION
//	comment WHO TC-1 TEXT
//	types WHO ROOM FIELD [typing|focused|left]
//	notify WHO TITLE [to=PERSON]
//	unread WHO N                      the unread count, by a call
//	read WHO all                      mark notifications read, in the session of WHO
//	grpcurl ARG...                    what the tool of that name does with the same arguments
//	get [bearer=WHO] PATH             fetch a path of the web listener
//	capture NAME PATTERN              keep what the group of a pattern finds in stdout
//
// Most write what they got as JSON to stdout. With "!" a verb must be refused;
// the error is on stderr. Whatever a session hears is checked on the way: no
// durable event of a room may be missing, come twice or out of order.
//
// $CERT, $KEY and $CA_FILE name a certificate for this machine, for --tls-cert and
// --tls-key, and that of its authority.
func TestConversations(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               withCertificate(t),
		Cmds:                verbs(),
	})
}

// withCertificate sets a stage up where the server can speak TLS.
func withCertificate(t *testing.T) func(*testscript.Env) error {
	authority := certtest.NewAuthority(t)
	pair := authority.Issue(t)
	return func(env *testscript.Env) error {
		env.Setenv("CERT", pair.Cert)
		env.Setenv("KEY", pair.Key)
		env.Setenv("CA_FILE", authority.File)
		return setUpStage(env)
	}
}

// TestTheCommandsOfTheREADME runs those with tcm in them; they need the program.
func TestTheCommandsOfTheREADME(t *testing.T) {
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../tcm")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build tcm: %v\n%s", err, out)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/readme",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+string(filepath.ListSeparator)+env.Getenv("PATH"))
			for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOFLAGS", "GOPROXY", "GOROOT"} {
				out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
				if err != nil {
					return err
				}
				env.Setenv(name, string(out[:len(out)-1]))
			}
			env.Setenv("GOPATH", os.Getenv("GOPATH"))
			return withCertificate(t)(env)
		},
		Cmds: verbs(),
	})
}
