package project

import (
	"fmt"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

// SnapshotRuns is how many runs a snapshot of a project shows: more than a page
// of the screen; the others are read with ListRuns.
const SnapshotRuns = 50

// Room is how a session comes into the rooms of projects.
type Room struct{ runURL func(runID string) string }

// NewRoom makes a Room. The function returns the address of a run's page.
func NewRoom(runURL func(runID string) string) Room { return Room{runURL: runURL} }

// Enter checks that a user may do something in a project's room and returns the
// room's canonical name: a client may name the project by its key. It returns
// access.ErrDenied also for a project that doesn't exist.
func (Room) Enter(r store.Reader, userID string, room event.Room, action access.Action) (event.Room, error) {
	p, err := access.Project(r, userID, room.ID(), action)
	if err != nil {
		return "", err
	}
	return event.ProjectRoom(p.GetId()), nil
}

// Snapshot sets j.Snapshot to the state of the project as r shows it to the user.
func (o Room) Snapshot(r store.Reader, userID string, room event.Room, j *pb.Joined) error {
	p, err := get(r, userID, room.ID())
	if err != nil {
		return err
	}
	runs, err := r.Runs(p.GetId(), 0, SnapshotRuns)
	if err != nil {
		return fmt.Errorf("read the runs of %s: %w", p.GetId(), err)
	}
	// Runs that go on come with their shards: without them a page could not tell
	// that a run's runners were lost, and would let its clock tick on.
	running, err := r.RunningRuns(p.GetId())
	if err != nil {
		return fmt.Errorf("read the running runs of %s: %w", p.GetId(), err)
	}
	shards := make(map[string][]*pb.Shard, len(running))
	for _, run := range running {
		shards[run.GetId()] = run.GetShards()
	}
	for _, run := range runs {
		run.Shards = shards[run.GetId()]
		run.Url = o.runURL(run.GetId())
	}
	members, err := r.Members(p.GetId())
	if err != nil {
		return fmt.Errorf("read the members of %s: %w", p.GetId(), err)
	}
	j.Snapshot = &pb.Joined_Project{Project: &pb.ProjectSnapshot{Project: p, Runs: runs, Members: members}}
	return nil
}
