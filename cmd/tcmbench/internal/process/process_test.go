package process

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func shell(script string) Command { return Command{Path: "/bin/sh", Args: []string{"-c", script}} }

func serves(line string) bool { return line == "serving" }

// TestCPUIsWhatTheKernelCounted: the clock is read while the process still runs,
// and held against what its parent is told when it has ended.
func TestCPUIsWhatTheKernelCounted(t *testing.T) {
	p, err := Start(t.Context(), shell(`i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo serving; while :; do sleep 1; done`), serves)
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.CPU()
	if err != nil {
		t.Fatal(err)
	}
	if n, err := p.Resident(); err != nil || n < 100<<10 {
		t.Errorf("%d bytes of memory, %v", n, err)
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.exited
	state := p.cmd.ProcessState
	want := state.UserTime() + state.SystemTime()
	// What it used between the reading and its end is little; exiting costs some.
	if got <= 0 || got > want || want-got > want/2 {
		t.Errorf("the clock says %s, its parent was told %s", got, want)
	}
}

func TestAServerThatEndsSaysWhatItSaidLast(t *testing.T) {
	_, err := Start(t.Context(), shell("echo no port is free; exit 1"), serves)
	if err == nil || !strings.Contains(err.Error(), "no port is free") {
		t.Errorf("it ended with %v", err)
	}
	p, err := Start(t.Context(), shell("echo serving; echo out of memory"), serves)
	if err != nil {
		t.Fatal(err)
	}
	<-p.exited
	if err := p.Stop(); err == nil || !strings.Contains(err.Error(), "out of memory") {
		t.Errorf("it ended with %v", err)
	}
}

func TestAnEndOfWaitingStopsTheServer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	pid := make(chan string, 1)
	_, err := Start(ctx, shell("echo $$; exec sleep 60"), func(line string) bool {
		pid <- strings.TrimSpace(line)
		cancel()
		return false
	})
	if err == nil {
		t.Fatal("it is taken to serve")
	}
	if _, err := os.Stat("/proc/" + <-pid); !os.IsNotExist(err) {
		t.Errorf("the process is still there: %v", err)
	}
}

func TestListening(t *testing.T) {
	var at netip.AddrPort
	find := Listening(&at)
	for line, want := range map[string]bool{"listening 127.0.0.1:81": true, "listening": false, "listening x": false, "hello": false} {
		if got := find(line); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
	if at.String() != "127.0.0.1:81" {
		t.Errorf("it listens on %s", at)
	}
}
