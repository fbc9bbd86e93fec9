package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/config"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/postgres"
	"github.com/tcmanager/tcmanager/service/store/sqlite"
)

// openStore opens what everything is kept in: the PostgreSQL database that address
// names (postgres://user:password@host/database), or the data file that it does
// (sqlite:FILE). An empty address is the data file in the data directory.
func openStore(ctx context.Context, c config.Config, address string, log *slog.Logger, listener store.Listener) (store.Store, error) {
	if isPostgres(address) {
		s, err := postgres.Open(ctx, postgres.Options{DSN: address, Listener: listener, Log: log})
		if err != nil {
			return nil, err // and not a store that is a nil pointer
		}
		return s, nil
	}
	path, ok := strings.CutPrefix(address, "sqlite:")
	switch {
	case address == "":
		path = filepath.Join(c.DataDir, "tcmanager.db")
	case !ok || path == "":
		// The address isn't quoted: it may have a password.
		return nil, errors.New("--store: must be postgres://user:password@host:5432/database or sqlite:FILE, or empty for a file in the data directory")
	}
	s, err := sqlite.Open(ctx, sqlite.Options{Path: path, Listener: listener})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// isPostgres returns whether an address names a PostgreSQL database.
func isPostgres(address string) bool {
	return strings.HasPrefix(address, "postgres://") || strings.HasPrefix(address, "postgresql://")
}
