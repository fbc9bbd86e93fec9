package main

import (
	"context"
	"log/slog"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/config"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/postgres"
	"github.com/tcmanager/tcmanager/service/store/sqlite"
)

// openStore opens what everything is kept in: the PostgreSQL database of --store,
// or the file in the data directory.
func openStore(ctx context.Context, c config.Config, log *slog.Logger, listener store.Listener) (store.Store, error) {
	if c.Store != "" {
		s, err := postgres.Open(ctx, postgres.Options{DSN: c.Store, Listener: listener, Log: log})
		if err != nil {
			return nil, err // and not a store that is a nil pointer
		}
		return s, nil
	}
	s, err := sqlite.Open(ctx, sqlite.Options{Path: dataFile(c).Path, Listener: listener})
	if err != nil {
		return nil, err
	}
	return s, nil
}
