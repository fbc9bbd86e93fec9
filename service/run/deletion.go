package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/store"
)

// What those hear who come for a run that was deleted, if they may see what its
// project has. A runner may not begin it anew by its key: that would show half of it
// and call it whole.
var (
	errDeleted = fault.New(fault.NotFound, "RUN_DELETED", "the run was deleted: this server keeps a project's runs only for so long, or only so many")
	errKeyUsed = fault.New(fault.NotFound, "RUN_DELETED", "the run with this key was deleted; start another one with a new run key")
)

// Trim drops the results of a run that passed and all of its output, and tells its
// readers. It does nothing to a run that has not ended, as one has whose runner came
// back.
func (s *Service) Trim(tx store.Tx, runID string, now time.Time) error {
	return s.afterwards(tx, runID, func(run *pb.Run) error {
		if err := tx.TrimRun(run.Id); err != nil {
			return err
		}
		run.ResultsTrimmed = true
		return s.tellRoom(tx, run, pb.RunChange_RUN_CHANGE_TRIMMED, now)
	})
}

// Delete takes a run away and tells the readers of its room, which ends with it, and
// those of its project. It does nothing to a run that has not ended.
//
// The event in the run's own room also makes memories of the run void: whoever
// writes to a run compares where its room is first.
func (s *Service) Delete(tx store.Tx, runID string, now time.Time) error {
	return s.afterwards(tx, runID, func(run *pb.Run) error {
		if err := tx.DeleteRun(run.Id); err != nil {
			return err
		}
		left := &pb.Run{Id: run.Id, ProjectId: run.ProjectId, Key: run.Key, Number: run.Number}
		return s.tell(tx, left, pb.RunChange_RUN_CHANGE_DELETED, nil, now)
	})
}

// afterwards does something to a run that has ended.
func (s *Service) afterwards(tx store.Tx, runID string, do func(*pb.Run) error) error {
	run, err := tx.Run(runID)
	if errors.Is(err, store.ErrNotFound) || err == nil && run.State != pb.RunState_RUN_STATE_ENDED {
		return nil
	}
	if err == nil {
		err = do(run)
	}
	if err != nil {
		return fmt.Errorf("forget run %s: %w", runID, err)
	}
	return nil
}

// missing says why a run that a user named can't be found.
func missing(r store.Reader, userID, runID string, action access.Action) error {
	project, err := r.DeletedRun(runID)
	if errors.Is(err, store.ErrNotFound) {
		return access.ErrDenied
	}
	if err != nil {
		return fmt.Errorf("look for run %s: %w", runID, err)
	}
	if err := access.Check(r, userID, project, action); err != nil {
		return err
	}
	return errDeleted
}

// denied says why a user was denied to publish to a run: it may be there no more.
func (s *Service) denied(ctx context.Context, userID, runID string) error {
	return s.store.View(ctx, func(r store.Reader) error { return missing(r, userID, runID, access.Publish) })
}
