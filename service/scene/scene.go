// Package scene sets the stage for tests of services: the real store on a real
// file, a project with one member of each role, and an ear in every room.
package scene

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/sqlite"
)

// The users of a scene: a member of project Key for each role, named for it, and
// a stranger, who owns the project OtherKey.
const (
	Owner    = "owner"
	Manager  = "manager"
	Tester   = "tester"
	Viewer   = "viewer"
	Bot      = "bot"
	Stranger = "stranger"
)

// The projects of a scene.
const (
	ProjectID = "0190b0c0-0000-7000-8000-000000000001"
	Key       = "demo"
	OtherID   = "0190b0c0-0000-7000-8000-000000000002"
	OtherKey  = "other"
)

// Members are the members of the project Key, and their roles.
var Members = map[string]pb.Role{
	Owner:   pb.Role_ROLE_OWNER,
	Manager: pb.Role_ROLE_MANAGER,
	Tester:  pb.Role_ROLE_TESTER,
	Viewer:  pb.Role_ROLE_VIEWER,
	Bot:     pb.Role_ROLE_BOT,
}

// Users are all users, those who may do most first.
var Users = []string{Owner, Manager, Tester, Viewer, Bot, Stranger}

// Scene is a store with people in it. All of its methods but Reopen may be called
// at the same time as each other.
type Scene struct {
	Store    store.Store
	t        testing.TB
	path     string
	listener store.Listener

	mu    sync.Mutex
	heard []event.Event
	clock time.Time
}

// New sets a scene. It ends with the test.
func New(t testing.TB) *Scene { return Listening(t, func([]event.Event) {}) }

// Listening is New with a listener of the test's own beside the scene's.
func Listening(t testing.TB, listener store.Listener) *Scene {
	t.Helper()
	s := &Scene{t: t, listener: listener, path: filepath.Join(t.TempDir(), "tcm.db"), clock: time.Date(2026, 11, 24, 23, 9, 0, 0, time.UTC)}
	s.open()
	t.Cleanup(func() {
		if err := s.Store.Close(); err != nil {
			t.Error(err)
		}
	})
	s.Update(populate)
	return s
}

func (s *Scene) open() {
	s.t.Helper()
	st, err := sqlite.Open(s.t.Context(), sqlite.Options{
		Path: s.path,
		Listener: func(evs []event.Event) {
			s.hear(evs)
			s.listener(evs)
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.Store = st
}

// Reopen closes the store and opens it anew, as a restart of the server does. It
// must not be called at the same time as anything else.
func (s *Scene) Reopen() {
	s.t.Helper()
	if err := s.Store.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.open()
}

func populate(tx store.Tx) error {
	for _, id := range Users {
		if err := tx.PutUser(&pb.User{Id: id, Name: NameOf(id), Email: id + "@example.com"}); err != nil {
			return err
		}
	}
	for id, key := range map[string]string{ProjectID: Key, OtherID: OtherKey} {
		if err := tx.PutProject(&pb.Project{Id: id, Key: key, Name: NameOf(key)}); err != nil {
			return err
		}
	}
	for id, role := range Members {
		if err := tx.PutMember(ProjectID, id, role); err != nil {
			return err
		}
	}
	return tx.PutMember(OtherID, Stranger, pb.Role_ROLE_OWNER)
}

// NameOf is the name of a user or a project of the scene: "Owner" for "owner".
func NameOf(id string) string { return strings.ToUpper(id[:1]) + id[1:] }

// As returns the context of a request by a user.
func (s *Scene) As(userID string) context.Context {
	return identity.WithCaller(s.t.Context(), identity.Caller{
		User: &pb.User{Id: userID, Name: NameOf(userID), Email: userID + "@example.com"},
	})
}

// Now is a clock that moves on by a second each time it is asked.
func (s *Scene) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = s.clock.Add(time.Second)
	return s.clock
}

// Update changes the store, or ends the test.
func (s *Scene) Update(fn func(store.Tx) error) {
	s.t.Helper()
	if err := s.Store.Update(s.t.Context(), fn); err != nil {
		s.t.Fatal(err)
	}
}

// View reads the store, or ends the test.
func (s *Scene) View(fn func(store.Reader) error) {
	s.t.Helper()
	if err := s.Store.View(s.t.Context(), fn); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Scene) hear(evs []event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = append(s.heard, evs...)
}

// Heard returns what was heard since it was last asked, in order.
func (s *Scene) Heard() []*pb.Event {
	s.t.Helper()
	s.mu.Lock()
	evs := s.heard
	s.heard = nil
	s.mu.Unlock()
	decoded := make([]*pb.Event, 0, len(evs))
	for _, ev := range evs {
		d, err := ev.Decode()
		if err != nil {
			s.t.Fatal(err)
		}
		decoded = append(decoded, d)
	}
	return decoded
}

// Hears returns the rooms of events, in order, for comparing at a glance.
func Hears(evs []*pb.Event) []event.Room {
	rooms := make([]event.Room, 0, len(evs))
	for _, ev := range evs {
		rooms = append(rooms, event.Room(ev.GetRoom()))
	}
	return rooms
}
