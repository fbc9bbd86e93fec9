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
	return each(r, room, after, func(ev *pb.Event) {
		commit := history.OfEvent(history.Commit, ev)
		commit.Gone = gone
		rec.Add(commit)
		right(rec, room, ev)
	})
}

// each calls fn for the events of a room's log behind an offset.
func each(r store.Reader, room event.Room, after uint64, fn func(*pb.Event)) error {
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
			fn(m)
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

// Writes adds to a history what the logs of some rooms say was written: results by
// the names of their tests, and comments by their texts.
func Writes(r store.Reader, rec *history.Recorder, rooms []string) error {
	for _, name := range rooms {
		room := event.Room(name)
		head, err := r.Head(room)
		if errors.Is(err, store.ErrNotFound) || room.Kind() != event.KindRun && room.Kind() != event.KindTestCase {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the head of %s: %w", room, err)
		}
		if err := each(r, room, head.Trim.Offset, func(ev *pb.Event) {
			if write := writeOf(ev); write != "" {
				at := history.Position{Epoch: ev.Epoch, Offset: ev.Offset}
				rec.Add(history.Record{Kind: history.Found, Room: name, Position: at, Write: write})
			}
		}); err != nil {
			return fmt.Errorf("read the log of %s: %w", room, err)
		}
	}
	return nil
}

// writeOf names the write that an event is the effect of; empty for others.
func writeOf(ev *pb.Event) string {
	if test := ev.GetTestExecution(); test != nil {
		return test.GetTest().GetName()
	}
	return ev.GetCollaboration().GetComment().GetText()
}
