package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/carrier"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// answerWait is how long a clerk waits for an answer before asking again.
const answerWait = 3 * time.Second

// clerk is a person who writes: by calls, and by commands in sessions of every
// carrier. What got no answer is asked for again, under the same request id and
// mostly through another door.
type clerk struct {
	*town
	user string
	rng  *rand.Rand
	net  *network
	conn *grpc.ClientConn

	stream carrier.Stream // nil while there is none
	next   uint64         // the number of the last request in it
	asked  int            // writes
	run    string         // the id of a run of the clerk's own; empty for none
}

// wish is something to write, by every door that it can go through.
type wish struct {
	write
	id      string
	command *pb.Command // nil: by a call only
	call    func(context.Context, grpc.ClientConnInterface) (proto.Message, error)
}

// work writes until ctx ends. What is asked for then is asked for until last ends.
func (c *clerk) work(ctx, last context.Context) {
	for ctx.Err() == nil {
		if w := c.choose(ctx); w != nil {
			c.see(ctx, last, w)
		}
		pause(ctx, time.Duration(c.rng.IntN(40))*time.Millisecond)
	}
	if c.stream != nil {
		c.stream.Cut()
	}
}

// see sees to it that a wish is answered, and books the answer.
func (c *clerk) see(ctx, last context.Context, w *wish) {
	defer func() { c.ledger.add(w.write) }()
	for doubt := false; ; doubt = true {
		answer, err := c.ask(last, w)
		w.outcome, w.why = judgeAnswer(err)
		switch {
		case w.outcome == acked:
			c.learn(answer)
			c.repeat(ctx, w, answer)
			return
		case w.outcome == refused && doubt:
			w.outcome = unknown // it may have been done the first time
			return
		case w.outcome == refused, last.Err() != nil:
			return
		}
		c.tally.add("asked again")
		pause(last, time.Duration(c.rng.IntN(150))*time.Millisecond)
	}
}

// judgeAnswer says what an answer means. Only a server that said itself what is
// wrong has refused: anything else may have happened on the way back.
func judgeAnswer(err error) (outcome, string) {
	if err == nil {
		return acked, ""
	}
	e, ok := serverSaid(err)
	if !ok {
		return unknown, err.Error()
	}
	switch codes.Code(e.Code) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Unknown, codes.Unauthenticated:
		return unknown, e.Reason
	default:
		return refused, e.Reason
	}
}

// saidError is an error frame of a session.
type saidError struct{ frame *pb.Error }

func (e saidError) Error() string { return e.frame.Reason + ": " + e.frame.Message }

func serverSaid(err error) (*pb.Error, bool) {
	if e, ok := errors.AsType[saidError](err); ok {
		return e.frame, true
	}
	for _, d := range status.Convert(err).Details() {
		if e, ok := d.(*pb.Error); ok {
			return e, true
		}
	}
	return nil, false
}

// repeat asks now and then for what was done already: the answer must be the same.
func (c *clerk) repeat(ctx context.Context, w *wish, answer proto.Message) {
	if c.rng.IntN(8) != 0 {
		return
	}
	again, err := c.ask(ctx, w)
	if err != nil {
		return // the server is away, or the clerk was put out meanwhile
	}
	c.tally.add("repeats")
	if !proto.Equal(again, answer) {
		c.ledger.complainf("%s %s was asked for twice and got another answer: %v, then %v", w.kind, w.token, answer, again)
	}
}

// ask asks once, through any door.
func (c *clerk) ask(ctx context.Context, w *wish) (proto.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	as, err := c.as(ctx, c.user)
	if err != nil {
		return nil, err
	}
	switch door := c.rng.IntN(4); {
	case w.command == nil || door == 0:
		return w.call(as, c.conn)
	case door == 1:
		res, err := pb.NewRealtimeServiceClient(c.conn).Execute(as, &pb.ExecuteRequest{Command: w.command})
		return resultOf(res.GetAck().GetResult()), err
	default:
		return c.command(ctx, w.command)
	}
}

// resultOf takes the answer out of the oneof of answers.
func resultOf(r *pb.CommandResult) proto.Message {
	var answer proto.Message
	if m := r.ProtoReflect(); m.IsValid() {
		if f := m.WhichOneof(m.Descriptor().Oneofs().ByName("result")); f != nil {
			answer = m.Get(f).Message().Interface()
		}
	}
	return answer
}

// command sends a command in the clerk's session, opening one if there is none.
func (c *clerk) command(ctx context.Context, cmd *pb.Command) (proto.Message, error) {
	if c.stream == nil {
		if err := c.open(ctx); err != nil {
			return nil, err
		}
	}
	stream := c.stream
	cut := context.AfterFunc(ctx, stream.Cut) // an answer that is late comes to nobody
	res, err := c.exchange(cmd)
	if !cut() || err != nil || c.rng.IntN(20) == 0 {
		stream.Cut()
		c.stream = nil
	}
	if e := res.GetError(); err == nil && e != nil {
		return nil, saidError{e}
	}
	return resultOf(res.GetAck().GetResult()), err
}

func (c *clerk) open(ctx context.Context) error {
	token, _, err := c.token(c.user)
	if err != nil {
		return err
	}
	var by carrier.Carrier = carrier.Native{}
	if c.rng.IntN(2) == 0 {
		by = carrier.Websocket{}
	}
	life := context.WithoutCancel(ctx) // the stream is for more than one command
	opened := make(chan error, 1)
	var stream carrier.Stream
	go func() {
		var err error
		stream, err = by.Open(life, c.net.server(c.town), token, &pb.SubscribeRequest{Frame: &pb.SubscribeRequest_Hello{Hello: &pb.Hello{Client: "clerk"}}})
		opened <- err
	}()
	select {
	case err := <-opened:
		c.stream = stream
		return err
	case <-ctx.Done():
		c.net.cut() // it is stuck in a connection that is stalled
		if err := <-opened; err == nil {
			stream.Cut()
		}
		return ctx.Err()
	}
}

func (c *clerk) exchange(cmd *pb.Command) (*pb.SubscribeResponse, error) {
	c.next++
	if err := c.stream.Send(&pb.SubscribeRequest{Id: c.next, Frame: &pb.SubscribeRequest_Command{Command: cmd}}); err != nil {
		return nil, err
	}
	for {
		res, err := c.stream.Recv()
		if err != nil || res.ReplyTo == c.next {
			return res, err
		}
	}
}

// learn notes what the clerk needs later.
func (c *clerk) learn(answer proto.Message) {
	switch a := answer.(type) {
	case *pb.StartRunResponse:
		c.run = a.Run.GetId()
		c.addRun(a.Run)
	case *pb.FinishRunResponse:
		c.run = ""
	default:
	}
}

// choose chooses what to write next.
func (c *clerk) choose(ctx context.Context) *wish {
	c.asked++
	t := fmt.Sprintf("%s-%d", c.user, c.asked)
	tc := c.cases[c.rng.IntN(len(c.cases))]
	project := c.projects[c.rng.IntN(len(c.projects))]
	words := t + strings.Repeat(" word", c.rng.IntN(60))
	w := &wish{write: write{token: t}, id: "id-" + t}
	if c.run == "" {
		return w.startRun(project.Key)
	}
	switch n := c.rng.IntN(20); {
	case n < 8:
		return w.result(c.run, pb.Status_STATUS_PASSED)
	case n < 9:
		return w.result(c.run, pb.Status_STATUS_BLOCKED) // without a comment: it is refused
	case n < 12:
		return w.comment(tc.Id, words)
	case n < 15:
		return c.edit(ctx, w, tc.Id, words)
	case n < 17:
		return w.notice(project.Key, c.user)
	case n < 18:
		return w.testCase(project.Key)
	case n < 19:
		return w.startRun("nowhere") // it is refused
	default:
		return w.startRun(project.Key)
	}
}

func (w *wish) startRun(project string) *wish {
	req := &pb.StartRunRequest{Project: project, RunKey: w.token, RequestId: w.id}
	w.kind, w.command = kindRun, &pb.Command{RequestId: w.id, Command: &pb.Command_StartRun{StartRun: req}}
	w.call = func(ctx context.Context, conn grpc.ClientConnInterface) (proto.Message, error) {
		return answer(pb.NewExecutionServiceClient(conn).StartRun(ctx, req))
	}
	return w
}

func (w *wish) result(run string, s pb.Status) *wish {
	req := &pb.ReportResultRequest{RunId: run, RequestId: w.id, Update: &pb.TestExecutionUpdate{Test: &pb.TestRef{Suite: "manual", Name: w.token}, Status: s}}
	w.token = "manual/" + w.token
	w.kind, w.command = kindResult, &pb.Command{RequestId: w.id, Command: &pb.Command_ReportResult{ReportResult: req}}
	w.call = func(ctx context.Context, conn grpc.ClientConnInterface) (proto.Message, error) {
		return answer(pb.NewExecutionServiceClient(conn).ReportResult(ctx, req))
	}
	return w
}

func (w *wish) comment(testCase, text string) *wish {
	req := &pb.AddCommentRequest{TestCaseId: testCase, Text: text, RequestId: w.id}
	w.kind, w.command = kindComment, &pb.Command{RequestId: w.id, Command: &pb.Command_AddComment{AddComment: req}}
	w.call = func(ctx context.Context, conn grpc.ClientConnInterface) (proto.Message, error) {
		return answer(pb.NewCollaborationServiceClient(conn).AddComment(ctx, req))
	}
	return w
}

// edit needs to know what it changes; nil if that can't be read now.
func (c *clerk) edit(ctx context.Context, w *wish, testCase, text string) *wish {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	as, err := c.as(ctx, c.user)
	if err != nil {
		return nil
	}
	now, err := pb.NewTestCaseServiceClient(c.conn).GetTestCase(as, &pb.GetTestCaseRequest{TestCaseId: testCase})
	if err != nil {
		return nil
	}
	req := &pb.EditTestCaseRequest{
		TestCaseId: testCase, Field: pb.TestCaseField_TEST_CASE_FIELD_DESCRIPTION, Value: text, RequestId: w.id,
		BaseRevision: revisionOf(now.TestCase, pb.TestCaseField_TEST_CASE_FIELD_DESCRIPTION),
	}
	w.kind, w.command = kindEdit, &pb.Command{RequestId: w.id, Command: &pb.Command_EditTestCase{EditTestCase: req}}
	w.call = func(ctx context.Context, conn grpc.ClientConnInterface) (proto.Message, error) {
		return answer(pb.NewTestCaseServiceClient(conn).EditTestCase(ctx, req))
	}
	return w
}

func revisionOf(tc *pb.TestCase, field pb.TestCaseField) uint64 {
	for _, r := range tc.GetRevisions() {
		if r.Field == field {
			return r.Revision
		}
	}
	return 1
}

func (w *wish) notice(project, user string) *wish {
	req := &pb.SendNotificationRequest{Type: pb.NotificationType_NOTIFICATION_TYPE_INFO, Title: w.token, Project: project, UserId: user, RequestId: w.id}
	w.kind = kindNotice
	w.call = func(ctx context.Context, conn grpc.ClientConnInterface) (proto.Message, error) {
		return answer(pb.NewNotificationServiceClient(conn).SendNotification(ctx, req))
	}
	return w
}

func (w *wish) testCase(project string) *wish {
	req := &pb.CreateTestCaseRequest{Project: project, Title: w.token, RequestId: w.id}
	w.kind = kindCase
	w.call = func(ctx context.Context, conn grpc.ClientConnInterface) (proto.Message, error) {
		return answer(pb.NewTestCaseServiceClient(conn).CreateTestCase(ctx, req))
	}
	return w
}

// answer makes a message of a typed one.
func answer[T proto.Message](m T, err error) (proto.Message, error) {
	return m, err
}
