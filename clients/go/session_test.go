package tcmanager_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	tcmanager "github.com/tcmanager/tcmanager/clients/go"
	"github.com/tcmanager/tcmanager/clients/go/tcmtest"
	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const room = "project:demo"

// onStage runs a test in a bubble, where time is the test's own.
func onStage(t *testing.T, fn func(t *testing.T, srv *tcmtest.Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { fn(t, tcmtest.New(t)) })
}

// states are what OnState was told.
type states struct {
	mu  sync.Mutex
	got []tcmanager.State
}

func (s *states) note(st tcmanager.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, st)
}

func (s *states) last() tcmanager.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[len(s.got)-1]
}

func (s *states) phases() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := ""
	for _, st := range s.got {
		out += st.Phase.String() + ", "
	}
	return out
}

// connect runs a session of srv until the test ends.
func connect(t *testing.T, srv *tcmtest.Server, config tcmanager.SessionConfig, opts ...tcmanager.Option) *tcmanager.Session {
	t.Helper()
	s, _ := start(t, srv, config, opts...)
	return s
}

// start is connect that also hands out the end of Run.
func start(t *testing.T, srv *tcmtest.Server, config tcmanager.SessionConfig, opts ...tcmanager.Option) (*tcmanager.Session, <-chan error) {
	t.Helper()
	session := srv.Client(opts...).NewSession(config)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended <- session.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return session, ended
}

// reader reads a room.
type reader struct {
	stop context.CancelFunc
	done chan struct{}

	gate chan struct{} // full while the reader notes something, and while it is held

	mu  sync.Mutex // guards the rest
	got []tcmanager.Delivery
	err error
}

// hold keeps the reader from reading on behind what it reads next.
func (r *reader) hold() { r.gate <- struct{}{} }

func (r *reader) release() { <-r.gate }

// read reads a room until the test ends.
func read(t *testing.T, session *tcmanager.Session, room string, from *tcmanager.Position) *reader {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &reader{stop: cancel, done: make(chan struct{}), gate: make(chan struct{}, 1)}
	go func() {
		defer close(r.done)
		for d, err := range session.Events(ctx, room, from) {
			r.hold()
			r.note(d, err)
			r.release()
		}
	}()
	t.Cleanup(func() { cancel(); <-r.done })
	return r
}

func (r *reader) note(d tcmanager.Delivery, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.err = err
		return
	}
	r.got = append(r.got, d)
}

func (r *reader) deliveries() []tcmanager.Delivery {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// text is what was read: s a snapshot, r a resumption, ! a reset, p a position, and
// events by their content.
func (r *reader) text() string {
	out := ""
	for _, d := range r.deliveries() {
		switch d.Kind {
		case tcmanager.DeliverySnapshot:
			out += "s "
		case tcmanager.DeliveryResumed:
			out += "r "
		case tcmanager.DeliveryReset:
			out += "!" + d.Reason + " "
		case tcmanager.DeliveryPosition:
			out += "p" + strconv.FormatUint(d.Position.Offset, 10) + " "
		default:
			out += content(d.Event) + " "
		}
	}
	return out
}

// events is the content of the durable events that were read.
func (r *reader) events() []string {
	var out []string
	for _, d := range r.deliveries() {
		if d.Event.GetOffset() > 0 {
			out = append(out, content(d.Event))
		}
	}
	return out
}

func (r *reader) failure() error {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func content(ev *tcmv1.Event) string {
	switch p := ev.GetPayload().(type) {
	case *tcmv1.Event_MemberChanged:
		return p.MemberChanged.GetProjectId()
	case *tcmv1.Event_RunProgress:
		return fmt.Sprintf("%s=%d", ev.GetKey(), p.RunProgress.GetExpectedTotal())
	case *tcmv1.Event_Activity:
		return "@" + p.Activity.GetField()
	case *tcmv1.Event_Presence:
		return p.Presence.GetPresence().GetState().String()
	default:
		return "?"
	}
}

// durable is an event with a content.
func durable(n int) *tcmv1.Event {
	return &tcmv1.Event{Payload: &tcmv1.Event_MemberChanged{MemberChanged: &tcmv1.MemberChanged{ProjectId: strconv.Itoa(n)}}}
}

func progress(key string, n int) *tcmv1.Event {
	return &tcmv1.Event{Key: key, Payload: &tcmv1.Event_RunProgress{RunProgress: &tcmv1.RunProgress{ExpectedTotal: uint32(n)}}}
}

// emit emits events with the contents from to to.
func emit(srv *tcmtest.Server, room string, from, to int) {
	for n := from; n <= to; n++ {
		srv.Emit(room, durable(n))
	}
}

// numbers are the contents from to to.
func numbers(from, to int) []string {
	var out []string
	for n := from; n <= to; n++ {
		out = append(out, strconv.Itoa(n))
	}
	return out
}

func same[T comparable](t *testing.T, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func is[T comparable](t *testing.T, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

// sent counts the frames that srv received of a kind.
func sent[F any](srv *tcmtest.Server) (frames []*tcmv1.SubscribeRequest) {
	synctest.Wait()
	for _, req := range srv.Received() {
		if _, ok := req.GetFrame().(F); ok {
			frames = append(frames, req)
		}
	}
	return frames
}

type (
	hello   = *tcmv1.SubscribeRequest_Hello
	join    = *tcmv1.SubscribeRequest_Join
	leave   = *tcmv1.SubscribeRequest_Leave
	command = *tcmv1.SubscribeRequest_Command
	refresh = *tcmv1.SubscribeRequest_RefreshToken
	ping    = *tcmv1.SubscribeRequest_Ping
)

func comment(id, text string) *tcmv1.Command {
	return &tcmv1.Command{RequestId: id, Command: &tcmv1.Command_AddComment{AddComment: &tcmv1.AddCommentRequest{Text: text}}}
}

func TestARoomIsResumedWithExactlyWhatWasMissedAtEveryPosition(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		const n = 20
		first := connect(t, srv, tcmanager.SessionConfig{})
		r := read(t, first, room, nil)
		r.deliveries()
		emit(srv, room, 1, n/2)
		r.deliveries()
		srv.NewEpoch()
		time.Sleep(time.Minute)
		emit(srv, room, n/2+1, n)
		same(t, r.events(), numbers(1, n))
		for _, d := range r.deliveries() {
			text, err := d.Position.MarshalText()
			if err != nil {
				t.Fatal(err)
			}
			var kept tcmanager.Position // in another process
			if err := kept.UnmarshalText(text); err != nil {
				t.Fatal(err)
			}
			again := read(t, connect(t, srv, tcmanager.SessionConfig{}), room, &kept)
			got := again.deliveries()
			if got[0].Kind != tcmanager.DeliveryResumed || got[0].Position != kept {
				t.Errorf("from %s begins with %v at %v", kept, got[0].Kind, got[0].Position)
			}
			same(t, again.events(), numbers(int(kept.Offset)+1, n))
			again.stop()
		}
	})
}

func TestACutInTheMiddleOfABatchLosesAndRepeatsNothing(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		srv.Batch(10)
		for cut := 1; cut <= 25; cut++ {
			name := fmt.Sprint("testrun:", cut)
			r := read(t, connect(t, srv, tcmanager.SessionConfig{}), name, nil)
			is(t, r.text(), "s ")
			srv.CutAfter(cut)
			emit(srv, name, 1, 30)
			time.Sleep(time.Minute)
			same(t, r.events(), numbers(1, 30))
			r.stop()
		}
	})
}

func TestABrokenNetworkLosesAndRepeatsNothing(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		r := read(t, connect(t, srv, tcmanager.SessionConfig{}), room, nil)
		r.deliveries()
		for n := range 10 {
			emit(srv, room, n*10+1, n*10+10)
			srv.CutConnections()
			time.Sleep(time.Minute)
		}
		same(t, r.events(), numbers(1, 100))
	})
}

// What a server must not say: each is noticed, and the room is joined again from
// where its reader is.
func TestWhatHasHolesBeforeItIsReadAgainFromTheLastPosition(t *testing.T) {
	ahead := func(offset uint64) *tcmv1.SubscribeResponse {
		ev := durable(99)
		ev.Room, ev.Epoch, ev.Offset = room, 1, offset
		return &tcmv1.SubscribeResponse{Events: []*tcmv1.Event{ev}}
	}
	for name, tc := range map[string]struct {
		frame *tcmv1.SubscribeResponse
		joins int
	}{
		"a gap":                             {ahead(5), 2},
		"a durable event without a number":  {ahead(0), 2},
		"a bookmark ahead of what was told": {&tcmv1.SubscribeResponse{Frame: &tcmv1.SubscribeResponse_Bookmark{Bookmark: &tcmv1.Bookmark{Room: room, Position: &tcmv1.Position{Epoch: 1, Offset: 4}}}}, 2},
		"left without having asked":         {&tcmv1.SubscribeResponse{Frame: &tcmv1.SubscribeResponse_Left{Left: &tcmv1.Left{Room: room}}}, 2},
		"nothing, for a duplicate":          {ahead(2), 1},
		"nothing, for an older bookmark":    {&tcmv1.SubscribeResponse{Frame: &tcmv1.SubscribeResponse_Bookmark{Bookmark: &tcmv1.Bookmark{Room: room, Position: &tcmv1.Position{Epoch: 1, Offset: 2}}}}, 1},
		"nothing, for another room":         {&tcmv1.SubscribeResponse{Frame: &tcmv1.SubscribeResponse_Left{Left: &tcmv1.Left{Room: "project:other"}}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, func(t *testing.T, srv *tcmtest.Server) {
				r := read(t, connect(t, srv, tcmanager.SessionConfig{}), room, nil)
				r.deliveries()
				emit(srv, room, 1, 3)
				r.deliveries()
				srv.Send(tc.frame)
				synctest.Wait()
				emit(srv, room, 4, 6)
				same(t, r.events(), numbers(1, 6))
				joins := sent[join](srv)
				if len(joins) != tc.joins {
					t.Fatalf("%d joins, want %d", len(joins), tc.joins)
				}
				if at := joins[len(joins)-1].GetJoin().GetPosition(); tc.joins > 1 && at.GetOffset() != 3 {
					t.Errorf("joined again from %v", at)
				}
			})
		})
	}
}

func TestARoomWhoseHoleDoesNotHealIsAskedForMoreAndMoreSeldom(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		read(t, connect(t, srv, tcmanager.SessionConfig{}), room, nil)
		ahead := &tcmv1.SubscribeResponse{Frame: &tcmv1.SubscribeResponse_Bookmark{Bookmark: &tcmv1.Bookmark{Room: room, Position: &tcmv1.Position{Epoch: 1, Offset: 7}}}}
		for range 6000 { // ten minutes
			synctest.Wait()
			srv.Send(ahead)
			time.Sleep(100 * time.Millisecond)
		}
		if n := len(sent[join](srv)); n < 20 || n > 200 {
			t.Errorf("joined %d times in ten minutes", n)
		}
	})
}

func TestAResetIsYieldedWithItsReasonAndASnapshot(t *testing.T) {
	for name, tc := range map[string]struct {
		misfortune func(srv *tcmtest.Server)
		want       string
		events     []string
	}{
		"the log was trimmed while away": {func(srv *tcmtest.Server) {
			srv.CutStreams()
			emit(srv, room, 4, 5)
			srv.Trim(room)
		}, "s 1 2 3 !POSITION_TRIMMED s 6 ", nil},
		"the database was copied back": {func(srv *tcmtest.Server) {
			srv.Rewind(room, 2)
		}, "s 1 2 3 !POSITION_UNKNOWN s 6 ", nil},
		"the database was copied back, and went another way": {func(srv *tcmtest.Server) {
			srv.Rewind(room, 2)
			emit(srv, room, 4, 5)
		}, "s 1 2 3 !EPOCH_CHANGED s 6 ", nil},
		"the server can't catch up": {func(srv *tcmtest.Server) {
			srv.Reset(room, "TOO_FAR_BEHIND")
		}, "s 1 2 3 !TOO_FAR_BEHIND s 6 ", nil},
		"a restart is none": {func(srv *tcmtest.Server) {
			srv.NewEpoch()
		}, "s 1 2 3 r 6 ", nil},
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, func(t *testing.T, srv *tcmtest.Server) {
				r := read(t, connect(t, srv, tcmanager.SessionConfig{}), room, nil)
				r.deliveries()
				emit(srv, room, 1, 3)
				r.deliveries()
				tc.misfortune(srv)
				time.Sleep(time.Minute)
				r.deliveries()
				srv.Emit(room, durable(6))
				is(t, r.text(), tc.want)
			})
		})
	}
}

func TestAResetMovesThePositionWithItsSnapshotOnly(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		emit(srv, room, 1, 3)
		srv.Trim(room)
		from := tcmanager.Position{Epoch: 1, Offset: 1}
		got := read(t, connect(t, srv, tcmanager.SessionConfig{}), room, &from).deliveries()
		is(t, got[0].Kind, tcmanager.DeliveryReset)
		is(t, got[0].Position, from)
		is(t, got[1].Position, tcmanager.Position{Epoch: 1, Offset: 3})
	})
}

func TestASlowReaderCostsBoundedMemoryLosesNothingAndDelaysNobody(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		const buffer, n = 8 << 10, 5000
		session := connect(t, srv, tcmanager.SessionConfig{RoomBuffer: buffer})
		slow := read(t, session, room, nil)
		fast := read(t, session, "project:other", nil)
		slow.deliveries()
		fast.deliveries()
		slow.hold()
		for i := 1; i <= n; i += 100 {
			emit(srv, room, i, i+99)
			emit(srv, "project:other", i, i+99)
			srv.Emit(room, progress("run", i))
			synctest.Wait()
			if b := session.Buffered(room); b > 2*buffer {
				t.Fatalf("%d bytes wait", b)
			}
			if at := len(fast.events()); at != i+99 {
				t.Fatalf("the other room has had %d of %d events", at, i+99)
			}
			time.Sleep(30 * time.Second) // 25 minutes in all: heartbeats go on
		}
		is(t, srv.Members(room), 0)
		is(t, srv.Opened(), 1)
		slow.release()
		same(t, slow.events(), numbers(1, n))
		is(t, srv.Members(room), 1)
	})
}

func TestASlowReaderOverACutLosesNothing(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		session := connect(t, srv, tcmanager.SessionConfig{RoomBuffer: 4 << 10})
		slow := read(t, session, room, nil)
		slow.deliveries()
		slow.hold()
		emit(srv, room, 1, 500)
		synctest.Wait()
		srv.CutStreams()
		time.Sleep(time.Minute)
		is(t, srv.Members(room), 0)
		slow.release()
		same(t, slow.events(), numbers(1, 500))
	})
}

func TestOfTheClassLatestOnlyTheNewestOfAKeyWaits(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		r := read(t, connect(t, srv, tcmanager.SessionConfig{}), room, nil)
		r.deliveries()
		r.hold()
		srv.Emit(room, durable(1)) // it holds the reader
		synctest.Wait()
		for n := range 50 {
			srv.Emit(room, progress("a", n))
			srv.Emit(room, progress("b", n))
			synctest.Wait()
		}
		srv.Emit(room, durable(2))
		synctest.Wait()
		r.release()
		is(t, r.text(), "s 1 a=49 b=49 2 ")
	})
}

func TestAnEventOfAnUnknownKindMovesThePosition(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		r := read(t, connect(t, srv, tcmanager.SessionConfig{}), room, nil)
		r.deliveries()
		srv.Emit(room, durable(1))
		srv.Emit(room, &tcmv1.Event{})
		r.deliveries()
		srv.Emit(room, &tcmv1.Event{})
		r.deliveries()
		srv.Emit(room, durable(4))
		is(t, r.text(), "s 1 p2 p3 4 ")
		is(t, len(sent[join](srv)), 1)
	})
}

func TestABookmarkOfWhereTheReaderIsIsYieldedOnce(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		r := read(t, connect(t, srv, tcmanager.SessionConfig{}), room, nil)
		r.deliveries()
		srv.Emit(room, durable(1))
		r.hold()
		for range 5 {
			srv.Bookmark(room)
			synctest.Wait()
		}
		r.release()
		is(t, r.text(), "s 1 p1 ")
	})
}

func TestBreakingOutOfTheLoopLeavesTheRoom(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		session := connect(t, srv, tcmanager.SessionConfig{})
		emit(srv, room, 1, 3)
		var at *tcmanager.Position
		for i := range 5 {
			for d, err := range session.Events(t.Context(), room, at) {
				if err != nil {
					t.Fatal(err)
				}
				if d.Kind == tcmanager.DeliveryResumed {
					continue
				}
				at = &d.Position
				if d.Event != nil {
					is(t, content(d.Event), strconv.Itoa(i+3))
				}
				is(t, srv.Members(room), 1)
				break
			}
			synctest.Wait()
			is(t, srv.Members(room), 0)
			srv.Emit(room, durable(i+4))
		}
	})
}

func TestARoomThatIsLeftBeforeTheAnswerIsLeftOnTheServerToo(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		session := connect(t, srv, tcmanager.SessionConfig{})
		srv.Alias("project:key", room)
		synctest.Wait()
		srv.Stall()
		left := read(t, session, "project:key", nil)
		synctest.Wait()
		left.stop()
		synctest.Wait()
		again := read(t, session, "project:key", nil) // whose join crosses the leave
		synctest.Wait()
		srv.Resume()
		again.deliveries()
		emit(srv, room, 1, 3)
		same(t, again.events(), numbers(1, 3))
		again.stop()
		synctest.Wait()
		is(t, srv.Members(room), 0)
	})
}

func TestARoomThatNobodyReadsAnyMoreIsLeftOnceItsNameIsKnown(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		session := connect(t, srv, tcmanager.SessionConfig{})
		synctest.Wait()
		srv.Stall()
		r := read(t, session, room, nil)
		synctest.Wait()
		r.stop()
		synctest.Wait()
		srv.Resume()
		synctest.Wait()
		is(t, srv.Members(room), 0)
		is(t, len(sent[leave](srv)), 1)
	})
}

func TestARoomHasOneReader(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		srv.Alias("project:key", room)
		session := connect(t, srv, tcmanager.SessionConfig{})
		r := read(t, session, room, nil)
		r.deliveries()
		for _, name := range []string{room, "project:key"} {
			if err := read(t, session, name, nil).failure(); !errors.Is(err, tcmanager.ErrRoomTaken) {
				t.Errorf("%s: %v", name, err)
			}
		}
		emit(srv, room, 1, 3)
		same(t, r.events(), numbers(1, 3))
	})
}

func TestEvictionEndsTheIterationWithItsReason(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		session := connect(t, srv, tcmanager.SessionConfig{})
		r := read(t, session, room, nil)
		r.deliveries()
		r.hold()
		emit(srv, room, 1, 1) // it holds the reader
		synctest.Wait()
		emit(srv, room, 2, 3)
		synctest.Wait()
		srv.Evict(room, nil)
		synctest.Wait()
		r.release()
		e, ok := tcmanager.AsError(r.failure())
		if !ok || e.Code != codes.PermissionDenied || e.Reason != "ACCESS_DENIED" {
			t.Errorf("ended with %v", r.failure())
		}
		same(t, r.events(), numbers(1, 1)) // what waited is not for them any more
		is(t, session.State().Phase, tcmanager.PhaseLive)
	})
}

func TestARefusedJoinEndsTheIterationUnlessItMayPass(t *testing.T) {
	for name, tc := range map[string]struct {
		err *tcmanager.Error
		end bool
	}{
		"denied":         {&tcmanager.Error{Code: codes.PermissionDenied, Reason: "ACCESS_DENIED", Message: "no"}, true},
		"too many rooms": {&tcmanager.Error{Code: codes.ResourceExhausted, Reason: "TOO_MANY_ROOMS", Message: "leave one"}, true},
		"too often":      {&tcmanager.Error{Code: codes.ResourceExhausted, Reason: "RATE_LIMITED", Message: "wait", RetryAfter: 5 * time.Second}, false},
		"in trouble":     {&tcmanager.Error{Code: codes.Internal, Reason: "INTERNAL", Message: "sorry"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, func(t *testing.T, srv *tcmtest.Server) {
				srv.RefuseJoin(room, tc.err)
				session := connect(t, srv, tcmanager.SessionConfig{})
				r := read(t, session, room, nil)
				e, ended := tcmanager.AsError(r.failure())
				is(t, ended, tc.end)
				is(t, session.State().Phase, tcmanager.PhaseLive)
				if ended {
					is(t, e.Reason, tc.err.Reason)
					return
				}
				time.Sleep(tc.err.RetryAfter - time.Millisecond)
				is(t, r.text(), "")
				srv.RefuseJoin(room, nil)
				time.Sleep(20 * time.Second)
				is(t, r.text(), "s ")
			})
		})
	}
}

func TestACommandIsCarriedOutOnceAcrossCuts(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		srv.Handle(func(c *tcmv1.Command) (*tcmv1.CommandResult, error) {
			return &tcmv1.CommandResult{Result: &tcmv1.CommandResult_AddComment{AddComment: &tcmv1.AddCommentResponse{
				Comment: &tcmv1.Comment{Text: c.GetAddComment().GetText()},
			}}}, nil
		})
		srv.LoseAnswers(3)
		session := connect(t, srv, tcmanager.SessionConfig{})
		c := comment("", "hello")
		result, err := session.Do(t.Context(), c)
		if err != nil || result.GetAddComment().GetComment().GetText() != "hello" {
			t.Fatalf("got %v, %v", result, err)
		}
		is(t, len(srv.Commands()), 1)
		is(t, len(sent[command](srv)), 4)
		for _, frame := range sent[command](srv) {
			is(t, frame.GetCommand().GetRequestId(), c.GetRequestId())
		}
	})
}

func TestCommandsWaitForTheServerInTheirOrder(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		srv.Refuse(&tcmanager.Error{Code: codes.Unavailable, Message: "not yet"})
		session := connect(t, srv, tcmanager.SessionConfig{})
		var all sync.WaitGroup
		for n := range 20 {
			all.Go(func() {
				if _, err := session.Do(t.Context(), comment("", strconv.Itoa(n))); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		srv.LoseAnswers(5)
		srv.Refuse(nil)
		all.Wait()
		var got []string
		for _, c := range srv.Commands() {
			got = append(got, c.GetAddComment().GetText())
		}
		same(t, got, numbers(0, 19))
	})
}

func TestARefusedCommandReturnsTheServersError(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		srv.Handle(func(*tcmv1.Command) (*tcmv1.CommandResult, error) {
			return nil, &tcmanager.Error{
				Code: codes.InvalidArgument, Reason: "INVALID_FIELD", Message: "text: too long", Metadata: map[string]string{"a": "b"},
				RetryAfter: time.Second, Violations: []tcmanager.Violation{{Field: "text", Description: "too long"}},
			}
		})
		session := connect(t, srv, tcmanager.SessionConfig{})
		_, err := session.Do(t.Context(), comment("", "x"))
		e, ok := errors.AsType[*tcmanager.Error](err)
		if !ok || e.Code != codes.InvalidArgument || e.Reason != "INVALID_FIELD" || e.Error() != "text: too long" || e.Metadata["a"] != "b" || e.RetryAfter != time.Second || len(e.Violations) != 1 {
			t.Errorf("got %#v", err)
		}
	})
}

func TestACommandThatCanNotBeSentIsRefusedHere(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		session := connect(t, srv, tcmanager.SessionConfig{Outbox: 2})
		refused := func(c *tcmv1.Command, reason string) {
			t.Helper()
			_, err := session.Do(t.Context(), c)
			if e, ok := tcmanager.AsError(err); !ok || e.Reason != reason {
				t.Errorf("got %v, want %s", err, reason)
			}
		}
		refused(&tcmv1.Command{}, "")
		refused(&tcmv1.Command{Command: &tcmv1.Command_UpdatePresence{}}, "")
		refused(comment("", string(make([]byte, 2<<20))), "REQUEST_TOO_LARGE")
		srv.Stall()
		for _, id := range []string{"1", "2"} {
			go func() { _, _ = session.Do(t.Context(), comment(id, id)) }()
		}
		synctest.Wait()
		refused(comment("3", ""), "OUTBOX_FULL")
		is(t, session.State().Phase, tcmanager.PhaseLive)
	})
}

func TestTheEndOfItsContextEndsTheWaitingForACommand(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		srv.Refuse(&tcmanager.Error{Code: codes.Unavailable, Message: "not yet"})
		session := connect(t, srv, tcmanager.SessionConfig{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := session.Do(ctx, comment("1", "never")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		srv.Refuse(nil)
		time.Sleep(time.Minute)
		is(t, len(srv.Commands()), 0)
		if _, err := session.Do(t.Context(), comment("1", "now")); err != nil {
			t.Error(err)
		}
	})
}

func TestACommandOlderThanTheServersMemoryIsNotRepeated(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		session := connect(t, srv, tcmanager.SessionConfig{})
		synctest.Wait()
		srv.LoseAnswers(1)
		srv.Refuse(&tcmanager.Error{Code: codes.Unavailable, Message: "a long night"})
		time.AfterFunc(25*time.Hour, func() { srv.Refuse(nil) })
		_, err := session.Do(t.Context(), comment("1", "once"))
		if e, ok := tcmanager.AsError(err); !ok || e.Reason != "REQUEST_WINDOW_PASSED" {
			t.Errorf("got %v", err)
		}
		is(t, len(sent[command](srv)), 1)
	})
}

func TestTypingAndPresenceAreToldWhileLiveOnly(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		srv.Alias("project:key", room)
		session := connect(t, srv, tcmanager.SessionConfig{})
		session.SetActivity("project:key", "dropped", tcmv1.ActivityState_ACTIVITY_STATE_TYPING)
		r := read(t, session, "project:key", nil)
		r.deliveries()
		session.SetActivity("project:key", "title", tcmv1.ActivityState_ACTIVITY_STATE_TYPING)
		r.deliveries()
		session.SetPresence(tcmv1.PresenceState_PRESENCE_STATE_IDLE)
		is(t, r.text(), "s @title PRESENCE_STATE_IDLE ")
		people := session.Presence("project:key")
		if len(people) != 1 || people[0].GetState() != tcmv1.PresenceState_PRESENCE_STATE_IDLE {
			t.Errorf("there are %v", people)
		}
		if session.Presence("project:other") != nil {
			t.Error("somebody is in a room that isn't read")
		}
		srv.Emit(room, &tcmv1.Event{Key: "user-1", Payload: &tcmv1.Event_Presence{Presence: &tcmv1.CollaborationUpdate{
			Data: &tcmv1.CollaborationUpdate_Presence{Presence: &tcmv1.Presence{User: &tcmv1.UserRef{Id: "user-1"}, State: tcmv1.PresenceState_PRESENCE_STATE_OFFLINE}},
		}}})
		r.deliveries()
		is(t, len(session.Presence("project:key")), 0)
	})
}

func TestACrowdIsCountedAndNotListed(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		person := func(id string, state tcmv1.PresenceState) *tcmv1.Presence {
			return &tcmv1.Presence{User: &tcmv1.UserRef{Id: id}, State: state}
		}
		emit := func(id string, state tcmv1.PresenceState) {
			srv.Emit(room, &tcmv1.Event{Key: id, Payload: &tcmv1.Event_Presence{Presence: &tcmv1.CollaborationUpdate{
				Data: &tcmv1.CollaborationUpdate_Presence{Presence: person(id, state)},
			}}})
		}
		count := func(n uint32) {
			srv.Emit(room, &tcmv1.Event{Key: "room", Payload: &tcmv1.Event_Headcount{Headcount: &tcmv1.Headcount{Present: n}}})
		}
		const online = tcmv1.PresenceState_PRESENCE_STATE_ONLINE
		srv.Snapshot(room, &tcmv1.Joined{Present: 5000, Presence: []*tcmv1.Presence{person("a", online), person("user-1", online)}})
		session := connect(t, srv, tcmanager.SessionConfig{})
		is(t, session.Headcount(room), 0)
		r := read(t, session, room, nil)
		see := func(number int, ids ...string) {
			t.Helper()
			r.deliveries()
			is(t, session.Headcount(room), number)
			var got []string
			for _, p := range session.Presence(room) {
				got = append(got, p.GetUser().GetId())
			}
			same(t, got, ids)
		}
		see(5000, "a", "user-1")
		emit("b", online)
		emit("a", tcmv1.PresenceState_PRESENCE_STATE_UNLISTED)
		emit("user-1", tcmv1.PresenceState_PRESENCE_STATE_UNLISTED)
		see(5000, "b", "user-1")
		count(4999)
		see(4999, "b", "user-1")
		emit("c", online)
		count(0)
		see(3, "b", "c", "user-1")
		emit("c", tcmv1.PresenceState_PRESENCE_STATE_OFFLINE)
		see(2, "b", "user-1")
	})
}

func TestPingsComeABitBeforeTheyAreDue(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		connect(t, srv, tcmanager.SessionConfig{})
		synctest.Wait()
		for n := 1; n <= 10; n++ {
			time.Sleep(20*time.Second - time.Millisecond)
			is(t, len(sent[ping](srv)), n-1)
			time.Sleep(time.Millisecond)
			is(t, len(sent[ping](srv)), n)
		}
		is(t, srv.Opened(), 1)
	})
}

func TestAHalfOpenPeerIsNoticed(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		var heard states
		session := connect(t, srv, tcmanager.SessionConfig{OnState: heard.note})
		r := read(t, session, room, nil)
		r.deliveries()
		srv.Stall()
		emit(srv, room, 1, 3)
		time.Sleep(time.Minute - time.Millisecond)
		is(t, session.State().Phase, tcmanager.PhaseLive)
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if st := heard.last(); st.Phase == tcmanager.PhaseLive {
			t.Errorf("a peer that is gone for a minute is %v", st.Phase)
		}
		time.Sleep(2 * time.Minute) // attempts are not welcomed either
		srv.Resume()
		time.Sleep(time.Minute)
		same(t, r.events(), numbers(1, 3))
		is(t, session.State().Phase, tcmanager.PhaseLive)
	})
}

func TestAnAttemptThatIsNotWelcomedIsGivenUp(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		srv.Stall()
		session := connect(t, srv, tcmanager.SessionConfig{})
		time.Sleep(20*time.Second - time.Millisecond)
		synctest.Wait()
		is(t, session.State().Phase, tcmanager.PhaseConnecting)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		is(t, session.State().Attempts, 1)
	})
}

func TestTheBackOffHonoursWhatTheServerAsksFor(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		srv.Refuse(&tcmanager.Error{Code: codes.ResourceExhausted, Reason: "TOO_MANY_CONNECTIONS", Message: "full", RetryAfter: 90 * time.Second})
		session := connect(t, srv, tcmanager.SessionConfig{})
		synctest.Wait()
		st := session.State()
		is(t, st.Phase, tcmanager.PhaseReconnecting)
		is(t, time.Until(st.RetryAt), 90*time.Second)
		if e, ok := tcmanager.AsError(st.Err); !ok || e.Reason != "TOO_MANY_CONNECTIONS" {
			t.Errorf("the reason is %v", st.Err)
		}
		srv.Refuse(nil)
		time.Sleep(90*time.Second - time.Millisecond)
		is(t, srv.Opened(), 0)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		is(t, srv.Opened(), 1)
	})
}

func TestTheBackOffGrowsAndIsForgottenAfterAWhileOfHealth(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		session := connect(t, srv, tcmanager.SessionConfig{})
		cut := func(after time.Duration, want int) {
			t.Helper()
			for session.State().Phase != tcmanager.PhaseLive {
				time.Sleep(time.Millisecond)
				synctest.Wait()
			}
			time.Sleep(after)
			srv.CutStreams()
			synctest.Wait()
			is(t, session.State().Attempts, want)
			if left, limit := time.Until(session.State().RetryAt), min(20*time.Second, time.Second<<(want-1)); left < 0 || left > limit {
				t.Errorf("attempt %d waits %v", want, left)
			}
		}
		for n := 1; n <= 8; n++ {
			cut(9*time.Second, n)
		}
		cut(11*time.Second, 1)
	})
}

func TestGoingAwayWaitsItsDelay(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		var heard states
		session := connect(t, srv, tcmanager.SessionConfig{OnState: heard.note})
		r := read(t, session, room, nil)
		time.Sleep(time.Minute)
		srv.GoAway(42 * time.Second)
		synctest.Wait()
		is(t, session.State().Phase, tcmanager.PhaseReconnecting)
		if session.State().Err != nil {
			t.Errorf("it is no error, but %v", session.State().Err)
		}
		emit(srv, room, 1, 2)
		time.Sleep(42*time.Second - time.Millisecond)
		synctest.Wait()
		is(t, srv.Opened(), 1)
		time.Sleep(time.Millisecond)
		same(t, r.events(), numbers(1, 2))
		is(t, srv.Opened(), 2)
		is(t, heard.phases(), "connecting, catching up, live, reconnecting, connecting, catching up, live, ")
	})
}

func TestATerminalCodeEndsTheSessionForAllWhoWait(t *testing.T) {
	for _, code := range []codes.Code{codes.PermissionDenied, codes.InvalidArgument, codes.Unimplemented} {
		t.Run(code.String(), func(t *testing.T) {
			onStage(t, func(t *testing.T, srv *tcmtest.Server) {
				session, ended := start(t, srv, tcmanager.SessionConfig{})
				r := read(t, session, room, nil)
				r.deliveries()
				refusal := &tcmanager.Error{Code: code, Reason: "NO", Message: "no"}
				srv.Refuse(refusal)
				srv.Stall()
				answered := make(chan error, 1)
				go func() {
					_, err := session.Do(t.Context(), comment("", "x"))
					answered <- err
				}()
				synctest.Wait()
				srv.CutStreams()
				for _, err := range []error{<-ended, r.failure(), <-answered} {
					if e, ok := tcmanager.AsError(err); !ok || e.Code != code {
						t.Errorf("ended with %v", err)
					}
				}
				is(t, session.State().Phase, tcmanager.PhaseClosed)
				if _, err := session.Do(t.Context(), comment("", "x")); err == nil {
					t.Error("a closed session took a command")
				}
				if err := read(t, session, room, nil).failure(); err == nil {
					t.Error("a closed session let somebody in")
				}
				if err := session.Run(t.Context()); !errors.Is(err, tcmanager.ErrSessionStarted) {
					t.Errorf("Run again: %v", err)
				}
			})
		})
	}
}

func TestTheEndOfRunsContextIsTheEndOfTheSession(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		session := srv.Client().NewSession(tcmanager.SessionConfig{})
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- session.Run(ctx) }()
		r := read(t, session, room, nil)
		r.deliveries()
		why := errors.New("enough")
		cancel(why)
		if err := <-ended; !errors.Is(err, why) {
			t.Errorf("Run: %v", err)
		}
		if e, ok := tcmanager.AsError(r.failure()); !ok || e.Code != codes.Canceled || !errors.Is(r.failure(), why) {
			t.Errorf("the reader: %v", r.failure())
		}
		synctest.Wait()
		is(t, srv.Streams(), 0)
	})
}

// bearer numbers the tokens it gives out.
func bearer(asked *atomic.Int32) tcmanager.Option {
	return tcmanager.WithTokenSource(func(context.Context) (tcmanager.Token, error) {
		return tcmanager.Token{Value: fmt.Sprint("t", asked.Add(1))}, nil
	})
}

func TestATokenIsRefreshedInTheStream(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		var asked atomic.Int32
		connect(t, srv, tcmanager.SessionConfig{}, bearer(&asked))
		for n := 2; n <= 4; n++ {
			synctest.Wait()
			srv.Send(&tcmv1.SubscribeResponse{Frame: &tcmv1.SubscribeResponse_TokenExpiring{TokenExpiring: &tcmv1.TokenExpiring{ExpiresAt: timestamppb.Now()}}})
			frames := sent[refresh](srv)
			if len(frames) != n-1 || frames[n-2].GetRefreshToken().GetToken() != fmt.Sprint("t", n) {
				t.Fatalf("told %v", frames)
			}
		}
		is(t, srv.Opened(), 1)
	})
}

func TestAnUnacceptedTokenIsReplacedOnce(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		var asked atomic.Int32
		var revoked atomic.Value
		revoked.Store("t1")
		srv.Authenticate(func(token string) error {
			if token == revoked.Load() || revoked.Load() == "all" {
				return &tcmanager.Error{Code: codes.Unauthenticated, Reason: "TOKEN_REVOKED", Message: "revoked"}
			}
			return nil
		})
		session, ended := start(t, srv, tcmanager.SessionConfig{}, bearer(&asked))
		synctest.Wait()
		is(t, session.State().Phase, tcmanager.PhaseLive)
		is(t, asked.Load(), 2)
		time.Sleep(time.Minute)
		revoked.Store("all")
		srv.EndStreams(&tcmanager.Error{Code: codes.Unauthenticated, Reason: "TOKEN_EXPIRED", Message: "expired"})
		if e, ok := tcmanager.AsError(<-ended); !ok || e.Code != codes.Unauthenticated {
			t.Errorf("ended with %v", e)
		}
		is(t, asked.Load(), 3)
	})
}

func TestASessionIsTakenUpAgainAndGivenUpToANewerStream(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		connect(t, srv, tcmanager.SessionConfig{Name: "test/1", NoDelay: true})
		synctest.Wait()
		srv.CutStreams()
		time.Sleep(time.Minute)
		srv.EndStreams(&tcmanager.Error{Code: codes.Aborted, Reason: "SESSION_RESUMED_ELSEWHERE", Message: "elsewhere"})
		time.Sleep(time.Minute)
		var ids []string
		for _, frame := range sent[hello](srv) {
			is(t, frame.GetHello().GetClient(), "test/1")
			is(t, frame.GetHello().GetNoDelay(), true)
			ids = append(ids, frame.GetHello().GetSessionId())
		}
		same(t, ids, []string{"", "session-1", ""})
	})
}

func TestACallFailsWithTheSameTypeOfError(t *testing.T) {
	onStage(t, func(t *testing.T, srv *tcmtest.Server) {
		srv.Handle(func(*tcmv1.Command) (*tcmv1.CommandResult, error) {
			return nil, &tcmanager.Error{Code: codes.Aborted, Reason: "REVISION_MISMATCH", Message: "read again", Metadata: map[string]string{"current_revision": "7"}, RetryAfter: time.Second}
		})
		_, err := srv.Client().Realtime().Execute(t.Context(), &tcmv1.ExecuteRequest{Command: comment("", "x")})
		e, ok := errors.AsType[*tcmanager.Error](err)
		if !ok || e.Code != codes.Aborted || e.Reason != "REVISION_MISMATCH" || e.Error() != "read again" || e.Metadata["current_revision"] != "7" || e.RetryAfter != time.Second {
			t.Errorf("got %#v", err)
		}
	})
}
