package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/carrier"
	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/crowd"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/history"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/sqlite"
)

const (
	boss       = "boss" // owns the projects and publishes
	ofOneUser  = 20     // clients; the server lets a user have 50 sessions
	oneIn      = 16     // clients is recorded, each of a user of its own
	sharedBy   = 100    // clients is how many there are for each shared connection
	runs       = 16     // that are published
	cases      = 4      // of each project, that are commented on
	readBuffer = 128 << 10
	tokenFor   = 5 * time.Minute // shorter than a soak, so that tokens are renewed
)

// town is what the clients come to.
type town struct {
	p    *process
	sign *identity.Signer
	rec  *history.Recorder

	conn     *grpc.ClientConn // boss's; nil while the server is to be alone
	shared   []*grpc.ClientConn
	projects []*pb.Project
	cases    []*pb.TestCase
	runs     []*pb.Run
	tally    tally
}

// tally counts what happened.
type tally struct {
	opened, joins, leaves, cuts, closes, vanished, stalls, errors atomic.Int64
	published                                                     atomic.Int64
}

func (t *tally) String() string {
	return fmt.Sprintf("%d streams opened, %d joins, %d leaves, %d cut off, %d closed, %d vanished, %d stopped reading, %d found the stream ended; %d events published",
		t.opened.Load(), t.joins.Load(), t.leaves.Load(), t.cuts.Load(), t.closes.Load(), t.vanished.Load(), t.stalls.Load(), t.errors.Load(), t.published.Load())
}

// found makes projects, runs, test cases, and members for so many clients.
func found(ctx context.Context, p *process, seed uint64, connections int) (*town, error) {
	secret, err := identity.DevSecret(p.data)
	if err != nil {
		return nil, err
	}
	w := &town{p: p, rec: history.NewRecorder(seed)}
	if w.sign, err = identity.NewSigner(identity.Keys{HS256Secret: secret}); err != nil {
		return nil, err
	}
	if err := w.connect(connections); err != nil {
		return nil, err
	}
	for _, key := range []string{"alpha", "beta"} {
		if err := w.addProject(ctx, key, connections); err != nil {
			return nil, err
		}
	}
	for i := range runs {
		started, err := pb.NewExecutionServiceClient(w.conn).StartRun(w.asBoss(ctx), &pb.StartRunRequest{Project: w.projects[i%2].Key})
		if err != nil {
			return nil, fmt.Errorf("start a run: %w", err)
		}
		w.runs = append(w.runs, started.Run)
	}
	return w, nil
}

func (w *town) addProject(ctx context.Context, key string, connections int) error {
	projects := pb.NewProjectServiceClient(w.conn)
	made, err := projects.CreateProject(w.asBoss(ctx), &pb.CreateProjectRequest{Key: key})
	if err != nil {
		return fmt.Errorf("make a project: %w", err)
	}
	w.projects = append(w.projects, made.Project)
	for range cases {
		tc, err := pb.NewTestCaseServiceClient(w.conn).CreateTestCase(w.asBoss(ctx), &pb.CreateTestCaseRequest{Project: key, Title: "case"})
		if err != nil {
			return fmt.Errorf("make a test case: %w", err)
		}
		w.cases = append(w.cases, tc.TestCase)
	}
	admitted := map[string]bool{}
	for i := range connections {
		user := userOf(i)
		if admitted[user] {
			continue
		}
		admitted[user] = true
		if _, err := projects.SetMember(w.asBoss(ctx), &pb.SetMemberRequest{Project: made.Project.Id, UserId: user, Role: pb.Role_ROLE_TESTER}); err != nil {
			return fmt.Errorf("make %s a member: %w", user, err)
		}
	}
	return nil
}

func isRecorded(i int) bool { return i%oneIn == 0 }

// userOf names the user of a client.
func userOf(i int) string {
	if isRecorded(i) {
		return fmt.Sprint("seen", i/oneIn)
	}
	return fmt.Sprint("user", i/ofOneUser)
}

// connect opens the connections that are not a client's own.
func (w *town) connect(connections int) (err error) {
	for range 2 + connections/sharedBy {
		conn, err := grpc.NewClient("passthrough:///"+w.p.grpcAddr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		w.shared = append(w.shared, conn)
	}
	w.conn = w.shared[0]
	w.shared = w.shared[1:]
	return nil
}

// disconnect closes them.
func (w *town) disconnect() (err error) {
	for _, conn := range append(w.shared, w.conn) {
		err = errors.Join(err, conn.Close())
	}
	w.shared, w.conn = nil, nil
	return err
}

func (w *town) token(user string) (string, time.Time, error) {
	return w.sign.Sign(&pb.User{Id: user, Name: user}, tokenFor)
}

// asBoss returns a context for a call of the boss's. A token that can't be signed is
// refused by the server.
func (w *town) asBoss(ctx context.Context) context.Context {
	token, _, _ := w.token(boss)
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// targets are what a user may join.
func (w *town) targets(user string) []crowd.Target {
	list := []crowd.Target{{Room: "user:" + user}}
	for _, p := range w.projects {
		list = append(list, crowd.Target{Room: "project:" + p.Id})
	}
	list = append(list, crowd.Target{Room: "project:" + w.projects[0].Id, Detail: pb.Detail_DETAIL_ALL})
	for _, run := range w.runs {
		list = append(list, crowd.Target{Room: "testrun:" + run.Id})
	}
	for _, tc := range w.cases {
		list = append(list, crowd.Target{Room: "testcase:" + tc.Id})
	}
	return list
}

// client returns the client of a number. Only what is recorded is checked.
func (w *town) client(i int, name string, seed uint64, rec *history.Recorder, t times) *client {
	user := userOf(i)
	rooms := w.targets(user)
	targets := func() []crowd.Target { return rooms }
	return &client{
		Client: crowd.NewClient(crowd.Config{
			Server:   carrier.Server{GRPC: w.p.grpcAddr, HTTP: w.p.httpAddr, ReadBuffer: readBuffer},
			Recorder: rec, Token: w.token, Rooms: targets,
		}, name, user, seed),
		by: carriers{w.shared}, rng: rand.New(rand.NewPCG(seed, uint64(i))), rooms: targets,
		pace: t.pace, pings: t.interval / 2, tally: &w.tally,
	}
}

// publish reports results at a steady pace until ctx ends, with a comment now and
// then, which the whole project hears.
func (w *town) publish(ctx context.Context, rng *rand.Rand, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		var err error
		if i%20 == 0 {
			_, err = pb.NewCollaborationServiceClient(w.conn).AddComment(w.asBoss(ctx),
				&pb.AddCommentRequest{TestCaseId: w.cases[rng.IntN(len(w.cases))].Id, Text: strings.Repeat("words ", 1+rng.IntN(50))})
		} else {
			_, err = pb.NewExecutionServiceClient(w.conn).ReportResult(w.asBoss(ctx), &pb.ReportResultRequest{
				RunId:  w.runs[rng.IntN(len(w.runs))].Id,
				Update: &pb.TestExecutionUpdate{Test: &pb.TestRef{Suite: "suite", Name: fmt.Sprint("Test", rng.IntN(50))}, Status: pb.Status_STATUS_PASSED},
			})
		}
		if err != nil && ctx.Err() == nil {
			w.tally.errors.Add(1)
			continue
		}
		w.tally.published.Add(1)
	}
}

// heads asks where all rooms are, by joining them.
func (w *town) heads(ctx context.Context) (map[string]history.Position, error) {
	token, _, err := w.token(boss)
	if err != nil {
		return nil, err
	}
	requests := []*pb.SubscribeRequest{{Frame: &pb.SubscribeRequest_Hello{Hello: &pb.Hello{Client: "soak"}}}}
	targets := w.targets(boss)
	for _, t := range targets {
		requests = append(requests, &pb.SubscribeRequest{Id: 1, Frame: &pb.SubscribeRequest_Join{Join: &pb.JoinRoom{Room: t.Room}}})
	}
	s, err := carrier.Shared{Conn: w.conn}.Open(ctx, carrier.Server{}, token, requests...)
	if err != nil {
		return nil, err
	}
	defer s.Cut()
	heads := map[string]history.Position{}
	for joined := 0; joined < len(targets); {
		res, err := s.Recv()
		if err != nil {
			return nil, fmt.Errorf("ask where the rooms are: %w", err)
		}
		if j := res.GetJoined(); j != nil {
			heads[j.Room] = history.OfPosition(j.Position)
			joined++
		}
	}
	return heads, nil
}

// settle sees that the recorded clients were told all there is.
func (w *town) settle(ctx context.Context, clients []*client) error {
	heads, err := w.heads(ctx)
	if err != nil {
		return err
	}
	var group sync.WaitGroup
	var unsettled atomic.Int32
	for i, c := range clients {
		if !isRecorded(i) {
			continue
		}
		group.Go(func() {
			if !c.Settle(ctx, 30*time.Second, func(room string) (history.Position, bool) { at, ok := heads[room]; return at, ok }) {
				unsettled.Add(1)
			}
		})
	}
	group.Wait()
	if n := unsettled.Load(); n > 0 {
		return fmt.Errorf("%d clients were not told all there is", n)
	}
	return nil
}

// history closes the history with the log of the store, whose server has stopped.
func (w *town) history(ctx context.Context, connections int, bounds history.Bounds) (_ *history.History, err error) {
	db, err := sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(w.p.data, "tcmanager.db")})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rooms := []string{}
	for _, t := range w.targets(boss) {
		rooms = append(rooms, t.Room)
	}
	for i := range connections {
		if isRecorded(i) {
			rooms = append(rooms, "user:"+userOf(i))
		}
	}
	if err := db.View(ctx, func(r store.Reader) error { return crowd.Log(r, w.rec, rooms, false) }); err != nil {
		return nil, err
	}
	h, err := w.rec.History()
	if err != nil {
		return nil, err
	}
	h.Bounds = bounds
	return h, nil
}
