package tcmtest_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	tcmanager "github.com/tcmanager/tcmanager/clients/go"
	"github.com/tcmanager/tcmanager/clients/go/tcmtest"
	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/grpc/codes"
)

const room = "testrun:1"

// stream is a client that may break the rules.
type stream struct {
	t *testing.T
	tcmv1.RealtimeService_SubscribeClient
}

// open opens a stream and says hello.
func open(t *testing.T, srv *tcmtest.Server, sessionID string) stream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	s, err := srv.Client().Realtime().Subscribe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	st := stream{t, s}
	st.say(&tcmv1.SubscribeRequest{Id: 1, Frame: &tcmv1.SubscribeRequest_Hello{Hello: &tcmv1.Hello{SessionId: sessionID}}})
	return st
}

func (s stream) say(req *tcmv1.SubscribeRequest) {
	s.t.Helper()
	if err := s.Send(req); err != nil {
		s.t.Fatal(err)
	}
}

func (s stream) join(room string, at *tcmv1.Position) {
	s.t.Helper()
	s.say(&tcmv1.SubscribeRequest{Id: 2, Frame: &tcmv1.SubscribeRequest_Join{Join: &tcmv1.JoinRoom{Room: room, Position: at}}})
}

func (s stream) next() *tcmv1.SubscribeResponse {
	s.t.Helper()
	frame, err := s.Recv()
	if err != nil {
		s.t.Fatal(err)
	}
	return frame
}

func onStage(t *testing.T, fn func(t *testing.T, srv *tcmtest.Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { fn(t, tcmtest.New(t)) })
}

func durable() *tcmv1.Event {
	return &tcmv1.Event{Payload: &tcmv1.Event_MemberChanged{MemberChanged: &tcmv1.MemberChanged{}}}
}

func comment(id, text string) *tcmv1.SubscribeRequest {
	return &tcmv1.SubscribeRequest{Id: 7, Frame: &tcmv1.SubscribeRequest_Command{Command: &tcmv1.Command{
		RequestId: id, Command: &tcmv1.Command_AddComment{AddComment: &tcmv1.AddCommentRequest{Text: text}},
	}}}
}

func TestAJoinGivesWhatWasMissedOrAResetWithItsReason(t *testing.T) {
	for name, tc := range map[string]struct {
		at     *tcmv1.Position
		reason string
	}{
		"the beginning":       {&tcmv1.Position{Epoch: 1, Offset: 0}, "POSITION_TRIMMED"},
		"the trim mark":       {&tcmv1.Position{Epoch: 1, Offset: 2}, ""},
		"in the older epoch":  {&tcmv1.Position{Epoch: 1, Offset: 3}, ""},
		"in the newer epoch":  {&tcmv1.Position{Epoch: 2, Offset: 4}, ""},
		"the newest":          {&tcmv1.Position{Epoch: 2, Offset: 5}, ""},
		"of another history":  {&tcmv1.Position{Epoch: 1, Offset: 4}, "EPOCH_CHANGED"},
		"of the future":       {&tcmv1.Position{Epoch: 2, Offset: 6}, "POSITION_UNKNOWN"},
		"of no history":       {&tcmv1.Position{Offset: 3}, "EPOCH_CHANGED"},
		"trimmed, elsewhence": {&tcmv1.Position{Epoch: 9, Offset: 1}, "POSITION_TRIMMED"},
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, func(t *testing.T, srv *tcmtest.Server) {
				srv.Emit(room, durable())
				srv.Emit(room, durable())
				srv.Trim(room)
				srv.Emit(room, durable())
				srv.NewEpoch()
				srv.Emit(room, durable())
				srv.Emit(room, durable())
				s := open(t, srv, "")
				s.next()
				s.join(room, tc.at)
				frame := s.next()
				if tc.reason != "" {
					if got := frame.GetReset_().GetReason(); got != tc.reason {
						t.Errorf("got %v, want %s", frame, tc.reason)
					}
					frame = s.next()
				}
				j := frame.GetJoined()
				if j.GetRecovered() != (tc.reason == "") || j.GetPosition().GetOffset() != 5 || frame.GetReplyTo() != 2 || (j.GetSnapshot() == nil) != j.GetRecovered() {
					t.Errorf("joined %v", frame)
				}
				for want := tc.at.GetOffset() + 1; tc.reason == "" && want <= 5; {
					for _, ev := range s.next().GetEvents() {
						if ev.GetOffset() != want {
							t.Errorf("event %d, want %d", ev.GetOffset(), want)
						}
						want++
					}
				}
			})
		})
	}
}

func TestARequestIDIsAnsweredOnceAndForOneContent(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		calls := 0
		srv.Handle(func(*tcmv1.Command) (*tcmv1.CommandResult, error) {
			calls++
			return &tcmv1.CommandResult{Result: &tcmv1.CommandResult_AddComment{AddComment: &tcmv1.AddCommentResponse{Comment: &tcmv1.Comment{Id: fmt.Sprint(calls)}}}}, nil
		})
		s := open(t, srv, "")
		s.next()
		for range 2 {
			s.say(comment("a", "x"))
			if id := s.next().GetAck().GetResult().GetAddComment().GetComment().GetId(); id != "1" {
				t.Errorf("answered with %q", id)
			}
		}
		s.say(comment("a", "y"))
		if r := s.next().GetError().GetReason(); r != "REQUEST_ID_REUSED" {
			t.Errorf("another content: %q", r)
		}
		if len(srv.Commands()) != 1 {
			t.Errorf("carried out %v", srv.Commands())
		}
	})
}

func TestEachCommandHasAnAnswerOfItsKind(t *testing.T) {
	commands := (&tcmv1.Command{}).ProtoReflect().Descriptor().Oneofs().ByName("command").Fields()
	results := (&tcmv1.CommandResult{}).ProtoReflect().Descriptor()
	for i := range commands.Len() {
		name := commands.Get(i).Name()
		if name == "update_activity" || name == "update_presence" {
			continue
		}
		if results.Fields().ByName(name) == nil {
			t.Errorf("%s has no answer: Server would give an empty one", name)
		}
	}
}

func TestASessionThatIsTakenUpEndsItsOlderStream(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		old := open(t, srv, "")
		id := old.next().GetWelcome().GetSessionId()
		fresh := open(t, srv, id)
		if got := fresh.next().GetWelcome().GetSessionId(); got != id {
			t.Errorf("session %q became %q", id, got)
		}
		_, err := old.Recv()
		if e, ok := tcmanager.AsError(err); !ok || e.Code != codes.Aborted || e.Reason != "SESSION_RESUMED_ELSEWHERE" {
			t.Errorf("the older stream ended with %v", err)
		}
		if n := srv.Streams(); n != 1 {
			t.Errorf("%d streams", n)
		}
	})
}

func TestAStreamThatIsSilentEnds(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		srv.Heartbeat(time.Second, 3*time.Second)
		s := open(t, srv, "")
		s.next()
		begun := time.Now()
		_, err := s.Recv()
		if e, ok := tcmanager.AsError(err); !ok || e.Reason != "HEARTBEAT_TIMEOUT" || time.Since(begun) != 3*time.Second {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
	})
}

func TestTheFirstFrameMustBeAHelloAndTheOthersNone(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		s, err := srv.Client().Realtime().Subscribe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		rude := stream{t, s}
		rude.say(comment("a", "x"))
		_, err = rude.Recv()
		if e, ok := tcmanager.AsError(err); !ok || e.Reason != "HELLO_FIRST" {
			t.Errorf("got %v", err)
		}
		twice := open(t, srv, "")
		twice.next()
		twice.say(&tcmv1.SubscribeRequest{Id: 3, Frame: &tcmv1.SubscribeRequest_Hello{Hello: &tcmv1.Hello{}}})
		if frame := twice.next(); frame.GetError() == nil || frame.GetReplyTo() != 3 {
			t.Errorf("got %v", frame)
		}
	})
}

func TestASessionMayBeInSoManyRooms(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		s := open(t, srv, "")
		limit := int(s.next().GetWelcome().GetMaxRooms())
		for i := range limit + 1 {
			s.join(fmt.Sprint("testrun:", i), nil)
			if frame := s.next(); (frame.GetError().GetReason() == "TOO_MANY_ROOMS") != (i == limit) {
				t.Errorf("room %d: %v", i, frame)
			}
		}
	})
}

func TestAPublisherBringsItsItemsAndFinishes(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		p := srv.Client().NewPublisher(tcmanager.PublisherConfig{Project: "demo", RunKey: "k", DiskLimit: -1})
		done := make(chan error, 1)
		go func() { done <- p.Run(t.Context()) }()
		defer p.Close()
		for i := range 1000 {
			if err := p.Publish(&tcmv1.PublishItem{Item: &tcmv1.PublishItem_Output{Output: &tcmv1.OutputChunk{Name: fmt.Sprint(i)}}}); err != nil {
				t.Fatal(err)
			}
			if i == 500 {
				synctest.Wait()
				time.Sleep(time.Second)
				srv.CutConnections()
			}
		}
		code := int32(0)
		report := p.Finish(t.Context(), tcmanager.FinishOptions{ExitCode: &code, StallTimeout: time.Minute})
		items := srv.Published("demo", "k", "main")
		if !report.Finished || len(items) != 1000 || srv.Finished("demo", "k", "").GetLastSequence() != 1000 {
			t.Fatalf("%d items, %+v", len(items), report)
		}
		for i, item := range items {
			if item.GetOutput().GetName() != fmt.Sprint(i) {
				t.Fatalf("item %d is %v", i, item)
			}
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
