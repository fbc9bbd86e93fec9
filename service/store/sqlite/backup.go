package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite"

	"github.com/tcmanager/tcmanager/service/disk"
	"github.com/tcmanager/tcmanager/service/store"
)

// File is a data file as backups see it: a server may have it open, in this process
// or in another one, or none.
//
// A backup is an SQLite file too: the data file's pages as they were at one moment,
// with a row that says when, and sealed with a checksum over all of it. SQLite
// itself would not notice a flipped bit in a text.
type File struct {
	Path    string
	Version string           // of this program; backups say which one took them
	Now     func() time.Time // nil for time.Now
}

// The header of an SQLite file, see "Database File Format", and places in it.
const (
	magic           = "SQLite format 3\x00"
	headerSize      = 100
	atPageSize      = 16 // two bytes; 1 means 65,536
	atReadWrite     = 18 // two bytes: 1 for a file with a rollback journal, 2 for one in WAL mode
	atPages         = 28 // four bytes
	atUserVersion   = 60 // four bytes, for the application: the checksum, in a backup
	atApplicationID = 68 // four bytes
)

const (
	// stepPages are copied at a time. Between two steps a backup can be stopped.
	stepPages = 1024
	// syncEvery is after how many steps, of 4 MB, the copy is synced. All at once at
	// the end, 500 MB made a commit of the server wait for 150 ms.
	syncEvery = 2

	// reserve is what a backup leaves free of a disk: it may be the server's own, whose
	// PATH-wal grows meanwhile.
	reserve = maxWAL
)

// Backup copies the data file, as it is at one moment, into a file that is there
// and empty. Whoever has the data file open goes on reading and writing.
//
// It copies pages within one read transaction, so that what is written meanwhile
// stays in PATH-wal until it is done. Without the transaction, the copy begins anew
// after each commit of the server and never ends. VACUUM INTO holds one as well,
// for twice as long or more, and can't tell how far it is.
func (f File) Backup(ctx context.Context, to string, p store.Progress) error {
	path, err := filepath.Abs(f.Path)
	if err != nil {
		return fmt.Errorf("data file %s: %w", f.Path, err)
	}
	if info, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return fmt.Errorf("there is no data file %s; check the data directory", path)
	} else if err != nil {
		return fmt.Errorf("data file %s: %w", path, err)
	}
	if err := checkFile(ctx, path); err != nil {
		return err
	}
	b := store.Backup{Version: f.Version}
	err = onConn(ctx, path, "ro", func(c *sql.Conn) (err error) {
		// The first read, not BEGIN, decides which moment is copied.
		if _, err = c.ExecContext(ctx, "BEGIN"); err != nil {
			return err
		}
		defer func() {
			_, e := c.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
			err = errors.Join(err, e)
		}()
		if b.Schema, _, err = schemaOf(ctx, c); err != nil {
			return err
		}
		b.TakenAt = f.now()
		var pages, size int64
		if err = c.QueryRowContext(ctx, "SELECT page_count, page_size FROM pragma_page_count, pragma_page_size").Scan(&pages, &size); err != nil {
			return err
		}
		if err = disk.NeedSpace(filepath.Dir(to), pages*size+reserve); err != nil {
			return err
		}
		return explainBackup(to, copyPages(ctx, c, to, size, p))
	})
	if err != nil {
		return err
	}
	return seal(ctx, to, b)
}

func (f File) now() time.Time {
	if f.Now == nil {
		return time.Now()
	}
	return f.Now()
}

// copyPages copies the file of a connection, which holds a read transaction.
func copyPages(ctx context.Context, c *sql.Conn, to string, pageSize int64, p store.Progress) (err error) {
	out, err := os.OpenFile(to, os.O_RDWR, 0) // to sync it
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	return c.Raw(func(driver any) error {
		from, ok := driver.(interface {
			NewBackup(to string) (*sqlite.Backup, error)
		})
		if !ok {
			return errors.New("this SQLite driver can't copy files")
		}
		// A copy that is not finished is thrown away: it needs no journal.
		work, err := from.NewBackup(dsn(to, "rw", "journal_mode(OFF)", "synchronous(OFF)"))
		if err != nil {
			return err
		}
		err = steps(ctx, work, out, pageSize, p)
		return errors.Join(err, work.Finish())
	})
}

func steps(ctx context.Context, work *sqlite.Backup, out *os.File, pageSize int64, p store.Progress) error {
	for n := 1; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		more, err := work.Step(stepPages)
		if err != nil {
			return err
		}
		all := int64(work.PageCount()) * pageSize
		p.Say("copying", all-int64(work.Remaining())*pageSize, all)
		if !more {
			return nil
		}
		if n%syncEvery == 0 {
			if err := out.Sync(); err != nil {
				return err
			}
		}
	}
}

// seal writes into a copy what it is, and its checksum.
func seal(ctx context.Context, path string, b store.Backup) error {
	// The copy comes out of WAL mode, so that it is one file and stays one.
	if err := patch(path, atReadWrite, []byte{1, 1}); err != nil {
		return fmt.Errorf("seal the backup %s: %w", path, err)
	}
	err := onDSN(ctx, dsn(path, "rw", "journal_mode(MEMORY)", "synchronous(OFF)"), func(c *sql.Conn) error {
		_, err := c.ExecContext(ctx, `
			DROP TABLE IF EXISTS backup;
			CREATE TABLE backup (taken_at INTEGER NOT NULL, version TEXT NOT NULL) STRICT;
			INSERT INTO backup (taken_at, version) VALUES (?, ?)`, b.TakenAt.UnixMicro(), b.Version)
		return err
	})
	if err != nil {
		return explainBackup(path, err)
	}
	sum, err := checksum(ctx, path, nil)
	if err == nil {
		err = patch(path, atUserVersion, binary.BigEndian.AppendUint32(nil, sum))
	}
	if err != nil {
		return fmt.Errorf("seal the backup %s: %w", path, err)
	}
	return nil
}

func patch(path string, at int64, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, at)
	return errors.Join(err, f.Close())
}

// checksum returns the CRC-32C of a file without the place where it is kept.
func checksum(ctx context.Context, path string, p store.Progress) (uint32, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return 0, errors.Join(err, f.Close())
	}
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	first := make([]byte, headerSize)
	if _, err = io.ReadFull(f, first); err == nil {
		copy(first[atUserVersion:], make([]byte, 4))
		_, _ = sum.Write(first)
		err = copyAll(ctx, sum, f, func(n int64) { p.Say("checking", headerSize+n, info.Size()) })
	}
	return sum.Sum32(), errors.Join(err, f.Close())
}

// copyAll copies until the end, and stops when ctx does.
func copyAll(ctx context.Context, to io.Writer, from io.Reader, said func(int64)) error {
	buf := make([]byte, 1<<20)
	for n := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		k, err := from.Read(buf)
		if _, e := to.Write(buf[:k]); e != nil {
			return e
		}
		n += int64(k)
		said(n)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func damaged(path, how string) error {
	return fmt.Errorf("backup %s is damaged (%s); use another one", path, how)
}

// Check reads a backup whole and returns what it says of itself. It refuses a file
// that is something else, one that is damaged in any bit, and one of a newer version.
func (f File) Check(ctx context.Context, path string, p store.Progress) (store.Backup, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return store.Backup{}, fmt.Errorf("backup %s: %w", path, err)
	}
	b, err := verify(ctx, path, p)
	if err != nil {
		return store.Backup{}, err
	}
	p.Say("checking", 0, 0)
	// Immutable: nothing is made beside the file, which may lie in a folder that
	// can't be written.
	name := uri(path, url.Values{"mode": {"ro"}, "immutable": {"1"}})
	err = onDSN(ctx, name, func(c *sql.Conn) error { return inspect(ctx, c, path, &b) })
	if err != nil {
		return store.Backup{}, explainBackup(path, err)
	}
	return b, nil
}

// verify checks that a file is a backup and as it was sealed.
func verify(ctx context.Context, path string, p store.Progress) (store.Backup, error) {
	b, want, err := readHeader(path)
	if err != nil {
		return b, err
	}
	sum, err := checksum(ctx, path, p)
	switch {
	case err != nil:
		return b, fmt.Errorf("read the backup: %w", err)
	case sum != want:
		return b, damaged(path, "its checksum is wrong")
	}
	return b, nil
}

// readHeader returns what the beginning of a backup says: its size, and the
// checksum it should have.
func readHeader(path string) (b store.Backup, sum uint32, err error) {
	file, err := os.Open(path)
	if err != nil {
		return b, 0, fmt.Errorf("open the backup: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return b, 0, fmt.Errorf("open the backup: %w", err)
	}
	if !info.Mode().IsRegular() {
		return b, 0, fmt.Errorf("%s is not a file; name the file of a backup", path)
	}
	h := make([]byte, headerSize)
	if _, err := io.ReadFull(file, h); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return b, 0, fmt.Errorf("read the backup: %w", err)
	}
	pageSize := int64(binary.BigEndian.Uint16(h[atPageSize:]))
	if pageSize == 1 {
		pageSize = 1 << 16
	}
	want := int64(binary.BigEndian.Uint32(h[atPages:])) * pageSize
	switch {
	case info.Size() == 0:
		return b, 0, damaged(path, "it is empty")
	case bytes.HasPrefix(h, []byte("TCManager backup of PostgreSQL")):
		return b, 0, fmt.Errorf("%s is a backup of a database; it is restored with --store", path)
	case !bytes.HasPrefix(h, []byte(magic)):
		return b, 0, fmt.Errorf("%s is not a backup of TCManager's; name a file that \"tcmanager backup\" wrote", path)
	case binary.BigEndian.Uint32(h[atApplicationID:]) != applicationID:
		return b, 0, fmt.Errorf("%s is another program's SQLite file; name a file that \"tcmanager backup\" wrote", path)
	case h[atReadWrite] != 1:
		return b, 0, fmt.Errorf("%s is a data file and no backup: what was written last may be missing from it; \"tcmanager backup\" makes a backup of the data directory it lies in", path)
	case info.Size() != want:
		return b, 0, damaged(path, fmt.Sprintf("it has %d bytes of %d", info.Size(), want))
	}
	return store.Backup{Bytes: info.Size()}, binary.BigEndian.Uint32(h[atUserVersion:]), nil
}

// inspect reads what a backup says of itself and checks that SQLite can read all.
func inspect(ctx context.Context, c *sql.Conn, path string, b *store.Backup) error {
	var newest, at int64
	var err error
	if b.Schema, newest, err = schemaOf(ctx, c); err != nil {
		return err
	}
	if b.Schema > newest {
		return fmt.Errorf("backup %s is of a newer version (schema %d; this one knows %d); install that version or use an older backup", path, b.Schema, newest)
	}
	if err := c.QueryRowContext(ctx, "SELECT taken_at, version FROM backup").Scan(&at, &b.Version); err != nil {
		return fmt.Errorf("read when the backup was taken: %w", err)
	}
	b.TakenAt = time.UnixMicro(at).UTC()
	var verdict string
	if err := c.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return damaged(path, verdict)
	}
	return nil
}
