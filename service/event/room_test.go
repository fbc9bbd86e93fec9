package event_test

import (
	"strings"
	"testing"

	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/fault"
)

func TestParseRoomTakesTheFourKindsAndNothingElse(t *testing.T) {
	for _, tc := range []struct {
		name string
		kind event.Kind // empty: refused
		id   string
	}{
		{"project:demo", event.KindProject, "demo"},
		{"testrun:0190b0c0-0000-7000-8000-000000000000", event.KindRun, "0190b0c0-0000-7000-8000-000000000000"},
		{"testcase:1", event.KindTestCase, "1"},
		{"user:auth0|5f7c", event.KindUser, "auth0|5f7c"},
		{"user:a:b", event.KindUser, "a:b"},
		{"project:" + strings.Repeat("x", 150), event.KindProject, strings.Repeat("x", 150)},

		{"", "", ""},
		{"project", "", ""},
		{"project:", "", ""},
		{":demo", "", ""},
		{"Project:demo", "", ""},
		{"team:demo", "", ""},
		{"project:two words", "", ""},
		{"project:line\nbreak", "", ""},
		{"project:" + strings.Repeat("x", 151), "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			room, err := event.ParseRoom(tc.name)
			if tc.kind == "" {
				if f := fault.Of(err); f == nil || f.Kind != fault.Invalid || f.Violations[0].Field != "room" {
					t.Fatalf("got %q, %v; want a fault about the field room", room, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if string(room) != tc.name || room.Kind() != tc.kind || room.ID() != tc.id {
				t.Errorf("got %q of kind %q with id %q", room, room.Kind(), room.ID())
			}
		})
	}
}

func TestRoomsAreNamedByKindAndID(t *testing.T) {
	for want, got := range map[event.Room]event.Room{
		"project:1":  event.ProjectRoom("1"),
		"testrun:2":  event.RunRoom("2"),
		"testcase:3": event.TestCaseRoom("3"),
		"user:4":     event.UserRoom("4"),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
