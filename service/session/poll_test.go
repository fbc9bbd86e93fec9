package session

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/identity"
)

// nowhere is the stream of a Watch whose frames go nowhere.
type nowhere struct {
	grpc.ServerStreamingServer[pb.SubscribeResponse]
	ctx context.Context
}

func (n nowhere) Context() context.Context { return n.ctx }
func (nowhere) SendMsg(any) error          { return nil }

// The last frame of a poll may be handled just after the sender saw that nothing
// waits, and before it looks whether the poll is over.
func TestAPollIsNotOverBeforeItsLastAnswerIsSent(t *testing.T) {
	srv := NewServer(Config{}, Deps{})
	w := &watchStream{ServerStreamingServer: nowhere{ctx: t.Context()}, mode: pb.WatchMode_WATCH_MODE_POLL, asked: make(chan struct{})}
	s := srv.open(w, identity.Caller{User: &pb.User{Id: "u"}, ExpiresAt: time.Now().Add(time.Hour)})
	defer s.timer.Stop()
	s.greeted, s.out.owner = true, ownerFunc(func() {}) // the test sends
	followed := false
	asked := s.hasAsked()
	if did, err := s.next(true, time.Now(), &followed); did != idle || err != nil {
		t.Fatal(did, err)
	}
	s.out.post(pong())
	close(w.asked)
	if did, err := s.rest(asked, &followed); did != idle || err != nil {
		t.Error("the poll is over, and its last answer was not sent")
	}
	if did, err := s.next(true, time.Now(), &followed); did != moved || err != nil {
		t.Fatal(did, err)
	}
	if _, err := s.next(true, time.Now(), &followed); !errors.Is(err, errExpected) || s.sent != 1 {
		t.Errorf("all was asked, %d frames were sent, and the poll is not over: %v", s.sent, err)
	}
}

func TestAWatchKeepsNothingOfWhatWasSaid(t *testing.T) {
	frames := []*pb.SubscribeRequest{{Id: 1}, {Id: 2}, {Id: 3}}
	w := &watchStream{frames: frames}
	for i := range frames {
		if req, err := w.Recv(); err != nil || req.GetId() != uint64(i+1) {
			t.Fatal(req, err)
		}
	}
	if slices.ContainsFunc(frames, func(req *pb.SubscribeRequest) bool { return req != nil }) {
		t.Errorf("it still holds %v", frames)
	}
}
