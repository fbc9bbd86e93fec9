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
	"github.com/tcmanager/tcmanager/service/router"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/wire"
)

// Session is one connected client.
type Session struct {
	srv    *Server
	stream Stream
	end    context.CancelCauseFunc // ends the stream with a reason
	out    *outbox
	id     string       // set once, by add
	watch  *watchStream // the stream, if it is a Watch; else nil

	buckets  map[string]*limit.Bucket // by kind of frame; the receiver's
	refusals *limit.Bucket            // likewise

	sent int64        // frames, but the last; the sender's
	told atomic.Int64 // frames that say no more than that the client is up to date

	heardAt atomic.Int64 // when something was received last, in nanoseconds since 1970

	check   chan struct{} // holds a token if rights may have changed
	runs    chan struct{} // holds a token if a run of a followed project started or ended
	renewed chan struct{} // holds a token if the caller's token was refreshed

	mu       sync.Mutex // guards the rest
	caller   identity.Caller
	rooms    map[event.Room]*membership
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

// Offer takes events from the router.
func (s *Session) Offer(b router.Batch) {
	if s.out.offer(b) {
		poke(s.runs)
	}
}

// drain makes the sender return once the request in hand is answered and all
// that waits is sent. The client is asked to stay away for a while.
func (s *Session) drain(away time.Duration) {
	s.mu.Lock()
	s.draining = away
	s.mu.Unlock()
	s.out.signal()
}

// setHandling says whether a request is being carried out, and lets a sender that
// waits for its end look again.
func (s *Session) setHandling(now bool) {
	s.mu.Lock()
	s.handling = now
	waits := !now && s.draining > 0
	s.mu.Unlock()
	if waits {
		s.out.signal()
	}
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
		if ctx.Err() != nil { // a newer stream may have taken the session over
			return
		}
		// The sender, which ends a session with its token, may be stuck in a Send.
		if s.isExpired() {
			s.end(errExpired)
			return
		}
		s.heardAt.Store(time.Now().UnixNano())
		s.setHandling(true)
		s.handle(ctx, req)
		s.out.paced(ctx)
		s.setHandling(false)
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
	s.told.Add(1)
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
	for room, m := range rooms {
		m.unsubscribe()
		s.out.leave(room)
	}
	s.mu.Unlock()
	s.srv.remove(s, rooms, expected)
}

// always is ready.
var always = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// send writes what waits until the session ends, and returns why. It looks at
// everything else between two frames, so that a busy room or a long log doesn't
// put off the loss of a right or the end of a token.
func (s *Session) send(ctx context.Context) error {
	silence := time.NewTimer(s.lease())
	defer silence.Stop()
	pulse, stopPulse := s.pulse()
	defer stopPulse()
	stall := time.AfterFunc(s.srv.cfg.HeartbeatTimeout, func() { s.end(errStalled) })
	stall.Stop() // it runs only while something is being sent
	expiry := newExpiry(s.who().ExpiresAt)
	defer func() { expiry.stop() }()
	for {
		asked := s.hasAsked()
		more, err := s.sendNext(ctx, stall)
		if err != nil {
			return err
		}
		next := s.out.wake
		if more {
			next = always
		} else if asked && s.isPolled(ctx) {
			return errExpected
		}
		select {
		case <-next:
		case <-silence.C:
			left := s.leaseLeft()
			if left <= 0 {
				return s.leaseOver()
			}
			silence.Reset(left)
		case <-pulse:
			s.out.post(pong())
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
	if s.isExpired() { // the timer may be late
		return false, errExpired
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
		if away := s.mayGo(); !more && away > 0 {
			at, all := s.out.cursors()
			if !all {
				return true, nil // something came since it was looked what waits
			}
			return false, s.farewell(away, at, stall)
		}
		return more, nil
	}
	s.sent++
	return true, s.sendFrame(frame, stall)
}

func (s *Session) sendFrame(frame []byte, stall *time.Timer) error {
	stall.Reset(s.srv.cfg.HeartbeatTimeout)
	defer stall.Stop()
	return s.stream.Send(wire.Join(frame))
}

// hasAsked reports whether every frame of a Watch was handled, and its answer
// queued. It has to be looked at before what waits: the last answer, queued in
// between, would be taken for sent.
func (s *Session) hasAsked() bool { return s.watch != nil && s.watch.hasAsked() }

// isPolled reports whether the client was told all that it polled for, when
// nothing waits that was queued before it had asked for everything.
func (s *Session) isPolled(ctx context.Context) bool {
	if !s.watch.polls(s.sent > s.told.Load()) {
		return false
	}
	select {
	case <-s.runs: // the rooms of a followed project come first
		s.follow(ctx)
		s.out.signal()
		return false
	default:
		return true
	}
}

// mayGo returns how long the client is to stay away, once the server drains and
// nothing is in hand; 0 otherwise.
func (s *Session) mayGo() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handling {
		return 0
	}
	return s.draining
}

// farewell tells the client where it is and when to come back. It is the last
// frame: all that it speaks of was sent.
func (s *Session) farewell(away time.Duration, at []*pb.Bookmark, stall *time.Timer) error {
	frame, err := encode(&pb.SubscribeResponse{Frame: &pb.SubscribeResponse_GoingAway{GoingAway: &pb.GoingAway{
		ReconnectAfter: durationpb.New(away), Reason: "the server is stopping", Cursors: at,
	}}})
	if err == nil {
		err = s.sendFrame(frame, stall)
	}
	if err != nil {
		return err
	}
	return errDraining.After(away)
}

func (s *Session) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (s *Session) isExpired() bool { return !time.Now().Before(s.who().ExpiresAt) }

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
