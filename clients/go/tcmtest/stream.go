package tcmtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	tcmanager "github.com/tcmanager/tcmanager/clients/go"
	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Bounds of what waits for one stream.
const (
	maxControl  = 4096
	maxFleeting = 256
)

// realtime is the service of sessions.
type realtime struct {
	tcmv1.UnimplementedRealtimeServiceServer
	*Server
}

// stream is a session's stream. All but the first three fields are guarded by
// Server.mu.
type stream struct {
	srv    *Server
	cancel context.CancelCauseFunc // ends it at once
	wake   chan struct{}           // holds a token if there may be something to send

	id       string
	control  []*tcmv1.SubscribeResponse
	rooms    map[string]*membership
	order    []string       // of rooms, in the order in which they were joined
	fleeting []*tcmv1.Event // of classes LATEST and EPHEMERAL
	ending   error          // ends it once control was sent
}

// membership is where a stream is in a room.
type membership struct {
	sent     uint64
	bookmark bool // one is due
}

// Subscribe is a session's stream.
func (r realtime) Subscribe(g grpc.BidiStreamingServer[tcmv1.SubscribeRequest, tcmv1.SubscribeResponse]) error {
	if err := r.admit(g.Context()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(g.Context())
	defer cancel(nil)
	st := &stream{srv: r.Server, cancel: cancel, wake: make(chan struct{}, 1), rooms: map[string]*membership{}}
	defer r.remove(st)
	go st.receive(ctx, g) // Recv returns once the handler has
	return st.send(ctx, g)
}

func (s *Server) remove(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st)
}

// receive carries out what arrives.
func (st *stream) receive(ctx context.Context, g grpc.BidiStreamingServer[tcmv1.SubscribeRequest, tcmv1.SubscribeResponse]) {
	silent := time.AfterFunc(time.Minute, func() {
		st.cancel(&tcmanager.Error{Code: codes.Unavailable, Reason: "HEARTBEAT_TIMEOUT", Message: "nothing was heard for too long; reconnect and send pings"})
	})
	defer silent.Stop()
	for first := true; ; first = false {
		req, err := g.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			st.cancel(err)
			return
		}
		if st.srv.gate(ctx) != nil {
			return
		}
		silent.Reset(st.note(req))
		if first {
			if err := st.greet(req); err != nil {
				st.cancel(err)
				return
			}
			continue
		}
		st.carryOut(ctx, req)
	}
}

// note records a frame, and returns how long the silence after it may be.
func (st *stream) note(req *tcmv1.SubscribeRequest) time.Duration {
	st.srv.mu.Lock()
	defer st.srv.mu.Unlock()
	if len(st.srv.received) < maxReceived {
		st.srv.received = append(st.srv.received, req)
	}
	return st.srv.silence
}

// greet opens the session, and ends its older stream.
func (st *stream) greet(req *tcmv1.SubscribeRequest) error {
	hello := req.GetHello()
	if hello == nil {
		return &tcmanager.Error{Code: codes.FailedPrecondition, Reason: "HELLO_FIRST", Message: "the first request must be a hello; send one"}
	}
	s := st.srv
	s.mu.Lock()
	defer s.mu.Unlock()
	st.id = hello.GetSessionId()
	if st.id == "" {
		s.sessions++
		st.id = fmt.Sprint("session-", s.sessions)
	}
	for old := range s.streams {
		if old.id == st.id {
			old.cancel(&tcmanager.Error{Code: codes.Aborted, Reason: "SESSION_RESUMED_ELSEWHERE", Message: "a newer stream took this session over"})
			delete(s.streams, old)
		}
	}
	s.streams[st] = struct{}{}
	s.opened++
	st.replyLocked(req, &tcmv1.SubscribeResponse{Frame: &tcmv1.SubscribeResponse_Welcome{Welcome: &tcmv1.Welcome{
		SessionId: st.id, User: &tcmv1.User{Id: user.GetId(), Name: user.GetName()},
		HeartbeatInterval: durationpb.New(s.heartbeat), HeartbeatTimeout: durationpb.New(s.silence),
		MaxRooms: maxRooms, MaxRequestBytes: 1 << 20, ServerVersion: "tcmtest", ServerTime: timestamppb.Now(),
		RequestWindow: durationpb.New(requestWindow),
	}}})
	return nil
}

// carryOut answers one frame.
func (st *stream) carryOut(ctx context.Context, req *tcmv1.SubscribeRequest) {
	s := st.srv
	switch f := req.GetFrame().(type) {
	case *tcmv1.SubscribeRequest_Command:
		st.command(ctx, req, f.Command)
		return
	case *tcmv1.SubscribeRequest_RefreshToken:
		if err := s.check(f.RefreshToken.GetToken()); err != nil {
			st.fail(req, err)
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch f := req.GetFrame().(type) {
	case *tcmv1.SubscribeRequest_Join:
		st.joinLocked(req, f.Join)
	case *tcmv1.SubscribeRequest_Leave:
		st.leaveLocked(f.Leave.GetRoom())
		st.replyLocked(req, &tcmv1.SubscribeResponse{Frame: &tcmv1.SubscribeResponse_Left{Left: &tcmv1.Left{Room: f.Leave.GetRoom()}}})
	case *tcmv1.SubscribeRequest_Ping:
		st.replyLocked(req, &tcmv1.SubscribeResponse{Frame: &tcmv1.SubscribeResponse_Pong{Pong: &tcmv1.Pong{ServerTime: timestamppb.Now()}}})
	default:
		st.failLocked(req, &tcmanager.Error{Code: codes.InvalidArgument, Reason: "INVALID_FIELD", Message: "frame: must be one of those that come after a hello"})
	}
}

// joinLocked brings the stream into a room: anew if it is there already.
func (st *stream) joinLocked(req *tcmv1.SubscribeRequest, join *tcmv1.JoinRoom) {
	s := st.srv
	if e := s.refuseJoin[join.GetRoom()]; e != nil {
		st.failLocked(req, e)
		return
	}
	r := s.roomLocked(join.GetRoom())
	if st.rooms[r.name] == nil && len(st.rooms) >= maxRooms {
		st.failLocked(req, &tcmanager.Error{Code: codes.ResourceExhausted, Reason: "TOO_MANY_ROOMS", Message: fmt.Sprintf("a session may be in %d rooms; leave one first", maxRooms)})
		return
	}
	st.leaveLocked(r.name)
	m := &membership{sent: r.newest().GetOffset()}
	st.rooms[r.name] = m
	st.order = append(st.order, r.name)
	recovered := false
	if at := join.GetPosition(); at != nil {
		reason := r.whyNot(at)
		if recovered = reason == ""; recovered {
			m.sent = at.GetOffset()
		} else {
			st.postLocked(resetOf(r, reason))
		}
	}
	st.replyLocked(req, &tcmv1.SubscribeResponse{Frame: &tcmv1.SubscribeResponse_Joined{Joined: s.joinedLocked(r, recovered)}})
}

func resetOf(r *room, reason string) *tcmv1.SubscribeResponse {
	return &tcmv1.SubscribeResponse{Frame: &tcmv1.SubscribeResponse_Reset_{Reset_: &tcmv1.Reset{Room: r.name, Reason: reason}}}
}

// restartLocked begins a room anew.
func (st *stream) restartLocked(r *room, m *membership, reason string) {
	m.sent = r.newest().GetOffset()
	st.dropFleetingLocked(r.name)
	st.postLocked(resetOf(r, reason))
	st.postLocked(&tcmv1.SubscribeResponse{Frame: &tcmv1.SubscribeResponse_Joined{Joined: st.srv.joinedLocked(r, false)}})
}

// leaveLocked takes the stream out of a room and reports whether it was there.
func (st *stream) leaveLocked(name string) bool {
	if st.rooms[name] == nil {
		return false
	}
	delete(st.rooms, name)
	st.order = slices.DeleteFunc(st.order, func(n string) bool { return n == name })
	st.dropFleetingLocked(name)
	return true
}

func (st *stream) dropFleetingLocked(name string) {
	st.fleeting = slices.DeleteFunc(st.fleeting, func(ev *tcmv1.Event) bool { return ev.GetRoom() == name })
}

// offerLocked queues an event that may be replaced or lost.
func (st *stream) offerLocked(ev *tcmv1.Event, class tcmv1.DeliveryClass) {
	if class == tcmv1.DeliveryClass_DELIVERY_CLASS_LATEST {
		st.fleeting = slices.DeleteFunc(st.fleeting, func(old *tcmv1.Event) bool {
			return old.GetRoom() == ev.GetRoom() && old.GetKey() == ev.GetKey() && kindOf(old) == kindOf(ev)
		})
	}
	if len(st.fleeting) >= maxFleeting {
		st.fleeting = slices.Delete(st.fleeting, 0, 1)
	}
	st.fleeting = append(st.fleeting, ev)
	st.signal()
}

func kindOf(ev *tcmv1.Event) protoreflect.FieldNumber {
	m := ev.ProtoReflect()
	kind := m.WhichOneof(m.Descriptor().Oneofs().ByName("payload"))
	if kind == nil {
		return 0
	}
	return kind.Number()
}

func (st *stream) signal() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// postLocked queues a frame.
func (st *stream) postLocked(frame *tcmv1.SubscribeResponse) {
	if len(st.control) >= maxControl {
		st.endLocked(&tcmanager.Error{Code: codes.ResourceExhausted, Reason: "TOO_SLOW", Message: "too many answers were waiting to be read; read them, and send less at once"})
		return
	}
	st.control = append(st.control, frame)
	st.signal()
}

// endLocked ends the stream once all that was posted is sent.
func (st *stream) endLocked(err error) {
	if st.ending == nil {
		st.ending = err
	}
	st.signal()
}

func (st *stream) replyLocked(to *tcmv1.SubscribeRequest, frame *tcmv1.SubscribeResponse) {
	frame.ReplyTo = to.GetId()
	st.postLocked(frame)
}

func (st *stream) failLocked(to *tcmv1.SubscribeRequest, err error) {
	e, ok := tcmanager.AsError(err)
	if !ok {
		e = &tcmanager.Error{Code: codes.Internal, Reason: "INTERNAL", Message: err.Error()}
	}
	st.replyLocked(to, &tcmv1.SubscribeResponse{Frame: &tcmv1.SubscribeResponse_Error{Error: e.Proto()}})
}

func (st *stream) fail(to *tcmv1.SubscribeRequest, err error) {
	st.srv.mu.Lock()
	defer st.srv.mu.Unlock()
	st.failLocked(to, err)
}

// send sends what waits until the stream ends.
func (st *stream) send(ctx context.Context, g grpc.BidiStreamingServer[tcmv1.SubscribeRequest, tcmv1.SubscribeResponse]) error {
	for {
		if err := st.srv.gate(ctx); err != nil {
			return ended(err)
		}
		frame, err := st.next()
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ended(context.Cause(ctx))
		}
		if frame != nil {
			if err := g.Send(frame); err != nil {
				return err
			}
			continue
		}
		select {
		case <-st.wake:
		case <-ctx.Done():
			return ended(context.Cause(ctx))
		}
	}
}

// ended is the status of a stream that ended for a reason; a client that closed
// its side has left, which is a good end.
func ended(cause error) error {
	if errors.Is(cause, context.Canceled) {
		return nil
	}
	return cause
}

// next removes what goes into the next frame: what answers and what tells of rooms
// before events, so that a room is told of before what happens in it.
func (st *stream) next() (*tcmv1.SubscribeResponse, error) {
	s := st.srv
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range st.order {
		if r, m := s.rooms[name], st.rooms[name]; m.sent < r.trim.GetOffset() {
			st.restartLocked(r, m, "POSITION_TRIMMED")
		}
	}
	if len(st.control) > 0 {
		frame := st.control[0]
		st.control = st.control[1:]
		return frame, nil
	}
	if st.ending != nil {
		return nil, st.ending
	}
	if events := st.logLocked(); len(events) > 0 {
		return &tcmv1.SubscribeResponse{Events: events}, nil
	}
	if len(st.fleeting) > 0 {
		events := st.fleeting
		st.fleeting = nil
		return &tcmv1.SubscribeResponse{Events: events}, nil
	}
	for _, name := range st.order {
		if m := st.rooms[name]; m.bookmark {
			m.bookmark = false
			return &tcmv1.SubscribeResponse{Frame: &tcmv1.SubscribeResponse_Bookmark{Bookmark: &tcmv1.Bookmark{
				Room: name, Position: s.rooms[name].at(m.sent),
			}}}, nil
		}
	}
	return nil, nil
}

// logLocked returns a batch of the first room that has one, which then waits
// behind the others.
func (st *stream) logLocked() []*tcmv1.Event {
	s := st.srv
	for i, name := range st.order {
		r, m := s.rooms[name], st.rooms[name]
		n := s.batch
		if s.cutAfter >= 0 {
			n = min(n, s.cutAfter)
		}
		events := r.after(m.sent, n)
		if len(events) == 0 {
			continue
		}
		m.sent += uint64(len(events))
		st.order = append(slices.Delete(st.order, i, i+1), name)
		if s.cutAfter >= 0 {
			if s.cutAfter -= len(events); s.cutAfter == 0 {
				s.cutAfter = -1
				st.endLocked(errCut)
			}
		}
		return events
	}
	return nil
}

// execution is a command that was carried out.
type execution struct {
	command *tcmv1.Command
	result  *tcmv1.CommandResult
	err     error
}

// command carries out a command of a stream.
func (st *stream) command(ctx context.Context, req *tcmv1.SubscribeRequest, c *tcmv1.Command) {
	s := st.srv
	if c.GetUpdateActivity() != nil || c.GetUpdatePresence() != nil {
		st.tell(req, c)
		return
	}
	result, err := s.do(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case ctx.Err() != nil:
	case s.loseAnswers > 0:
		s.loseAnswers--
		st.cancel(errCut)
	case err != nil:
		st.failLocked(req, err)
	default:
		st.replyLocked(req, &tcmv1.SubscribeResponse{Frame: &tcmv1.SubscribeResponse_Ack{Ack: &tcmv1.Ack{RequestId: c.GetRequestId(), Result: result}}})
	}
}

// do carries out a command, once for a request id.
func (s *Server) do(c *tcmv1.Command) (*tcmv1.CommandResult, error) {
	s.commands.Lock()
	defer s.commands.Unlock()
	id := c.GetRequestId()
	s.mu.Lock()
	known, handle := s.done[id], s.handle
	s.mu.Unlock()
	switch {
	case id == "" || known == nil:
	case !proto.Equal(known.command, c):
		return nil, &tcmanager.Error{Code: codes.InvalidArgument, Reason: "REQUEST_ID_REUSED", Message: "another request had this id; choose a new one"}
	default:
		return known.result, known.err
	}
	e := &execution{command: proto.CloneOf(c)}
	if handle != nil {
		e.result, e.err = handle(proto.CloneOf(c))
	}
	if e.result == nil && e.err == nil {
		e.result = emptyResult(c)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if id != "" {
		s.done[id] = e
	}
	s.carriedOut = append(s.carriedOut, e.command)
	return e.result, e.err
}

// emptyResult returns the answer that belongs to a command, with nothing in it.
func emptyResult(c *tcmv1.Command) *tcmv1.CommandResult {
	result := &tcmv1.CommandResult{}
	m := c.ProtoReflect()
	kind := m.WhichOneof(m.Descriptor().Oneofs().ByName("command"))
	if kind == nil {
		return result
	}
	if f := result.ProtoReflect().Descriptor().Fields().ByName(kind.Name()); f != nil {
		result.ProtoReflect().Set(f, result.ProtoReflect().NewField(f))
	}
	return result
}

// tell tells a room, or all of the session's, what its user is doing.
func (st *stream) tell(req *tcmv1.SubscribeRequest, c *tcmv1.Command) {
	s := st.srv
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := c.GetUpdatePresence(); p != nil {
		for _, name := range slices.Clone(st.order) {
			s.emitLocked(name, &tcmv1.Event{Key: user.GetId(), Payload: &tcmv1.Event_Presence{Presence: &tcmv1.CollaborationUpdate{
				Type: tcmv1.CollaborationType_COLLABORATION_TYPE_USER_JOINED, EntityId: name, User: user,
				Data: &tcmv1.CollaborationUpdate_Presence{Presence: s.presenceLocked(name, p.GetState())},
			}}})
		}
		return
	}
	a := c.GetUpdateActivity()
	if st.rooms[a.GetRoom()] == nil {
		st.failLocked(req, &tcmanager.Error{Code: codes.PermissionDenied, Reason: "ACCESS_DENIED", Message: "join the room first"})
		return
	}
	s.emitLocked(a.GetRoom(), &tcmv1.Event{Payload: &tcmv1.Event_Activity{Activity: &tcmv1.Activity{
		User: user, SessionId: st.id, Field: a.GetField(), State: a.GetState(),
	}}})
}

// Execute carries out one command. Of typing and presence, which belong to a
// stream, it only says that it was told.
func (r realtime) Execute(ctx context.Context, req *tcmv1.ExecuteRequest) (*tcmv1.ExecuteResponse, error) {
	if err := r.admit(ctx); err != nil {
		return nil, err
	}
	c := req.GetCommand()
	ack := &tcmv1.Ack{RequestId: c.GetRequestId()}
	if c.GetUpdateActivity() == nil && c.GetUpdatePresence() == nil {
		result, err := r.do(c)
		if err != nil {
			return nil, err
		}
		ack.Result = result
	}
	return &tcmv1.ExecuteResponse{Ack: ack}, nil
}
