package once_test

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/once"
	"github.com/tcmanager/tcmanager/service/scene"
	"github.com/tcmanager/tcmanager/service/store"
)

// actor carries out requests of AddComment and counts how often.
type actor struct {
	s    *scene.Scene
	t    *testing.T
	done int
}

// do carries out a request, as a service does, at a moment.
func (a *actor) do(user, id, text string, at time.Time) (*pb.AddCommentResponse, error) {
	var resp *pb.AddCommentResponse
	err := a.s.Store.Update(a.t.Context(), func(tx store.Tx) error {
		var err error
		resp, err = once.Do(tx, user, id, at, &pb.AddCommentRequest{Text: text, RequestId: id}, func() (*pb.AddCommentResponse, error) {
			a.done++
			return &pb.AddCommentResponse{Comment: &pb.Comment{Id: string(rune('a' - 1 + a.done)), Text: text}}, nil
		})
		return err
	})
	return resp, err
}

func begin(t *testing.T) *actor {
	t.Helper()
	return &actor{s: scene.New(t), t: t}
}

func TestARepeatIsAnsweredFromMemory(t *testing.T) {
	a := begin(t)
	first, err := a.do(scene.Tester, "r", "hello", a.s.Now())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		again, err := a.do(scene.Tester, "r", "hello", a.s.Now())
		if err != nil || !proto.Equal(again, first) {
			t.Errorf("got %v, %v; want %v", again, err, first)
		}
	}
	if a.done != 1 {
		t.Errorf("carried out %d times", a.done)
	}
}

func TestWithoutAnIDEachRequestIsANewOne(t *testing.T) {
	a := begin(t)
	for want := 1; want <= 3; want++ {
		if _, err := a.do(scene.Tester, "", "hello", a.s.Now()); err != nil || a.done != want {
			t.Errorf("carried out %d times, %v; want %d", a.done, err, want)
		}
	}
}

func TestAnIDIsItsUsersOwn(t *testing.T) {
	a := begin(t)
	for _, user := range []string{scene.Tester, scene.Manager} {
		if _, err := a.do(user, "r", "hello from "+user, a.s.Now()); err != nil {
			t.Errorf("%s: %v", user, err)
		}
	}
	if a.done != 2 {
		t.Errorf("carried out %d times, want 2", a.done)
	}
}

func TestAnIDOfAnotherContentIsRefused(t *testing.T) {
	a := begin(t)
	if _, err := a.do(scene.Tester, "r", "hello", a.s.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := a.do(scene.Tester, "r", "goodbye", a.s.Now()); fault.Of(err) != once.ErrReused {
		t.Errorf("got %v, want ErrReused", err)
	}
	if a.done != 1 {
		t.Errorf("carried out %d times, want 1", a.done)
	}
}

// Two kinds of request can have the same bytes: here an id in field 1 of each.
func TestAnIDOfAnotherMethodIsRefused(t *testing.T) {
	a := begin(t)
	one := &pb.GetTestCaseRequest{TestCaseId: "same bytes"}
	other := &pb.GetProjectRequest{Project: "same bytes"}
	a.s.Update(func(tx store.Tx) error {
		_, err := once.Do(tx, scene.Tester, "r", a.s.Now(), one, func() (*pb.GetTestCaseResponse, error) {
			return &pb.GetTestCaseResponse{}, nil
		})
		return err
	})
	err := a.s.Store.Update(t.Context(), func(tx store.Tx) error {
		_, err := once.Do(tx, scene.Tester, "r", a.s.Now(), other, func() (*pb.GetProjectResponse, error) {
			t.Error("carried out")
			return &pb.GetProjectResponse{}, nil
		})
		return err
	})
	if fault.Of(err) != once.ErrReused {
		t.Errorf("got %v, want ErrReused", err)
	}
}

func TestARequestThatFailedIsNotRemembered(t *testing.T) {
	a := begin(t)
	failed := errors.New("not today")
	err := a.s.Store.Update(t.Context(), func(tx store.Tx) error {
		_, err := once.Do(tx, scene.Tester, "r", a.s.Now(), &pb.AddCommentRequest{Text: "hello"}, func() (*pb.AddCommentResponse, error) {
			return nil, failed
		})
		return err
	})
	if !errors.Is(err, failed) {
		t.Fatalf("got %v", err)
	}
	if _, err := a.do(scene.Tester, "r", "another text", a.s.Now()); err != nil || a.done != 1 {
		t.Errorf("the next request with its id: %v; carried out %d times", err, a.done)
	}
}

// The effect and the memory of it are one transaction: without the one there
// must not be the other, or a repeat would be answered for nothing done.
func TestWhatWasUndoneIsNotRemembered(t *testing.T) {
	a := begin(t)
	failed := errors.New("after all, no")
	err := a.s.Store.Update(t.Context(), func(tx store.Tx) error {
		_, err := once.Do(tx, scene.Tester, "r", a.s.Now(), &pb.AddCommentRequest{Text: "hello", RequestId: "r"}, func() (*pb.AddCommentResponse, error) {
			return &pb.AddCommentResponse{}, nil
		})
		return errors.Join(err, failed)
	})
	if !errors.Is(err, failed) {
		t.Fatalf("got %v", err)
	}
	if _, err := a.do(scene.Tester, "r", "hello", a.s.Now()); err != nil || a.done != 1 {
		t.Errorf("the repeat: %v; carried out %d times, want 1", err, a.done)
	}
}

func TestARequestIsForgottenAfterTheWindow(t *testing.T) {
	a := begin(t)
	at := a.s.Now()
	if _, err := a.do(scene.Tester, "r", "hello", at); err != nil {
		t.Fatal(err)
	}
	forget := func(now time.Time) {
		a.s.Update(func(tx store.Tx) error {
			_, err := tx.DropRequests(now.Add(-once.Window))
			return err
		})
	}
	forget(at.Add(once.Window))
	if _, err := a.do(scene.Tester, "r", "hello", at); err != nil || a.done != 1 {
		t.Errorf("within the window: %v; carried out %d times", err, a.done)
	}
	forget(at.Add(once.Window + time.Second))
	if _, err := a.do(scene.Tester, "r", "hello", at); err != nil || a.done != 2 {
		t.Errorf("after the window: %v; carried out %d times", err, a.done)
	}
}

func TestAnEmptyAnswerIsAnAnswer(t *testing.T) {
	a := begin(t)
	done := 0
	for range 2 {
		a.s.Update(func(tx store.Tx) error {
			got, err := once.Do(tx, scene.Tester, "r", a.s.Now(), &pb.RemoveMemberRequest{UserId: "x"}, func() (*pb.RemoveMemberResponse, error) {
				done++
				return &pb.RemoveMemberResponse{}, nil
			})
			if got == nil {
				t.Error("no answer")
			}
			return err
		})
	}
	if done != 1 {
		t.Errorf("carried out %d times", done)
	}
}
