package session

import (
	"context"
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
	w := &watchStream{
		ServerStreamingServer: nowhere{ctx: t.Context()}, mode: pb.WatchMode_WATCH_MODE_POLL,
		said: func() {}, asked: make(chan struct{}),
	}
	s := &Session{
		srv: NewServer(Config{}, Deps{}), stream: w, watch: w, out: newOutbox(1), end: func(error) {},
		caller: identity.Caller{User: &pb.User{Id: "u"}, ExpiresAt: time.Now().Add(time.Hour)},
	}
	stall := time.NewTimer(time.Hour)
	asked := s.hasAsked()
	if more, err := s.sendNext(t.Context(), stall); more || err != nil {
		t.Fatal(more, err)
	}
	s.out.post(pong())
	close(w.asked)
	if asked && s.isPolled(t.Context()) {
		t.Error("the poll is over, and its last answer was not sent")
	}
	asked = s.hasAsked()
	for more := true; more; {
		var err error
		if more, err = s.sendNext(t.Context(), stall); err != nil {
			t.Fatal(err)
		}
	}
	if !asked || !s.isPolled(t.Context()) || s.sent != 1 {
		t.Errorf("all was asked: %v, %d frames were sent, and the poll is not over", asked, s.sent)
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
