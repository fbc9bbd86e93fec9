// Package backup takes copies of the store while it is in use, checks each after
// it is written, and keeps the newest of those that are taken on a schedule.
//
// How a store is copied, checked and restored is the store's. This package sees to
// the files: a backup has its name only once it is whole, durable and checked, and
// no file is ever replaced unless that was asked for.
//
// # Concurrency
//
// Take may be called at any time, also while the server and another Take run; each
// writes a file of its own. Keeper.Run is one goroutine's and ends with its
// context, within a backup too: that one leaves nothing behind. Two keepers of one
// folder would remove each other's backups, so the second one refuses to run.
package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/tcmanager/tcmanager/service/disk"
	"github.com/tcmanager/tcmanager/service/store"
)

// Store is a kind of store that can be copied and brought back. Errors say what to
// do; what was begun stops with an error soon after ctx ends.
type Store interface {
	// Backup writes the state of one moment into a file that is there and empty. The
	// store goes on being used.
	Backup(ctx context.Context, to string, p store.Progress) error
	// Check reads a backup whole, and refuses it if it is damaged, of something else
	// or of a newer version.
	Check(ctx context.Context, path string, p store.Progress) (store.Backup, error)
	// Restore checks a backup, puts its state in the place of the store's, and returns
	// where that is kept. Whatever it refuses, it refuses before it changes anything:
	// also a store that is in use.
	Restore(ctx context.Context, from string, p store.Progress) (b store.Backup, aside string, err error)
}

// Options are of one backup.
type Options struct {
	Force    bool           // replace a file that is there
	Progress store.Progress // nil for nobody
}

// partial is in the names of files that are being written: .NAME.partial-123.
const partial = ".partial-"

// Take writes a backup into a file, readable by this user alone. The file has its
// name only when it is whole and checked: whatever ends this process before, there
// is no file of that name, or still the one that was there.
func Take(ctx context.Context, st Store, to string, o Options) (b store.Backup, err error) {
	if to, err = filepath.Abs(to); err != nil {
		return b, err
	}
	if err := mayWrite(to, o.Force); err != nil {
		return b, err
	}
	tmp, err := os.CreateTemp(filepath.Dir(to), "."+filepath.Base(to)+partial+"*") // mode 0600
	if err != nil {
		return b, fmt.Errorf("write the backup %s: %w", to, err)
	}
	defer func() {
		if e := os.Remove(tmp.Name()); !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}()
	if err := tmp.Close(); err != nil {
		return b, fmt.Errorf("write the backup %s: %w", to, err)
	}
	if b, err = write(ctx, st, tmp.Name(), o.Progress); err != nil {
		return b, explain(to, err)
	}
	if err := publish(tmp.Name(), to, o.Force); err != nil {
		return b, fmt.Errorf("name the backup %s: %w", to, err)
	}
	return b, nil
}

// write writes and checks a file.
func write(ctx context.Context, st Store, path string, p store.Progress) (store.Backup, error) {
	if err := st.Backup(ctx, path, p); err != nil {
		return store.Backup{}, err
	}
	if err := disk.Sync(path); err != nil {
		return store.Backup{}, fmt.Errorf("sync it to the disk: %w", err)
	}
	b, err := st.Check(ctx, path, p)
	if err != nil {
		return b, fmt.Errorf("what was written is not good: %w", err)
	}
	return b, nil
}

func explain(to string, err error) error {
	err = fmt.Errorf("write the backup %s: %w", to, err)
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%w; free some space or choose another place", err)
	}
	return err
}

// mayWrite refuses a name that is taken, and a folder that isn't there.
func mayWrite(to string, force bool) error {
	switch info, err := os.Lstat(to); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("write the backup: %w", err)
	case info.IsDir():
		return fmt.Errorf("%s is a folder; name a file in it", to)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a file; choose another name", to)
	case !force:
		return taken(to)
	}
	if _, err := os.Stat(filepath.Dir(to)); err != nil {
		return fmt.Errorf("the folder of the backup: %w; make it first", err)
	}
	return nil
}

func taken(to string) error {
	return fmt.Errorf("%s is there already; choose another name, or add --force to replace it", to)
}

// publish gives a file its name, durably. It finds out by the same act whether the
// name is free, where the file system knows second names for files.
func publish(tmp, to string, force bool) error {
	if force {
		return errors.Join(os.Rename(tmp, to), disk.SyncNames(filepath.Dir(to)))
	}
	err := os.Link(tmp, to)
	switch {
	case errors.Is(err, fs.ErrExist):
		return taken(to)
	case err != nil:
		if _, err := os.Lstat(to); err == nil {
			return taken(to)
		}
		err = os.Rename(tmp, to)
	}
	return errors.Join(err, disk.SyncNames(filepath.Dir(to)))
}
