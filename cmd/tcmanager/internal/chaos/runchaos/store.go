package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/chaos"
)

// storeOf returns what makes the stores that servers are broken on.
func storeOf(name, dir string) (func(context.Context) (chaos.Store, error), error) {
	switch name {
	case "", "sqlite":
		disk := filepath.Join(dir, "disk")
		if err := os.MkdirAll(disk, 0o700); err != nil {
			return nil, err
		}
		limited := ownMounts() && syscall.Mount("tmpfs", disk, "tmpfs", 0, diskSize) == nil
		if !limited {
			fmt.Println("a full disk is not tried: that needs root, to mount a small one")
		}
		return func(context.Context) (chaos.Store, error) { return chaos.SQLite(disk, limited), nil }, nil
	case "postgres":
		return func(ctx context.Context) (chaos.Store, error) { return chaos.Postgres(ctx, dir) }, nil
	default:
		return nil, fmt.Errorf("CHAOS_STORE: %q is not one of sqlite, postgres", name)
	}
}

// diskSize is that of the disk that is filled: what a round of some minutes writes
// has room in it several times.
const diskSize = "size=256m"

// ownMounts reports whether what this process mounts is nobody else's affair, and
// ends with it.
func ownMounts() bool { return os.Getenv("CHAOS_OWN_MOUNTS") != "" }

// alone runs this program again where it may mount what it likes, if this user may
// do that. It returns the code to end with, and false if it can't be done.
func alone(ctx context.Context) (code int, done bool) {
	self, err := os.Executable()
	if err != nil || ownMounts() || os.Getuid() != 0 {
		return 0, false
	}
	cmd := exec.CommandContext(ctx, self)                                    //nolint:gosec // itself
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it ends what it started
	cmd.Env = append(os.Environ(), "CHAOS_OWN_MOUNTS=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return 0, false
	}
	err = cmd.Wait()
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(1, ended.ExitCode()), true
	}
	return 0, err == nil
}
