package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tcmanager/tcmanager/service/disk"
	"github.com/tcmanager/tcmanager/service/store"
)

// spare is what restoring needs beyond the size of the backup.
const spare = 1 << 20

// Restore checks a backup, puts its state in the place of the data file, and
// returns where it keeps what was there; empty if nothing was.
//
// All that can be refused is refused before anything is changed: a bad backup, a
// server that has the data file open, a folder that can't be written or has no
// space. From then on there is a whole data file at each moment: the old one, and
// with one rename the new one.
func (f File) Restore(ctx context.Context, from string, p store.Progress) (b store.Backup, aside string, err error) {
	if b, err = f.Check(ctx, from, p); err != nil {
		return b, "", err
	}
	path, err := filepath.Abs(f.Path)
	if err != nil {
		return b, "", fmt.Errorf("data file %s: %w", f.Path, err)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return b, "", asOwner(fmt.Errorf("make the folder of the data file: %w", err))
	}
	lock, err := lockToRestore(path)
	if err != nil {
		return b, "", err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path, dir = target, filepath.Dir(target)
	}
	healthy, err := mayBeReplaced(path)
	if err != nil {
		return b, "", err
	}
	sweep(dir)
	if err := disk.NeedSpace(dir, b.Bytes+spare); err != nil {
		return b, "", err
	}
	unpacked, err := unpack(ctx, from, dir, p)
	if err != nil {
		return b, "", err
	}
	defer func() {
		if e := os.Remove(unpacked); !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}()
	if healthy {
		fold(ctx, path)
	}
	aside, err = f.replace(path, unpacked)
	return b, aside, err
}

// lockToRestore keeps servers out. A superuser leaves the lock file to the server's
// own user.
func lockToRestore(path string) (*os.File, error) {
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("data file %s: %w", path, err)
	}
	lock, err := disk.Lock(path + ".lock")
	if held := (*disk.HeldError)(nil); errors.As(err, &held) {
		return nil, fmt.Errorf("data file %s is in use by %s; stop it, restore, and start it again", path, held.Holder("a server"))
	}
	if err != nil {
		return nil, asOwner(fmt.Errorf("data file %s: %w", path, err))
	}
	if err := disk.Adopt(path+".lock", dir); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// asOwner says what to do about rights that are missing.
func asOwner(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w; restore as the user that the server runs as", err)
	}
	return err
}

// mayBeReplaced refuses to take another program's file away. It returns whether the
// file there begins as ours do: if not, it is damaged, or there is none.
func mayBeReplaced(path string) (healthy bool, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("data file %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	h := make([]byte, headerSize)
	if n, err := io.ReadFull(file, h); n < headerSize {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return false, nil // an accident at its birth; whatever it is, it is kept
		}
		return false, fmt.Errorf("data file %s: %w", path, err)
	}
	switch {
	case !bytes.HasPrefix(h, []byte(magic)):
		return false, nil
	case binary.BigEndian.Uint32(h[atApplicationID:]) != applicationID:
		return false, fmt.Errorf("data file %s is another program's SQLite file; choose another data directory", path)
	}
	return true, nil
}

// unpacking is how the names of files begin that will be data files.
const unpacking = ".restoring-"

// sweep removes what an earlier restore was writing when it was killed.
func sweep(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, unpacking+"*"))
	for _, path := range left {
		_ = os.Remove(path) // it takes space, and nothing else
	}
}

// unpack makes a data file of a backup, beside the one that it will replace.
func unpack(ctx context.Context, from, dir string, p store.Progress) (path string, err error) {
	folder, err := os.Stat(dir)
	if err != nil {
		return "", err
	}
	out, err := os.CreateTemp(dir, unpacking+"*")
	if err != nil {
		return "", asOwner(fmt.Errorf("write into %s: %w", dir, err))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(out.Name()))
		}
	}()
	if err := copyFile(ctx, out, from, p); err != nil {
		return "", fmt.Errorf("copy the backup into %s: %w", dir, err)
	}
	if _, err := verify(ctx, out.Name(), nil); err != nil {
		return "", fmt.Errorf("the copy of the backup differs from it: %w", err)
	}
	err = onDSN(ctx, dsn(out.Name(), "rw", "journal_mode(MEMORY)", "synchronous(OFF)"), func(c *sql.Conn) error {
		_, err := c.ExecContext(ctx, "DROP TABLE backup; PRAGMA user_version = 0")
		return err
	})
	if err != nil {
		return "", explain(out.Name(), err)
	}
	if err := errors.Join(disk.Sync(out.Name()), disk.Adopt(out.Name(), folder)); err != nil {
		return "", fmt.Errorf("copy the backup into %s: %w", dir, err)
	}
	return out.Name(), nil
}

func copyFile(ctx context.Context, out *os.File, from string, p store.Progress) error {
	in, err := os.Open(from)
	if err != nil {
		return errors.Join(err, out.Close())
	}
	info, err := in.Stat()
	if err == nil {
		err = copyAll(ctx, out, in, func(n int64) { p.Say("restoring", n, info.Size()) })
	}
	return errors.Join(err, in.Close(), out.Close())
}

// replace keeps the data file aside and puts the new one in its place.
func (f File) replace(path, unpacked string) (aside string, err error) {
	old, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return "", fmt.Errorf("data file %s: %w", path, err)
	default:
		if err := disk.Adopt(unpacked, old); err != nil {
			return "", err
		}
		if aside, err = keepAside(path, path+".replaced-"+f.now().UTC().Format("20060102T150405Z")); err != nil {
			return "", fmt.Errorf("keep the data file aside: %w", err)
		}
	}
	// What lies in the old one's log must not be played into the new one.
	for _, rest := range []string{path + "-wal", path + "-shm"} {
		if err := os.Remove(rest); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	if err := os.Rename(unpacked, path); err != nil {
		return "", errors.Join(err, forget(aside, path))
	}
	return aside, disk.SyncNames(filepath.Dir(path))
}

// fold brings what lies in PATH-wal into the data file, so that it is whole without
// it. If it can't, both are kept aside. It must not be tried with a damaged file:
// SQLite drops the log of one that is empty.
func fold(ctx context.Context, path string) {
	_ = onConn(ctx, path, "rw", func(c *sql.Conn) error {
		_, err := c.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
		return err
	})
}

// keepAside gives the data file, and its log if there is any, a second name. Where
// the file system knows no second names, it renames them.
func keepAside(path, aside string) (string, error) {
	for n := 2; exists(aside); n++ {
		aside = fmt.Sprintf("%s-%d", strings.TrimSuffix(aside, fmt.Sprintf("-%d", n-1)), n)
	}
	log, err := os.Stat(path + "-wal")
	if err == nil && log.Size() > 0 {
		if err := secondName(path+"-wal", aside+"-wal"); err != nil {
			return "", err
		}
	}
	return aside, secondName(path, aside)
}

// forget takes the second name of the data file away again.
func forget(aside, path string) error {
	if exists(path) && aside != "" {
		return os.Remove(aside)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func secondName(path, name string) error {
	if err := os.Link(path, name); err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Rename(path, name)
}
