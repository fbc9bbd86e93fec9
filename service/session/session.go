// Package session is one connected client: a stream, the rooms it is in, and
// what waits to be sent to it.
//
// # Concurrency
//
// A session that does nothing has one goroutine, its handler's, if its carrier is
// direct: that one waits for a request. What a request needs, and all that may
// wait for the store or for a client, is done by goroutines that are made for it,
// or kept for a moment from the last time (hands). Over other carriers a second
// goroutine waits in Recv, since a handler has to return to end its stream. One
// request is carried out after the other, so a client that sends faster than it is
// served is slowed down by its own stream.
//
// To send is a role (turn): one at a time has it, and gives it back when nothing
// waits. Publishers leave a batch to the workers of the sessions that hear it, and
// never wait, nor write; only if a worker has much to do they do the next step for it.
// A worker, each always for its own sessions, puts the batch into the outboxes of some
// of them, notes that they are due, takes those that are, and sends: itself where that
// never waits, on a direct carrier or into the queue of grpc-go's HTTP/2 transport
// (queued), until the carrier has not flushed, when the session is left until that
// calls. Whatever may wait (a Send on another carrier, the log, rights to be looked at)
// the worker hands to a goroutine together with the role, and goes on with the next
// session.
//
// A client that was sent events just now gets the next ones after Config.Linger,
// together. Answers don't linger, nor does a full frame, nor the first event after
// a pause.
//
// One timer a session stands for all that comes with time: its hello, its lease, its
// token, a Send that takes too long. Nothing that comes or goes sets it anew.
//
// The handler returns as soon as the client is gone, its time is up, or the server
// drains. It waits for a frame that is being sent, for a second at most, and not
// for a request in hand; a Recv or Send that is still blocked returns after it.
//
// Locks are taken in this order: Server.mu, Session.looking, Session.mu, then those
// of the presence hub, the router, worker.offering, and the outbox, and last those of
// the worker and the hands, which are held for a few instructions. Who is in a room changes under
// Session.mu in all of them together. No lock is held across a Send.
//
// # Order
//
// A session subscribes to a room before it reads where the room is. An event
// committed in between is noted and read from the log; the other way round it
// would never arrive.
//
// # Carriers
//
// A session speaks to a Stream, and gives it encoded frames: what brings them is
// the carrier's affair. One that never waits says so by Direct. Watch is a carrier too, of a client that says all it has
// to say when it comes and comes back when the Watch has ended.
package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/presence"
	"github.com/tcmanager/tcmanager/service/router"
	"github.com/tcmanager/tcmanager/service/store"
)

const kindRunChanged = 12 // Event.run_changed, checked by a test

// Config sets the limits of sessions. Zero values mean the defaults.
type Config struct {
	Version           string
	HeartbeatInterval time.Duration // how often clients should ping; 25 s
	HeartbeatTimeout  time.Duration // after which a silent one is gone; 60 s
	HelloTimeout      time.Duration // how long the first request may take; 5 s
	MaxSessions       int           // on this server; 1,000
	MaxUserSessions   int           // of one user; 50
	MaxRooms          int           // in a session; 100
	Linger            time.Duration // between two frames of events to a client for which more come; 12 ms, negative for none
	QueueBytes        int           // of durable events waiting in memory for one session; 256 KiB
	ReplayEvents      int           // a reader that is further behind starts anew from a snapshot; 100,000
	MaxRequestBytes   int           // told to clients; 4 MiB
	Transports        []Carrier     // those that are enabled; empty means all
	RealtimeOff       bool          // no session stays: only polls are answered, and nobody is present
	Limits            Limits        // zero means none
	Logger            *slog.Logger  // nil means the default
}

func (c Config) withDefaults() Config {
	c.HeartbeatInterval = cmp.Or(c.HeartbeatInterval, 25*time.Second)
	c.HeartbeatTimeout = cmp.Or(c.HeartbeatTimeout, 60*time.Second)
	c.HelloTimeout = cmp.Or(c.HelloTimeout, 5*time.Second)
	c.MaxSessions = cmp.Or(c.MaxSessions, 1000)
	c.MaxUserSessions = cmp.Or(c.MaxUserSessions, 50)
	c.MaxRooms = cmp.Or(c.MaxRooms, 100)
	c.Linger = cmp.Or(c.Linger, 12*time.Millisecond)
	c.QueueBytes = cmp.Or(c.QueueBytes, 256<<10)
	c.ReplayEvents = cmp.Or(c.ReplayEvents, 100_000)
	c.MaxRequestBytes = cmp.Or(c.MaxRequestBytes, 4<<20)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	return c
}

// RoomSource knows one kind of room: who may be in it and what it is about.
type RoomSource interface {
	// Enter returns the canonical name of a room after checking that the user may
	// do something in it: access.Read to be there, access.Signal to show what one
	// does.
	Enter(r store.Reader, userID string, room event.Room, action access.Action) (event.Room, error)
	// Snapshot puts the state of what the room is about into Joined.snapshot.
	Snapshot(r store.Reader, userID string, room event.Room, j *pb.Joined) error
}

// Commands carries out commands; each is the same as the call of its name.
type Commands interface {
	Do(ctx context.Context, c *pb.Command) (*pb.CommandResult, error)
}

// Deps are what sessions work with.
type Deps struct {
	Store    store.Store
	Router   *router.Router
	Presence *presence.Hub
	Rooms    map[event.Kind]RoomSource
	Commands Commands
	// Verify returns whom a token names; sessions use it for RefreshToken.
	Verify func(ctx context.Context, token string) (identity.Caller, error)
	// Validate returns a fault if a message breaks a rule of its schema.
	Validate func(*pb.SubscribeRequest) error
}

// Server holds the sessions of this process.
type Server struct {
	pb.UnimplementedRealtimeServiceServer
	cfg    Config
	deps   Deps
	limits limits

	reads   reads
	hands   *hands
	workers []*worker // of the sessions, which are dealt out to them
	opened  atomic.Uint64

	mu       sync.Mutex // guards the rest
	sessions map[sessionKey]*Session
	ofUser   map[string][]*Session // the same by user
	draining bool
}

// sessionKey names a session. Ids are shown to everybody in a room, so they are
// good for their own user only.
type sessionKey struct{ userID, id string }

// NewServer returns a server without sessions.
func NewServer(cfg Config, deps Deps) *Server {
	srv := &Server{
		cfg: cfg.withDefaults(), deps: deps, limits: newLimits(cfg.Limits), hands: &hands{},
		sessions: map[sessionKey]*Session{}, ofUser: map[string][]*Session{},
	}
	// Half of the processors write, so that who is written to and what is written next
	// find one too.
	for range max(1, runtime.GOMAXPROCS(0)/2) {
		srv.workers = append(srv.workers, &worker{hands: srv.hands})
	}
	return srv
}

// Why sessions end.
var (
	errTooSlow    = fault.New(fault.Exhausted, "TOO_SLOW", "too many answers were waiting to be read; read them, and send less at once").After(5 * time.Second)
	errStalled    = fault.New(fault.Exhausted, "TOO_SLOW", "nothing was read for too long; reconnect and go on where you were").After(5 * time.Second)
	errLeftRoom   = fault.New(fault.Conflict, "ROOM_LEFT", "the room was left while it was being joined; join it again")
	errSilent     = fault.New(fault.Unavailable, "HEARTBEAT_TIMEOUT", "nothing was heard for too long; reconnect and send pings")
	errFenced     = fault.New(fault.Conflict, "SESSION_RESUMED_ELSEWHERE", "a newer stream took this session over")
	errExpired    = fault.New(fault.Unauthenticated, "TOKEN_EXPIRED", "the token expired; reconnect with a new one")
	errDraining   = fault.New(fault.Unavailable, "GOING_AWAY", "the server is stopping; reconnect").After(time.Second)
	errFull       = fault.New(fault.Exhausted, "TOO_MANY_SESSIONS", "this server has as many sessions as it may have; try again later").After(10 * time.Second)
	errUserFull   = fault.New(fault.Exhausted, "TOO_MANY_SESSIONS", "you have as many sessions as one user may have; close another tab or program").After(10 * time.Second)
	errNoHello    = fault.New(fault.Precondition, "HELLO_FIRST", "the first request must be a hello; send one")
	errHelloLate  = fault.New(fault.Precondition, "HELLO_LATE", "no hello came in time; send one as the first request")
	errHelloAgain = fault.New(fault.Precondition, "HELLO_TWICE", "there was a hello already; open another stream for another session")
)

// Subscribe serves one client.
func (srv *Server) Subscribe(stream grpc.BidiStreamingServer[pb.SubscribeRequest, pb.SubscribeResponse]) error {
	return srv.Serve(grpcStream{stream})
}

// Serve runs a session over a carrier until the client leaves or has to.
func (srv *Server) Serve(stream Stream) error {
	caller, err := identity.From(stream.Context())
	if err != nil {
		return err
	}
	if err := srv.admit(stream); err != nil {
		return err
	}
	srv.hands.comes()
	defer srv.hands.goes()
	s := srv.open(stream, caller)
	defer s.cancel(nil)
	defer func() { s.close(s.isExpectedBack(err)) }()
	if s.direct != nil {
		s.listen()
	} else {
		go s.receive()
		<-s.ctx.Done()
	}
	s.out.stop(patience)
	if err = context.Cause(s.ctx); errors.Is(err, errLeft) || errors.Is(err, errExpected) {
		return nil
	}
	return err
}

// patience is how long a session that has to end waits for the frame that is being
// sent. A client that reads nothing would keep it for ever otherwise.
const patience = time.Second

// open makes a session that waits for its hello.
func (srv *Server) open(stream Stream, caller identity.Caller) *Session {
	s := &Session{srv: srv, stream: stream, caller: caller, worker: srv.nextWorker()}
	s.ctx, s.cancel = context.WithCancelCause(stream.Context())
	s.out.maxBytes, s.out.owner = srv.cfg.QueueBytes, s
	s.out.turn.linger = srv.cfg.Linger
	now := time.Now()
	s.heardAt.Store(now.UnixNano())
	s.expiresAt.Store(caller.ExpiresAt.UnixNano())
	if w, watches := stream.(*watchStream); watches {
		s.watch, s.idle, w.said = w, w.idle(), func() { s.out.call(0) }
		if w.mode != pb.WatchMode_WATCH_MODE_STREAM {
			s.out.turn.linger = 0
		}
	} else {
		s.sendOver(stream)
	}
	s.looking.Lock() // the timer may be faster
	defer s.looking.Unlock()
	s.timer = time.AfterFunc(srv.cfg.HelloTimeout, s.look)
	return s
}

func (s *Session) summon() { s.worker.add(s) }

func (s *Session) group() router.Group { return s.worker }

// nextWorker returns the worker of the next session. A session stays with its
// worker, which keeps its frames in order and its memory in one core's cache.
func (srv *Server) nextWorker() *worker {
	return srv.workers[srv.opened.Add(1)%uint64(len(srv.workers))]
}

// recovered turns a panic into an error. It must be deferred.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic in a session: %v\n%s", p, debug.Stack())
	}
}

// add gives a session its id, and ends the stream that had it before.
func (srv *Server) add(s *Session, id string) error {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.draining {
		return errDraining
	}
	if s.isClosed() { // the hello came just too late
		return errHelloLate
	}
	key := sessionKey{s.userID(), id}
	switch old := srv.sessions[key]; {
	case old != nil:
		old.end(errFenced)
		srv.forgetLocked(old)
	case len(srv.sessions) >= srv.cfg.MaxSessions:
		return errFull
	case len(srv.ofUser[key.userID]) >= srv.cfg.MaxUserSessions:
		return errUserFull
	}
	s.id = id
	srv.sessions[key] = s
	srv.ofUser[key.userID] = append(srv.ofUser[key.userID], s)
	return nil
}

// forgetLocked takes a session out of those of its user.
func (srv *Server) forgetLocked(s *Session) {
	userID := s.userID()
	left := slices.DeleteFunc(srv.ofUser[userID], func(other *Session) bool { return other == s })
	if srv.ofUser[userID] = left; len(left) == 0 {
		delete(srv.ofUser, userID)
	}
}

// remove forgets a session whose stream has ended in some rooms. It keeps its
// place there for a while, unless a newer stream of it is in the room by now. One
// that is expected back doesn't look lost.
func (srv *Server) remove(s *Session, rooms map[event.Room]*membership, expected bool) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	key := sessionKey{s.userID(), s.id}
	newest := srv.sessions[key]
	for room := range rooms {
		switch {
		case newest != nil && newest != s:
			newest.restUnlessIn(room)
		case expected:
			srv.deps.Presence.Rest(room, key.userID, key.id, s.watch.patience())
		default:
			srv.deps.Presence.Lose(room, key.userID, key.id)
		}
	}
	if newest != s {
		return
	}
	delete(srv.sessions, key)
	srv.forgetLocked(s)
}

// restUnlessIn lets the session rest in a room that an older stream of it was in
// and this one is not: it joins its rooms one after the other.
func (s *Session) restUnlessIn(room event.Room) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.rooms[room]; m == nil || m.followed {
		s.srv.deps.Presence.Rest(room, s.caller.User.Id, s.id, 0)
	}
}

// each calls fn for every session.
func (srv *Server) each(fn func(*Session)) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	for _, s := range srv.sessions {
		fn(s)
	}
}

// Count returns how many sessions there are.
func (srv *Server) Count() int {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return len(srv.sessions)
}

// Recheck makes every session of a user check that it may still be in its rooms.
// It doesn't wait: sessions put themselves out of rooms they lost the right to.
func (srv *Server) Recheck(userID string) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	for _, s := range srv.ofUser[userID] {
		s.recheckSoon()
	}
}

// recheckSoon makes what was found of rights worth nothing, and whoever sends look
// at them again before anything more is sent.
func (s *Session) recheckSoon() {
	s.rights.Add(1)
	s.out.call(askCheck)
}

// RecheckRoom makes every session in a room check that it may still be there, as
// when the room has ended. It doesn't wait.
func (srv *Server) RecheckRoom(room event.Room) {
	srv.each(func(s *Session) {
		if s.isIn(room) {
			s.recheckSoon()
		}
	})
}

// drainTime is how long a client has to take what waits for it before its stream
// is ended all the same.
const drainTime = 2 * time.Second

// Drain tells every client where it is and to come back, each after a delay of
// its own so that they don't come all at once, and ends their streams once the
// requests in hand are answered and all that waits is sent, or after drainTime.
// New ones are refused.
func (srv *Server) Drain() {
	srv.mu.Lock()
	srv.draining = true
	srv.mu.Unlock()
	srv.each(func(s *Session) {
		delay := time.Second + rand.N(2*time.Second)
		s.drain(delay)
		time.AfterFunc(drainTime, func() { s.end(errDraining.After(delay)) })
	})
}

// Waiting returns how many bytes of durable events wait in memory for slow
// clients; each session's share is at most Config.QueueBytes.
func (srv *Server) Waiting() int {
	n := 0
	srv.each(func(s *Session) { n += s.out.waiting() })
	return n
}
