package event

import (
	"strings"

	"github.com/tcmanager/tcmanager/service/fault"
)

// Room is the canonical name of a room: a kind, a colon, an id.
type Room string

// Kind is what a room is about.
type Kind string

// The kinds of rooms.
const (
	KindProject  Kind = "project"
	KindRun      Kind = "testrun"
	KindTestCase Kind = "testcase"
	KindUser     Kind = "user"
)

// ProjectRoom is the room of a project.
func ProjectRoom(id string) Room { return Room(string(KindProject) + ":" + id) }

// RunRoom is the room of a run.
func RunRoom(id string) Room { return Room(string(KindRun) + ":" + id) }

// TestCaseRoom is the room of a test case.
func TestCaseRoom(id string) Room { return Room(string(KindTestCase) + ":" + id) }

// UserRoom is the room of one user.
func UserRoom(id string) Room { return Room(string(KindUser) + ":" + id) }

// ParseRoom checks the form of a name that a client sent. It says nothing about
// whether the room exists.
func ParseRoom(name string) (Room, error) {
	kind, id, ok := strings.Cut(name, ":")
	switch Kind(kind) {
	case KindProject, KindRun, KindTestCase, KindUser:
		if ok && id != "" && len(id) <= 150 && !strings.ContainsAny(id, " \t\r\n") {
			return Room(name), nil
		}
	}
	return "", fault.Field("room", `must be "project:ID", "testrun:ID", "testcase:ID" or "user:ID"`)
}

// Kind returns what the room is about.
func (r Room) Kind() Kind {
	k, _, _ := strings.Cut(string(r), ":")
	return Kind(k)
}

// ID returns the id of what the room is about.
func (r Room) ID() string {
	_, id, _ := strings.Cut(string(r), ":")
	return id
}
