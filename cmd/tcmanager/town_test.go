package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/carrier"
	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/config"
	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/crowd"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/history"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/store"
)

// town is a server that is used, stopped and started again, and what is in it.
type town struct {
	t    testing.TB
	cfg  config.Config
	rec  *history.Recorder
	sign *identity.Signer
	conn *grpc.ClientConn // finds the server again by itself

	running *server
	end     context.CancelFunc
	stopped chan error

	mu       sync.Mutex // guards the rest
	projects []*pb.Project
	cases    []*pb.TestCase
	runs     []*pb.Run // newest last
	rooms    map[string]bool
	short    map[string]time.Duration // how long the tokens of some users last
}

// boss owns the projects and does what the others hear of.
const boss = "boss"

// newTown starts a server with two projects, each with test cases. Sessions have
// room for few bytes, so that most of what comes at once is read from the log.
func newTown(t testing.TB, seed uint64, change ...func(*config.Config)) *town {
	t.Helper()
	w := &town{t: t, rec: history.NewRecorder(seed), rooms: map[string]bool{}, short: map[string]time.Duration{}}
	w.cfg = simConfig(t)
	for _, f := range change {
		f(&w.cfg)
	}
	w.start()
	watching, stopWatching := context.WithCancel(context.Background())
	var watch sync.WaitGroup
	watch.Go(func() { w.rec.Watch(watching) })
	t.Cleanup(func() { stopWatching(); watch.Wait(); w.close() })
	var err error
	if w.sign, err = signerOf(w.cfg); err != nil {
		t.Fatal(err)
	}
	quick := backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1, MaxDelay: 10 * time.Millisecond}
	w.conn, err = grpc.NewClient(w.cfg.GRPCAddr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: quick, MinConnectTimeout: time.Second}))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"alpha", "beta"} {
		w.addProject(key)
	}
	return w
}

func simConfig(t testing.TB) config.Config {
	cmd := serveCommand()
	if err := cmd.Flags().Parse([]string{"--dev", "--data-dir", t.TempDir(), "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--call-rate", "0", "--message-rate", "0", "--command-rate", "0", "--signal-rate", "0"}); err != nil {
		t.Fatal(err)
	}
	c, _, err := config.Load(cmd.Flags(), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	// Less than may be configured: rooms are idle, and Watches end, within a test, and
	// what comes at once is more than fits into a queue.
	c.HeartbeatInterval, c.HeartbeatTimeout, c.QueueBytes = 150*time.Millisecond, 3*time.Second, 4<<10
	return c
}

// start starts the server where it was.
func (w *town) start() {
	w.t.Helper()
	ctx, end := context.WithCancel(context.Background())
	s, err := newServer(ctx, w.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		end()
		w.t.Fatal(err)
	}
	w.cfg.GRPCAddr, w.cfg.HTTPAddr = s.grpcL.Addr().String(), s.httpL.Addr().String()
	w.running, w.end, w.stopped = s, end, make(chan error, 1)
	go func() { w.stopped <- s.run(ctx) }()
}

// stop stops the server. Abruptly means that no client is told, and that every
// connection is cut off.
func (w *town) stop(abruptly bool) {
	w.t.Helper()
	if abruptly {
		w.running.services.Drain = func(context.Context) {}
		w.running.cfg.StopTimeout = 0
	}
	w.end()
	select {
	case err := <-w.stopped:
		if err != nil {
			w.t.Error(err)
		}
	case <-time.After(patience):
		w.t.Fatal("the server did not stop")
	}
	w.running = nil
}

func (w *town) close() {
	if w.conn != nil {
		_ = w.conn.Close()
	}
	if w.running != nil {
		w.stop(true)
	}
}

// as returns a context for a call of a user's.
func (w *town) as(ctx context.Context, user string) context.Context {
	token, _, err := w.token(user)
	if err != nil {
		w.t.Error(err)
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

func (w *town) token(user string) (string, time.Time, error) {
	w.mu.Lock()
	ttl := w.short[user]
	w.mu.Unlock()
	if ttl == 0 {
		ttl = time.Hour
	}
	return w.sign.Sign(&pb.User{Id: user, Name: user}, ttl)
}

func (w *town) addProject(key string) {
	w.t.Helper()
	ctx := w.as(w.t.Context(), boss)
	made, err := pb.NewProjectServiceClient(w.conn).CreateProject(ctx, &pb.CreateProjectRequest{Key: key}, grpc.WaitForReady(true))
	if err != nil {
		w.t.Fatal(err)
	}
	w.projects = append(w.projects, made.Project)
	w.rooms["project:"+made.Project.Id] = true
	for i := range 2 {
		tc, err := pb.NewTestCaseServiceClient(w.conn).CreateTestCase(ctx, &pb.CreateTestCaseRequest{Project: key, Title: fmt.Sprint("case ", i)})
		if err != nil {
			w.t.Fatal(err)
		}
		w.cases = append(w.cases, tc.TestCase)
		w.rooms["testcase:"+tc.TestCase.Id] = true
	}
}

// member gives a user a role in a project, or none. An error means that the server
// is away: whether it was done is in the log.
func (w *town) member(ctx context.Context, project *pb.Project, user string, role pb.Role) error {
	ctx = w.as(ctx, boss)
	service := pb.NewProjectServiceClient(w.conn)
	if role == pb.Role_ROLE_UNSPECIFIED {
		_, err := service.RemoveMember(ctx, &pb.RemoveMemberRequest{Project: project.Id, UserId: user})
		return err
	}
	_, err := service.SetMember(ctx, &pb.SetMemberRequest{Project: project.Id, UserId: user, Role: role})
	return err
}

// admit makes a user a tester of all projects.
func (w *town) admit(user string) {
	w.t.Helper()
	for _, p := range w.projects {
		if err := w.member(w.t.Context(), p, user, pb.Role_ROLE_TESTER); err != nil {
			w.t.Fatal(err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rooms["user:"+user] = true
}

// knownRuns is how many runs clients may join.
const knownRuns = 4

func (w *town) addRun(run *pb.Run) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rooms["testrun:"+run.Id] = true
	w.runs = append(w.runs, run)
	if len(w.runs) > knownRuns {
		w.runs = slices.Delete(w.runs, 0, 1)
	}
}

// targets are what a user may join.
func (w *town) targets(user string) []crowd.Target {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := []crowd.Target{{Room: "user:" + user}}
	for _, p := range w.projects {
		list = append(list, crowd.Target{Room: "project:" + p.Id}, crowd.Target{Room: "project:" + p.Id, Detail: pb.Detail_DETAIL_ALL})
	}
	for _, tc := range w.cases {
		list = append(list, crowd.Target{Room: "testcase:" + tc.Id})
	}
	for _, run := range w.runs {
		list = append(list, crowd.Target{Room: "testrun:" + run.Id})
	}
	return list
}

// client returns a client of a user's.
func (w *town) client(name, user string, seed uint64) *crowd.Client {
	return crowd.NewClient(crowd.Config{
		Server:   carrier.Server{GRPC: w.cfg.GRPCAddr, HTTP: w.cfg.HTTPAddr, ReadBuffer: 192 << 10},
		Recorder: w.rec, Token: w.token, Busy: slowed, Rooms: func() []crowd.Target { return w.targets(user) },
	}, name, user, seed)
}

// view reads the store, past every door.
func (w *town) view(fn func(store.Reader) error) {
	w.t.Helper()
	if err := w.running.services.Store.View(context.Background(), fn); err != nil {
		w.t.Fatal(err)
	}
}

// allRooms are the rooms of the town, and those of runs whose start was committed
// though nobody got the answer.
func (w *town) allRooms(r store.Reader) ([]string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.projects {
		runs, err := r.Runs(p.Id, 0, 10_000)
		if err != nil {
			return nil, err
		}
		for _, run := range runs {
			w.rooms["testrun:"+run.Id] = true
		}
	}
	return slices.Sorted(maps.Keys(w.rooms)), nil
}

func (w *town) heads() map[string]history.Position {
	heads := map[string]history.Position{}
	w.view(func(r store.Reader) error {
		rooms, err := w.allRooms(r)
		for _, room := range rooms {
			if at, ok := crowd.Position(r, room); ok {
				heads[room] = at
			}
		}
		return err
	})
	return heads
}

// quiet waits until nothing is committed any more and returns where the rooms are.
func (w *town) quiet() map[string]history.Position {
	w.t.Helper()
	heads := w.heads()
	for range 100 {
		<-time.After(100 * time.Millisecond)
		now := w.heads()
		if fmt.Sprint(now) == fmt.Sprint(heads) {
			return heads
		}
		heads = now
	}
	w.t.Fatal("the rooms did not get quiet")
	return nil
}

// settleTime is how long what was committed may take to reach everyone. Only
// failing tests use it up; TCM_SIM_SETTLE makes those that are meant to fail quick.
func (w *town) settleTime() time.Duration { return seconds(w.t, "TCM_SIM_SETTLE", 15*time.Second) }

// settle sees that every client was told all there is, and records it. It reports
// whether all were, within a time that only failing tests use up.
func (w *town) settle(heads map[string]history.Position, d time.Duration, clients ...*crowd.Client) bool {
	var group sync.WaitGroup
	var unsettled atomic.Int32
	for _, c := range clients {
		group.Go(func() {
			if !c.Settle(context.Background(), d, func(room string) (history.Position, bool) { at, ok := heads[room]; return at, ok }) {
				unsettled.Add(1)
			}
		})
	}
	group.Wait()
	return unsettled.Load() == 0
}

// log records the store's log. Gone says that the store is about to be replaced.
func (w *town) log(gone bool) {
	w.t.Helper()
	w.view(func(r store.Reader) error {
		rooms, err := w.allRooms(r)
		if err != nil {
			return err
		}
		return crowd.Log(r, w.rec, rooms, gone)
	})
}

// history closes the history: the store's log is its last part.
func (w *town) history() *history.History {
	w.t.Helper()
	w.log(false)
	h, err := w.rec.History()
	if err != nil {
		w.t.Fatal(err)
	}
	h.Bounds = history.Bounds{Gone: w.cfg.HeartbeatTimeout + cmp.Or(w.cfg.PresenceGrace, presenceGrace) + soon, Back: soon}
	return h
}

// check fails the test for each violation; it prints at most a few of each
// guarantee.
func (w *town) check(h *history.History) []history.Violation {
	w.t.Helper()
	found := history.Check(h)
	shown := map[string]int{}
	for _, v := range found {
		if shown[v.Guarantee]++; shown[v.Guarantee] <= 5 {
			w.t.Error(v)
		}
	}
	return found
}

const (
	presenceGrace = 5 * time.Second // the server's, if nothing else is set
	// soon is how late what happens at once may be seen on a loaded machine.
	soon = 2 * time.Second
)

// count returns how often each kind of record is in a history, and of told events
// how many by which carrier.
func count(h *history.History) map[string]int {
	n := map[string]int{}
	by := map[string]string{}
	for _, r := range h.Records {
		stream := fmt.Sprint(r.Session, r.Stream)
		switch r.Kind {
		case history.Opened:
			by[stream] = r.Carrier
		case history.Told:
			n["told by "+by[stream]]++
		case history.Joined:
			if r.Recovered {
				n["recovered by "+by[stream]]++
			}
		default:
		}
		n[string(r.Kind)]++
	}
	return n
}

func listed(n map[string]int) string {
	var words []string
	for what, times := range n {
		words = append(words, fmt.Sprintf("%s %d", what, times))
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}
