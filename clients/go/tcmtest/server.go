package tcmtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	tcmanager "github.com/tcmanager/tcmanager/clients/go"
	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	// maxRooms is how many rooms a session may join.
	maxRooms = 100
	// maxReceived is how many frames Received keeps.
	maxReceived = 10_000
	// requestWindow is how long a real server remembers request ids. This one
	// remembers them to the end.
	requestWindow = 24 * time.Hour
)

// errCut is how a stream ends that is cut.
var errCut = &tcmanager.Error{Code: codes.Unavailable, Message: "the connection was cut"}

// Server is a server in memory. Make one with New.
type Server struct {
	listener *bufconn.Listener
	tb       testing.TB

	commands sync.Mutex // held while a command is carried out

	mu           sync.Mutex // guards all below, and all of rooms, streams and shards
	rooms        map[string]*room
	aliases      map[string]string
	streams      map[*stream]struct{}
	conns        []net.Conn
	epoch        uint64
	sessions     int
	opened       int
	heartbeat    time.Duration
	silence      time.Duration
	batch        int
	cutAfter     int // events until a cut; negative for none
	loseAnswers  int
	refuse       error
	refuseJoin   map[string]*tcmanager.Error
	resume       chan struct{} // closed by Resume; nil unless stalled
	authenticate func(token string) error
	handle       func(*tcmv1.Command) (*tcmv1.CommandResult, error)
	done         map[string]*execution
	carriedOut   []*tcmv1.Command
	received     []*tcmv1.SubscribeRequest
	shards       map[string]*shard
}

// New starts a server, which ends with the test.
func New(tb testing.TB) *Server {
	tb.Helper()
	s := &Server{
		listener: bufconn.Listen(1 << 20), tb: tb,
		rooms: map[string]*room{}, aliases: map[string]string{}, streams: map[*stream]struct{}{},
		epoch: 1, heartbeat: 25 * time.Second, silence: time.Minute, batch: 100, cutAfter: -1,
		refuseJoin: map[string]*tcmanager.Error{}, done: map[string]*execution{}, shards: map[string]*shard{},
	}
	server := grpc.NewServer()
	tcmv1.RegisterRealtimeServiceServer(server, realtime{Server: s})
	tcmv1.RegisterExecutionServiceServer(server, execute{Server: s})
	served := make(chan error, 1)
	go func() { served <- server.Serve(s.listener) }()
	tb.Cleanup(func() {
		s.Resume()
		server.Stop()
		// A test that ends at once may stop the server before it serves.
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			tb.Errorf("serve: %v", err)
		}
	})
	return s
}

// DialOption makes a tcmanager.Dial of any address end here.
func (s *Server) DialOption() tcmanager.Option {
	return tcmanager.WithDialOptions(
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.dial(ctx) }))
}

func (s *Server) dial(ctx context.Context) (net.Conn, error) {
	conn, err := s.listener.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.conns = append(s.conns, conn)
	s.mu.Unlock()
	return conn, nil
}

// Client returns a client of the server, which is closed when the test ends.
func (s *Server) Client(opts ...tcmanager.Option) *tcmanager.Client {
	s.tb.Helper()
	client, err := tcmanager.Dial("passthrough:///bufconn", append(opts, s.DialOption())...)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.tb.Cleanup(func() {
		if err := client.Close(); err != nil {
			s.tb.Errorf("close the client: %v", err)
		}
	})
	return client
}

// Emit adds an event to a room, as the class of its payload demands, and returns
// where the room is then. Room, number, epoch and, if unset, time are filled in.
func (s *Server) Emit(room string, ev *tcmv1.Event) tcmanager.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.emitLocked(room, ev)
}

// Snapshot sets what a client is told of a room that it joins without a position
// that can be continued: the snapshot of joined, its presence and its activity.
// Until then it is told of an empty one, and of itself.
func (s *Server) Snapshot(room string, joined *tcmv1.Joined) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roomLocked(room).snapshot = proto.CloneOf(joined)
}

// Alias makes name stand for a room, as a project's key does for its id.
func (s *Server) Alias(name, room string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aliases[name] = room
}

// Heartbeat sets how often later streams are to ping, and after which silence they
// end; 25 s and a minute until then.
func (s *Server) Heartbeat(interval, timeout time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heartbeat, s.silence = interval, timeout
}

// Batch sets how many events of a room go into one frame; 100 until then.
func (s *Server) Batch(events int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batch = max(1, events)
}

// Authenticate has later streams and calls, and tokens told in a stream, checked by
// check, which gets the token without "Bearer ". Its error refuses them.
func (s *Server) Authenticate(check func(token string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.authenticate = check
}

// Handle has commands carried out by do, which is called once for each request id.
// It must not wait for a command that it gives itself.
func (s *Server) Handle(do func(*tcmv1.Command) (*tcmv1.CommandResult, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handle = do
}

// CutStreams ends all streams of sessions with UNAVAILABLE. What was sent arrives.
func (s *Server) CutStreams() { s.endStreams(errCut) }

// EndStreams ends all streams of sessions with err.
func (s *Server) EndStreams(err error) { s.endStreams(err) }

func (s *Server) endStreams(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.streams {
		st.cancel(err)
	}
}

// CutConnections breaks all connections, as a network does that is gone: what is
// on its way doesn't arrive.
func (s *Server) CutConnections() {
	s.mu.Lock()
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // one that was closed before is as good
	}
}

// CutAfter cuts, once, the stream that is sent the nth durable event from now on,
// behind that event.
func (s *Server) CutAfter(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cutAfter = max(1, n)
}

// LoseAnswers has the next n commands carried out, and the stream cut instead of
// answered.
func (s *Server) LoseAnswers(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loseAnswers = n
}

// GoAway asks all sessions to come back after a while, and ends their streams.
func (s *Server) GoAway(after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.streams {
		away := &tcmv1.GoingAway{ReconnectAfter: durationpb.New(after), Reason: "the server is about to stop"}
		for _, name := range st.order {
			at := s.roomLocked(name).at(st.rooms[name].sent)
			away.Cursors = append(away.Cursors, &tcmv1.Bookmark{Room: name, Position: at})
		}
		st.postLocked(&tcmv1.SubscribeResponse{Frame: &tcmv1.SubscribeResponse_GoingAway{GoingAway: away}})
		st.endLocked(&tcmanager.Error{Code: codes.Unavailable, Reason: "GOING_AWAY", Message: "the server is stopping; reconnect", RetryAfter: time.Second})
	}
}

// Evict puts all sessions out of a room with err; nil means that the right was
// lost.
func (s *Server) Evict(room string, err *tcmanager.Error) {
	if err == nil {
		err = &tcmanager.Error{Code: codes.PermissionDenied, Reason: "ACCESS_DENIED", Message: "you may no longer see this"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := s.canonicalLocked(room)
	for st := range s.streams {
		if st.leaveLocked(name) {
			st.postLocked(&tcmv1.SubscribeResponse{Frame: &tcmv1.SubscribeResponse_Evicted{Evicted: &tcmv1.Evicted{Room: name, Error: err.Proto()}}})
		}
	}
}

// RefuseJoin answers later joins of a room with err; nil lets them in again.
func (s *Server) RefuseJoin(room string, err *tcmanager.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuseJoin[room] = err
}

// Refuse answers later streams and calls with err, for example with a
// *tcmanager.Error that has RetryAfter set; nil takes them again.
func (s *Server) Refuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = err
}

// Reset begins a room anew for all that are in it, as a server does whose log no
// longer reaches back to where they are.
func (s *Server) Reset(room, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.roomLocked(room)
	for st := range s.streams {
		if m := st.rooms[r.name]; m != nil {
			st.restartLocked(r, m, reason)
		}
	}
}

// NewEpoch is a restart: streams are cut, and what happens from now on carries a
// new epoch. What is stored stays, and positions in it can be continued.
func (s *Server) NewEpoch() {
	s.mu.Lock()
	s.epoch++
	s.mu.Unlock()
	s.CutStreams()
}

// Rewind is a restart with a copy of the room from when it was at offset: what came
// later never was, and its numbers are given again.
func (s *Server) Rewind(room string, offset uint64) {
	s.mu.Lock()
	s.epoch++
	r := s.roomLocked(room)
	if offset >= r.trim.GetOffset() && offset < r.newest().GetOffset() {
		r.log = r.log[:offset-r.trim.GetOffset()]
	}
	s.mu.Unlock()
	s.CutStreams()
}

// Trim forgets the history of a room: of older positions nothing can be continued.
func (s *Server) Trim(room string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.roomLocked(room)
	r.trim, r.log = r.newest(), nil
}

// Bookmark tells all that are in a room where it is, behind what waits for them.
func (s *Server) Bookmark(room string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := s.canonicalLocked(room)
	for st := range s.streams {
		if m := st.rooms[name]; m != nil {
			m.bookmark = true
			st.signal()
		}
	}
}

// Send sends a frame to all sessions as it is, for what there is no method for:
// also for what a server must not say.
func (s *Server) Send(frame *tcmv1.SubscribeResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.streams {
		st.postLocked(proto.CloneOf(frame))
	}
}

// Stall makes open streams carry nothing, either way, and nobody say so, until
// Resume. Later ones are not welcomed.
func (s *Server) Stall() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.resume == nil {
		s.resume = make(chan struct{})
	}
}

// Resume ends what Stall began.
func (s *Server) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.resume != nil {
		close(s.resume)
		s.resume = nil
	}
}

// gate waits while the server is stalled.
func (s *Server) gate(ctx context.Context) error {
	for {
		s.mu.Lock()
		resume := s.resume
		s.mu.Unlock()
		if resume == nil {
			return nil
		}
		select {
		case <-resume:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Streams returns how many streams of sessions are open.
func (s *Server) Streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

// Opened returns how many streams of sessions were welcomed so far.
func (s *Server) Opened() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened
}

// Members returns how many streams are in a room.
func (s *Server) Members(room string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.membersLocked(s.canonicalLocked(room))
}

func (s *Server) membersLocked(name string) int {
	n := 0
	for st := range s.streams {
		if st.rooms[name] != nil {
			n++
		}
	}
	return n
}

// Commands returns the commands that were carried out, each once, oldest first.
func (s *Server) Commands() []*tcmv1.Command {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.carriedOut)
}

// Received returns what sessions sent, oldest first: the first 10,000 frames.
func (s *Server) Received() []*tcmv1.SubscribeRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.received)
}

// admit looks at who is calling.
func (s *Server) admit(ctx context.Context) error {
	s.mu.Lock()
	refuse := s.refuse
	s.mu.Unlock()
	if refuse != nil {
		return refuse
	}
	token := ""
	md, _ := metadata.FromIncomingContext(ctx)
	if v := md.Get("authorization"); len(v) > 0 {
		_, _ = fmt.Sscanf(v[0], "Bearer %s", &token) // another scheme is no token
	}
	return s.check(token)
}

func (s *Server) check(token string) error {
	s.mu.Lock()
	check := s.authenticate
	s.mu.Unlock()
	if check == nil {
		return nil
	}
	return check(token)
}
