package postgres

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/postgres/pgtest"
)

// scratch returns the address of an empty database of the newest schema, which is
// thrown away after the test.
func scratch(t testing.TB) string {
	t.Helper()
	dsn := database(t)
	alter(t, nameOf(dsn))
	return dsn
}

func emptyFile(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "it.backup")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// backUp takes a backup of a database into a new file, and checks it.
func backUp(t testing.TB, dsn string) string {
	t.Helper()
	to, d := emptyFile(t), Database{DSN: dsn, Version: "test"}
	if err := d.Backup(t.Context(), to, nil); err != nil {
		t.Fatal(err)
	}
	b, err := d.Check(t.Context(), to, nil)
	if info, e := os.Stat(to); err != nil || e != nil || b.Bytes != info.Size() || b.Version != "test" || b.Schema == 0 || time.Since(b.TakenAt) > time.Minute {
		t.Fatal(b, err, e)
	}
	return to
}

// filled puts events and users of these names into a store.
func filled(t testing.TB, dsn string, names ...string) {
	t.Helper()
	s := open(t, Options{DSN: dsn})
	for _, name := range names {
		if _, err := commitOne(t.Context(), s, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// headOf opens a store and returns how far its log is, and its epoch.
func headOf(t testing.TB, dsn string) (head store.Head, epoch uint64) {
	t.Helper()
	s := open(t, Options{DSN: dsn})
	err := s.View(t.Context(), func(r store.Reader) (err error) {
		head, err = r.Head("project:p")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return head, s.Epoch()
}

// fails checks why something failed, and that nobody is told the password.
func fails(t testing.TB, err error, why ...string) {
	t.Helper()
	if err == nil {
		t.Error("it did not fail")
		return
	}
	for _, want := range why {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, want one with %q", err, want)
		}
	}
	if hasPassword(err.Error()) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("it has the password: %v", err)
	}
}

func TestPositionsFromBeforeARestoreAreNoticed(t *testing.T) {
	dsn := scratch(t)
	s := open(t, Options{DSN: dsn})
	strange := &pb.User{Id: "strange", Name: "a\x00b\n\\.\nc\\\t\xff\u2028" + strings.Repeat("long", 1<<20)}
	err := s.Update(t.Context(), func(tx store.Tx) error { return tx.PutUser(strange) })
	if err != nil {
		t.Fatal(err)
	}
	before, err := commitOne(t.Context(), s, "before")
	if err != nil {
		t.Fatal(err)
	}
	from := backUp(t, dsn)
	var after [3]uint64
	for i := range after {
		p, err := commitOne(t.Context(), s, fmt.Sprint("after", i))
		if err != nil || p.Epoch != s.Epoch() {
			t.Fatal(p, err)
		}
		after[i] = p.Offset
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, aside, err := Database{DSN: dsn}.Restore(t.Context(), from, nil)
	if err != nil || b.Version != "test" {
		t.Fatal(b, err)
	}
	restored := open(t, Options{DSN: dsn})
	defer func() { _ = restored.Close() }()
	if restored.Epoch() == s.Epoch() {
		t.Error("the epoch is the old one")
	}
	err = restored.View(t.Context(), func(r store.Reader) error {
		head, err := r.Head("project:p")
		if err == nil && head.Newest != before {
			t.Errorf("the log ends at %v, want %v", head.Newest, before)
		}
		if u, err := r.User(strange.GetId()); err != nil || u.GetName() != strange.GetName() {
			t.Errorf("the user is %.50q (%v)", u.GetName(), err)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	p, err := commitOne(t.Context(), restored, "other")
	if err != nil || p.Offset != after[0] || p.Epoch == s.Epoch() {
		t.Errorf("the first event after the restore is at %v (%v): like one of before", p, err)
	}

	// What was there is kept as a store that a server can use.
	_, schema, _ := strings.Cut(aside, `"`)
	schema, where, _ := strings.Cut(schema, `"`)
	if !strings.HasPrefix(schema, "tcmanager_replaced_") || !strings.Contains(where, nameOf(dsn)) {
		t.Fatal(aside)
	}
	if head, _ := headOf(t, dsn+"&search_path="+schema); head.Newest.Offset != after[2] {
		t.Errorf("what is kept ends at %v, want %d", head.Newest, after[2])
	}
}

func TestBackupIsOneMomentOfADatabaseInUse(t *testing.T) {
	dsn := scratch(t)
	s := open(t, Options{DSN: dsn})
	ctx, stop := context.WithCancel(t.Context())
	var acked atomic.Uint64
	var writers sync.WaitGroup
	for w := range 3 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				p, err := commitOne(t.Context(), s, fmt.Sprint(w, "-", i))
				if err != nil {
					t.Error(err)
					return
				}
				for old := acked.Load(); old < p.Offset && !acked.CompareAndSwap(old, p.Offset); old = acked.Load() {
				}
			}
		})
	}
	eventually(t, "something is written", func() bool { return acked.Load() > 0 })
	var copies []string
	var before []uint64
	for range 2 {
		before = append(before, acked.Load())
		copies = append(copies, backUp(t, dsn))
	}
	stop()
	writers.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for i, from := range copies {
		to := pgtest.Shared(t).DSN(pgtest.Shared(t).Database(t, ""))
		if _, aside, err := (Database{DSN: to}).Restore(t.Context(), from, nil); err != nil || aside != "" {
			t.Fatal(aside, err)
		}
		s := open(t, Options{DSN: to})
		err := s.View(t.Context(), func(r store.Reader) error {
			head, err := r.Head("project:p")
			var users int64
			if err == nil { // each event was committed together with a user
				err = r.(*reader).row("SELECT count(*) FROM users", nil, &users)
			}
			if head.Newest.Offset < before[i] || uint64(users) != head.Newest.Offset {
				t.Errorf("it ends with event %d and has %d users; %d were acknowledged before it was taken", head.Newest.Offset, users, before[i])
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if before[1] <= before[0] {
		t.Errorf("nothing was written meanwhile: %v", before)
	}
}

func TestRestoreIsRefusedWhileAServerUsesTheDatabase(t *testing.T) {
	dsn := scratch(t)
	filled(t, dsn, "a")
	from := backUp(t, dsn)
	s := open(t, Options{DSN: dsn})
	defer func() { _ = s.Close() }()
	before := dump(t, nameOf(dsn))
	_, _, err := Database{DSN: dsn}.Restore(t.Context(), from, nil)
	fails(t, err, "in use by a server (backend ", "stop it, restore, and start it again", nameOf(dsn))
	if dump(t, nameOf(dsn)) != before {
		t.Error("the database was changed")
	}
}

// TestABadBackupIsRefusedBeforeAnythingIsChanged also restores each bad file.
func TestABadBackupIsRefusedBeforeAnythingIsChanged(t *testing.T) {
	dsn := scratch(t)
	filled(t, dsn, "a")
	from := backUp(t, dsn)
	good, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 0x20
		return b
	}
	resealed := func(h func(*header)) []byte {
		path := filepath.Join(t.TempDir(), "resealed")
		f, err := os.Open(from)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		says, _, err := readHeader(f, from)
		if err != nil {
			t.Fatal(err)
		}
		h(&says)
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := seal(t.Context(), path, says); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	before := dump(t, nameOf(dsn))
	for what, c := range map[string]struct {
		file []byte
		why  string
	}{
		"empty":                   {nil, "it is empty"},
		"a text":                  {[]byte("a letter to ada"), "not a backup of TCManager's"},
		"pg_dump's own":           {good[headerSize:], "not a backup of TCManager's"},
		"an SQLite file":          {append([]byte(sqliteMagic), good...), "restored without --store"},
		"of a later form":         {bytes.Replace(good, []byte(", 1\n"), []byte(", 2\n"), 1), "newer version"},
		"cut in the header":       {good[:1000], "its header is cut off"},
		"cut":                     {good[:len(good)-1], "it has "},
		"with more behind it":     {append(bytes.Clone(good), 0), "it has "},
		"flipped in the header":   {flip(len(magic) + 20), "damaged"},
		"flipped in the spaces":   {flip(2000), "its checksum is wrong"},
		"flipped in the checksum": {flip(atSum), "its checksum is wrong"},
		"flipped at the end":      {flip(len(good) - 1), "its checksum is wrong"},
		"flipped in the middle":   {flip(len(good) / 2), "its checksum is wrong"},
		"of a newer schema":       {resealed(func(h *header) { h.Newest = 99999 }), "newer version (schema 99999"},
		"without a table":         {resealed(func(h *header) { h.Tables = append(h.Tables, "flowers") }), `table "flowers" is missing`},
		"of another schema":       {resealed(func(h *header) { h.Schema = "other" }), "is missing"},
		"not what it says":        {resealed(func(h *header) { h.Newest-- }), "left as it was"},
	} {
		path := filepath.Join(t.TempDir(), "bad.backup")
		if err := os.WriteFile(path, c.file, 0o600); err != nil {
			t.Fatal(err)
		}
		if what == "not what it says" { // only seen when it is restored, and undone
			_, _, err = Database{DSN: dsn}.Restore(t.Context(), path, nil)
			if err == nil || !strings.Contains(err.Error(), "what was restored is of schema") {
				t.Errorf("%s: %v", what, err)
			}
			continue
		}
		_, errCheck := Database{DSN: dsn}.Check(t.Context(), path, nil)
		_, _, errRestore := Database{DSN: dsn}.Restore(t.Context(), path, nil)
		for _, err := range []error{errCheck, errRestore} {
			if err == nil || !strings.Contains(err.Error(), c.why) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	for path, why := range map[string]string{t.TempDir(): "is not a file", filepath.Join(t.TempDir(), "none"): "no such file"} {
		_, _, err := Database{DSN: dsn}.Restore(t.Context(), path, nil)
		fails(t, err, why)
	}
	if dump(t, nameOf(dsn)) != before {
		t.Error("the database was changed")
	}
}

func TestAFailingRestoreLeavesTheOldState(t *testing.T) {
	dsn := scratch(t)
	filled(t, dsn, "a")
	from := backUp(t, dsn)
	filled(t, dsn, "b")
	name := nameOf(dsn)
	// A sequence of another program has the name of one of ours: seen in the middle.
	alter(t, name, "ALTER TABLE goose_db_version ALTER id DROP IDENTITY IF EXISTS", "DROP SEQUENCE IF EXISTS goose_db_version_id_seq", "CREATE SEQUENCE goose_db_version_id_seq")
	before := dump(t, name)
	_, aside, err := Database{DSN: dsn}.Restore(t.Context(), from, nil)
	fails(t, err, "left as it was", "goose_db_version_id_seq")
	if dump(t, name) != before || aside != "" {
		t.Error("the database was changed", aside)
	}
	alter(t, name, "DROP SEQUENCE goose_db_version_id_seq")
	// A restore that is stopped when all but the end is done.
	ctx, cancel := context.WithCancel(t.Context())
	_, _, err = Database{DSN: dsn}.Restore(ctx, from, func(doing string, done, total int64) {
		if doing == "restoring" && done == total {
			cancel()
		}
	})
	fails(t, err)
	if head, _ := headOf(t, dsn); head.Newest.Offset != 2 {
		t.Errorf("the log ends at %v, want 2", head.Newest)
	}
}

func TestAServerThatIsCutOffMeanwhileDoesNotGoOnAfterARestore(t *testing.T) {
	dsn := scratch(t)
	s := open(t, Options{DSN: dsn, idle: time.Hour}) // so that it notices with its next update
	defer func() { _ = s.Close() }()
	from := backUp(t, dsn) // of the very state that the server knows
	pgtest.Shared(t).Exec(t, nameOf(dsn), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '"+writerName(s.Epoch())+"'")
	if _, _, err := (Database{DSN: dsn}).Restore(t.Context(), from, nil); err != nil {
		t.Fatal(err)
	}
	err := s.Update(t.Context(), func(tx store.Tx) error { return put(tx, "a") })
	fails(t, err, "another server has written to the database meanwhile; restart this one")
}

func TestProgramsThatAreMissingOrTooOldAreNamed(t *testing.T) {
	dsn := scratch(t)
	filled(t, dsn, "a")
	from := backUp(t, dsn)
	before := dump(t, nameOf(dsn))
	t.Setenv("PATH", "")
	none := Database{DSN: dsn, programs: t.TempDir()}
	fails(t, none.Backup(t.Context(), emptyFile(t), nil), "pg_dump of PostgreSQL 15 or newer is needed", "apt-get install postgresql-client-15")
	_, err := none.Check(t.Context(), from, nil)
	fails(t, err, "pg_restore of PostgreSQL 15", "apt-get install postgresql-client-15")
	_, _, err = none.Restore(t.Context(), from, nil)
	fails(t, err, "pg_restore of PostgreSQL 15", "apt-get install postgresql-client-15")
	script := func(dir, says string) {
		if err := os.WriteFile(filepath.Join(dir, "pg_dump"), []byte("#!/bin/sh\n"+says+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	script(none.programs, "echo 'pg_dump (PostgreSQL) 9.6.24'")
	fails(t, none.Backup(t.Context(), emptyFile(t), nil), "pg_dump is of version 9", "postgresql-client-15")
	script(none.programs, "case $1 in --version) echo 'pg_dump (PostgreSQL) 16.1';; *) echo 'pg_dump: error: the moon is full' >&2; exit 1;; esac")
	fails(t, none.Backup(t.Context(), emptyFile(t), nil), "pg_dump: exit status 1", "the moon is full", nameOf(dsn))
	if err := (Database{DSN: dsn}).Backup(t.Context(), emptyFile(t), nil); err != nil {
		t.Error("with an empty PATH, Debian's are found:", err)
	}
	if dump(t, nameOf(dsn)) != before {
		t.Error("the database was changed")
	}
}

func TestTheNearestVersionOfAProgramIsTaken(t *testing.T) {
	dir := t.TempDir()
	for _, major := range []int{14, 15, 16, 18} {
		bin := filepath.Join(dir, fmt.Sprint(major), "bin")
		text := fmt.Sprintf("#!/bin/sh\necho 'pg_dump (PostgreSQL) %d.1 (Debian)'\n", major)
		if err := os.MkdirAll(bin, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(bin, "pg_dump"), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", filepath.Join(dir, "18", "bin"))
	d := Database{programs: filepath.Join(dir, "*", "bin")}
	for atLeast, want := range map[int]int{14: 14, 15: 15, 17: 18} {
		if p, err := d.find(t.Context(), "pg_dump", atLeast); err != nil || p.major != want || !strings.Contains(p.path, fmt.Sprint("/", want, "/")) {
			t.Errorf("for %d: %v %v", atLeast, p, err)
		}
	}
}

func TestBackupNeverPutsThePasswordOnACommandLine(t *testing.T) {
	dsn, dir := scratch(t), t.TempDir()
	said := filepath.Join(dir, "said")
	text := "#!/bin/sh\necho \"$@\" >> " + said + "\nexec /usr/lib/postgresql/15/bin/pg_dump \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "pg_dump"), []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("PGSERVICE", "none-of-that-name")
	t.Setenv("PGHOSTADDR", "192.0.2.1")
	if err := (Database{DSN: dsn}).Backup(t.Context(), emptyFile(t), nil); err == nil {
		t.Error("the driver did not miss the service")
	}
	if err := os.Unsetenv("PGSERVICE"); err != nil {
		t.Fatal(err)
	}
	if err := (Database{DSN: dsn}).Backup(t.Context(), emptyFile(t), nil); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(said)
	if err != nil || !strings.Contains(string(b), "--format=custom") || hasPassword(string(b)) {
		t.Errorf("%s %v", b, err)
	}
}

func TestRightsThatABackupAndARestoreNeedAreNamed(t *testing.T) {
	c, dsn := pgtest.Shared(t), scratch(t)
	filled(t, dsn, "a")
	from, name := backUp(t, dsn), nameOf(dsn)
	as := strings.Replace(dsn, "tcm:a%20p%40ss%2Fword%3F@", "guest:hunter2@", 1)
	c.Exec(t, "postgres", "CREATE USER guest PASSWORD 'hunter2'")
	d := Database{DSN: as}
	fails(t, d.Backup(t.Context(), emptyFile(t), nil)) // it can't even see whose it is
	alter(t, name, "GRANT SELECT ON goose_db_version, tcmanager TO guest")
	fails(t, d.Backup(t.Context(), emptyFile(t), nil), `user "guest" may not read table "comments"`, "as the user that the server connects as")
	alter(t, name, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest", "GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO guest")
	if err := d.Backup(t.Context(), emptyFile(t), nil); err != nil {
		t.Error("who may read may back up:", err)
	}
	before := dump(t, name)
	restore := func(why ...string) {
		t.Helper()
		_, _, err := d.Restore(t.Context(), from, nil)
		fails(t, err, why...)
	}
	restore(`user "guest" may not make tables in schema "public"`, "GRANT CREATE")
	if dump(t, name) != before {
		t.Error("the database was changed")
	}
	alter(t, name, "GRANT CREATE ON SCHEMA public TO guest")
	restore(`table "comments" of database`, `doesn't belong to user "guest"`)
	alter(t, name, `DO $$ BEGIN EXECUTE (SELECT string_agg('ALTER TABLE ' || relname || ' OWNER TO guest', ';') FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'); END $$`)
	restore("may not make the schema", "GRANT CREATE ON DATABASE")
	alter(t, name, "GRANT CREATE ON DATABASE "+name+" TO guest")
	if _, _, err := d.Restore(t.Context(), from, nil); err != nil {
		t.Error("who has all rights may restore:", err)
	}
	if head, _ := headOf(t, as); head.Newest.Offset != 1 {
		t.Errorf("the log ends at %v, want 1", head.Newest)
	}
}

func TestBackupAndRestoreLeaveAnotherProgramsTablesAlone(t *testing.T) {
	c, dsn := pgtest.Shared(t), scratch(t)
	from := backUp(t, dsn)
	theirs := c.Database(t, "")
	d := Database{DSN: c.DSN(theirs)}
	fails(t, d.Backup(t.Context(), emptyFile(t), nil), "has nothing of TCManager's")
	c.Exec(t, theirs, "CREATE TABLE theirs (a int)")
	before := dump(t, theirs)
	fails(t, d.Backup(t.Context(), emptyFile(t), nil), "another program", "/"+theirs)
	_, _, err := d.Restore(t.Context(), from, nil)
	fails(t, err, "another program", "/"+theirs)
	if dump(t, theirs) != before {
		t.Error("the database was changed")
	}
	// One that lives beside ours, in another schema and in ours.
	name := nameOf(dsn)
	alter(t, name, "CREATE TABLE theirs (a int)", "INSERT INTO theirs VALUES (7)", "CREATE SCHEMA other", "CREATE TABLE other.users (a int)")
	from = backUp(t, dsn)
	if _, _, err := (Database{DSN: dsn}).Restore(t.Context(), from, nil); err != nil {
		t.Fatal(err)
	}
	alter(t, name, "SELECT 1 / a FROM public.theirs", "SELECT * FROM other.users")
	_, _, err = Database{DSN: dsn + "&search_path=other"}.Restore(t.Context(), from, nil)
	fails(t, err, "another program")
	alter(t, name, `CREATE SCHEMA "A b"`)
	_, _, err = Database{DSN: dsn + "&search_path=%22A%20b%22"}.Restore(t.Context(), from, nil)
	fails(t, err, `of a schema "public"`, "search_path=public")
}

func TestASchemaOfAnyNameIsBackedUpAndRestored(t *testing.T) {
	name := pgtest.Shared(t).Database(t, "")
	pgtest.Shared(t).Exec(t, name, `CREATE SCHEMA "A .*""b"`)
	dsn := pgtest.Shared(t).DSN(name) + "&search_path=%22A%20.*%22%22b%22"
	filled(t, dsn, "a")
	from := backUp(t, dsn)
	filled(t, dsn, "b")
	filled(t, pgtest.Shared(t).DSN(name), "c", "d", "e") // another store in the same database
	for range 2 {                                        // within one second, too
		now := func() time.Time { return time.Unix(0, 0) }
		if _, aside, err := (Database{DSN: dsn, Now: now}).Restore(t.Context(), from, nil); err != nil || !strings.Contains(aside, "tcmanager_replaced_19700101t000000z") {
			t.Fatal(aside, err)
		}
		if head, _ := headOf(t, dsn); head.Newest.Offset != 1 {
			t.Errorf("the log ends at %v, want 1", head.Newest)
		}
	}
	if head, _ := headOf(t, pgtest.Shared(t).DSN(name)); head.Newest.Offset != 3 {
		t.Errorf("the other log ends at %v, want 3", head.Newest)
	}
}

func TestABackupReplacesADatabaseOfANewerVersion(t *testing.T) {
	dsn := scratch(t)
	filled(t, dsn, "a")
	from := backUp(t, dsn)
	alter(t, nameOf(dsn), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)", "CREATE TABLE of_the_future (a int)")
	fails(t, Database{DSN: dsn}.Backup(t.Context(), emptyFile(t), nil), "newer version", "schema 99999")
	refuses(t, dsn, "restore an older backup")
	_, aside, err := Database{DSN: dsn}.Restore(t.Context(), from, nil)
	if err != nil || aside == "" {
		t.Fatal(aside, err)
	}
	if head, _ := headOf(t, dsn); head.Newest.Offset != 1 {
		t.Errorf("the log ends at %v, want 1", head.Newest)
	}
	if strings.Contains(dump(t, nameOf(dsn)), "public.of_the_future") {
		t.Error("a table of the newer version is left")
	}
}

func TestBackupStopsWithItsContextOrWithoutADatabase(t *testing.T) {
	dsn := scratch(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := Database{DSN: dsn}.Backup(ctx, emptyFile(t), func(string, int64, int64) { cancel() })
	fails(t, err, "context canceled")
	fails(t, Database{DSN: "postgres://ada:hunter2@127.0.0.1:1/db"}.Backup(t.Context(), emptyFile(t), nil), "is there a PostgreSQL server")
	fails(t, Database{DSN: "postgres://ada:hunter2@:x/db"}.Backup(t.Context(), emptyFile(t), nil), "can't be read")
	if name := (Database{DSN: "postgres://ada:hunter2@h/db"}).Name(); name != "database h:5432/db" {
		t.Error(name)
	}
}

func TestBackupOntoAFullDiskSaysSo(t *testing.T) {
	dsn := scratch(t)
	filled(t, dsn, "a")
	err := Database{DSN: dsn}.Backup(t.Context(), "/dev/full", nil)
	fails(t, err, "no space left")
}
