package tcmanager

import (
	"context"
	"errors"
	"sync"
	"time"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Defaults of a SessionConfig.
const (
	defaultConnectTimeout = 20 * time.Second
	defaultRoomBuffer     = 1 << 20
	defaultOutbox         = 256
)

var (
	// ErrSessionStarted says that Run was called before.
	ErrSessionStarted = errors.New("the session was run before: make another one")
	// ErrRoomTaken says that another iterator of the session reads the room,
	// perhaps under its other name.
	ErrRoomTaken = errors.New("the session reads this room already")
)

// SessionConfig says how a Session behaves. The zero value is fine.
type SessionConfig struct {
	// Name tells the server's log what is connecting, for example "nightly/1.2",
	// in at most 64 bytes; empty means "tcmanager-go".
	Name string
	// ConnectTimeout is how long an attempt may take, from asking for a token to
	// the server's welcome; 0 means 20 s.
	ConnectTimeout time.Duration
	// RoomBuffer is how many bytes of a room may wait for its reader; 0 means
	// 1 MiB. Snapshots are taken whatever their size if nothing else waits.
	RoomBuffer int
	// Outbox is how many commands may wait for their answers; 0 means 256.
	Outbox int
	// NoDelay asks for each event as soon as there is one. Otherwise, while more than
	// one comes in some 12 ms, the server sends those of that time together; the first
	// after a pause goes at once all the same. It saves those milliseconds in a busy
	// room, and costs both ends a frame for each event.
	NoDelay bool
	// OnState is called with each change of State, in order, by Run's goroutine:
	// it must not block.
	OnState func(State)
}

// Phase is what a session's connection is doing.
type Phase int

// The phases of a session.
const (
	// PhaseIdle is before Run.
	PhaseIdle Phase = iota
	// PhaseConnecting has a stream that the server has not welcomed yet.
	PhaseConnecting
	// PhaseCatchingUp has a stream; what was missed is on its way.
	PhaseCatchingUp
	// PhaseLive has a stream, and all that was missed has arrived.
	PhaseLive
	// PhaseReconnecting waits for the time of the next attempt.
	PhaseReconnecting
	// PhaseClosed tries nothing any more.
	PhaseClosed
)

// String names the phase.
func (p Phase) String() string {
	names := [...]string{"idle", "connecting", "catching up", "live", "reconnecting", "closed"}
	if p < 0 || int(p) >= len(names) {
		return "unknown"
	}
	return names[p]
}

// State is how a session is.
type State struct {
	// Phase is what it is doing.
	Phase Phase
	// Attempts counts the attempts in a row that failed. A program that tells
	// people that they are offline does so from the fifth on.
	Attempts int
	// RetryAt is when the next attempt is due, while reconnecting.
	RetryAt time.Time
	// Err is why the connection is away, or closed for good: nil if the server
	// asked to come back later, and while all is well.
	Err error
}

// Session is a live connection to the server: rooms to hear and commands to give,
// over as many streams as it takes. Make one with Client.NewSession and start Run.
type Session struct {
	client     *Client
	config     SessionConfig
	wake       chan struct{}  // something changed that the link should look at
	background sync.WaitGroup // goroutines that fetch a token

	mu       sync.Mutex // guards all below, and all of feeds, links and requests
	started  bool
	closed   error // why nothing is taken any more; nil while it is
	id       string
	window   time.Duration // Welcome.request_window; 0 if not known
	state    State
	untold   []State // changes that OnState has not heard of
	link     *link   // nil if there is no stream
	feeds    map[string]*feed
	joined   map[string]*feed // those that the server sends, by canonical name
	outbox   []*request
	fleeting []*tcmv1.Command
}

// NewSession returns a Session that has not started. What is asked of it waits
// for Run.
func (c *Client) NewSession(config SessionConfig) *Session {
	if config.Name == "" {
		config.Name = "tcmanager-go"
	}
	config.ConnectTimeout = orDefault(config.ConnectTimeout, defaultConnectTimeout)
	if config.RoomBuffer <= 0 {
		config.RoomBuffer = defaultRoomBuffer
	}
	if config.Outbox <= 0 {
		config.Outbox = defaultOutbox
	}
	return &Session{
		client: c, config: config, wake: make(chan struct{}, 1),
		feeds: map[string]*feed{}, joined: map[string]*feed{},
	}
}

// userLocked returns the id of the user whose session it is; empty if that isn't known.
func (s *Session) userLocked() string {
	if s.link == nil {
		return ""
	}
	return s.link.welcome.GetUser().GetId()
}

// State returns how the session is.
func (s *Session) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Run keeps the session connected until ctx is done, whose cause it then returns,
// or the server refuses it for good: its token twice, or with a code that no
// further attempt changes. Whoever waits for something of the session is told, and
// so is whoever asks later. It may be called once.
func (s *Session) Run(ctx context.Context) error {
	s.mu.Lock()
	again := s.started
	s.started = true
	s.mu.Unlock()
	if again {
		return ErrSessionStarted
	}
	ctx, cancel := context.WithCancel(ctx)
	defer s.background.Wait()
	defer cancel()
	err := s.run(ctx)
	s.close(ctx, err)
	s.tell()
	return err
}

// run connects, over and over.
func (s *Session) run(ctx context.Context) error {
	var retry reconnects
	for {
		s.setState(State{Phase: PhaseConnecting, Attempts: retry.attempt})
		lived, err := s.connect(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		delay, terminal := retry.after(err, lived)
		if terminal != nil {
			return terminal
		}
		if _, asked := errors.AsType[goingAwayError](err); !asked { // that was told when the server asked
			s.setState(State{Phase: PhaseReconnecting, Attempts: retry.attempt, RetryAt: time.Now().Add(delay), Err: said(err)})
		}
		if !wait(ctx, delay) {
			return context.Cause(ctx)
		}
	}
}

// reconnects decides whether and when to connect again.
type reconnects struct {
	backoff

	refreshed bool // a new token was asked for since the last connection that held
}

// after returns how long to wait after a stream that was up for some time ended
// with err, or the error to give up with.
func (r *reconnects) after(err error, lived time.Duration) (delay time.Duration, terminal error) {
	if lived >= healthyAfter {
		*r = reconnects{}
	}
	if away, ok := errors.AsType[goingAwayError](err); ok {
		if lived >= healthyAfter {
			return away.after, nil // each client gets its own
		}
		return r.next(away.after), nil // a server that sends everybody away at once is no healthy one
	}
	if token, ok := errors.AsType[tokenError](err); ok && !temporary(token.err) {
		return 0, err
	}
	switch status.Code(err) {
	case codes.Unauthenticated:
		if r.refreshed {
			return 0, said(err) // with a token that was asked for just now: no other will do
		}
		r.refreshed = true
		return retryInfo(err), nil
	case codes.PermissionDenied, codes.InvalidArgument, codes.Unimplemented:
		return 0, said(err)
	default:
		return r.next(retryInfo(err)), nil
	}
}

// setState changes the state, and tells.
func (s *Session) setState(state State) {
	s.mu.Lock()
	s.setStateLocked(state)
	s.mu.Unlock()
	s.tell()
}

func (s *Session) setStateLocked(state State) {
	s.state = state
	if s.config.OnState != nil {
		s.untold = append(s.untold, state) // at most three for each stream
	}
}

// tell calls OnState with what it has not heard of. Only Run's goroutine does.
func (s *Session) tell() {
	s.mu.Lock()
	states := s.untold
	s.untold = nil
	s.mu.Unlock()
	for _, state := range states {
		s.config.OnState(state)
	}
}

// poke makes the link look for something to send.
func (s *Session) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// settleLocked notes that the last room has caught up.
func (s *Session) settleLocked() {
	if s.state.Phase != PhaseCatchingUp {
		return
	}
	now := time.Now()
	for _, f := range s.feeds {
		if !f.currentLocked(now) {
			return
		}
	}
	s.setStateLocked(State{Phase: PhaseLive})
	s.poke()
}

// close ends the session for all who wait for something.
func (s *Session) close(ctx context.Context, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = err
	if ctx.Err() != nil {
		s.closed = &Error{Code: codes.Canceled, Message: "the session was closed", cause: err}
	}
	for _, f := range s.feeds {
		f.endLocked(s.closed)
	}
	for _, r := range s.outbox {
		r.answer <- answer{err: s.closed}
	}
	s.outbox, s.fleeting = nil, nil
	s.setStateLocked(State{Phase: PhaseClosed, Err: err})
}
