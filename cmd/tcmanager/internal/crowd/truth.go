package crowd

import (
	"errors"
	"fmt"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"

	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/history"
	"github.com/tcmanager/tcmanager/service/store"
)

// readAtOnce is how much of a log is read at once.
const readAtOnce = 1 << 20

// Log adds what the store has of some rooms to a history. Gone says that it is a
// store that another one has taken the place of.
func Log(r store.Reader, rec *history.Recorder, rooms []string, gone bool) error {
	for _, name := range rooms {
		room := event.Room(name)
		head, err := r.Head(room)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the head of %s: %w", room, err)
		}
		of, err := projectOf(r, room)
		if err != nil {
			return fmt.Errorf("read whose room %s is: %w", room, err)
		}
		if !gone {
			trim := history.Position{Epoch: head.Trim.Epoch, Offset: head.Trim.Offset}
			rec.Add(history.Record{Kind: history.Room, Room: name, Of: of, Position: trim})
		}
		if err := commits(r, rec, room, head.Trim.Offset, gone); err != nil {
			return fmt.Errorf("read the log of %s: %w", room, err)
		}
	}
	return nil
}

// Position returns where a room's log ends; false if there is no such room.
func Position(r store.Reader, room string) (history.Position, bool) {
	head, err := r.Head(event.Room(room))
	return history.Position{Epoch: head.Newest.Epoch, Offset: head.Newest.Offset}, err == nil
}

// projectOf returns the room of the project that decides who may be in a room.
func projectOf(r store.Reader, room event.Room) (string, error) {
	var id string
	switch room.Kind() {
	case event.KindProject:
		return string(room), nil
	case event.KindRun:
		run, err := r.Run(room.ID())
		if err != nil {
			return "", err
		}
		id = run.ProjectId
	case event.KindTestCase:
		tc, err := r.TestCase(room.ID())
		if err != nil {
			return "", err
		}
		id = tc.ProjectId
	default:
		return "", nil
	}
	return string(event.ProjectRoom(id)), nil
}

func commits(r store.Reader, rec *history.Recorder, room event.Room, after uint64, gone bool) error {
	for {
		part, err := r.Log(room, after, readAtOnce)
		if err != nil {
			return err
		}
		for _, ev := range part.Events {
			m, err := ev.Decode()
			if err != nil {
				return err
			}
			commit := history.OfEvent(history.Commit, m)
			commit.Gone = gone
			rec.Add(commit)
			right(rec, room, m)
			after = m.Offset
		}
		if !part.More {
			return nil
		}
	}
}

// right adds what an event says about a member's right to hear the project.
func right(rec *history.Recorder, room event.Room, ev *pb.Event) {
	changed := ev.GetMemberChanged()
	if changed == nil || room.Kind() != event.KindProject {
		return
	}
	kind := history.Lost
	if access.Allowed(changed.GetMember().GetRole(), access.Read) {
		kind = history.Gained
	}
	rec.Add(history.Record{Kind: kind, At: ev.GetTime().AsTime(), User: changed.GetMember().GetUser().GetId(), Room: string(room)})
}
