package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/config"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/postgres/pgtest"
)

func TestStoreIsWhereItsAddressSays(t *testing.T) {
	dir, cluster := t.TempDir(), pgtest.Shared(t)
	dsn := cluster.DSN(cluster.Database(t, ""))
	for _, address := range []string{"", dsn, strings.Replace(dsn, "postgres:", "postgresql:", 1)} {
		s, err := openStore(t.Context(), config.Config{DataDir: dir, Store: address}, slog.New(slog.DiscardHandler), nil)
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		err = s.Update(t.Context(), func(tx store.Tx) error { return tx.PutUser(&pb.User{Id: "ada"}) })
		if err := errors.Join(err, s.Close()); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "tcmanager.db")); err != nil {
		t.Error(err)
	}
}

func TestStoreOfAWrongAddressIsRefusedWithoutQuotingIt(t *testing.T) {
	for _, address := range []string{"postgres://ada:hunter2@127.0.0.1:1/db", "postgres://ada:hunter2@:x/db"} {
		s, err := openStore(t.Context(), config.Config{DataDir: t.TempDir(), Store: address}, slog.New(slog.DiscardHandler), nil)
		if err == nil || s != nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v and %v", address, s, err)
		}
	}
}
