package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/config"
	"github.com/tcmanager/tcmanager/service/store/postgres/pgtest"
)

// TestADatabaseIsBackedUpAndRestored runs the program as people do: a server takes
// backups by itself, another one is taken by hand, and it is restored.
func TestADatabaseIsBackedUpAndRestored(t *testing.T) {
	cluster, data, dir := pgtest.Shared(t), t.TempDir(), filepath.Join(t.TempDir(), "backups")
	dsn := cluster.DSN(cluster.Database(t, ""))
	here := []string{"--data-dir", data, "--store", dsn}
	run := func(ok bool, want string, args ...string) string {
		t.Helper()
		out, err := program(t, append(args, here...)...).CombinedOutput()
		if (err == nil) != ok || !strings.Contains(string(out), want) {
			t.Errorf("%v: %v, want %q in:\n%s", args, err, want, out)
		}
		if strings.Contains(string(out), pgtest.Password) || strings.Contains(string(out), "p%40ss") {
			t.Errorf("%v printed the password: %s", args, out)
		}
		return string(out)
	}
	serve := append([]string{"--backup-dir", dir}, here...)
	cmd, _ := served(t, serve...)
	eventually(t, "the server takes a backup", func() bool {
		found, _ := filepath.Glob(filepath.Join(dir, "tcmanager-*.backup"))
		return len(found) == 1
	})
	// A name that would be the data's without --store.
	to := filepath.Join(data, "tcmanager.db")
	run(true, "checked", "backup", "--to", to)
	run(false, "is there already", "backup", "--to", to)
	run(true, ", good", "restore", "--from", to, "--dry-run")
	run(false, "in use by a server (backend ", "restore", "--from", to)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	said := run(true, "restored to database "+cluster.Addr(), "restore", "--from", to)
	if !strings.Contains(said, `what was there is kept as schema "tcmanager_replaced_`) {
		t.Error(said)
	}
	cmd, _ = served(t, here...)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, _, err := dataFile(config.Config{DataDir: t.TempDir()}).Restore(t.Context(), to, nil); err == nil || !strings.Contains(err.Error(), "restored with --store") {
		t.Error("a backup of a database was restored to a data directory:", err)
	}
}
