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
	"github.com/tcmanager/tcmanager/service/store"
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
	var panicked error
	defer func() {
		if panicked != nil {
			s.end(panicked)
		}
	}()
	defer recovered(&panicked)
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
	known, err := uuid.Parse(hello.SessionId)
	if err != nil {
		if known, err = uuid.NewV7(); err != nil {
			return err
		}
	}
	id := known.String()
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

// fail answers a request that failed. Only what the client can act on is told;
// the rest is logged.
func (s *Session) fail(to uint64, err error) {
	switch {
	case errors.Is(err, store.ErrClosed):
		err = errDraining
	case fault.Of(err) == nil:
		s.srv.cfg.Logger.Error("a request of a session failed", "session", s.id, "user", s.userID(), "error", err)
	}
	s.reply(to, &pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Error{Error: fault.Proto(err)}})
}

// close leaves all rooms. A connection that broke keeps its place for a while.
func (s *Session) close() {
	s.mu.Lock()
	s.closed = true
	rooms := s.rooms
	s.rooms = nil
	for room, m := range rooms {
		m.unsubscribe()
		s.out.leave(room)
	}
	s.mu.Unlock()
	s.srv.remove(s, rooms)
}

// always is ready.
var always = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// send writes what waits until the session ends, and returns why. It looks at
// everything else between two frames, so that a busy room or a long log doesn't
// put off the loss of a right or the end of a token.
func (s *Session) send(ctx context.Context) error {
	silence := time.NewTimer(s.srv.cfg.HeartbeatTimeout)
	defer silence.Stop()
	stall := time.AfterFunc(s.srv.cfg.HeartbeatTimeout, func() { s.end(errStalled) })
	stall.Stop() // it runs only while something is being sent
	expiry := newExpiry(s.who().ExpiresAt)
	defer func() { expiry.stop() }()
	for {
		more, err := s.sendNext(ctx, stall)
		if err != nil {
			return err
		}
		next := s.out.wake
		if more {
			next = always
		}
		select {
		case <-next:
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
			return context.Cause(ctx)
		}
	}
}

// sendNext sends the next frame, reading the log if only that has one. It reports
// whether there may be another.
func (s *Session) sendNext(ctx context.Context, stall *time.Timer) (more bool, err error) {
	select { // before anything is sent of a room that the user may no longer be in
	case <-s.check:
		s.recheck(ctx)
	default:
	}
	frame, err := s.out.take()
	if err != nil {
		return false, err
	}
	if frame == nil {
		if frame, more, err = s.readLog(ctx); err != nil {
			return false, err
		}
	}
	if frame == nil {
		if !more && s.isDraining() {
			return false, errDraining
		}
		return more, nil
	}
	stall.Reset(s.srv.cfg.HeartbeatTimeout)
	err = s.stream.Send(frame)
	stall.Stop()
	return true, err
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
