// Package storetest is the conformance suite of stores: what package store
// promises, as tests. An implementation passes it by calling Run from a test of
// its own.
//
// It knows a store by its interface alone. What depends on the engine, such as a
// full disk or a commit that fails, each implementation tests itself.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

// Opener opens a store. Each call after the store of the call before was closed
// opens the same data again.
type Opener func(t *testing.T, listener store.Listener) store.Store

// Run runs the suite. Each call of fresh returns an opener of new, empty data,
// which is thrown away when its test ends.
func Run(t *testing.T, fresh func(t *testing.T) Opener) {
	t.Helper()
	for _, group := range []struct {
		name  string
		tests []test
	}{
		{"users and projects", peopleTests},
		{"runs", runTests},
		{"results", resultTests},
		{"output", outputTests},
		{"test cases", caseTests},
		{"notifications", notificationTests},
		{"requests", requestTests},
		{"the log", logTests},
		{"trimming", trimTests},
		{"retention of runs", retentionTests},
		{"updates", updateTests},
		{"groups", groupTests},
		{"views", viewTests},
		{"life", lifeTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, test := range group.tests {
				t.Run(test.claim, func(t *testing.T) { test.run(begin(t, fresh(t))) })
			}
		})
	}
}

type test struct {
	claim string
	run   func(*env)
}

// env is one test's store and what its listener heard.
type env struct {
	*testing.T
	ctx    context.Context
	opener Opener
	s      store.Store

	inListener atomic.Bool
	mu         sync.Mutex
	heard      []event.Event // guarded by mu
}

func begin(t *testing.T, opener Opener) *env {
	t.Helper()
	e := &env{T: t, ctx: t.Context(), opener: opener}
	e.open()
	t.Cleanup(func() {
		if err := e.s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return e
}

func (e *env) open() {
	e.Helper()
	e.s = e.opener(e.T, func(events []event.Event) {
		if e.inListener.Swap(true) {
			e.Error("the listener was called while it was running")
		}
		defer e.inListener.Store(false)
		for range 100 { // so that who doesn't wait for it is ahead of it
			runtime.Gosched()
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		e.heard = append(e.heard, events...)
	})
}

// reopen closes the store and opens its data again.
func (e *env) reopen() {
	e.Helper()
	if err := e.s.Close(); err != nil {
		e.Fatalf("close: %v", err)
	}
	e.open()
}

// hears returns what the listener heard so far.
func (e *env) hears() []event.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.heard)
}

func (e *env) update(fn func(store.Tx) error) {
	e.Helper()
	if err := e.s.Update(e.ctx, fn); err != nil {
		e.Fatalf("update: %v", err)
	}
}

// refuses runs an update that has to fail with an error.
func (e *env) refuses(want error, fn func(store.Tx) error) {
	e.Helper()
	if err := e.s.Update(e.ctx, fn); !errors.Is(err, want) {
		e.Errorf("got error %v, want %v", err, want)
	}
}

func (e *env) view(fn func(store.Reader) error) {
	e.Helper()
	if err := e.s.View(e.ctx, fn); err != nil {
		e.Fatalf("view: %v", err)
	}
}

// keeps writes, and checks three times: by the transaction itself, by a view
// after it, and after the store was opened again.
func (e *env) keeps(write func(store.Tx) error, check func(store.Reader) error) {
	e.Helper()
	e.update(func(tx store.Tx) error {
		if err := write(tx); err != nil {
			return err
		}
		if err := check(tx); err != nil {
			e.Errorf("a transaction reads what it wrote:\n%v", err)
		}
		return nil
	})
	if err := e.s.View(e.ctx, check); err != nil {
		e.Errorf("a view reads what was written before it:\n%v", err)
	}
	e.reopen()
	if err := e.s.View(e.ctx, check); err != nil {
		e.Errorf("a view after a restart reads what was written before it:\n%v", err)
	}
}

// is returns an error if a call failed or returned something else than wanted.
// Its arguments are curried so that a call's two results fit in.
func is[T any](got T, err error) func(what string, want T) error {
	return func(what string, want T) error {
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if !same(got, want) {
			return fmt.Errorf("%s:\n got %v\nwant %v", what, got, want)
		}
		return nil
	}
}

// fails returns an error if a call did not fail with an error.
func fails[T any](_ T, err error) func(what string, want error) error {
	return func(what string, want error) error {
		if !errors.Is(err, want) {
			return fmt.Errorf("%s: got error %q, want %q", what, fmt.Sprint(err), want.Error())
		}
		return nil
	}
}

// same compares messages as messages, lists item by item, nil as an empty list.
func same(a, b any) bool {
	if x, ok := a.(proto.Message); ok {
		y, ok := b.(proto.Message)
		return ok && proto.Equal(x, y)
	}
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	if x.Kind() != reflect.Slice || y.Kind() != reflect.Slice {
		return reflect.DeepEqual(a, b)
	}
	if x.Len() != y.Len() {
		return false
	}
	for i := range x.Len() {
		if !same(x.Index(i).Interface(), y.Index(i).Interface()) {
			return false
		}
	}
	return true
}

// noon is a moment with as much precision as stores keep.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

func at(minutes int) *timestamppb.Timestamp {
	return timestamppb.New(noon.Add(time.Duration(minutes) * time.Minute))
}

// People and projects that most tests need.
var (
	ada   = &pb.User{Id: "ada", Name: "Ada", Email: "ada@example.org"}
	grace = &pb.User{Id: "grace", Name: "Grace", Email: "grace@example.org"}
)

const (
	projectID = "0190a000-0000-7000-8000-000000000001"
	otherID   = "0190a000-0000-7000-8000-000000000002"
	runID     = "0190a000-0000-7000-8000-00000000000a"
	missing   = "0190a000-0000-7000-8000-0000000000ff"
)

func project() *pb.Project {
	return &pb.Project{Id: projectID, Key: "demo", Name: "Demo", CreatedAt: at(0)}
}

func other() *pb.Project {
	return &pb.Project{Id: otherID, Key: "other", Name: "Other", CreatedAt: at(1)}
}

func newRun(id, key string) *pb.Run {
	return &pb.Run{
		Id: id, ProjectId: projectID, Key: key, State: pb.RunState_RUN_STATE_RUNNING,
		Info: &pb.RunInfo{Name: "unit", Source: "go", Branch: "main"}, StartedAt: at(2),
		StartedBy: &pb.UserRef{Id: "ada", Name: "Ada"},
	}
}

// populate makes two users, two projects and a run.
func populate(tx store.Tx) error {
	return errors.Join(
		tx.PutUser(ada), tx.PutUser(grace),
		tx.PutProject(project()), tx.PutProject(other()),
		tx.AddRun(newRun(runID, "first")),
	)
}
