package session

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/router"
)

// Session is one connected client.
type Session struct {
	srv    *Server
	stream Stream
	end    context.CancelCauseFunc // ends the stream with a reason
	out    *outbox
	id     string // set once, by add

	heard   chan struct{} // holds a token if something was received
	check   chan struct{} // holds a token if rights may have changed
	runs    chan struct{} // holds a token if a run of a followed project started or ended
	renewed chan struct{} // holds a token if the caller's token was refreshed

	mu       sync.Mutex // guards the rest
	caller   identity.Caller
	rooms    map[event.Room]*membership
	closed   bool
	draining bool
}

func (s *Session) userID() string { return s.who().User.Id }

func (s *Session) who() identity.Caller {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.caller
}

// Offer takes events from the router.
func (s *Session) Offer(b router.Batch) {
	if s.out.offer(b) {
		poke(s.runs)
	}
}

// drain makes the sender return once all that waits now is sent.
func (s *Session) drain() {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	s.out.signal()
}

// receive reads requests until the stream ends, and says on hello whether the
// first one opened the session.
func (s *Session) receive(ctx context.Context, hello chan<- error) {
	req, err := s.stream.Recv()
	if err != nil {
		hello <- streamEnd(err)
		return
	}
	if err := s.greet(req); err != nil {
		hello <- err
		return
	}
	hello <- nil
	for {
		req, err := s.stream.Recv()
		if err != nil {
			s.end(streamEnd(err))
			return
		}
		poke(s.heard)
		s.handle(ctx, req)
		if ctx.Err() != nil {
			return
		}
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

// errLeft says that the client closed its side, which is a good end.
var errLeft = errors.New("the client left")

// greet opens the session.
func (s *Session) greet(req *pb.SubscribeRequest) error {
	if err := s.srv.deps.Validate(req); err != nil {
		return err
	}
	hello := req.GetHello()
	if hello == nil {
		return errNoHello
	}
	id := hello.SessionId
	if _, err := uuid.Parse(id); err != nil {
		fresh, err := uuid.NewV7()
		if err != nil {
			return err
		}
		id = fresh.String()
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
		ServerVersion: cfg.Version, ServerTime: timestamppb.Now(),
	}}})
	return nil
}

func (s *Session) reply(to uint64, frame *pb.SubscribeResponse) {
	frame.ReplyTo = to
	s.out.post(frame)
}

func (s *Session) fail(to uint64, err error) {
	s.reply(to, &pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Error{Error: fault.Proto(err)}})
}

// close leaves all rooms. A connection that broke keeps its place for a while; a
// client that left on purpose does not.
func (s *Session) close() {
	s.mu.Lock()
	s.closed = true
	rooms := s.rooms
	s.rooms = nil
	user := s.caller.User.Id
	s.mu.Unlock()
	for room, m := range rooms {
		m.unsubscribe()
		s.out.leave(room)
	}
	// A newer stream of this session is in the rooms under the same id.
	if s.srv.remove(s) {
		for room := range rooms {
			s.srv.deps.Presence.Lose(room, user, s.id)
		}
	}
}

// send writes what waits until the session ends, and returns why.
func (s *Session) send(ctx context.Context) error {
	silence := time.NewTimer(s.srv.cfg.HeartbeatTimeout)
	defer silence.Stop()
	expiry := newExpiry(s.who().ExpiresAt)
	defer expiry.stop()
	for {
		if err := s.flush(ctx); err != nil {
			return err
		}
		select {
		case <-s.out.wake:
		case <-s.heard:
			silence.Reset(s.srv.cfg.HeartbeatTimeout)
		case <-silence.C:
			return errSilent
		case <-s.renewed:
			expiry.stop()
			expiry = newExpiry(s.who().ExpiresAt)
		case <-expiry.warn.C:
			s.out.post(&pb.SubscribeResponse{Frame: &pb.SubscribeResponse_TokenExpiring{TokenExpiring: &pb.TokenExpiring{
				ExpiresAt: timestamppb.New(s.who().ExpiresAt),
			}}})
		case <-expiry.end.C:
			return errExpired
		case <-s.check:
			s.recheck(ctx)
		case <-s.runs:
			s.follow(ctx)
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(cause, errLeft) {
				return cause
			}
			return nil
		}
	}
}

// flush sends all that waits, reading the log for rooms that are behind.
func (s *Session) flush(ctx context.Context) error {
	for ctx.Err() == nil {
		frame, err := s.out.take()
		if err != nil {
			return err
		}
		if frame == nil {
			if frame, err = s.readLog(ctx); err != nil {
				return err
			}
		}
		if frame == nil {
			if s.isDraining() {
				return errDraining
			}
			return nil
		}
		if err := s.stream.Send(frame); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (s *Session) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// expiry tells when a token is about to end and when it did.
type expiry struct{ warn, end *time.Timer }

// warnBefore is how long before the end of a token a client is asked for a new one.
const warnBefore = time.Minute

func newExpiry(at time.Time) expiry {
	left := time.Until(at)
	return expiry{warn: time.NewTimer(max(0, left-warnBefore)), end: time.NewTimer(left)}
}

func (e expiry) stop() {
	e.warn.Stop()
	e.end.Stop()
}
