package postgres

import (
	"testing"

	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Opener {
		dsn := database(t)
		return func(t *testing.T, listener store.Listener) store.Store {
			t.Helper()
			return open(t, Options{DSN: dsn, Listener: listener})
		}
	})
}
