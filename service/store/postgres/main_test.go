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

var template struct {
	sync.Once
	name string
}

// database returns the address of a new database of the newest schema.
func database(t testing.TB) (dsn string) {
	t.Helper()
	c := pgtest.Shared(t)
	template.Do(func() {
		template.name = c.Database(t, "")
		if err := open(t, Options{DSN: c.DSN(template.name)}).Close(); err != nil {
			t.Fatal(err)
		}
	})
	return c.DSN(c.Database(t, template.name))
}

// eventually waits for a condition of another process.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
		if time.Now().After(until) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
