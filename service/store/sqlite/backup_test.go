package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/store"
)

// backUp takes a backup of a data file into a new one.
func backUp(t testing.TB, path string) string {
	t.Helper()
	to := emptyFile(t)
	if err := (File{Path: path, Version: "test"}).Backup(t.Context(), to, nil); err != nil {
		t.Fatal(err)
	}
	return to
}

func emptyFile(t testing.TB) string {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "backup-*")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// grow puts so many MB of output into a store.
func grow(t testing.TB, s *Store, mb int) {
	t.Helper()
	for i := range mb {
		err := s.Update(t.Context(), func(tx store.Tx) error {
			return tx.PutUser(&pb.User{Id: fmt.Sprint("large", i), Name: strings.Repeat("x", 1<<20)})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestBackupIsOneMomentOfAStoreInUse(t *testing.T) {
	path := dataPath(t)
	s := open(t, Options{Path: path})
	grow(t, s, 12)
	ctx, stop := context.WithCancel(t.Context())
	first, err := commitOne(t.Context(), s, "first")
	if err != nil {
		t.Fatal(err)
	}
	var acked atomic.Uint64
	acked.Store(first.Offset)
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				p, err := commitOne(t.Context(), s, fmt.Sprint(w, "-", i))
				if err != nil {
					t.Error(err)
					return
				}
				acked.Store(max(acked.Load(), p.Offset))
			}
		})
	}
	var copies []string
	var before []uint64
	for range 3 {
		before = append(before, acked.Load())
		copies = append(copies, backUp(t, path))
	}
	stop()
	writers.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for i, from := range copies {
		restored := File{Path: dataPath(t)}
		b, aside, err := restored.Restore(t.Context(), from, nil)
		if err != nil || aside != "" || b.Version != "test" || time.Since(b.TakenAt) > time.Minute {
			t.Fatal(b, aside, err)
		}
		s := open(t, Options{Path: restored.Path})
		checkIntegrity(t, s)
		err = s.View(t.Context(), func(r store.Reader) error {
			head, err := r.Head("project:p")
			if err != nil {
				return err
			}
			if head.Newest.Offset < before[i] {
				t.Errorf("it ends with event %d; %d was acknowledged before it was taken", head.Newest.Offset, before[i])
			}
			checkWhole(t, r, head)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if before[0] == 0 || before[2] <= before[0] {
		t.Errorf("nothing was written meanwhile: %v", before)
	}
}

func TestNothingIsLeftBesideABackup(t *testing.T) {
	path := dataPath(t)
	s := open(t, Options{Path: path})
	defer func() { _ = s.Close() }()
	to := backUp(t, path)
	if _, err := (File{}).Check(t.Context(), to, nil); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(filepath.Dir(to))
	if err != nil || len(entries) != 1 {
		t.Errorf("%v %v", entries, err)
	}
}

func TestABackupOfARestoredBackupSaysWhenItWasTaken(t *testing.T) {
	path := dataPath(t)
	if err := open(t, Options{Path: path}).Close(); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 27, 1, 2, 3, 4000, time.UTC)
	for i := range 3 {
		at = at.Add(time.Hour)
		f := File{Path: path, Version: fmt.Sprint("v", i), Now: func() time.Time { return at }}
		to := emptyFile(t)
		if err := f.Backup(t.Context(), to, nil); err != nil {
			t.Fatal(err)
		}
		b, aside, err := f.Restore(t.Context(), to, nil)
		if err != nil || !b.TakenAt.Equal(at) || b.Version != f.Version || b.Bytes == 0 || b.Schema == 0 || aside == "" {
			t.Errorf("%+v, kept as %q: %v", b, aside, err)
		}
	}
}

func TestBackupOfNothingMakesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "typo", "tcmanager.db")
	err := File{Path: path}.Backup(t.Context(), emptyFile(t), nil)
	if err == nil || !strings.Contains(err.Error(), "no data file "+path) {
		t.Error(err)
	}
	if exists(filepath.Dir(path)) {
		t.Error("it was made")
	}
}

func TestBackupStopsWithItsContext(t *testing.T) {
	path := dataPath(t)
	s := open(t, Options{Path: path})
	defer func() { _ = s.Close() }()
	grow(t, s, 12)
	ctx, cancel := context.WithCancel(t.Context())
	steps := 0
	err := File{Path: path}.Backup(ctx, emptyFile(t), func(string, int64, int64) { steps++; cancel() })
	if !errors.Is(err, context.Canceled) || steps != 1 {
		t.Errorf("%v after %d steps", err, steps)
	}
	if _, err := commitOne(t.Context(), s, "ada"); err != nil {
		t.Error("the store doesn't go on:", err)
	}
}

// backupFile returns a backup of a small store, to be spoilt.
func backupFile(t *testing.T) string {
	t.Helper()
	path := dataPath(t)
	s := open(t, Options{Path: path})
	for i := range 50 {
		if _, err := commitOne(t.Context(), s, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return backUp(t, path)
}

func TestABadBackupIsRefusedBeforeAnythingIsChanged(t *testing.T) {
	write := func(b []byte) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	cut := func(n int64) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			info, err := os.Stat(path)
			if err == nil {
				err = os.Truncate(path, info.Size()-n)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	reseal := func(statements ...string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			alter(t, path, statements...)
			sum, err := checksum(t.Context(), path, nil)
			if err == nil {
				err = patch(path, atUserVersion, []byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, test := range map[string]struct {
		spoil func(*testing.T, string)
		want  string
	}{
		"empty":           {write(nil), "is empty"},
		"short":           {write([]byte("SQLite")), "not a backup"},
		"text":            {write(bytes.Repeat([]byte("notes\n"), 1000)), "not a backup"},
		"another program": {func(t *testing.T, path string) { write(nil)(t, path); alter(t, path, "CREATE TABLE theirs (a)") }, "another program's"},
		"data file":       {func(t *testing.T, path string) { alter(t, path, "PRAGMA journal_mode = WAL") }, "is a data file"},
		"cut short":       {cut(1), "damaged (it has"},
		"cut to a page":   {cut(4096), "damaged (it has"},
		"newer schema":    {reseal("INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, 1)"), "newer version"},
		"changed by hand": {func(t *testing.T, path string) { alter(t, path, "UPDATE users SET name = 'eve'") }, "damaged"},
		"sealed rubbish": {func(t *testing.T, path string) {
			if err := patch(path, 4096*2, bytes.Repeat([]byte{0xa5}, 4096*3)); err != nil {
				t.Fatal(err)
			}
			reseal()(t, path)
		}, "damaged"},
		"not there": {func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, "no such file"},
		"folder": {func(t *testing.T, path string) {
			if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
				t.Fatal(err)
			}
		}, "is not a file"},
	} {
		t.Run(name, func(t *testing.T) {
			from := backupFile(t)
			test.spoil(t, from)
			refusesToRestore(t, from, test.want, from)
		})
	}
}

// refusesToRestore checks that a data directory is left as it was, down to the bytes
// and names, and so is the backup.
func refusesToRestore(t *testing.T, from, why, names string) {
	t.Helper()
	path := dataPath(t)
	if err := open(t, Options{Path: path}).Close(); err != nil {
		t.Fatal(err)
	}
	before := listing(t, filepath.Dir(path))
	backup, _ := os.ReadFile(from)
	_, aside, err := File{Path: path}.Restore(t.Context(), from, nil)
	if err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), names) || aside != "" {
		t.Errorf("got %v (%s), want one with %q and %s", err, aside, why, names)
	}
	if after := listing(t, filepath.Dir(path)); after != before {
		t.Errorf("the folder was\n%sand is\n%s", before, after)
	}
	if after, _ := os.ReadFile(from); !bytes.Equal(backup, after) {
		t.Error("the backup was changed")
	}
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list strings.Builder
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		sum := checksumOf(b)
		fmt.Fprintf(&list, "%s %d %x\n", e.Name(), len(b), sum)
	}
	return list.String()
}

func checksumOf(b []byte) uint64 {
	var sum uint64
	for _, c := range b {
		sum = sum*1099511628211 + uint64(c) + 1
	}
	return sum
}

// TestAnyFlippedBitIsNoticed: SQLite's own check doesn't look into texts.
func TestAnyFlippedBitIsNoticed(t *testing.T) {
	from := backupFile(t)
	whole, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	places := []int{0, atPageSize, atReadWrite, atReadWrite + 1, 24, atPages + 3, atUserVersion, atApplicationID, 99, 100, len(whole) - 1}
	for range 200 {
		places = append(places, rng.IntN(len(whole)))
	}
	for _, at := range places {
		spoilt := bytes.Clone(whole)
		spoilt[at] ^= 1 << rng.IntN(8)
		if err := os.WriteFile(from, spoilt, 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := (File{}).Check(t.Context(), from, nil); err == nil {
			t.Errorf("a flipped bit of byte %d is not noticed: %+v", at, b)
		}
	}
}

func TestCheckOfABackupStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, err := File{}.Check(ctx, backupFile(t), func(string, int64, int64) { cancel() })
	if !errors.Is(err, context.Canceled) && !errors.Is(err, io.EOF) && !strings.Contains(fmt.Sprint(err), "interrupt") {
		t.Error(err)
	}
}

func TestRestoreKeepsWhatWasThereAsAWholeDataFile(t *testing.T) {
	from := backupFile(t)
	path := dataPath(t)
	killed := killedChild(t, path, 0, 30, "") // its PATH-wal holds what it wrote
	if info, err := os.Stat(path + "-wal"); err != nil || info.Size() == 0 {
		t.Fatalf("there is no log to be kept: %v", err)
	}
	now := time.Date(2026, 11, 27, 1, 2, 3, 0, time.UTC)
	f := File{Path: path, Now: func() time.Time { return now }}
	for i, want := range []string{".replaced-20261127T010203Z", ".replaced-20261127T010203Z-2", ".replaced-20261127T010203Z-3"} {
		_, aside, err := f.Restore(t.Context(), from, nil)
		if err != nil || aside != path+want {
			t.Errorf("restore %d: kept as %s, want %s (%v)", i, aside, want, err)
		}
	}
	has := func(path, id string) bool {
		s := open(t, Options{Path: path})
		defer func() { _ = s.Close() }()
		err := s.View(t.Context(), func(r store.Reader) error { _, err := r.User(id); return err })
		return err == nil
	}
	for id := range killed {
		if !has(path+".replaced-20261127T010203Z", id) {
			t.Errorf("what was kept lacks %s, which was acknowledged", id)
		}
		if has(path, id) {
			t.Errorf("%s, which the backup doesn't have, is in the restored data", id)
		}
	}
	if !has(path, "49") {
		t.Error("the restored data lacks what the backup has")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
}

func TestRestoreReplacesADamagedFileWithItsLog(t *testing.T) {
	from := backupFile(t)
	for _, junk := range [][]byte{bytes.Repeat([]byte{0xa5}, 40_960), []byte("x"), nil} {
		path := dataPath(t)
		for _, name := range []string{path, path + "-wal", path + "-shm"} {
			if err := os.WriteFile(name, junk, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, aside, err := File{Path: path}.Restore(t.Context(), from, nil)
		if err != nil {
			t.Fatal(err)
		}
		if kept, err := os.ReadFile(aside); err != nil || !bytes.Equal(kept, junk) {
			t.Errorf("%d bytes were kept of the damaged file: %v", len(kept), err)
		}
		s := open(t, Options{Path: path})
		checkIntegrity(t, s)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestRestoreIsRefusedWhileAServerHasTheDataOpen(t *testing.T) {
	from, path := backupFile(t), dataPath(t)
	s := open(t, Options{Path: path})
	defer func() { _ = s.Close() }()
	_, _, err := File{Path: path}.Restore(t.Context(), from, nil)
	if err == nil || !strings.Contains(err.Error(), path+" is in use by a server (process ") || !strings.Contains(err.Error(), "stop it") {
		t.Error(err)
	}
	if _, err := commitOne(t.Context(), s, "ada"); err != nil {
		t.Error("the server doesn't go on:", err)
	}
}

func TestRestoreLeavesAnotherProgramsFileAlone(t *testing.T) {
	from, path := backupFile(t), dataPath(t)
	alter(t, path, "CREATE TABLE theirs (a)")
	before, _ := os.ReadFile(path)
	_, _, err := File{Path: path}.Restore(t.Context(), from, nil)
	after, _ := os.ReadFile(path)
	if err == nil || !strings.Contains(err.Error(), "another program's") || !bytes.Equal(before, after) {
		t.Error(err)
	}
}

func TestRestoreFollowsALinkToTheDataFile(t *testing.T) {
	from, path := backupFile(t), dataPath(t)
	elsewhere := filepath.Join(t.TempDir(), "elsewhere.db")
	if err := errors.Join(open(t, Options{Path: elsewhere}).Close(), os.Symlink(elsewhere, path)); err != nil {
		t.Fatal(err)
	}
	_, aside, err := File{Path: path}.Restore(t.Context(), from, nil)
	if err != nil || filepath.Dir(aside) != filepath.Dir(elsewhere) {
		t.Error(aside, err)
	}
	if target, err := os.Readlink(path); err != nil || target != elsewhere {
		t.Error("the link is gone", err)
	}
}

func TestAnInterruptedRestoreLeavesTheOldData(t *testing.T) {
	path := dataPath(t)
	s := open(t, Options{Path: path})
	_, err := commitOne(t.Context(), s, "ada")
	if err = errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	from := backupFile(t)
	before := listing(t, filepath.Dir(path))
	ctx, cancel := context.WithCancel(t.Context())
	_, _, err = File{Path: path}.Restore(ctx, from, func(doing string, _, _ int64) {
		if doing == "restoring" {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if after := listing(t, filepath.Dir(path)); after != before {
		t.Errorf("the folder was\n%sand is\n%s", before, after)
	}
}

// TestBackupOntoAFullDisk: the engine finds no room for another page.
func TestBackupOntoAFullDisk(t *testing.T) {
	path := dataPath(t)
	s := open(t, Options{Path: path})
	defer func() { _ = s.Close() }()
	to := backUp(t, path)
	err := onDSN(t.Context(), dsn(to, "rw", "max_page_count(1)"), func(c *sql.Conn) error {
		_, err := c.ExecContext(t.Context(), "CREATE TABLE more (a); INSERT INTO more SELECT randomblob(100000)")
		return explainBackup(to, err)
	})
	if err == nil || !strings.Contains(err.Error(), "backup "+to+": the disk is full; free some space") {
		t.Error(err)
	}
}

// TestTheLogOfADamagedFileIsNotPlayedIntoTheRestoredOne: SQLite would take any log
// of the right name for the data file's own.
func TestTheLogOfADamagedFileIsNotPlayedIntoTheRestoredOne(t *testing.T) {
	from, path := backupFile(t), dataPath(t)
	killed := killedChild(t, path, 0, 30, "")
	if err := patch(path, 0, bytes.Repeat([]byte{0xa5}, 200)); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(path + "-wal")
	if err != nil || len(log) == 0 {
		t.Fatal(err)
	}
	_, aside, err := File{Path: path}.Restore(t.Context(), from, nil)
	if err != nil {
		t.Fatal(err)
	}
	if kept, err := os.ReadFile(aside + "-wal"); err != nil || !bytes.Equal(kept, log) {
		t.Errorf("its log is not kept with it: %v", err)
	}
	s := open(t, Options{Path: path})
	checkIntegrity(t, s)
	err = s.View(t.Context(), func(r store.Reader) error {
		for id := range killed {
			if _, err := r.User(id); err == nil {
				t.Fatalf("%s has come from the old log", id)
			}
		}
		_, err := r.User("49")
		return err
	})
	if err = errors.Join(err, s.Close()); err != nil {
		t.Error(err)
	}
}
