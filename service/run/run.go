// Package run takes test results in and gives runs out.
//
// A run is made by the first shard or call that names its key, is running until
// every announced shard has finished, and is never running for ever: a shard
// whose runner is lost is disconnected at once, and a run that nobody reports to
// is ended after a grace time.
//
// The rules of a run are in Live, which knows nothing of stores or streams. Two
// doors lead to it: PublishResults for runners, and the unary calls.
//
// # Concurrency
//
// All changes happen in store.Update, which runs one function at a time; Lives
// are only touched there. Run sweeps for lost runs until its context ends. A
// stream has three goroutines, see PublishResults. Timers tell conflated
// progress; Close stops them.
package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/once"
	"github.com/tcmanager/tcmanager/service/store"
)

// Config sets the times and limits of runs. Zero values mean the defaults.
type Config struct {
	Heartbeat   time.Duration              // how often runners should send something; 10 s
	Lease       time.Duration              // after which a silent runner is lost; 3 heartbeats
	Grace       time.Duration              // how long a run waits for lost runners; 2 min
	Idle        time.Duration              // how long a run without runners waits for the next call; 1 h
	MaxRequest  int                        // told to runners, in bytes; 4 MiB
	MaxLive     int                        // runs whose counters are kept in memory; 256
	URL         func(runID string) string  // the page of a run; nil leaves Run.Url empty
	ReconnectIn func() time.Duration       // told to runners when the server stops; nil means 1 s
	Logger      *slog.Logger               // nil means the default
	Progress    func(events []event.Event) // takes conflated progress to the rooms; nil drops it
}

func (c Config) withDefaults() Config {
	c.Heartbeat = cmp.Or(c.Heartbeat, 10*time.Second)
	c.Lease = cmp.Or(c.Lease, 3*c.Heartbeat)
	c.Grace = cmp.Or(c.Grace, 2*time.Minute)
	c.Idle = cmp.Or(c.Idle, time.Hour)
	c.MaxRequest = cmp.Or(c.MaxRequest, 4<<20)
	c.MaxLive = cmp.Or(c.MaxLive, 256)
	if c.URL == nil {
		c.URL = func(string) string { return "" }
	}
	if c.ReconnectIn == nil {
		c.ReconnectIn = func() time.Duration { return time.Second }
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Progress == nil {
		c.Progress = func([]event.Event) {}
	}
	return c
}

// Service is the execution service.
type Service struct {
	pb.UnimplementedExecutionServiceServer
	store    store.Store
	cfg      Config
	lives    *lives
	progress *progress

	collected collected // only used inside store.Update, as lives is

	mu         sync.Mutex // guards the rest
	publishers map[shardKey]*publisher
	draining   bool
}

// Close stops telling of progress. It doesn't end streams, see Drain.
func (s *Service) Close() { s.progress.close() }

// New returns a service; Run must be called for lost runs to end, and Close once
// nobody reports any more.
func New(st store.Store, cfg Config) *Service {
	cfg = cfg.withDefaults()
	return &Service{
		store: st, cfg: cfg, lives: newLives(cfg.MaxLive), progress: newProgress(cfg.Progress),
		publishers: map[shardKey]*publisher{},
	}
}

// Faults of runs.
var (
	errEnded = fault.New(fault.Precondition, "RUN_ENDED", "the run has ended; start another one with a new run key")
)

// StartRun finds or makes a run.
func (s *Service) StartRun(ctx context.Context, req *pb.StartRunRequest) (*pb.StartRunResponse, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	var resp *pb.StartRunResponse
	now := time.Now()
	err = s.store.Update(ctx, func(tx store.Tx) error {
		p, err := access.Project(tx, caller.User.Id, req.Project, access.Publish)
		if err != nil {
			return err
		}
		resp, err = once.Do(tx, caller.User.Id, req.RequestId, now, req, func() (*pb.StartRunResponse, error) {
			key, err := keyOr(req.RunKey)
			if err != nil {
				return nil, err
			}
			run, err := s.findOrStart(tx, p, key, req.Info, 0, caller, now)
			if err != nil {
				return nil, err
			}
			if run.State == pb.RunState_RUN_STATE_ENDED {
				return nil, errEnded
			}
			return &pb.StartRunResponse{Run: s.withURL(run)}, nil
		})
		return err
	})
	return resp, err
}

// keyOr returns key, or a new one if it is empty.
func keyOr(key string) (string, error) {
	if key != "" {
		return key, nil
	}
	id, err := uuid.NewV7()
	return id.String(), err
}

func (s *Service) withURL(run *pb.Run) *pb.Run {
	run.Url = s.cfg.URL(run.Id)
	return run
}

// findOrStart returns the run of a key, made and started if there was none.
func (s *Service) findOrStart(tx store.Tx, p *pb.Project, key string, info *pb.RunInfo, shards uint32, caller identity.Caller, now time.Time) (*pb.Run, error) {
	run, err := tx.RunByKey(p.Id, key)
	if err == nil || !errors.Is(err, store.ErrNotFound) {
		return run, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	if info == nil {
		info = &pb.RunInfo{}
	}
	total := info.ExpectedTotal
	if total == 0 {
		if total, err = tx.LastTotal(p.Id, info.Source, info.Name); err != nil {
			return nil, fmt.Errorf("look for an earlier run of %q: %w", info.Name, err)
		}
	}
	run = &pb.Run{
		Id: id.String(), ProjectId: p.Id, Key: key, Info: info,
		State: pb.RunState_RUN_STATE_RUNNING, Counts: &pb.Counts{}, Suites: &pb.Counts{},
		StartedAt: timestamppb.New(now), StartedBy: caller.Ref(),
		ExpectedShards: shards, ExpectedTotal: total,
	}
	err = tx.AddRun(run)
	if errors.Is(err, store.ErrExists) { // by this key none was found
		return nil, errKeyUsed
	}
	if err != nil {
		return nil, fmt.Errorf("add run %q: %w", key, err)
	}
	return run, s.tell(tx, run, pb.RunChange_RUN_CHANGE_STARTED, caller.Ref(), now)
}

// tell appends a RunChanged event to the rooms of the run and of its project.
func (s *Service) tell(tx store.Tx, run *pb.Run, change pb.RunChange, actor *pb.UserRef, now time.Time) error {
	d, err := s.changed(run, change, actor, now)
	if err != nil {
		return err
	}
	_, err = tx.Append(d, d.For(event.ProjectRoom(run.ProjectId)))
	return err
}

// tellRoom appends it to the run's room alone.
func (s *Service) tellRoom(tx store.Tx, run *pb.Run, change pb.RunChange, now time.Time) error {
	d, err := s.changed(run, change, nil, now)
	if err != nil {
		return err
	}
	_, err = tx.Append(d)
	return err
}

func (s *Service) changed(run *pb.Run, change pb.RunChange, actor *pb.UserRef, now time.Time) (event.Draft, error) {
	return event.NewDraft(event.RunRoom(run.Id), now, actor, &pb.Event{Payload: &pb.Event_RunChanged{
		RunChanged: &pb.RunChanged{Change: change, Run: s.withURL(run)},
	}})
}

// ReportResult records one result.
func (s *Service) ReportResult(ctx context.Context, req *pb.ReportResultRequest) (*pb.ReportResultResponse, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	var resp *pb.ReportResultResponse
	now := time.Now()
	err = s.change(ctx, req.RunId, caller, func(tx store.Tx, live *Live) error {
		resp, err = once.Do(tx, caller.User.Id, req.RequestId, now, req, func() (*pb.ReportResultResponse, error) {
			if live.Run.State != pb.RunState_RUN_STATE_RUNNING {
				return nil, errEnded
			}
			w, err := s.write(tx, live, caller.Ref(), "", now)
			if err != nil {
				return nil, err
			}
			update := proto.CloneOf(req.Update)
			if err := w.test(update); err != nil {
				return nil, err
			}
			if err := w.flush(); err != nil {
				return nil, err
			}
			return &pb.ReportResultResponse{Update: update}, nil
		})
		return err
	})
	return resp, err
}

// FinishRun ends a run.
func (s *Service) FinishRun(ctx context.Context, req *pb.FinishRunRequest) (*pb.FinishRunResponse, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	var resp *pb.FinishRunResponse
	now := time.Now()
	err = s.change(ctx, req.RunId, caller, func(tx store.Tx, live *Live) error {
		resp, err = once.Do(tx, caller.User.Id, req.RequestId, now, req, func() (*pb.FinishRunResponse, error) {
			if live.Run.State != pb.RunState_RUN_STATE_ENDED {
				if err := s.end(tx, live, caller.Ref(), req.Reason, now); err != nil {
					return nil, err
				}
			}
			return &pb.FinishRunResponse{Run: proto.CloneOf(s.withURL(live.Run))}, nil
		})
		return err
	})
	return resp, err
}

// change runs fn on a run that the caller may publish to, in a transaction. What
// fn did to the Live is forgotten if it isn't committed.
func (s *Service) change(ctx context.Context, runID string, caller identity.Caller, fn func(store.Tx, *Live) error) error {
	err := s.update(ctx, runID, func(tx store.Tx, live *Live) error {
		if err := access.Check(tx, caller.User.Id, live.Run.ProjectId, access.Publish); err != nil {
			return err
		}
		return fn(tx, live)
	})
	if errors.Is(err, access.ErrDenied) {
		return s.denied(ctx, caller.User.Id, runID)
	}
	return err
}

// update runs fn on a run in a transaction, and tells its readers how far it is.
func (s *Service) update(ctx context.Context, runID string, fn func(store.Tx, *Live) error) error {
	var told progressOf
	carried := false
	err := s.store.Update(ctx, func(tx store.Tx) (err error) {
		if told, err = s.with(tx, runID, fn); err != nil {
			return err
		}
		if drafts := s.progress.carry(told); len(drafts) > 0 {
			carried = true
			_, err = tx.Append(drafts...)
		}
		return err
	})
	if err != nil {
		if carried {
			s.progress.lost(runID)
		}
		return err
	}
	s.progress.note(told, carried)
	return nil
}

// with runs fn on a run within a transaction. A Live that fn left half changed
// is forgotten, also if fn panicked, which the store survives.
func (s *Service) with(tx store.Tx, runID string, fn func(store.Tx, *Live) error) (told progressOf, err error) {
	live, err := s.lives.load(tx, runID)
	if err != nil {
		return told, err
	}
	live.touched = false
	settled := false
	defer func() {
		if live.touched && !settled {
			s.lives.drop(runID)
		}
	}()
	if err = fn(tx, live); err != nil {
		return told, err
	}
	if err = s.lives.settle(tx, live); err != nil {
		return told, err
	}
	settled = true
	return live.progress(), nil
}
