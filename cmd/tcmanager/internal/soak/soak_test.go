package main

import (
	"bytes"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAFewClientsLeaveNothingBehind(t *testing.T) {
	bin := build(t)
	var out bytes.Buffer
	err := soak(t.Context(), options{bin: bin, connections: 50, length: 4 * time.Second, seed: 1}, &out)
	t.Log("\n" + out.String())
	if err != nil {
		t.Error(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, "connections 50, goroutines ") || !strings.HasSuffix(last, ", violations 0") {
		t.Errorf("the last line is %q", last)
	}
}

func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "tcmanager")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../..").CombinedOutput(); err != nil {
		t.Fatalf("build the server: %v\n%s", err, out)
	}
	return bin
}

func TestAServerThatHasStoppedMayBeKilled(t *testing.T) {
	p, err := start(t.Context(), build(t), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.stop(), p.kill(), p.kill()); err != nil {
		t.Error(err)
	}
	if p.cmd.ProcessState == nil {
		t.Error("nobody waited for its end")
	}
}

func TestWhatIsLeftIsTold(t *testing.T) {
	before := sample{goroutines: 20, files: 25, heapAlloc: 10 << 20}
	after := sample{goroutines: 22, files: 27, heapAlloc: 13 << 20}
	if err := compare(before, after); err != nil {
		t.Errorf("what varies at rest: %v", err)
	}
	for what, after := range map[string]sample{
		"sessions":   {sessions: 1},
		"goroutines": {goroutines: 23},
		"open files": {files: 28},
		"heap":       {heapAlloc: 14 << 20},
	} {
		if err := compare(before, after); err == nil || !strings.HasPrefix(err.Error(), what+":") {
			t.Errorf("%s are left: %v", what, err)
		}
	}
}

func TestAServerThatDoesNotStartIsToldWithItsLog(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	err := soak(t.Context(), options{bin: "/bin/false", connections: 1, length: time.Second}, new(bytes.Buffer))
	if err == nil || !strings.Contains(err.Error(), "/log") {
		t.Error(err)
	}
	err = soak(t.Context(), options{bin: filepath.Join(t.TempDir(), "none"), connections: 1, length: time.Second}, new(bytes.Buffer))
	if err == nil || !strings.Contains(err.Error(), "make build") {
		t.Error(err)
	}
}
