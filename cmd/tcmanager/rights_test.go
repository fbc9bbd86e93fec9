package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/identity"
)

// The rights that are no action in a project.
const (
	public access.Action = "without a token"
	self   access.Action = "one's own" // whoever is signed in, about nobody else
)

// ask says what the request of a door asks for, and makes one that is good.
type ask struct {
	right access.Action
	make  func(*player) proto.Message
}

// asks has a row for every request of the schema: of a call, of a command, and
// each frame of a session. The doors come from the descriptors, so a new one
// without a row here fails.
var asks = map[protoreflect.Name]ask{
	"GetServerInfoRequest": {public, func(*player) proto.Message { return &pb.GetServerInfoRequest{} }},
	"SignInDevRequest":     {public, func(*player) proto.Message { return &pb.SignInDevRequest{UserId: identity.DevUsers()[0].Id} }},
	"GetMeRequest":         {self, func(*player) proto.Message { return &pb.GetMeRequest{} }},

	"CreateProjectRequest": {self, func(p *player) proto.Message { return &pb.CreateProjectRequest{Key: p.world.name("p")} }},
	"ListProjectsRequest":  {self, func(*player) proto.Message { return &pb.ListProjectsRequest{} }},
	"GetProjectRequest":    {access.Read, func(p *player) proto.Message { return &pb.GetProjectRequest{Project: p.world.project.Key} }},
	"ListMembersRequest":   {access.Read, func(p *player) proto.Message { return &pb.ListMembersRequest{Project: p.world.project.Id} }},
	"SetMemberRequest": {access.ManageMembers, func(p *player) proto.Message {
		return &pb.SetMemberRequest{Project: p.world.project.Key, UserId: p.world.name("u"), Role: pb.Role_ROLE_VIEWER}
	}},
	"RemoveMemberRequest": {access.ManageMembers, func(p *player) proto.Message {
		user := p.world.name("u")
		p.world.setRole(user, p.world.project, pb.Role_ROLE_VIEWER)
		return &pb.RemoveMemberRequest{Project: p.world.project.Key, UserId: user}
	}},

	"StartRunRequest":  {access.Publish, func(p *player) proto.Message { return &pb.StartRunRequest{Project: p.world.project.Key} }},
	"FinishRunRequest": {access.Publish, func(p *player) proto.Message { return &pb.FinishRunRequest{RunId: p.world.run()} }},
	"ReportResultRequest": {access.Publish, func(p *player) proto.Message {
		return &pb.ReportResultRequest{RunId: p.world.going, Update: &pb.TestExecutionUpdate{
			Test: &pb.TestRef{Suite: "s", Name: "TestIt"}, Status: pb.Status_STATUS_PASSED,
		}}
	}},
	"GetRunRequest":      {access.Read, func(p *player) proto.Message { return &pb.GetRunRequest{RunId: p.world.going} }},
	"ListRunsRequest":    {access.Read, func(p *player) proto.Message { return &pb.ListRunsRequest{Project: p.world.project.Id} }},
	"ListResultsRequest": {access.Read, func(p *player) proto.Message { return &pb.ListResultsRequest{RunId: p.world.going} }},
	"ReadOutputRequest":  {access.Read, func(p *player) proto.Message { return &pb.ReadOutputRequest{RunId: p.world.going} }},

	"CreateTestCaseRequest": {access.WriteCases, func(p *player) proto.Message {
		return &pb.CreateTestCaseRequest{Project: p.world.project.Key, Title: "A case"}
	}},
	"GetTestCaseRequest":   {access.Read, func(p *player) proto.Message { return &pb.GetTestCaseRequest{TestCaseId: p.world.written} }},
	"ListTestCasesRequest": {access.Read, func(p *player) proto.Message { return &pb.ListTestCasesRequest{Project: p.world.project.Key} }},
	"EditTestCaseRequest": {access.WriteCases, func(p *player) proto.Message {
		return &pb.EditTestCaseRequest{TestCaseId: p.world.testCase(), Field: pb.TestCaseField_TEST_CASE_FIELD_TITLE, Value: "Another", BaseRevision: 1}
	}},
	"AddCommentRequest":   {access.Comment, func(p *player) proto.Message { return &pb.AddCommentRequest{TestCaseId: p.world.written, Text: "Hm"} }},
	"ListCommentsRequest": {access.Read, func(p *player) proto.Message { return &pb.ListCommentsRequest{TestCaseId: p.world.written} }},

	"SendNotificationRequest": {access.Notify, func(p *player) proto.Message {
		return &pb.SendNotificationRequest{Type: pb.NotificationType_NOTIFICATION_TYPE_INFO, Title: "Hear", Project: p.world.project.Key}
	}},
	"ListNotificationsRequest":     {self, func(*player) proto.Message { return &pb.ListNotificationsRequest{} }},
	"MarkNotificationsReadRequest": {self, func(*player) proto.Message { return &pb.MarkNotificationsReadRequest{All: true} }},

	"UpdateActivityRequest": {access.Signal, func(p *player) proto.Message {
		return &pb.UpdateActivityRequest{Room: p.world.room(), Field: "title", State: pb.ActivityState_ACTIVITY_STATE_FOCUSED}
	}},
	"UpdatePresenceRequest": {self, func(*player) proto.Message {
		return &pb.UpdatePresenceRequest{State: pb.PresenceState_PRESENCE_STATE_ONLINE}
	}},

	"JoinRoom":     {access.Read, func(p *player) proto.Message { return &pb.JoinRoom{Room: p.world.room()} }},
	"LeaveRoom":    {self, func(*player) proto.Message { return &pb.LeaveRoom{Room: "project:none"} }},
	"RefreshToken": {self, func(p *player) proto.Message { return &pb.RefreshToken{Token: p.world.token(p.user)} }},
	"Ping":         {self, func(*player) proto.Message { return &pb.Ping{} }},
}

// door is one way to ask.
type door struct {
	name  string
	right access.Action
	knock func(*player) error
}

// doors lists every way to ask that the schema has.
func doors(t *testing.T) (all []door) {
	t.Helper()
	seen := map[protoreflect.Name]bool{}
	add := func(name string, request protoreflect.Name, knock func(*player, proto.Message) error) {
		a, ok := asks[request]
		if !ok {
			t.Errorf("%s has no row: add %s to asks, with the right that it asks for", name, request)
			return
		}
		seen[request] = true
		all = append(all, door{name, a.right, func(p *player) error { return knock(p, a.make(p)) }})
	}
	protoregistry.GlobalFiles.RangeFilesByPackage("tcmanager.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			methods := f.Services().Get(i).Methods()
			for j := range methods.Len() {
				m := methods.Get(j)
				full := fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
				if special, ok := streams[full]; ok {
					all = append(all, special...)
					continue
				}
				if m.IsStreamingClient() || m.IsStreamingServer() {
					t.Errorf("%s has no row: add it to streams", full)
					continue
				}
				add(full, m.Input().Name(), func(p *player, req proto.Message) error { return p.call(full, req) })
			}
		}
		return true
	})
	frames := (&pb.SubscribeRequest{}).ProtoReflect().Descriptor().Oneofs().ByName("frame").Fields()
	for i := range frames.Len() {
		f := frames.Get(i)
		if f.Name() == "hello" || f.Name() == "command" { // every session has said hello; commands follow
			continue
		}
		add("frame "+string(f.Name()), f.Message().Name(), func(p *player, m proto.Message) error {
			req := &pb.SubscribeRequest{}
			req.ProtoReflect().Set(f, protoreflect.ValueOfMessage(m.ProtoReflect()))
			return p.say(req)
		})
	}
	commands := (&pb.Command{}).ProtoReflect().Descriptor().Oneofs().ByName("command").Fields()
	for i := range commands.Len() {
		f := commands.Get(i)
		command := func(m proto.Message) *pb.Command {
			c := &pb.Command{}
			c.ProtoReflect().Set(f, protoreflect.ValueOfMessage(m.ProtoReflect()))
			return c
		}
		add("command "+string(f.Name()), f.Message().Name(), func(p *player, m proto.Message) error {
			return p.say(&pb.SubscribeRequest{Frame: &pb.SubscribeRequest_Command{Command: command(m)}})
		})
		add("Execute "+string(f.Name()), f.Message().Name(), func(p *player, m proto.Message) error {
			return p.call(pb.RealtimeService_Execute_FullMethodName, &pb.ExecuteRequest{SessionId: p.session.id, Command: command(m)})
		})
	}
	for request := range asks {
		if !seen[request] {
			t.Errorf("%s is in asks and nowhere in the schema", request)
		}
	}
	return all
}

// streams are the doors that are no call and no frame.
var streams = map[string][]door{
	pb.RealtimeService_Subscribe_FullMethodName: {{"Subscribe", self, func(p *player) error {
		s := p.open("")
		defer s.hangUp()
		return s.connect()
	}}},
	pb.RealtimeService_Execute_FullMethodName: nil, // a door for each command
	pb.RealtimeService_Watch_FullMethodName: {{"Watch", access.Read, func(p *player) error {
		stream, err := pb.NewRealtimeServiceClient(p.world.conn).Watch(p.ctx, &pb.WatchRequest{Mode: pb.WatchMode_WATCH_MODE_POLL, Frames: []*pb.SubscribeRequest{
			{Id: 1, Frame: &pb.SubscribeRequest_Hello{Hello: &pb.Hello{}}},
			{Id: 2, Frame: &pb.SubscribeRequest_Join{Join: &pb.JoinRoom{Room: p.world.room()}}},
		}})
		for err == nil {
			var f *pb.SubscribeResponse
			if f, err = stream.Recv(); f.GetError() != nil {
				return refused{f.GetError()}
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}}},
	pb.ExecutionService_PublishResults_FullMethodName: {
		{"PublishResults", access.Publish, func(p *player) error {
			stream, err := p.publish()
			if err != nil {
				return err
			}
			return stream.CloseSend()
		}},
		{"PublishResults, a batch in a stream that was open before", access.Publish, func(p *player) error {
			if p.publishing == nil {
				var err error
				if p.publishing, err = p.publish(); err != nil {
					return err
				}
			}
			if err := p.publishing.Send(&pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Batch{Batch: &pb.PublishBatch{
				FirstSequence: 1, Items: []*pb.PublishItem{{Item: &pb.PublishItem_Test{Test: &pb.TestExecutionUpdate{
					Test: &pb.TestRef{Suite: "s", Name: "n"}, Status: pb.Status_STATUS_PASSED,
				}}}},
			}}}); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			_, err := p.publishing.Recv()
			return err
		}},
	},
}

// world is a server with a project, its owner, and another project.
type world struct {
	*testServer
	t       *testing.T
	signer  *identity.Signer
	owner   context.Context
	project *pb.Project
	other   *pb.Project
	going   string // a run that goes on
	written string // a test case
	names   *atomic.Int64
}

// in returns the world for a test within this one.
func (w *world) in(t *testing.T) *world {
	inner := *w
	inner.t = t
	return &inner
}

func newWorld(t *testing.T) *world {
	t.Helper()
	cfg := testConfig(t)
	w := &world{testServer: startServer(t, cfg), t: t, names: new(atomic.Int64)}
	var err error
	if w.signer, err = signerOf(cfg); err != nil {
		t.Fatal(err)
	}
	w.owner = bearerContext(t, w.token("root"))
	for key, p := range map[string]**pb.Project{"here": &w.project, "elsewhere": &w.other} {
		resp, err := pb.NewProjectServiceClient(w.conn).CreateProject(w.owner, &pb.CreateProjectRequest{Key: key})
		if err != nil {
			t.Fatal(err)
		}
		*p = resp.Project
	}
	w.going, w.written = w.run(), w.testCase()
	return w
}

func (w *world) token(user string) string {
	token, _, err := w.signer.Sign(&pb.User{Id: user, Name: user}, time.Hour)
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

// name returns another name with each call.
func (w *world) name(prefix string) string {
	return fmt.Sprintf("%s-%d", prefix, w.names.Add(1))
}

func (w *world) room() string { return "project:" + w.project.Id }

func (w *world) setRole(user string, project *pb.Project, role pb.Role) {
	w.t.Helper()
	if _, err := pb.NewProjectServiceClient(w.conn).SetMember(w.owner, &pb.SetMemberRequest{Project: project.Key, UserId: user, Role: role}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) run() string {
	w.t.Helper()
	resp, err := pb.NewExecutionServiceClient(w.conn).StartRun(w.owner, &pb.StartRunRequest{Project: w.project.Key})
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.Run.Id
}

func (w *world) testCase() string {
	w.t.Helper()
	resp, err := pb.NewTestCaseServiceClient(w.conn).CreateTestCase(w.owner, &pb.CreateTestCaseRequest{Project: w.project.Key, Title: "A case"})
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.TestCase.Id
}

// player is a user with a session, in one of the situations.
type player struct {
	world      *world
	user       string
	ctx        context.Context
	session    *audience
	publishing grpc.BidiStreamingClient[pb.PublishResultsRequest, pb.PublishResultsResponse]
}

// newPlayer signs a new user in.
func (w *world) newPlayer() *player {
	w.t.Helper()
	user := w.name("player")
	p := &player{world: w, user: user, ctx: bearerContext(w.t, w.token(user))}
	if err := p.call(pb.IdentityService_GetMe_FullMethodName, &pb.GetMeRequest{}); err != nil { // makes the user
		w.t.Fatal(err)
	}
	p.session = p.open("")
	w.t.Cleanup(p.session.hangUp)
	return p
}

// open returns a session of the player's that isn't connected yet.
func (p *player) open(id string) *audience {
	a := newAudience(func() (grpc.BidiStreamingClient[pb.SubscribeRequest, pb.SubscribeResponse], context.CancelFunc, error) {
		ctx, cancel := context.WithCancel(p.ctx)
		stream, err := pb.NewRealtimeServiceClient(p.world.conn).Subscribe(ctx)
		return stream, cancel, err
	})
	a.id = id
	return a
}

// must fails the test: what is prepared has to succeed.
func (p *player) must(err error) {
	p.world.t.Helper()
	if err != nil {
		p.world.t.Fatal(err)
	}
}

func (p *player) enter() {
	p.world.t.Helper()
	p.must(p.session.connect())
	_, err := p.session.join(p.world.room(), 0, nil)
	p.must(err)
}

func (p *player) call(method string, req proto.Message) error {
	m, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(method[1:], "/", ".")))
	if err != nil {
		return err
	}
	out, err := protoregistry.GlobalTypes.FindMessageByName(m.(protoreflect.MethodDescriptor).Output().FullName())
	if err != nil {
		return err
	}
	return p.world.conn.Invoke(p.ctx, method, req, out.New().Interface())
}

// say sends a frame, and a ping behind it: not every frame has an answer when
// all is well.
func (p *player) say(req *pb.SubscribeRequest) error {
	p.session.next++
	req.Id = p.session.next
	if err := p.session.stream.Send(req); err != nil {
		return err
	}
	if _, err := p.session.ask(&pb.SubscribeRequest{Frame: &pb.SubscribeRequest_Ping{Ping: &pb.Ping{}}}); err != nil {
		return err
	}
	p.session.mu.Lock()
	defer p.session.mu.Unlock()
	if e := p.session.answers[req.Id].GetError(); e != nil {
		return refused{e}
	}
	return nil
}

// publish opens a runner's stream into a run of its own.
func (p *player) publish() (grpc.BidiStreamingClient[pb.PublishResultsRequest, pb.PublishResultsResponse], error) {
	stream, err := pb.NewExecutionServiceClient(p.world.conn).PublishResults(p.ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Hello{Hello: &pb.PublishHello{
		Project: p.world.project.Key, RunKey: p.world.name("key"),
	}}}); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	_, err = stream.Recv()
	return stream, err
}

// situations bring a player with a role to where the doors are tried. They return
// whether the role counts here.
var situations = []struct {
	name  string
	bring func(*player, pb.Role) bool
}{
	{"joined", func(p *player, role pb.Role) bool {
		p.world.setRole(p.user, p.world.project, role)
		p.enter()
		return true
	}},
	{"resumed", func(p *player, role pb.Role) bool {
		p.world.setRole(p.user, p.world.project, role)
		p.enter()
		p.session.hangUp()
		p.must(p.session.resume())
		return true
	}},
	{"downgraded", func(p *player, role pb.Role) bool {
		p.world.setRole(p.user, p.world.project, pb.Role_ROLE_OWNER)
		p.enter()
		var err error
		p.publishing, err = p.publish()
		p.must(err)
		p.world.setRole(p.user, p.world.project, role)
		return true
	}},
	{"removed", func(p *player, role pb.Role) bool {
		p.world.setRole(p.user, p.world.project, role)
		p.enter()
		if access.Allowed(role, access.Publish) {
			var err error
			p.publishing, err = p.publish()
			p.must(err)
		}
		_, err := pb.NewProjectServiceClient(p.world.conn).RemoveMember(p.world.owner, &pb.RemoveMemberRequest{
			Project: p.world.project.Key, UserId: p.user,
		})
		p.must(err)
		p.must(p.session.wait("to be evicted", func() bool { return p.session.positions[p.world.room()] == nil }))
		return false
	}},
	{"in another project", func(p *player, role pb.Role) bool {
		p.world.setRole(p.user, p.world.other, role)
		p.must(p.session.connect())
		return false
	}},
}

// outcome is what became of a knock: "" if the door opened.
func outcome(err error) string {
	var r refused
	switch {
	case err == nil:
		return ""
	case errors.As(err, &r):
		return r.because.Reason
	}
	for _, d := range status.Convert(err).Details() {
		if e, ok := d.(*pb.Error); ok {
			return e.Reason
		}
	}
	return err.Error()
}

// Every call, frame and command, tried by every role in every situation: what the
// table of service/access says, and nothing else, decides.
func TestEveryDoorOpensToThoseWhoMayAndToNobodyElse(t *testing.T) {
	w := newWorld(t)
	all := doors(t)
	for _, situation := range situations {
		for role, name := range pb.Role_name {
			role := pb.Role(role)
			if role == pb.Role_ROLE_UNSPECIFIED {
				continue
			}
			t.Run(situation.name+"/"+strings.TrimPrefix(name, "ROLE_"), func(t *testing.T) {
				t.Parallel() // most of the time is spent waiting for the disk
				p := w.in(t).newPlayer()
				counts := situation.bring(p, role)
				for _, d := range all {
					opens := d.right == public || d.right == self || counts && access.Allowed(role, d.right)
					want := ""
					if !opens {
						want = access.ErrDenied.Reason
					}
					if got := outcome(d.knock(p)); got != want {
						t.Errorf("%s, which asks for %q: got %q, want %q", d.name, d.right, got, want)
					}
				}
			})
		}
	}
}

func TestNoDoorButThePublicOnesOpensWithoutAToken(t *testing.T) {
	w := newWorld(t)
	member := w.newPlayer()
	w.setRole(member.user, w.project, pb.Role_ROLE_OWNER)
	member.enter()
	for name, ctx := range map[string]context.Context{
		"no token":        t.Context(),
		"a forged one":    metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+w.token("root")+"x"),
		"an expired one":  bearerContext(t, w.expired("root")),
		"another's claim": metadata.AppendToOutgoingContext(t.Context(), "x-user-id", "root"),
	} {
		p := &player{world: w, user: "root", ctx: ctx, session: member.session}
		for _, d := range doors(t) {
			if strings.HasPrefix(d.name, "frame ") || strings.HasPrefix(d.name, "command ") {
				continue // there is no session without a token
			}
			err := d.knock(p)
			if d.right == public {
				if err != nil {
					t.Errorf("%s, %s: %v", d.name, name, err)
				}
			} else if status.Code(err) != codes.Unauthenticated {
				t.Errorf("%s, %s: %v, want UNAUTHENTICATED", d.name, name, err)
			}
		}
	}
}

// expired returns a token whose time is over by more than clocks may differ.
func (w *world) expired(user string) string {
	secret, err := identity.DevSecret(w.cfg.DataDir)
	if err != nil {
		w.t.Fatal(err)
	}
	claims := jwt.MapClaims{"userId": user, "sub": user, "exp": time.Now().Add(-5 * time.Minute).Unix()}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(secret)
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

func TestTheRolesOfTheSchemaAreThoseOfTheMatrix(t *testing.T) {
	var named []string
	for _, name := range pb.Role_name {
		named = append(named, name)
	}
	if slices.Sort(named); len(named) != 6 {
		t.Errorf("there are roles %v: look through asks whether each row still says what is meant", named)
	}
}
