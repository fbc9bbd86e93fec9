package session

import (
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/wire"
)

// maxWatchFrames bounds what is said in one request: all the rooms of a session
// several times.
const maxWatchFrames = 1000

// Watch serves a client that has said all it has to say.
//
// It ends by itself, and that the client comes back shows that it lives. So a
// half-open peer is gone as soon as one that is silent in Subscribe, without a
// message upstream, which might reach another server.
func (srv *Server) Watch(req *pb.WatchRequest, stream grpc.ServerStreamingServer[pb.SubscribeResponse]) error {
	if len(req.Frames) > maxWatchFrames {
		return fault.Field("frames", "must be at most %d; open another Watch for the others", maxWatchFrames)
	}
	return srv.Serve(&watchStream{
		ServerStreamingServer: stream, frames: req.Frames, mode: req.Mode, asked: make(chan struct{}),
	})
}

// watchStream makes a Watch call the stream of a session: it receives the frames
// of the request, and then nothing.
type watchStream struct {
	grpc.ServerStreamingServer[pb.SubscribeResponse]
	frames []*pb.SubscribeRequest
	mode   pb.WatchMode
	said   func()        // called when asked is closed
	asked  chan struct{} // closed once every frame was handled
}

// errSaidAll says that nothing will be received any more, which is no end.
var errSaidAll = errors.New("the client has said all it had to say")

// Recv is called for the next frame when the one before it was handled.
func (w *watchStream) Recv() (*pb.SubscribeRequest, error) {
	if len(w.frames) > 0 {
		req := w.frames[0]
		w.frames[0] = nil // a Watch stays for a minute; what it said need not
		w.frames = w.frames[1:]
		return req, nil
	}
	close(w.asked)
	w.said()
	return nil, errSaidAll
}

func (w *watchStream) Send(f wire.Frame) error { return w.SendMsg(f) }

// idle reports whether the client says that its user is not at the machine.
func (w *watchStream) idle() bool {
	for _, req := range w.frames {
		if p := req.GetCommand().GetUpdatePresence(); p != nil {
			return p.State == pb.PresenceState_PRESENCE_STATE_IDLE
		}
	}
	return false
}

// hasAsked reports whether every frame was handled.
func (w *watchStream) hasAsked() bool {
	select {
	case <-w.asked:
		return true
	default:
		return false
	}
}

// polls reports whether the Watch ends once all was told. News is whether there
// was more to tell than that the client is up to date.
func (w *watchStream) polls(news bool) bool {
	return w.mode == pb.WatchMode_WATCH_MODE_POLL || w.mode == pb.WatchMode_WATCH_MODE_LONG_POLL && news
}

// isExpectedBack reports whether a session that ended for a reason has another
// stream by design. A client that watches gives its Watch up to open one with other
// rooms, which looks as if its connection had broken.
func (s *Session) isExpectedBack(why error) bool {
	return errors.Is(why, errExpected) || s.watch != nil && fault.Of(why) == nil
}

// pollPatience is how long a client that polls is waited for before it counts as
// gone: ours ask again after 2 s, and a tab that nobody looks at after 15 s.
const pollPatience = 20 * time.Second

// patience is how long the client is waited for when the Watch has ended; 0 if it
// comes back at once.
func (w *watchStream) patience() time.Duration {
	if w.mode == pb.WatchMode_WATCH_MODE_POLL {
		return pollPatience
	}
	return 0
}

// lease is how long a session is kept that nothing is heard of.
func (s *Session) lease() time.Duration {
	if s.watch != nil && s.watch.mode == pb.WatchMode_WATCH_MODE_LONG_POLL {
		return s.srv.cfg.HeartbeatInterval
	}
	return s.srv.cfg.HeartbeatTimeout
}

// leaseOver is why the session ends when nothing was heard for so long. A client
// that watches had nothing to say.
func (s *Session) leaseOver() error {
	if s.watch != nil {
		return errExpected
	}
	return errSilent
}

func pong() *pb.SubscribeResponse {
	return &pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Pong{Pong: &pb.Pong{ServerTime: timestamppb.Now()}}}
}
