// Package retention forgets what is older than the server was told to keep: the
// events of rooms, by count and age; runs, by count and age, and the results and the
// output of runs before that; and the answers to requests after the window in which
// a repeat gets them again.
//
// What may go is the store's to find, and what it means that a run goes is the
// execution service's. This package decides when, and how much at a time.
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
	"sync/atomic"
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

	// settle is how long a run stays after its end whatever the options say: a page
	// shows it, its runner may ask once more whether it is finished.
	settle = time.Hour

	// runsAtOnce is how many runs are deleted or trimmed in one step, 0.1 ms each.
	runsAtOnce = 20
)

// Config says what is kept.
type Config struct {
	Events     int           // of each room, the newest so many; 0 for all
	Age        time.Duration // of each room, those that are younger; 0 for all
	Runs       int           // of each project, the newest so many runs; 0 for all
	RunsAge    time.Duration // runs that ended since; 0 for all
	ResultsAge time.Duration // all results and the output of runs that ended since; 0 for all
	Logger     *slog.Logger  // nil for slog.Default
}

// Runs forgets runs, in a transaction, and tells their readers. It passes over one
// that has not ended.
type Runs interface {
	Trim(tx store.Tx, runID string, now time.Time) error
	Delete(tx store.Tx, runID string, now time.Time) error
}

// Dropped is how much was dropped since the start.
type Dropped struct {
	Events      int64 // of rooms
	RunsTrimmed int64
	RunsDeleted int64
	Rows        int64 // results, pieces of output and others, of those runs
}

// Sweeper drops what is not kept any more.
type Sweeper struct {
	store   store.Store
	runs    Runs
	cfg     Config
	events  atomic.Int64
	trimmed atomic.Int64
	deleted atomic.Int64
	rows    atomic.Int64
}

// New returns a sweeper, which does nothing until it runs.
func New(st store.Store, runs Runs, cfg Config) *Sweeper {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Sweeper{store: st, runs: runs, cfg: cfg}
}

// Dropped returns how much was dropped so far. It may be called at any time.
func (s *Sweeper) Dropped() Dropped {
	return Dropped{Events: s.events.Load(), RunsTrimmed: s.trimmed.Load(), RunsDeleted: s.deleted.Load(), Rows: s.rows.Load()}
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

// sweep drops all that is old by now. An error of one part leaves the others be.
func (s *Sweeper) sweep(ctx context.Context) error {
	return errors.Join(s.trimLogs(ctx), s.forgetRuns(ctx), s.dropRequests(ctx))
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
	events, err := s.steps(ctx, func(tx store.Tx) (int, bool, error) {
		done, err := tx.TrimLogs(h)
		return done.Events, done.More, err
	})
	s.events.Add(int64(events))
	if events > 0 {
		s.cfg.Logger.DebugContext(ctx, "old events were dropped", "events", events, "took", time.Since(began).String())
	}
	if err != nil {
		return fmt.Errorf("trim the logs of rooms: %w", err)
	}
	return nil
}

// forgetRuns takes away the runs that are not kept, trims those of which less is
// kept, and drops what is left of both. What a server that was killed had begun is
// gone on with, also if nothing is to be forgotten any more.
func (s *Sweeper) forgetRuns(ctx context.Context) error {
	began := time.Now()
	deleted, errDelete := s.deleteRuns(ctx, began)
	trimmed, errTrim := s.trimRuns(ctx, began)
	rows, errPurge := s.steps(ctx, func(tx store.Tx) (int, bool, error) {
		done, err := tx.PurgeRuns()
		return done.Rows, done.More, err
	})
	s.deleted.Add(int64(deleted))
	s.trimmed.Add(int64(trimmed))
	s.rows.Add(int64(rows))
	if deleted+trimmed+rows > 0 {
		s.cfg.Logger.InfoContext(ctx, "old runs were dropped", "deleted", deleted, "trimmed", trimmed, "rows", rows, "took", time.Since(began).String())
	}
	if err := errors.Join(errDelete, errTrim, errPurge); err != nil {
		return fmt.Errorf("forget runs: %w", err)
	}
	return nil
}

// deleteRuns takes away the runs that are too old or too many.
func (s *Sweeper) deleteRuns(ctx context.Context, now time.Time) (n int, err error) {
	var lists []func(store.Reader) ([]string, error)
	if s.cfg.RunsAge > 0 {
		before := now.Add(-max(s.cfg.RunsAge, settle))
		for _, kept := range []store.Kept{store.KeptTrimmed, store.KeptWhole} {
			lists = append(lists, func(r store.Reader) ([]string, error) { return r.EndedRuns(kept, before, runsAtOnce) })
		}
	}
	if s.cfg.Runs > 0 {
		lists = append(lists, func(r store.Reader) ([]string, error) { return r.SurplusRuns(s.cfg.Runs, now.Add(-settle), runsAtOnce) })
	}
	for _, list := range lists {
		k, err := s.eachRun(ctx, list, s.runs.Delete)
		n += k
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// trimRuns has less kept of the runs that are old, but not too old.
func (s *Sweeper) trimRuns(ctx context.Context, now time.Time) (int, error) {
	if s.cfg.ResultsAge == 0 {
		return 0, nil
	}
	before := now.Add(-max(s.cfg.ResultsAge, settle))
	return s.eachRun(ctx, func(r store.Reader) ([]string, error) { return r.EndedRuns(store.KeptWhole, before, runsAtOnce) }, s.runs.Trim)
}

// eachRun does something to each run that list finds, some of them at a time, and
// returns to how many. One to which it is done is not found again. They are looked
// for in views: that takes longer than the store's writer should wait.
func (s *Sweeper) eachRun(ctx context.Context, list func(store.Reader) ([]string, error), do func(store.Tx, string, time.Time) error) (n int, err error) {
	for {
		var ids []string
		err := s.store.View(ctx, func(r store.Reader) (err error) {
			ids, err = list(r)
			return err
		})
		if err != nil || len(ids) == 0 {
			return n, err
		}
		now := time.Now()
		err = s.store.Update(ctx, func(tx store.Tx) error {
			for _, id := range ids {
				if err := do(tx, id, now); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return n, err
		}
		n += len(ids)
		if len(ids) < runsAtOnce {
			return n, nil
		}
		if !sleep(ctx, pause) {
			return n, ctx.Err()
		}
	}
}

func (s *Sweeper) dropRequests(ctx context.Context) error {
	before := time.Now().Add(-once.Window)
	_, err := s.steps(ctx, func(tx store.Tx) (int, bool, error) {
		more, err := tx.DropRequests(before)
		return 0, more, err
	})
	if err != nil {
		return fmt.Errorf("forget old requests: %w", err)
	}
	return nil
}

// steps runs a step in an update of its own until there is no more to do, and
// returns how much all of them did.
func (s *Sweeper) steps(ctx context.Context, step func(store.Tx) (did int, more bool, err error)) (did int, err error) {
	for {
		var n int
		var more bool
		err := s.store.Update(ctx, func(tx store.Tx) (err error) {
			n, more, err = step(tx)
			return err
		})
		if err != nil {
			return did, err
		}
		did += n
		if !more {
			return did, nil
		}
		if !sleep(ctx, pause) {
			return did, ctx.Err()
		}
	}
}
