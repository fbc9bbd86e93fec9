package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

// Run ends what nobody reports to any more, until ctx ends: silent runners lose
// their lease, lost shards are marked, and runs that wait for lost runners too
// long are ended. So no run is running for ever, whatever became of its runner,
// or of this server: what a crash left behind is found by the first sweep.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(min(s.cfg.Grace, s.cfg.Lease) / 4)
	defer tick.Stop()
	for {
		if err := s.sweep(ctx, time.Now()); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Error("the sweep for lost runs failed; it will be tried again", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Service) sweep(ctx context.Context, now time.Time) error {
	connected := s.expire(now)
	var runs []*pb.Run
	err := s.store.View(ctx, func(r store.Reader) (err error) {
		runs, err = r.RunningRuns("")
		return err
	})
	if err != nil {
		return fmt.Errorf("list running runs: %w", err)
	}
	var errs []error // one run that can't be ended doesn't keep the others running
	for _, run := range runs {
		if err := s.sweepRun(ctx, run, connected, now); err != nil {
			errs = append(errs, fmt.Errorf("sweep run %s: %w", run.Id, err))
		}
	}
	return errors.Join(errs...)
}

// expire ends the streams of silent runners and returns the shards of the others.
func (s *Service) expire(now time.Time) map[shardKey]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	connected := map[shardKey]bool{}
	for key, p := range s.publishers {
		if now.Sub(time.Unix(0, p.heard.Load())) > s.cfg.Lease {
			p.end(errLost)
			continue
		}
		connected[key] = true
	}
	return connected
}

// lastReport is when a run's room was last told something.
func lastReport(r store.Reader, run *pb.Run) (time.Time, error) {
	events, err := r.Recent(event.RunRoom(run.Id), 1)
	if err != nil || len(events) == 0 {
		return run.StartedAt.AsTime(), err
	}
	ev, err := events[0].Decode()
	if err != nil {
		return time.Time{}, err
	}
	return ev.Time.AsTime(), nil
}

// sweepRun marks a run's lost shards, and ends it if it waited long enough.
func (s *Service) sweepRun(ctx context.Context, run *pb.Run, connected map[shardKey]bool, now time.Time) error {
	for _, shard := range run.Shards {
		key := shardKey{run.Id, shard.Name}
		// A stream that is just opening is in the store before it is registered.
		if shard.State == pb.ShardState_SHARD_STATE_LIVE && !connected[key] && now.Sub(shard.ChangedAt.AsTime()) > s.cfg.Lease {
			if err := s.abandon(ctx, key); err != nil {
				return err
			}
		}
	}
	var due bool
	err := s.store.View(ctx, func(r store.Reader) (err error) {
		_, due, err = overdue(r, run, s.cfg, now)
		return err
	})
	if err != nil || !due {
		return err
	}
	return s.update(ctx, run.Id, func(tx store.Tx, live *Live) error {
		// Somebody may have come back since the run was read.
		reason, due, err := overdue(tx, live.Run, s.cfg, now)
		if err != nil || !due || live.Run.State != pb.RunState_RUN_STATE_RUNNING {
			return err
		}
		s.cfg.Logger.Warn("a run was given up: nobody reports to it any more", "run", run.Id, "reason", reason)
		return s.end(tx, live, nil, reason, now)
	})
}

// abandon marks a shard that the store has as live and that has no stream.
func (s *Service) abandon(ctx context.Context, key shardKey) error {
	var shard store.Shard
	err := s.store.View(ctx, func(r store.Reader) (err error) {
		shard, err = r.Shard(key.runID, key.shard)
		return err
	})
	if err != nil {
		return fmt.Errorf("read shard %s: %w", key.shard, err)
	}
	return s.disconnect(ctx, key, shard.Incarnation)
}

// overdue reports whether a running run has to be ended, and how. A run waits
// for its lost runners for the grace time, and without runners for the next call
// for the idle time.
func overdue(r store.Reader, run *pb.Run, cfg Config, now time.Time) (pb.EndReason, bool, error) {
	reason := pb.EndReason_END_REASON_ABORTED
	if len(run.Shards) == 0 {
		last, err := lastReport(r, run)
		return reason, now.Sub(last) > cfg.Idle, err
	}
	for _, shard := range run.Shards {
		switch {
		case shard.State == pb.ShardState_SHARD_STATE_LIVE:
			return reason, false, nil
		case now.Sub(shard.ChangedAt.AsTime()) <= cfg.Grace:
			return reason, false, nil
		case shard.State == pb.ShardState_SHARD_STATE_FINISHED:
			reason = pb.EndReason_END_REASON_INTERRUPTED
		}
	}
	return reason, true, nil
}
