package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/store"
)

func dataPath(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "tcmanager.db")
}

// alter runs statements on a data file that no store has open.
func alter(t *testing.T, path string, statements ...string) {
	t.Helper()
	err := onConn(t.Context(), path, "rwc", func(c *sql.Conn) error {
		for _, s := range statements {
			if _, err := c.ExecContext(t.Context(), s); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// refuses checks that a file isn't opened, why, and that it is left as it was.
func refuses(t *testing.T, path, why string) {
	t.Helper()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Options{Path: path})
	if err == nil {
		t.Fatal("it was opened", s.Close())
	}
	if !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %q, want one with %q and the path", err, why)
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was changed (%v)", err)
	}
}

func TestForeignSQLiteFileIsRefusedAndLeftAlone(t *testing.T) {
	path := dataPath(t)
	alter(t, path, "CREATE TABLE theirs (a)", "INSERT INTO theirs VALUES (1)")
	refuses(t, path, "another program's")
}

func TestFileThatIsNoDatabaseIsRefusedAndLeftAlone(t *testing.T) {
	path := dataPath(t)
	if err := os.WriteFile(path, bytes.Repeat([]byte("notes\n"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	refuses(t, path, "not an SQLite file")
}

func TestDamagedFileIsRefusedAndLeftAlone(t *testing.T) {
	path := dataPath(t)
	if err := open(t, Options{Path: path}).Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 100; i < len(b); i++ { // all but the header that says whose it is
		b[i] = 0xa5
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	refuses(t, path, "damaged")
}

func TestNewerSchemaIsRefusedAndLeftAlone(t *testing.T) {
	path := dataPath(t)
	if err := open(t, Options{Path: path}).Close(); err != nil {
		t.Fatal(err)
	}
	alter(t, path, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, 1)")
	refuses(t, path, "newer version")
}

func TestSecondServerIsRefusedUntilTheFirstIsGone(t *testing.T) {
	path := dataPath(t)
	first := open(t, Options{Path: path})
	_, err := Open(t.Context(), Options{Path: path})
	if err == nil || !strings.Contains(err.Error(), "in use by another server (process ") {
		t.Errorf("got %v, want it to say who has the file", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, Options{Path: path}).Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFileCutShortByACrashAtItsBirthIsOpened(t *testing.T) {
	for name, make := range map[string]func(path string){
		"empty":  func(path string) { alter(t, path) },
		"marked": func(path string) { alter(t, path, fmt.Sprintf("PRAGMA application_id = %d", applicationID)) },
	} {
		t.Run(name, func(t *testing.T) {
			path := dataPath(t)
			make(path)
			if err := open(t, Options{Path: path}).Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestFolderThatCannotBeMadeIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), Options{Path: filepath.Join(file, "tcmanager.db")})
	if err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v, want an error that names %s", err, file)
	}
}

func TestDataIsReadableByItsOwnerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "tcmanager.db")
	s := open(t, Options{Path: path})
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + "-wal", path + ".lock", filepath.Dir(path)} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			t.Errorf("%s has mode %v", name, mode)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestPathMayHaveAnyCharacters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?c=d&e%41#f", "ü.db")
	for range 2 {
		s := open(t, Options{Path: path})
		err := s.Update(t.Context(), func(tx store.Tx) error { return tx.PutUser(&pb.User{Id: "ada"}) })
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestOpenStopsWhenItsContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := Open(ctx, Options{Path: dataPath(t)}); err == nil {
		t.Error("it was opened", s.Close())
	}
}

func TestConnectionsAreSetUpAsPromised(t *testing.T) {
	s := open(t, Options{Path: dataPath(t)})
	defer func() { _ = s.Close() }()
	check := func(c *conn, want map[string]string) {
		for pragma, value := range want {
			var got string
			if err := c.row("PRAGMA "+pragma, nil, &got); err != nil || got != value {
				t.Errorf("%s is %s, want %s (%v)", pragma, got, value, err)
			}
		}
	}
	err := s.Update(t.Context(), func(st store.Tx) error {
		check(st.(*tx).c, map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000", "application_id": strconv.Itoa(applicationID)})
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	err = s.View(t.Context(), func(r store.Reader) error {
		check(r.(*reader).c, map[string]string{"journal_mode": "wal", "query_only": "1"})
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
