package chaos

import (
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

// clockSource goes into package time of that server: eight bytes of a file say by
// how many seconds the wall clock is wrong. The monotonic clock, which timers use,
// is left alone, as it is when a machine's clock is set.
const clockSource = `package time

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

var jump = mapJump()

func mapJump() *atomic.Int64 {
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

func jumped() int64 {
	if jump == nil {
		return 0
	}
	return jump.Load()
}
`

// BuildWithClock builds a server whose wall clock can be moved while it runs: the
// machine's own stays as it is, and so does the source. The go command sees package
// time with a few lines more, by -overlay. It takes some minutes the first time,
// since everything stands on that package.
func BuildWithClock(ctx context.Context, root, dir string) (program string, err error) {
	goroot, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("ask go where it is: %w", err)
	}
	source := filepath.Join(strings.TrimSpace(string(goroot)), "src", "time")
	text, err := os.ReadFile(filepath.Join(source, "time.go"))
	if err != nil {
		return "", err
	}
	const now = "\tsec, nsec, mono := runtimeNow()\n"
	_, body, ok := strings.Cut(string(text), "\nfunc Now() Time {\n")
	if !ok || !strings.HasPrefix(body, now) {
		return "", errors.New("package time of this Go is not as expected: its clock can't be moved")
	}
	changed := strings.TrimSuffix(string(text), body) + now + "\tsec += jumped()\n" + strings.TrimPrefix(body, now)
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(source, "time.go"): filepath.Join(dir, "time.go"), filepath.Join(source, "jump.go"): filepath.Join(dir, "jump.go"),
	}})
	if err != nil {
		return "", err
	}
	for name, content := range map[string]string{"time.go": changed, "jump.go": clockSource, "overlay.json": string(overlay)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return "", err
		}
	}
	program = filepath.Join(dir, "tcmanager")
	build := exec.CommandContext(ctx, "go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", program, "./cmd/tcmanager") //nolint:gosec // what is here
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build a server whose clock can be moved: %w\n%s", err, out)
	}
	return program, nil
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
