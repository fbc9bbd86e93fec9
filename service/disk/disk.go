// Package disk is what the system knows of files beyond package os: who has one
// locked, how much space is left beside it, and whether its name is durable.
package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// errLocked says that another open file has the lock.
var errLocked = errors.New("locked")

// HeldError says that somebody else holds a lock.
type HeldError struct {
	PID int // of the process; 0 if it is not known
}

func (e *HeldError) Error() string {
	if e.PID == 0 {
		return "held by another process"
	}
	return fmt.Sprintf("held by process %d", e.PID)
}

// Holder names who holds it, by what it is: "another server (process 12)".
func (e *HeldError) Holder(what string) string {
	if e.PID == 0 {
		return what
	}
	return fmt.Sprintf("%s (process %d)", what, e.PID)
}

// Lock takes a lock file, making it if it is missing, and writes who has it for
// whoever comes second: that one gets a *HeldError. Closing the file gives the lock
// back, and so does the end of the process, however it ends.
func Lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock file: %w", err)
	}
	switch err = lockFile(f); {
	case err == nil:
		if err = f.Truncate(0); err == nil {
			_, err = fmt.Fprintln(f, os.Getpid())
		}
		if err == nil {
			return f, nil
		}
		err = fmt.Errorf("write the lock file %s: %w", path, err)
	case errors.Is(err, errLocked):
		err = &HeldError{PID: holder(f)}
	default:
		err = fmt.Errorf("lock %s: %w", path, err)
	}
	return nil, errors.Join(err, f.Close())
}

// holder reads who wrote a lock file; 0 if it doesn't say.
func holder(f *os.File) int {
	b, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return pid
}

// NeedSpace returns an error that says what to do if a folder has less than that
// many bytes left. Where the system doesn't tell, it returns nil.
func NeedSpace(dir string, bytes int64) error {
	free, known, err := freeSpace(dir)
	if err != nil {
		return fmt.Errorf("look how much space %s has: %w", dir, err)
	}
	if known && free < bytes {
		return fmt.Errorf("%s has %s left and %s are needed; free some space or choose another place", dir, Size(free), Size(bytes))
	}
	return nil
}

// Size writes a number of bytes for people: 12.3 MB.
func Size(bytes int64) string {
	const unit = 1000
	if bytes < unit {
		return fmt.Sprintf("%d bytes", bytes)
	}
	n, units := float64(bytes)/unit, "kMGTPE"
	for ; n >= unit && len(units) > 1; n /= unit {
		units = units[1:]
	}
	return fmt.Sprintf("%.1f %cB", n, units[0])
}

// Sync makes what was written into a file durable.
func Sync(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// SyncNames makes durable which names a folder has.
func SyncNames(dir string) error {
	if !namesCanBeSynced {
		return nil
	}
	f, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
