package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// verb does one thing of a script. What it returns is printed as JSON.
type verb struct {
	do    func(s *stage, args []string) (any, error)
	least int // how many arguments it needs
	usage string
}

var allVerbs = map[string]verb{
	"server":   {(*stage).doServer, 0, "[FLAG...]"},
	"stop":     {(*stage).doStop, 0, ""},
	"restart":  {(*stage).doRestart, 0, "[FLAG...]"},
	"join":     {(*stage).doJoin, 2, "WHO ROOM [detail=all]"},
	"leave":    {(*stage).doLeave, 1, "WHO [ROOM]"},
	"drop":     {(*stage).doLeave, 1, "WHO"},
	"resume":   {(*stage).doResume, 1, "WHO"},
	"here":     {(*stage).doHere, 2, "WHO ROOM [PERSON...]"},
	"start":    {(*stage).doStart, 2, "WHO KEY"},
	"finish":   {(*stage).doFinish, 2, "WHO KEY"},
	"report":   {(*stage).doReport, 5, "WHO KEY SUITE TEST STATUS [PATH=VALUE...]"},
	"publish":  {(*stage).doPublish, 5, "WHO KEY SUITE TEST STATUS [PATH=VALUE...]"},
	"complete": {(*stage).doComplete, 1, "KEY"},
	"cut":      {(*stage).doCut, 1, "KEY"},
	"run":      {(*stage).doRun, 2, "WHO KEY [PATH=VALUE...]"},
	"write":    {(*stage).doWrite, 2, "WHO TITLE [PRIORITY]"},
	"edit":     {(*stage).doEdit, 5, "WHO CASE FIELD VALUE REVISION"},
	"comment":  {(*stage).doComment, 3, "WHO CASE TEXT"},
	"types":    {(*stage).doTypes, 3, "WHO ROOM FIELD [STATE]"},
	"notify":   {(*stage).doNotify, 2, "WHO TITLE [to=PERSON]"},
	"unread":   {(*stage).doUnread, 2, "WHO N"},
	"read":     {(*stage).doRead, 2, "WHO all"},
	"get":      {(*stage).doGet, 1, "[bearer=WHO] PATH"},
}

// verbs turns the verbs into commands of testscript.
func verbs() map[string]func(*testscript.TestScript, bool, []string) {
	all := map[string]func(*testscript.TestScript, bool, []string){"hears": hears, "grpcurl": grpcurl, "capture": capture}
	for name, v := range allVerbs {
		all[name] = func(ts *testscript.TestScript, neg bool, args []string) {
			if len(args) < v.least {
				ts.Fatalf("usage: %s %s", name, v.usage)
			}
			s := stageOf(ts)
			got, err := v.do(s, args)
			if s.running != nil {
				ts.Setenv("TCM_SERVER", s.running.grpcL.Addr().String())
				ts.Setenv("PUBLIC_URL", s.running.publicURL)
			}
			settle(ts, neg, got, err)
		}
	}
	return all
}

// settle prints what a verb got, and fails the script if it should have been
// refused and was not, or the other way round.
func settle(ts *testscript.TestScript, neg bool, got any, err error) {
	switch got := got.(type) {
	case proto.Message:
		if got.ProtoReflect().IsValid() {
			_, _ = fmt.Fprintln(ts.Stdout(), protojson.MarshalOptions{Multiline: true, UseProtoNames: true}.Format(got))
		}
	case string:
		_, _ = io.WriteString(ts.Stdout(), got)
	}
	if err != nil {
		_, _ = fmt.Fprintln(ts.Stderr(), describe(err))
	}
	switch {
	case neg && err == nil:
		ts.Fatalf("it was not refused")
	case !neg && err != nil:
		ts.Fatalf("%s", describe(err))
	}
}

// describe prints an error with its reason.
func describe(err error) string {
	st, ok := status.FromError(err)
	if !ok {
		return err.Error()
	}
	for _, d := range st.Details() {
		if e, ok := d.(*pb.Error); ok {
			return fmt.Sprintf("%s: %s: %s %v %v", st.Code(), e.Reason, e.Message, e.Metadata, e.Violations)
		}
	}
	return err.Error()
}

// capture keeps a part of what was printed last.
func capture(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: capture NAME PATTERN")
	}
	pattern, err := regexp.Compile(args[1])
	ts.Check(err)
	found := pattern.FindStringSubmatch(ts.ReadFile("stdout"))
	if len(found) != 2 {
		ts.Fatalf("%s is not in what was printed", pattern)
	}
	ts.Setenv(args[0], found[1])
}

// hears has a negative of its own: that nothing of the kind has come.
func hears(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: hears WHO ROOM KIND [PATH=VALUE...]")
	}
	s := stageOf(ts)
	a := s.sessions[args[0]]
	if a == nil {
		ts.Fatalf("%s has joined no room", args[0])
	}
	want, err := parseConditions(args[3:])
	ts.Check(err)
	if neg {
		ev, err := a.untaken(s.room(args[1]), args[2], want)
		ts.Check(err)
		if ev != nil {
			ts.Fatalf("%s heard it: %v", args[0], ev)
		}
		return
	}
	ev, err := a.take(s.room(args[1]), args[2], want)
	settle(ts, false, ev, err)
}

func (s *stage) doServer(args []string) (any, error)  { return nil, s.startServer(args) }
func (s *stage) doStop([]string) (any, error)         { return nil, s.stopServer() }
func (s *stage) doRestart(more []string) (any, error) { return nil, s.restart(more) }

func (s *stage) audience(who string) (*audience, error) {
	if a := s.sessions[who]; a != nil {
		return a, nil
	}
	a := newAudience(func() (grpc.BidiStreamingClient[pb.SubscribeRequest, pb.SubscribeResponse], context.CancelFunc, error) {
		ctx, cancel := s.asLong(who)
		stream, err := pb.NewRealtimeServiceClient(s.conn).Subscribe(ctx)
		return stream, cancel, err
	})
	if err := a.connect(); err != nil {
		a.hangUp()
		return nil, err
	}
	s.sessions[who] = a
	return a, nil
}

func (s *stage) doJoin(args []string) (any, error) {
	a, err := s.audience(args[0])
	if err != nil {
		return nil, err
	}
	detail := pb.Detail_DETAIL_SUMMARY
	if slices.Contains(args[2:], "detail=all") {
		detail = pb.Detail_DETAIL_ALL
	}
	joined, err := a.join(s.room(args[1]), detail, nil)
	if err == nil {
		s.rooms[args[1]] = joined.Room
	}
	return joined, err
}

func (s *stage) doLeave(args []string) (any, error) {
	a := s.sessions[args[0]]
	if a == nil {
		return nil, fmt.Errorf("%s is nowhere", args[0])
	}
	if len(args) == 1 {
		a.hangUp()
		return nil, nil
	}
	_, err := a.ask(&pb.SubscribeRequest{Frame: &pb.SubscribeRequest_Leave{Leave: &pb.LeaveRoom{Room: s.room(args[1])}}})
	return nil, err
}

// doResume waits until the old stream has ended, if it was ended by the server.
func (s *stage) doResume(args []string) (any, error) {
	a := s.sessions[args[0]]
	if a == nil {
		return nil, fmt.Errorf("%s was nowhere", args[0])
	}
	a.hangUp()
	return nil, a.resume()
}

func (s *stage) doHere(args []string) (any, error) {
	a := s.sessions[args[0]]
	if a == nil {
		return nil, fmt.Errorf("%s is nowhere", args[0])
	}
	var want, got []string
	for _, who := range args[2:] {
		want = append(want, userID(who))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.joined[s.room(args[1])].GetPresence() {
		got = append(got, p.GetUser().GetId())
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		return nil, fmt.Errorf("in the room were %v, want %v", got, want)
	}
	return nil, nil
}

func (s *stage) doStart(args []string) (any, error) {
	ctx, cancel := s.as(args[0])
	defer cancel()
	res, err := pb.NewExecutionServiceClient(s.conn).StartRun(ctx, &pb.StartRunRequest{Project: "demo", RunKey: args[1], Info: &pb.RunInfo{Name: args[1]}})
	s.runs[args[1]] = res.GetRun().GetId()
	return res, err
}

func (s *stage) doFinish(args []string) (any, error) {
	ctx, cancel := s.as(args[0])
	defer cancel()
	return pb.NewExecutionServiceClient(s.conn).FinishRun(ctx, &pb.FinishRunRequest{RunId: s.runs[args[1]]})
}

// update builds what "SUITE TEST STATUS [PATH=VALUE...]" says.
func update(args []string) (*pb.TestExecutionUpdate, error) {
	c, err := parseConditions(append([]string{"test.suite=" + args[0], "test.name=" + args[1], "status=" + args[2]}, args[3:]...))
	if err != nil {
		return nil, err
	}
	u := &pb.TestExecutionUpdate{}
	return u, c.fill(u)
}

func (s *stage) doReport(args []string) (any, error) {
	u, err := update(args[2:])
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.as(args[0])
	defer cancel()
	return pb.NewExecutionServiceClient(s.conn).ReportResult(ctx, &pb.ReportResultRequest{RunId: s.runs[args[1]], Update: u})
}

func (s *stage) doPublish(args []string) (any, error) {
	u, err := update(args[2:])
	if err != nil {
		return nil, err
	}
	p := s.publishers[args[1]]
	if p == nil {
		if p, err = s.newPublisher(args[0], args[1]); err != nil {
			return nil, err
		}
		s.publishers[args[1]], s.runs[args[1]] = p, p.run
	}
	return nil, p.publish(u)
}

func (s *stage) doComplete(args []string) (any, error) {
	p := s.publishers[args[0]]
	delete(s.publishers, args[0])
	return nil, p.complete()
}

func (s *stage) doCut(args []string) (any, error) {
	s.publishers[args[0]].cut()
	delete(s.publishers, args[0])
	return nil, nil
}

func (s *stage) doRun(args []string) (any, error) {
	want, err := parseConditions(args[2:])
	if err != nil {
		return nil, err
	}
	return s.waitForRun(args[0], args[1], want)
}

func (s *stage) doWrite(args []string) (any, error) {
	req := &pb.CreateTestCaseRequest{Project: "demo", Title: args[1]}
	if len(args) > 2 {
		if err := (conditions{{"priority", args[2]}}).fill(req); err != nil {
			return nil, err
		}
	}
	ctx, cancel := s.as(args[0])
	defer cancel()
	res, err := pb.NewTestCaseServiceClient(s.conn).CreateTestCase(ctx, req)
	if err == nil {
		s.cases[res.TestCase.Key] = res.TestCase.Id
	}
	return res, err
}

func (s *stage) doEdit(args []string) (any, error) {
	req := &pb.EditTestCaseRequest{TestCaseId: s.cases[args[1]], Value: args[3]}
	if err := (conditions{{"field", args[2]}, {"base_revision", args[4]}}).fill(req); err != nil {
		return nil, err
	}
	ctx, cancel := s.as(args[0])
	defer cancel()
	return pb.NewTestCaseServiceClient(s.conn).EditTestCase(ctx, req)
}

func (s *stage) doComment(args []string) (any, error) {
	ctx, cancel := s.as(args[0])
	defer cancel()
	return pb.NewCollaborationServiceClient(s.conn).AddComment(ctx, &pb.AddCommentRequest{TestCaseId: s.cases[args[1]], Text: args[2]})
}

// doTypes sends what isn't acknowledged unless it fails; a ping after it brings
// the failure, if there is one, before its own answer.
func (s *stage) doTypes(args []string) (any, error) {
	a := s.sessions[args[0]]
	if a == nil {
		return nil, fmt.Errorf("%s is nowhere", args[0])
	}
	state := "typing"
	if len(args) > 3 {
		state = args[3]
	}
	req := &pb.UpdateActivityRequest{Room: s.room(args[1]), Field: args[2]}
	if err := (conditions{{"state", state}}).fill(req); err != nil {
		return nil, err
	}
	a.next++
	id := a.next
	if err := a.stream.Send(&pb.SubscribeRequest{Id: id, Frame: &pb.SubscribeRequest_Command{Command: &pb.Command{
		Command: &pb.Command_UpdateActivity{UpdateActivity: req},
	}}}); err != nil {
		return nil, err
	}
	if _, err := a.ask(&pb.SubscribeRequest{Frame: &pb.SubscribeRequest_Ping{Ping: &pb.Ping{}}}); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if e := a.answers[id].GetError(); e != nil {
		return nil, refused{e}
	}
	return nil, nil
}

func (s *stage) doNotify(args []string) (any, error) {
	req := &pb.SendNotificationRequest{Type: pb.NotificationType_NOTIFICATION_TYPE_INFO, Title: args[1], Project: "demo"}
	if len(args) > 2 {
		who, ok := strings.CutPrefix(args[2], "to=")
		if !ok {
			return nil, fmt.Errorf("%q is not to=PERSON", args[2])
		}
		req.UserId = userID(who)
	}
	ctx, cancel := s.as(args[0])
	defer cancel()
	return pb.NewNotificationServiceClient(s.conn).SendNotification(ctx, req)
}

func (s *stage) doUnread(args []string) (any, error) {
	ctx, cancel := s.as(args[0])
	defer cancel()
	res, err := pb.NewNotificationServiceClient(s.conn).ListNotifications(ctx, &pb.ListNotificationsRequest{UnreadOnly: true})
	if err != nil {
		return nil, err
	}
	if got := strconv.Itoa(int(res.Unread)); got != args[1] {
		return res, fmt.Errorf("%s unread, want %s", got, args[1])
	}
	return res, nil
}

func (s *stage) doRead(args []string) (any, error) {
	a := s.sessions[args[0]]
	if a == nil {
		return nil, fmt.Errorf("%s is nowhere", args[0])
	}
	if args[1] != "all" {
		return nil, errors.New("usage: read WHO all")
	}
	res, err := a.ask(&pb.SubscribeRequest{Frame: &pb.SubscribeRequest_Command{Command: &pb.Command{
		RequestId: "read-" + strconv.FormatUint(a.next, 10),
		Command:   &pb.Command_MarkNotificationsRead{MarkNotificationsRead: &pb.MarkNotificationsReadRequest{All: true}},
	}}})
	return res.GetAck(), err
}

func (s *stage) doGet(args []string) (any, error) {
	who, hasBearer := strings.CutPrefix(args[0], "bearer=")
	if !hasBearer {
		who = ""
	}
	status, body, err := s.get(args[len(args)-1], who)
	return status + "\n" + body + "\n", err
}
