package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc/codes"
)

// TestScripts runs the conversations in testdata/script. Beside testscript's own
// verbs they have:
//
//	server [dev] [token=T] [refuse]   start a server; until then TCM_SERVER is an address where nobody listens
//	server tls=NAME [expired] ...     the same with a certificate for NAME, whose authority is in ca.pem
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
		case "tls":
			certificate, authority := certify(ts, value, slices.Contains(args, "expired"))
			f.tls = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}
			if err := os.WriteFile(ts.MkAbs("ca.pem"), authority, 0o600); err != nil {
				ts.Fatalf("server: %v", err)
			}
		case "expired":
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

// certify makes an authority and a certificate for name.
func certify(ts *testscript.TestScript, name string, expired bool) (c tls.Certificate, authority []byte) {
	until := time.Now().Add(time.Hour)
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if expired {
		until = time.Now().Add(-time.Hour)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "test server"}, NotBefore: root.NotBefore, NotAfter: until}
	if ip := net.ParseIP(name); ip != nil {
		leaf.IPAddresses = []net.IP{ip}
	} else {
		leaf.DNSNames = []string{name}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, &key.PublicKey, key)
	ts.Check(err)
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, &key.PublicKey, key)
	ts.Check(err)
	return tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER})
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
