package sqlite

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tcmanager/tcmanager/service/disk"
)

// asNobody runs fn with the rights of a user who is not the superuser, which
// most containers run tests as.
func asNobody(t *testing.T, fn func()) {
	t.Helper()
	const nobody = 65534
	if os.Geteuid() != 0 {
		fn()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := errors.Join(unix.Setfsgid(nobody), unix.Setfsuid(nobody)); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(unix.Setfsuid(0), unix.Setfsgid(0)); err != nil {
			t.Fatal(err)
		}
	}()
	fn()
}

func TestRestoreWithoutRightsIsRefusedBeforeAnythingIsChanged(t *testing.T) {
	from := backupFile(t)
	if err := errors.Join(os.Chmod(from, 0o644), os.Chmod(filepath.Dir(from), 0o755), os.Chmod(filepath.Dir(filepath.Dir(from)), 0o755)); err != nil {
		t.Fatal(err)
	}
	t.Run("to the data directory", func(t *testing.T) {
		path := dataPath(t)
		if err := open(t, Options{Path: path}).Close(); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Dir(path)
		before := listing(t, dir)
		if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o555)); err != nil {
			t.Fatal(err)
		}
		var err error
		asNobody(t, func() { _, _, err = File{Path: path}.Restore(t.Context(), from, nil) })
		if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "as the user that the server runs as") {
			t.Error(err)
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if after := listing(t, dir); after != before {
			t.Errorf("the folder was\n%sand is\n%s", before, after)
		}
	})
	t.Run("to the backup", func(t *testing.T) {
		if err := os.Chmod(from, 0); err != nil {
			t.Fatal(err)
		}
		var err error
		path := filepath.Join(t.TempDir(), "new", "tcmanager.db")
		asNobody(t, func() { _, _, err = File{Path: path}.Restore(t.Context(), from, nil) })
		if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), from) || exists(filepath.Dir(path)) {
			t.Error(err)
		}
	})
}

// diskEnv tells the test binary to be the child whose disk is small.
const diskEnv = "TCMANAGER_TEST_SMALL_DISK"

// onSmallDisk runs the test again in a child that has a mount table of its own, and
// in that one a disk of so many MB at the folder that it gets. Nothing of it outlives
// the child.
func onSmallDisk(t *testing.T, mb int, test func(dir string)) {
	t.Helper()
	if dir := os.Getenv(diskEnv); dir != "" {
		if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Fatal("keep the mount table to oneself:", err)
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mb)); err != nil {
			t.Fatal("mount a small disk:", err)
		}
		test(dir)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), diskEnv+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || strings.Contains(string(out), unix.EPERM.Error()) {
		t.Log("this container may not mount a disk; TestBackupOntoAFullDisk and service/backup try the same with errors of their own")
		return
	}
	if err != nil || !strings.Contains(string(out), "PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

// fill leaves no space on a disk.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 64<<10))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestADiskThatFillsUpUnderABackup(t *testing.T) {
	onSmallDisk(t, 96, func(dir string) {
		path := dataPath(t)
		s := open(t, Options{Path: path})
		grow(t, s, 12)
		to := filepath.Join(dir, "backup")
		if err := os.WriteFile(to, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		full := false
		err := File{Path: path}.Backup(t.Context(), to, func(string, int64, int64) {
			if !full {
				fill(t, dir)
			}
			full = true
		})
		if !full || err == nil || !strings.Contains(err.Error(), "the disk is full; free some space") || !strings.Contains(err.Error(), to) {
			t.Error(err)
		}
		if _, err := commitOne(t.Context(), s, "ada"); err != nil {
			t.Error("the server doesn't go on:", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestADiskWithTooLittleSpaceIsRefusedBeforeItIsFull(t *testing.T) {
	onSmallDisk(t, 24, func(dir string) {
		path := dataPath(t)
		s := open(t, Options{Path: path})
		grow(t, s, 30)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, "backup")
		if err := os.WriteFile(to, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		err := File{Path: path}.Backup(t.Context(), to, nil)
		if info, _ := os.Stat(to); err == nil || info.Size() != 0 || !strings.Contains(err.Error(), dir+" has ") || !strings.Contains(err.Error(), "are needed") {
			t.Error(err)
		}

		from := backUp(t, path)
		target := filepath.Join(dir, "tcmanager.db")
		if err := open(t, Options{Path: target}).Close(); err != nil {
			t.Fatal(err)
		}
		before := listing(t, dir)
		_, aside, err := File{Path: target}.Restore(t.Context(), from, nil)
		if err == nil || aside != "" || !strings.Contains(err.Error(), dir+" has ") || !strings.Contains(err.Error(), "are needed") {
			t.Error(err)
		}
		if after := listing(t, dir); after != before {
			t.Errorf("the folder was\n%sand is\n%s", before, after)
		}
	})
}

func TestADiskThatFillsUpUnderARestoreLeavesTheOldData(t *testing.T) {
	onSmallDisk(t, 24, func(dir string) {
		path := dataPath(t)
		s := open(t, Options{Path: path})
		grow(t, s, 12)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		from := backUp(t, path)
		target := filepath.Join(dir, "tcmanager.db")
		s = open(t, Options{Path: target})
		_, err := commitOne(t.Context(), s, "ada")
		if err = errors.Join(err, s.Close()); err != nil {
			t.Fatal(err)
		}
		before := listing(t, dir)
		full := false
		_, _, err = File{Path: target}.Restore(t.Context(), from, func(doing string, _, _ int64) {
			if doing == "restoring" && !full {
				full = true
				fill(t, dir)
			}
		})
		if !full || !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), dir) {
			t.Error(err)
		}
		if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
			t.Fatal(err)
		}
		if after := listing(t, dir); after != before {
			t.Errorf("the folder was\n%sand is\n%s", before, after)
		}
	})
}

// TestASuperuserRestoresForTheServersUser: otherwise the server could not open what
// was restored.
func TestASuperuserRestoresForTheServersUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("only the superuser gives files away")
		return
	}
	from := backupFile(t)
	path := dataPath(t)
	if err := os.Chown(filepath.Dir(path), 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if _, _, err := (File{Path: path}).Restore(t.Context(), from, nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + ".lock"} {
		info, err := os.Stat(name)
		if err != nil || info.Sys().(*syscall.Stat_t).Uid != 65534 {
			t.Errorf("%s is of another user (%v)", name, err)
		}
	}
	lock, err := disk.Lock(path + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Close(); err != nil {
		t.Error(err)
	}
}
