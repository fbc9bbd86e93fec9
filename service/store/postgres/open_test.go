package postgres

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/postgres/pgtest"
)

// refuses checks that a database isn't opened, and why, and that nobody is told the
// password.
func refuses(t *testing.T, dsn string, why ...string) {
	t.Helper()
	var log bytes.Buffer
	s, err := Open(t.Context(), Options{DSN: dsn, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err == nil {
		t.Fatal("it was opened", s.Close())
	}
	for _, want := range why {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, want one with %q", err, want)
		}
	}
	if text := err.Error() + log.String(); hasPassword(text) || strings.Contains(text, "hunter2") {
		t.Errorf("it has the password: %s", text)
	}
}

// dump returns all of a database.
func dump(t *testing.T, name string) string {
	t.Helper()
	cmd := exec.Command("/usr/lib/postgresql/15/bin/pg_dump", pgtest.Shared(t).DSN(name))
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, `\`) { // \restrict has a random word
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// refusesUntouched checks the same, and that the database is left as it was.
func refusesUntouched(t *testing.T, name string, why ...string) {
	t.Helper()
	before := dump(t, name)
	refuses(t, pgtest.Shared(t).DSN(name), append(why, "/"+name)...)
	if dump(t, name) != before {
		t.Error("the database was changed")
	}
}

func nameOf(dsn string) string {
	return dsn[strings.LastIndex(dsn, "/")+1 : strings.LastIndex(dsn, "?")]
}

func TestAddressThatCannotBeReadIsRefusedWithoutQuotingIt(t *testing.T) {
	for _, dsn := range []string{
		"postgres://ada:hunter2@host:port/db", "postgres://ada:hun%ter2@host/db", "postgres://ada:hunter2@[::1/db", "://ada:hunter2", "host=localhost password='hunter2",
		"postgres://ada:hunter2@host/db?sslmode=perhaps", "postgres://ada:hunter2@host/db?pool_max_conns=many",
	} {
		refuses(t, dsn, "the address of the database can't be read")
	}
}

func TestWhatKeepsAConnectionFromBeingMadeIsSaid(t *testing.T) {
	c := pgtest.Shared(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	_ = l.Close()
	good := c.DSN("postgres")
	refuses(t, "postgres://ada:hunter2@"+closed+"/db", closed+"/db", "is there a PostgreSQL server")
	refuses(t, "postgres://ada:hunter2@no.such.host.invalid/db", "no machine of that name")
	refuses(t, c.DSN("missing"), "there is no such database", "createdb")
	refuses(t, strings.Replace(good, "a%20p%40ss%2Fword%3F", "hunter2", 1), `the password of user "tcm" is wrong`)
	refuses(t, strings.Replace(good, "tcm:", "nobody:", 1), `password of user "nobody"`)
	refuses(t, strings.Replace(good, "sslmode=disable", "sslmode=require", 1), "refused TLS")
}

func TestServerThatDoesNotAnswerIsGivenUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // which never accepts
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	began := time.Now()
	refuses(t, "postgres://ada:hunter2@"+l.Addr().String()+"/db?sslmode=disable&connect_timeout=1", "is there a PostgreSQL server")
	if took := time.Since(began); took > attemptTimeout {
		t.Errorf("it took %v", took)
	}
}

func TestForeignDatabaseIsRefusedAndLeftAlone(t *testing.T) {
	c := pgtest.Shared(t)
	for what, statements := range map[string][]string{
		"tables":              {"CREATE TABLE theirs (a int)", "INSERT INTO theirs VALUES (1)"},
		"a view":              {"CREATE VIEW theirs AS SELECT 1"},
		"another goose":       {"CREATE TABLE goose_db_version (id int, version_id bigint, is_applied bool)", "INSERT INTO goose_db_version VALUES (1, 1, true)"},
		"goose and tables":    {"CREATE TABLE goose_db_version (id int, version_id bigint, is_applied bool)", "CREATE TABLE users (a int)"},
		"a table of our name": {"CREATE TABLE tcmanager (a int)"},
	} {
		t.Run(what, func(t *testing.T) {
			name := c.Database(t, "")
			c.Exec(t, name, statements...)
			refusesUntouched(t, name, "another program")
		})
	}
}

func TestNewerSchemaIsRefusedAndLeftAlone(t *testing.T) {
	name := nameOf(database(t))
	alter(t, name, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)")
	refusesUntouched(t, name, "newer version", "schema 99999")
}

func TestRightsThatAreMissingAreNamed(t *testing.T) {
	c := pgtest.Shared(t)
	empty, ours := c.Database(t, ""), nameOf(database(t))
	limited := "limited_" + ours
	as := func(name string) string {
		return strings.Replace(c.DSN(name), "tcm:a%20p%40ss%2Fword%3F@", limited+":hunter2@", 1)
	}
	c.Exec(t, "postgres", "CREATE USER "+limited+" PASSWORD 'hunter2'")
	refuses(t, as(empty), `user "`+limited+`" may not make tables in schema "public"`, "GRANT CREATE")
	alter(t, ours, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO "+limited)
	refuses(t, as(ours), `user "`+limited+`" may not use table "comments"`)
	c.Exec(t, ours, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO "+limited)
	s := open(t, Options{DSN: as(ours)})
	if err := s.Update(t.Context(), func(tx store.Tx) error { return put(tx, "a") }); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	refuses(t, as(ours)+"&search_path=nowhere", "no schema of the search_path")
	c.Exec(t, "postgres", "REVOKE CONNECT ON DATABASE "+empty+" FROM PUBLIC")
	refuses(t, as(empty), `user "`+limited+`" may not connect`)
	c.Exec(t, ours, "ALTER USER "+limited+" SET default_transaction_read_only = on")
	refuses(t, as(ours), "read-only")
}

func TestSecondServerIsRefusedUntilTheFirstIsGone(t *testing.T) {
	dsn := database(t)
	first := open(t, Options{DSN: dsn})
	refuses(t, dsn, "in use by another server (backend ", "from 127.0.0.1", "stop it or choose another database")
	if err := first.Update(t.Context(), func(tx store.Tx) error { return put(tx, "a") }); err != nil {
		t.Error(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, Options{DSN: dsn}).Close(); err != nil {
		t.Fatal(err)
	}
}

func TestTwoSchemasOfADatabaseAreTwoStores(t *testing.T) {
	name := pgtest.Shared(t).Database(t, "")
	pgtest.Shared(t).Exec(t, name, "CREATE SCHEMA one", `CREATE SCHEMA "Two"`)
	for _, schema := range []string{"one", `"Two"`} {
		s := open(t, Options{DSN: pgtest.Shared(t).DSN(name) + "&search_path=" + strings.ReplaceAll(schema, `"`, "%22")})
		defer func() { _ = s.Close() }()
		err := s.Update(t.Context(), func(tx store.Tx) error { return put(tx, schema) })
		if err != nil {
			t.Fatal(err)
		}
		err = s.View(t.Context(), func(r store.Reader) error {
			h, err := r.Head("project:p")
			if h.Newest.Offset != 1 {
				t.Errorf("the newest event of schema %s is %d", schema, h.Newest.Offset)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestDatabaseOfAnyEncodingAndCollationKeepsAndSortsAlike(t *testing.T) {
	c := pgtest.Shared(t)
	c.Exec(t, "postgres", "DROP DATABASE IF EXISTS latin", "DROP DATABASE IF EXISTS icu",
		"CREATE DATABASE latin TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'",
		"CREATE DATABASE icu TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'de-DE' LC_COLLATE 'C' LC_CTYPE 'C'")
	names := []string{"", "B", "a", "a\x00b", "z", "ä", "\xff not UTF-8"} // in the order of bytes
	for _, name := range []string{"latin", "icu"} {
		s := open(t, Options{DSN: c.DSN(name)})
		err := s.Update(t.Context(), func(tx store.Tx) error {
			if err := tx.PutProject(&pb.Project{Id: "p", Key: "p"}); err != nil {
				return err
			}
			for i := range names {
				name := names[len(names)-1-i]
				if err := tx.PutUser(&pb.User{Id: fmt.Sprint(i), Name: name}); err != nil {
					return err
				}
				if err := tx.PutMember("p", fmt.Sprint(i), pb.Role_ROLE_VIEWER); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		err = s.View(t.Context(), func(r store.Reader) error {
			members, err := r.Members("p")
			for i, m := range members {
				if m.User.Name != names[i] {
					t.Errorf("%s: member %d is %q, want %q", name, i, m.User.Name, names[i])
				}
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
}

func TestDatabaseThatWasCutShortAtItsBirthIsOpened(t *testing.T) {
	c := pgtest.Shared(t)
	name := c.Database(t, "")
	c.Exec(t, name, `CREATE TABLE goose_db_version (id serial PRIMARY KEY, version_id bigint NOT NULL, is_applied boolean NOT NULL, tstamp timestamp NOT NULL DEFAULT now())`,
		"INSERT INTO goose_db_version (version_id, is_applied) VALUES (0, true)")
	if err := open(t, Options{DSN: c.DSN(name)}).Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOpenStopsWhenItsContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := Open(ctx, Options{DSN: database(t)}); err == nil {
		t.Error("it was opened", s.Close())
	}
}

func TestConnectionsAreSetUpAsPromised(t *testing.T) {
	dsn := database(t)
	alter(t, nameOf(dsn)) // its settings stay
	pgtest.Shared(t).Exec(t, "postgres", "ALTER DATABASE "+nameOf(dsn)+" SET synchronous_commit = off")
	s := open(t, Options{DSN: dsn})
	defer func() { _ = s.Close() }()
	check := func(r *reader, want map[string]string) {
		for name, value := range want {
			var got string
			if err := r.row("SELECT current_setting($1)", []any{name}, &got); err != nil || got != value {
				t.Errorf("%s is %s, want %s (%v)", name, got, value, err)
			}
		}
	}
	err := s.Update(t.Context(), func(st store.Tx) error {
		check(&st.(*tx).reader, map[string]string{"synchronous_commit": "on", "lock_timeout": "5s", "enable_seqscan": "off", "transaction_isolation": "read committed"})
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	err = s.View(t.Context(), func(r store.Reader) error {
		check(r.(*reader), map[string]string{"transaction_isolation": "repeatable read", "transaction_read_only": "on", "enable_seqscan": "off"})
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestUnsafeSettingsOfTheServerAreWarnedOf(t *testing.T) {
	c := pgtest.Shared(t)
	c.Exec(t, "postgres", "ALTER SYSTEM SET full_page_writes = off", "SELECT pg_reload_conf()")
	defer c.Exec(t, "postgres", "ALTER SYSTEM RESET full_page_writes", "SELECT pg_reload_conf()")
	dsn := database(t)
	eventually(t, "the log has a warning", func() bool {
		var log bytes.Buffer
		if err := open(t, Options{DSN: dsn, Log: slog.New(slog.NewTextHandler(&log, nil))}).Close(); err != nil {
			t.Fatal(err)
		}
		return strings.Contains(log.String(), "full_page_writes")
	})
}

func TestViewsUseTheirConnectionsAgain(t *testing.T) {
	s := open(t, Options{DSN: database(t)})
	defer func() { _ = s.Close() }()
	used := map[int]bool{}
	for i := range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		err := s.View(ctx, func(r store.Reader) error {
			var pid int
			err := r.(*reader).row("SELECT pg_backend_pid()", nil, &pid)
			used[pid] = true
			if i%2 == 0 {
				cancel() // who asked has gone
			}
			return err
		})
		cancel()
		if err != nil {
			t.Error(err)
		}
	}
	if len(used) != 1 {
		t.Errorf("50 views, one after the other, used %d connections", len(used))
	}
}
