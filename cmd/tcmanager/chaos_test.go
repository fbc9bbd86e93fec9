package main

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/chaos"
)

// chaosSeeds are those that are always run. Those that found something are named
// after it.
var chaosSeeds = []struct {
	name string
	seed uint64
}{
	{"first", 1},
	{"a shard that was taken over from a runner that came back", 201},
}

// TestABrokenServerLosesNothing is "make chaos" for some seconds: this program, built
// with the race detector, is killed, restarted and paused as a process of its own
// while clients, clerks and runners use it over networks that break.
func TestABrokenServerLosesNothing(t *testing.T) {
	server, tcm := programs(t)
	for _, s := range chaosSeeds {
		t.Run(s.name, func(t *testing.T) {
			dir := t.TempDir()
			report, err := chaos.Run(t.Context(), chaos.Config{
				Seed: s.seed, Duration: 7 * time.Second, Server: []string{server}, TCM: tcm, Dir: dir, Out: t.Output(),
				Store:   func(context.Context) (chaos.Store, error) { return chaos.SQLite(dir, false), nil },
				Clients: 6, Home: 2 * time.Second,
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range report.Violations {
				t.Error(v)
			}
			t.Logf("faults: %s; tried: %s", report.Faults, report.Did)
		})
	}
}

// TestAServerThatIsKilledLosesNothing is "make kills" for a few kills.
func TestAServerThatIsKilledLosesNothing(t *testing.T) {
	const kills = 3
	server, tcm := programs(t)
	dir := t.TempDir()
	report, err := chaos.Kills(t.Context(), chaos.Config{
		Seed: 1, Server: []string{server}, TCM: tcm, Dir: dir, Out: t.Output(),
		Store: func(context.Context) (chaos.Store, error) { return chaos.SQLite(dir, false), nil },
	}, kills)
	if err != nil {
		t.Fatal(err)
	}
	if report.Bad() || report.Kills != kills || report.Found == 0 {
		t.Errorf("%s: %q", report, report.Wrong)
	}
	t.Log(report)
}

// programs returns this program, which TestMain has put into the path, and tcm.
func programs(t *testing.T) (server, tcm string) {
	t.Helper()
	server, err := exec.LookPath("tcmanager")
	if err != nil {
		t.Fatal(err)
	}
	tcm = filepath.Join(t.TempDir(), "tcm")
	// -trimpath and -ldflags as in the Makefile: what "make build" has compiled is
	// used again.
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", tcm, "../tcm").CombinedOutput(); err != nil {
		t.Fatalf("build tcm: %v\n%s", err, out)
	}
	return server, tcm
}
