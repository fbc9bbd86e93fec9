package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/store"
)

// sickStore is a store that works or doesn't.
type sickStore struct {
	store.Store
	err error
}

func (s *sickStore) Ready(context.Context) error { return s.err }

func TestWhyAStoreDoesNotWorkIsLoggedOnceAndToldAsToCallers(t *testing.T) {
	var log bytes.Buffer
	s := &sickStore{}
	r := &readiness{store: s, log: slog.New(slog.NewTextHandler(&log, nil))}
	for _, c := range []struct {
		err  error
		told string // the reason; empty for none
	}{
		{fmt.Errorf("write: %w: data file /secret/place", store.ErrFull), "STORE_FULL"},
		{fmt.Errorf("write: %w", store.ErrFull), "STORE_FULL"},
		{store.ErrUnavailable, "STORE_UNAVAILABLE"},
		{errors.New("damaged"), ""},
	} {
		s.err = c.err
		err := r.check(t.Context())
		if e := fault.Of(err); err == nil || (e != nil) != (c.told != "") || e != nil && (e.Reason != c.told || strings.Contains(e.Message, "/secret/place")) {
			t.Errorf("%v: told %v", c.err, err)
		}
	}
	s.err = nil
	for range 2 {
		if err := r.check(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if text := log.String(); strings.Count(text, "\n") != 2 || !strings.Contains(text, "/secret/place") || !strings.Contains(text, "works again") {
		t.Error(text)
	}
}
