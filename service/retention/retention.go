// Package retention forgets what is older than the server was told to keep: the
// events of rooms, by count and age, and the answers to requests after the window
// in which a repeat gets them again.
//
// The rules of what may go are the store's. This package decides when, and how
// much at a time.
//
// # Concurrency
//
// Run is one goroutine's; it ends with its context. It drops in steps of a few
// milliseconds with a pause after each, in which the updates that wait have their
// turn: an update waits for one step at most, however much there is to drop.
package retention

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/tcmanager/tcmanager/service/once"
	"github.com/tcmanager/tcmanager/service/store"
)

const (
	// every is how often the sweep begins, so that a room has about a minute's
	// events more than it may. When nothing is to be dropped it costs three
	// look-ups, half a millisecond.
	every = time.Minute

	// pause is between two steps. A step takes 2 to 4 ms of the store's writer, so
	// that others have most of its time also while much is dropped; 30,000 pieces a
	// second still go.
	pause = 10 * time.Millisecond
)

// Config says what is kept.
type Config struct {
	Events int           // of each room, the newest so many; 0 for all
	Age    time.Duration // of each room, those that are younger; 0 for all
	Logger *slog.Logger  // nil for slog.Default
}

// Sweeper drops what is not kept any more.
type Sweeper struct {
	store store.Store
	cfg   Config
}

// New returns a sweeper, which does nothing until it runs.
func New(st store.Store, cfg Config) *Sweeper {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Sweeper{store: st, cfg: cfg}
}

// Run sweeps every minute until ctx ends, the first time within the first minute:
// servers that are started together don't all sweep together.
func (s *Sweeper) Run(ctx context.Context) error {
	for next := rand.N(every); ; next = every {
		if !sleep(ctx, next) {
			return nil
		}
		if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Error("what is old could not be dropped; it will be tried again", "error", err)
		}
	}
}

// sleep waits, and reports whether ctx has not ended meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// sweep drops all that is old by now. An error of one half leaves the other be.
func (s *Sweeper) sweep(ctx context.Context) error {
	return errors.Join(s.trimLogs(ctx), s.dropRequests(ctx))
}

func (s *Sweeper) trimLogs(ctx context.Context) error {
	h := store.History{Events: s.cfg.Events}
	began := time.Now()
	if s.cfg.Age > 0 {
		h.Since = began.Add(-s.cfg.Age)
	}
	if h == (store.History{}) {
		return nil
	}
	events, err := s.steps(ctx, func(tx store.Tx) (store.Trimmed, error) { return tx.TrimLogs(h) })
	if events > 0 {
		s.cfg.Logger.DebugContext(ctx, "old events were dropped", "events", events, "took", time.Since(began).String())
	}
	if err != nil {
		return fmt.Errorf("trim the logs of rooms: %w", err)
	}
	return nil
}

func (s *Sweeper) dropRequests(ctx context.Context) error {
	before := time.Now().Add(-once.Window)
	_, err := s.steps(ctx, func(tx store.Tx) (done store.Trimmed, err error) {
		done.More, err = tx.DropRequests(before)
		return done, err
	})
	if err != nil {
		return fmt.Errorf("forget old requests: %w", err)
	}
	return nil
}

// steps runs a step in an update of its own until there is no more to do, and
// returns how many events all of them dropped.
func (s *Sweeper) steps(ctx context.Context, step func(store.Tx) (store.Trimmed, error)) (events int, err error) {
	for {
		var done store.Trimmed
		err := s.store.Update(ctx, func(tx store.Tx) (err error) {
			done, err = step(tx)
			return err
		})
		if err != nil {
			return events, err
		}
		events += done.Events
		if !done.More {
			return events, nil
		}
		if !sleep(ctx, pause) {
			return events, ctx.Err()
		}
	}
}
