package postgres

import (
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tcmanager/tcmanager/service/store/postgres/pgtest"
)

func TestMain(m *testing.M) {
	code := pgtest.Main(m)
	if err := goleak.Find(); err != nil && code == 0 {
		os.Stderr.WriteString(err.Error() + "\n")
		code = 1
	}
	os.Exit(code)
}

func open(t testing.TB, o Options) *Store {
	t.Helper()
	if testing.Verbose() && o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return s
}

// databases are those of the newest schema. To make one costs 16 MB of writing, to
// empty one next to nothing, so that tests use them one after the other.
var databases struct {
	sync.Mutex
	template string
	free     []string
	altered  map[string]bool // which nobody uses again
}

// database returns the address of an empty database of the newest schema.
func database(t testing.TB) (dsn string) {
	t.Helper()
	c := pgtest.Shared(t)
	databases.Lock()
	defer databases.Unlock()
	if databases.template == "" {
		databases.template, databases.altered = c.Database(t, ""), map[string]bool{}
		if err := open(t, Options{DSN: c.DSN(databases.template)}).Close(); err != nil {
			t.Fatal(err)
		}
	}
	var name string
	if n := len(databases.free); n > 0 {
		name, databases.free = databases.free[n-1], databases.free[:n-1]
	} else {
		name = c.Database(t, databases.template)
	}
	t.Cleanup(func() {
		databases.Lock()
		defer databases.Unlock()
		if t.Failed() || databases.altered[name] {
			return
		}
		c.Exec(t, name, `DO $$ BEGIN EXECUTE (SELECT 'TRUNCATE ' || string_agg(relname, ', ') FROM pg_class
			WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'goose_db_version' AND relname <> 'tcmanager'); END $$`)
		databases.free = append(databases.free, name)
	})
	return c.DSN(name)
}

// alter runs statements in a database that is thrown away after the test.
func alter(t testing.TB, name string, statements ...string) {
	t.Helper()
	databases.Lock()
	databases.altered[name] = true
	databases.Unlock()
	pgtest.Shared(t).Exec(t, name, statements...)
}

// eventually waits for a condition of another process.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(time.Minute); !ok(); <-tick.C {
		if time.Now().After(until) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
