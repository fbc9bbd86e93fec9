package session

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/limit"
	"github.com/tcmanager/tcmanager/service/once"
	"github.com/tcmanager/tcmanager/service/store"
)

// Session is one connected client.
type Session struct {
	// What every frame needs stands together, as in outbox and place: with thousands of
	// sessions, each line of memory that is touched costs as much as a hundred
	// instructions.
	quick        quick        // what sends; nil if a Send may wait
	ready        func()       // what that calls when it has flushed
	watch        *watchStream // the stream, if it is a Watch; else nil
	worker       *worker      // who flushes it
	sendingSince atomic.Int64 // when the frame that is on its way was sent, in nanoseconds since 1970; 0 if none is
	expiresAt    atomic.Int64 // when the caller's token ends, likewise
	out          outbox

	srv    *Server
	stream Stream
	direct Direct // what the stream's carrier has beside it; nil if to wait for a request takes a goroutine
	ctx    context.Context
	cancel context.CancelCauseFunc
	id     string // set once, by add

	looking sync.Mutex  // held while it is looked what is due
	timer   *time.Timer // runs until something is due next

	buckets  []kindBucket  // by kind of frame; the receiver's
	refusals *limit.Bucket // likewise

	sent int64 // frames of a Watch, but the last; whoever sends counts

	heardAt atomic.Int64  // when something was received last, in nanoseconds since 1970
	rights  atomic.Uint64 // counts up when rights may have changed

	mu       sync.Mutex // guards the rest
	caller   identity.Caller
	rooms    map[event.Room]*membership
	warned   int64 // for which end of a token the client was warned
	pulseAt  time.Time
	greeted  bool
	idle     bool // the user is not at the machine
	closed   bool
	handling bool          // a request is being carried out
	draining time.Duration // how long the client is to stay away; 0 while the server stays
}

func (s *Session) userID() string { return s.who().User.Id }

func (s *Session) who() identity.Caller {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.caller
}

// end ends the session, and with it the stream, with a reason. The first counts.
func (s *Session) end(why error) {
	s.cancel(why)
	if s.direct != nil {
		s.direct.Interrupt()
	}
}

// streamEnd turns the end of a client's side into the reason of the session's
// end: a client that closed its side has left.
func streamEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return errLeft
	}
	return err
}

// Good ends.
var (
	errLeft     = errors.New("the client left") // it closed its side
	errExpected = errors.New("the client is expected back")
)

// greet opens the session.
func (s *Session) greet(req *pb.SubscribeRequest) error {
	if err := s.srv.deps.Validate(req); err != nil {
		return err
	}
	hello := req.GetHello()
	if hello == nil {
		return errNoHello
	}
	known, err := uuid.Parse(hello.SessionId)
	if err != nil {
		if known, err = uuid.NewV7(); err != nil {
			return err
		}
	}
	id := known.String()
	if hello.NoDelay {
		s.out.noDelay()
	}
	if err := s.srv.add(s, id); err != nil {
		return err
	}
	cfg := s.srv.cfg
	s.reply(req.Id, &pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Welcome{Welcome: &pb.Welcome{
		SessionId: id, User: s.who().User,
		HeartbeatInterval: durationpb.New(cfg.HeartbeatInterval),
		HeartbeatTimeout:  durationpb.New(cfg.HeartbeatTimeout),
		MaxRooms:          uint32(cfg.MaxRooms), MaxRequestBytes: uint32(cfg.MaxRequestBytes),
		ServerVersion: cfg.Version, ServerTime: timestamppb.Now(), RequestWindow: durationpb.New(once.Window),
	}}})
	s.out.told.Add(1)
	s.mu.Lock()
	s.greeted = true
	s.mu.Unlock()
	s.look()
	return nil
}

func (s *Session) reply(to uint64, frame *pb.SubscribeResponse) {
	frame.ReplyTo = to
	s.out.post(frame)
}

// fail answers a request that failed. Only what the client can act on is told;
// the rest is logged.
func (s *Session) fail(to uint64, err error) {
	if away := store.Fault(err); away != nil {
		err = away
	}
	switch {
	case fault.Of(err) == nil:
		s.srv.cfg.Logger.Error("a request of a session failed", "session", s.id, "user", s.userID(), "error", err)
	case fault.Of(err).Kind == fault.Unauthenticated:
		why := "invalid"
		if bad := (*identity.TokenError)(nil); errors.As(err, &bad) {
			why = bad.Reason
		}
		s.srv.cfg.Logger.Info("session token refused", "reason", why, "session", s.id, "user", s.userID())
	case fault.Of(err).Kind == fault.Denied:
		s.srv.cfg.Logger.Info("session denied", "session", s.id, "user", s.userID())
	}
	s.reply(to, &pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Error{Error: fault.Proto(err)}})
}

// close leaves all rooms. A connection that broke keeps its place for a while, and
// so does one of a client that is expected back.
func (s *Session) close(expected bool) {
	s.mu.Lock()
	s.closed = true
	rooms := s.rooms
	s.rooms = nil
	for _, m := range rooms {
		m.unsubscribe()
		s.out.leave(m.place)
	}
	s.timer.Stop()
	s.mu.Unlock()
	s.srv.remove(s, rooms, expected)
}

func (s *Session) isIn(room event.Room) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rooms[room] != nil
}

func (s *Session) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (s *Session) isExpired(now time.Time) bool { return now.UnixNano() >= s.expiresAt.Load() }
