package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/chaos"
)

// storeOf returns what makes the stores that servers are broken on. Close throws away
// what they were on.
func storeOf(name, dir string) (open func(context.Context) (chaos.Store, error), closeDisks func() error, err error) {
	switch name {
	case "", "sqlite":
		disk := filepath.Join(dir, "disk")
		if err := os.MkdirAll(disk, 0o700); err != nil {
			return nil, nil, err
		}
		limited := mount(disk)
		return func(context.Context) (chaos.Store, error) { return chaos.SQLite(disk, limited), nil }, func() error { return nil }, nil
	case "postgres":
		return postgresOf(dir)
	default:
		return nil, nil, fmt.Errorf("CHAOS_STORE: %q is not one of sqlite, postgres", name)
	}
}

// postgresOf makes disks for a PostgreSQL, which runs as another user if this one is
// root: they are where that one comes to.
func postgresOf(dir string) (open func(context.Context) (chaos.Store, error), closeDisks func() error, err error) {
	base, err := os.MkdirTemp("", "chaos-disks-")
	if err != nil {
		return nil, nil, err
	}
	disks := chaos.Disks{Data: filepath.Join(base, "data"), Log: filepath.Join(base, "log")}
	err = errors.Join(os.Chmod(base, 0o711), os.Mkdir(disks.Data, 0o700), os.Mkdir(disks.Log, 0o700)) //nolint:gosec // for others to come through
	closeDisks = func() error { return os.RemoveAll(base) }
	if err != nil {
		return nil, nil, errors.Join(err, closeDisks())
	}
	if mount(disks.Data) && mount(disks.Log) {
		closeDisks = func() error {
			return errors.Join(syscall.Unmount(disks.Data, 0), syscall.Unmount(disks.Log, 0), os.RemoveAll(base))
		}
	} else {
		disks = chaos.Disks{}
	}
	return func(ctx context.Context) (chaos.Store, error) { return chaos.Postgres(ctx, dir, disks) }, closeDisks, nil
}

// diskSize is that of a disk that is filled: what a round of some minutes writes has
// room in it several times.
const diskSize = "size=256m"

// mount makes a directory a small disk, if that may be done.
func mount(dir string) bool {
	if ownMounts() && syscall.Mount("tmpfs", dir, "tmpfs", 0, diskSize) == nil {
		return true
	}
	fmt.Println("a full disk is not tried: that needs root, or user namespaces, to mount a small one")
	return false
}

// ownMounts reports whether what this process mounts is nobody else's affair, and
// ends with it.
func ownMounts() bool { return os.Getenv("CHAOS_OWN_MOUNTS") != "" }

// alone runs this program again where it may mount what it likes, if this user may
// do that. It returns the code to end with, and false if it can't be done.
func alone(ctx context.Context) (code int, done bool) {
	self, err := os.Executable()
	if err != nil || ownMounts() {
		return 0, false
	}
	cmd := exec.CommandContext(ctx, self)                                    //nolint:gosec // itself
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it ends what it started
	cmd.Env = append(os.Environ(), "CHAOS_OWN_MOUNTS=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	if uid, gid := os.Getuid(), os.Getgid(); uid != 0 {
		// It stays the same user, who is then one that may mount.
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN}
	}
	if err := cmd.Start(); err != nil {
		return 0, false
	}
	err = cmd.Wait()
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(1, ended.ExitCode()), true
	}
	return 0, err == nil
}
