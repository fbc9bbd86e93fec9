package chaos

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// clockEnv names the file that a server whose clock can be moved reads.
const clockEnv = "CHAOS_CLOCK_FILE"

// clockSource goes into the program of that server: eight bytes of a file say by how
// many seconds the wall clock is wrong. The monotonic clock, which timers use, is
// left alone, as it is when a machine's clock is set.
const clockSource = `package main

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

//go:linkname machineNow time.runtimeNow
func machineNow() (sec int64, nsec int32, mono int64)

//go:linkname movedNow ` + clockSymbol + `
func movedNow() (sec int64, nsec int32, mono int64) {
	sec, nsec, mono = machineNow()
	if moved != nil {
		sec += moved.Load()
	}
	return sec, nsec, mono
}

var moved = mapMoved()

func mapMoved() *atomic.Int64 {
	name, ok := syscall.Getenv("` + clockEnv + `")
	if !ok {
		return nil
	}
	fd, err := syscall.Open(name, syscall.O_RDONLY, 0)
	if err != nil {
		return nil
	}
	b, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil
	}
	return (*atomic.Int64)(unsafe.Pointer(&b[0]))
}
`

// clockSymbol is what package time of that server asks for the time.
const clockSymbol = "chaos.now"

// BuildWithClock builds a server whose wall clock can be moved while it runs; the
// machine's own stays as it is, and so does the source in root. Files that it needs
// go to dir.
//
// Everything stands on package time, and would have to be compiled again if that were
// another one. It isn't, for those who use it: one line says that what tells it the
// time has another name. So what "make build" has compiled is linked with that package
// time, and with a package main that has a file more, which takes some seconds.
func BuildWithClock(ctx context.Context, root, dir string) (program string, err error) {
	b := clockBuild{root: root, dir: dir}
	if err := b.time(ctx); err != nil {
		return "", fmt.Errorf("build a package time whose clock can be moved: %w", err)
	}
	if err := b.packages(ctx); err != nil {
		return "", fmt.Errorf("find the packages of the server: %w", err)
	}
	program = b.file("tcmanager")
	if _, err := b.run(ctx, "tool", "link", "-checklinkname=0", "-s", "-w", "-importcfg", b.file("importcfg"), "-o", program, b.main); err != nil {
		return "", fmt.Errorf("link a server whose clock can be moved: %w", err)
	}
	return program, nil
}

type clockBuild struct {
	root, dir string
	main      string // the compiled package main
}

func (b *clockBuild) file(name string) string { return filepath.Join(b.dir, name) }

// run runs the go command.
func (b *clockBuild) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // on what is here
	cmd.Dir = b.root
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("go %s: %w\n%s", args[0], err, errs.Bytes())
	}
	return string(out), err
}

// overlay makes the go command see a file that has some text where another one is,
// or none, and returns the option for that.
func (b *clockBuild) overlay(name, where, text string) (string, error) {
	list, err := json.Marshal(map[string]map[string]string{"Replace": {where: b.file(name)}})
	if err != nil {
		return "", err
	}
	option := b.file(name + ".json")
	err = errors.Join(os.WriteFile(b.file(name), []byte(text), 0o600), os.WriteFile(option, list, 0o600))
	return "-overlay=" + option, err
}

// time compiles package time.
func (b *clockBuild) time(ctx context.Context) error {
	goroot, err := b.run(ctx, "env", "GOROOT")
	if err != nil {
		return err
	}
	source := filepath.Join(strings.TrimSpace(goroot), "src", "time", "time.go")
	text, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	const name = "\n//go:linkname runtimeNow\n"
	if strings.Count(string(text), name) != 1 {
		return errors.New("that of this Go is not as expected")
	}
	overlay, err := b.overlay("time.go", source, strings.Replace(string(text), name, "\n//go:linkname runtimeNow "+clockSymbol+"\n", 1))
	if err == nil {
		_, err = b.run(ctx, "build", "-trimpath", overlay, "-o", b.file("time.a"), "time")
	}
	return err
}

// packages writes for the linker where the compiled packages are.
func (b *clockBuild) packages(ctx context.Context) error {
	where, err := filepath.Abs(filepath.Join(b.root, "cmd", "tcmanager", "moved_clock.go"))
	if err != nil {
		return err
	}
	overlay, err := b.overlay("moved_clock.go", where, clockSource)
	if err != nil {
		return err
	}
	// With the options of "make build", or all of it would be compiled again. Package
	// main comes after those it needs.
	out, err := b.run(ctx, "list", "-export", "-deps", "-trimpath", overlay,
		"-f", "{{if .Export}}{{.ImportPath}}={{.Export}}{{end}}", "./cmd/tcmanager")
	if err != nil {
		return err
	}
	var config strings.Builder
	for line := range strings.Lines(out) {
		name, file, _ := strings.Cut(strings.TrimSpace(line), "=")
		if name == "time" {
			file = b.file("time.a")
		}
		if b.main = file; name != "" {
			fmt.Fprintf(&config, "packagefile %s=%s\n", name, file)
		}
	}
	return os.WriteFile(b.file("importcfg"), []byte(config.String()), 0o600)
}

// clock is the wall clock of a server.
type clock struct{ file string }

func newClock(dir string) (*clock, error) {
	c := &clock{filepath.Join(dir, "clock")}
	return c, c.set(0)
}

// set makes the clock wrong by some seconds. The bytes change in their place: the
// server looks at the file itself.
func (c *clock) set(seconds int64) error {
	f, err := os.OpenFile(c.file, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], uint64(seconds))
	_, err = f.WriteAt(b[:], 0)
	return errors.Join(err, f.Close())
}

// jump moves the clock for a while: by seconds or by an hour, there and back.
func (c *clock) jump(ctx context.Context, rng *rand.Rand) error {
	by := int64(1 + rng.IntN(20))
	if rng.IntN(2) == 0 {
		by = int64(60 + rng.IntN(3000))
	}
	if rng.IntN(2) == 0 {
		by = -by
	}
	if err := c.set(by); err != nil {
		return err
	}
	pause(ctx, time.Duration(500+rng.IntN(3000))*time.Millisecond)
	return c.set(0)
}
