package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/carrier"
	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/crowd"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/history"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/store"
)

// boss owns the projects.
const boss = "boss"

// shortToken is how long the tokens of some users last.
const shortToken = 2 * time.Second

// town is what is in a server: projects, people, runs.
type town struct {
	server *process
	rec    *history.Recorder
	ledger *ledger
	tally  *tally
	sign   *identity.Signer
	conn   *grpc.ClientConn // straight to the server, past every wire

	projects []*pb.Project // set before the town is used, as is cases
	cases    []*pb.TestCase

	found *found // what the store holds in the end

	mu    sync.Mutex // guards the rest
	users []string
	short map[string]bool // users with tokens that end soon
	runs  []string        // ids of the newest ones
}

// soon is for connections to a server that is mostly there.
var soon = grpc.WithConnectParams(grpc.ConnectParams{
	Backoff: backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond}, MinConnectTimeout: 2 * time.Second,
})

func dial(addr string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()), soon)
}

// build makes two projects with some test cases in a server that is there.
func (t *town) build(ctx context.Context) error {
	for _, key := range []string{"alpha", "beta"} {
		as, err := t.as(ctx, boss)
		if err != nil {
			return err
		}
		made, err := pb.NewProjectServiceClient(t.conn).CreateProject(as, &pb.CreateProjectRequest{Key: key}, grpc.WaitForReady(true))
		if err != nil {
			return fmt.Errorf("make a project: %w", err)
		}
		t.projects = append(t.projects, made.Project)
		for i := range 2 {
			tc, err := pb.NewTestCaseServiceClient(t.conn).CreateTestCase(as, &pb.CreateTestCaseRequest{Project: key, Title: fmt.Sprintf("first-%s-%d", key, i)})
			if err != nil {
				return fmt.Errorf("make a test case: %w", err)
			}
			t.cases = append(t.cases, tc.TestCase)
		}
	}
	return nil
}

// admit makes a user a tester of all projects.
func (t *town) admit(ctx context.Context, user string) error {
	for _, p := range t.projects {
		if err := t.member(ctx, p, user, pb.Role_ROLE_TESTER); err != nil {
			return fmt.Errorf("admit %s: %w", user, err)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.users = append(t.users, user)
	return nil
}

// member gives a user a role in a project, or none.
func (t *town) member(ctx context.Context, p *pb.Project, user string, role pb.Role) error {
	as, err := t.as(ctx, boss)
	if err != nil {
		return err
	}
	service := pb.NewProjectServiceClient(t.conn)
	if role == pb.Role_ROLE_UNSPECIFIED {
		_, err := service.RemoveMember(as, &pb.RemoveMemberRequest{Project: p.Id, UserId: user})
		return err
	}
	_, err = service.SetMember(as, &pb.SetMemberRequest{Project: p.Id, UserId: user, Role: role})
	return err
}

func (t *town) token(user string) (string, time.Time, error) {
	t.mu.Lock()
	ttl := time.Hour
	if t.short[user] {
		ttl = shortToken
	}
	t.mu.Unlock()
	return t.sign.Sign(&pb.User{Id: user, Name: user}, ttl)
}

// as returns the context of a user's calls.
func (t *town) as(ctx context.Context, user string) (context.Context, error) {
	token, _, err := t.token(user)
	if err != nil {
		return nil, err
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), nil
}

// knownRuns is how many runs clients may join.
const knownRuns = 4

func (t *town) addRun(run *pb.Run) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if slices.Contains(t.runs, run.GetId()) {
		return
	}
	if t.runs = append(t.runs, run.GetId()); len(t.runs) > knownRuns {
		t.runs = slices.Delete(t.runs, 0, 1)
	}
}

// targets are what a user may join.
func (t *town) targets(user string) []crowd.Target {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := []crowd.Target{{Room: "user:" + user}}
	for _, p := range t.projects {
		list = append(list, crowd.Target{Room: "project:" + p.Id}, crowd.Target{Room: "project:" + p.Id, Detail: pb.Detail_DETAIL_ALL})
	}
	for _, tc := range t.cases {
		list = append(list, crowd.Target{Room: "testcase:" + tc.Id})
	}
	for _, id := range t.runs {
		list = append(list, crowd.Target{Room: "testrun:" + id})
	}
	return list
}

// roles changes the roles of some users, takes them out and lets them in again,
// until ctx ends. The server's log says what came of it.
func (t *town) roles(ctx context.Context, rng *rand.Rand, users []string) {
	roles := []pb.Role{0, 0, pb.Role_ROLE_VIEWER, pb.Role_ROLE_TESTER, pb.Role_ROLE_TESTER, pb.Role_ROLE_BOT}
	for ctx.Err() == nil {
		call, cancel := context.WithTimeout(ctx, 2*time.Second)
		// An error says that the user was no member, or that the server is away.
		_ = t.member(call, t.projects[rng.IntN(len(t.projects))], users[rng.IntN(len(users))], roles[rng.IntN(len(roles))])
		cancel()
		pause(ctx, time.Duration(20+rng.IntN(200))*time.Millisecond)
	}
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// rooms are all rooms, as far as the server tells.
func (t *town) rooms(ctx context.Context) ([]string, error) {
	as, err := t.as(ctx, boss)
	if err != nil {
		return nil, err
	}
	var rooms []string
	for _, p := range t.projects {
		rooms = append(rooms, "project:"+p.Id)
		for page := ""; ; {
			list, err := pb.NewExecutionServiceClient(t.conn).ListRuns(as, &pb.ListRunsRequest{Project: p.Id, PageSize: 200, PageToken: page}, grpc.WaitForReady(true))
			if err != nil {
				return nil, fmt.Errorf("list the runs: %w", err)
			}
			for _, run := range list.Runs {
				rooms = append(rooms, "testrun:"+run.Id)
			}
			if page = list.NextPageToken; page == "" {
				break
			}
		}
	}
	for _, tc := range t.cases {
		rooms = append(rooms, "testcase:"+tc.Id)
	}
	return rooms, nil
}

// straight is the server without a wire.
func (t *town) straight() carrier.Server {
	return carrier.Server{GRPC: t.server.grpc, HTTP: t.server.http}
}

// atOnce is how many rooms are asked for in one poll: a session may be in 100.
const atOnce = 90

// heads asks the server where each room is.
func (t *town) heads(ctx context.Context) (map[string]history.Position, error) {
	rooms, err := t.rooms(ctx)
	if err != nil {
		return nil, err
	}
	heads := map[string]history.Position{}
	for part := range slices.Chunk(rooms, atOnce) {
		if err := t.poll(ctx, boss, part, func(j *pb.Joined) { heads[j.Room] = history.OfPosition(j.Position) }); err != nil {
			return nil, err
		}
	}
	t.mu.Lock()
	users := slices.Clone(t.users)
	t.mu.Unlock()
	for _, user := range users {
		if err := t.poll(ctx, user, []string{"user:" + user}, func(j *pb.Joined) { heads[j.Room] = history.OfPosition(j.Position) }); err != nil {
			return nil, err
		}
	}
	return heads, nil
}

// poll joins rooms for a moment.
func (t *town) poll(ctx context.Context, user string, rooms []string, tell func(*pb.Joined)) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	token, _, err := t.token(user)
	if err != nil {
		return err
	}
	frames := []*pb.SubscribeRequest{{Frame: &pb.SubscribeRequest_Hello{Hello: &pb.Hello{Client: "poll"}}}}
	for _, room := range rooms {
		frames = append(frames, &pb.SubscribeRequest{Id: uint64(len(frames)), Frame: &pb.SubscribeRequest_Join{Join: &pb.JoinRoom{Room: room}}})
	}
	stream, err := carrier.Watch{Mode: pb.WatchMode_WATCH_MODE_POLL}.Open(ctx, t.straight(), token, frames...)
	if err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	defer stream.Cut()
	for left := len(rooms); left > 0; {
		res, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("poll: %w", err)
		}
		if e := res.GetError(); e != nil {
			return fmt.Errorf("poll: %s: %s", e.Reason, e.Message)
		}
		if j := res.GetJoined(); j != nil {
			tell(j)
			left--
		}
	}
	return nil
}

var errNotQuiet = errors.New("the rooms did not get quiet")

// quiet waits until nothing is committed any more.
func (t *town) quiet(ctx context.Context) (map[string]history.Position, error) {
	var before map[string]history.Position
	var last error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline) && ctx.Err() == nil; {
		now, err := t.heads(ctx)
		if err == nil && before != nil && maps.Equal(before, now) {
			return now, nil
		}
		before, last = now, err
		pause(ctx, 300*time.Millisecond)
	}
	return nil, errors.Join(errNotQuiet, last)
}

// read adds the store's log to the history and balances the ledger.
func (t *town) read(ctx context.Context, s store.Store) (bad []string, err error) {
	err = s.View(ctx, func(r store.Reader) error {
		var rooms, projects []string
		for _, p := range t.projects {
			projects = append(projects, p.Id)
			rooms = append(rooms, "project:"+p.Id)
			runs, err := r.Runs(p.Id, 0, all)
			if err != nil {
				return err
			}
			for _, run := range runs {
				rooms = append(rooms, "testrun:"+run.Id)
			}
			cases, err := r.TestCases(p.Id, 0, all)
			if err != nil {
				return err
			}
			for _, tc := range cases {
				rooms = append(rooms, "testcase:"+tc.Id)
			}
		}
		for _, user := range t.users {
			rooms = append(rooms, "user:"+user)
		}
		if err := crowd.Log(r, t.rec, rooms, false); err != nil {
			return err
		}
		var err error
		if t.found, err = audit(r, projects, t.users, rooms); err == nil {
			bad = t.ledger.balance(t.found)
		}
		return err
	})
	return bad, err
}
