package session

import (
	"context"

	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/store"
)

// handle carries out one request and queues its answer. A request that fails is
// answered with an error and doesn't end the stream.
func (s *Session) handle(ctx context.Context, req *pb.SubscribeRequest) {
	if err := s.admit(req); err != nil {
		s.refuse(req.Id, err)
		return
	}
	if !isSurelyValid(req) {
		if err := s.srv.deps.Validate(req); err != nil {
			s.refuse(req.Id, err)
			return
		}
	}
	if err := s.do(ctx, req); err != nil && ctx.Err() == nil {
		s.fail(req.Id, err)
	}
}

func (s *Session) do(ctx context.Context, req *pb.SubscribeRequest) error {
	switch f := req.Frame.(type) {
	case *pb.SubscribeRequest_Join:
		return s.join(ctx, req.Id, f.Join)
	case *pb.SubscribeRequest_Leave:
		room := s.called(f.Leave.Room)
		left := leftFrame(string(room))
		left.ReplyTo = req.Id
		s.leave(room, nil, left)
		return nil
	case *pb.SubscribeRequest_Command:
		return s.command(ctx, req.Id, f.Command)
	case *pb.SubscribeRequest_RefreshToken:
		return s.refresh(ctx, f.RefreshToken)
	case *pb.SubscribeRequest_Ping:
		s.reply(req.Id, pong())
		return nil
	case *pb.SubscribeRequest_Hello:
		return errHelloAgain
	default:
		return fault.Field("frame", "is of a kind this server doesn't know")
	}
}

func (s *Session) command(ctx context.Context, to uint64, c *pb.Command) error {
	if x, is := c.Command.(*pb.Command_UpdateActivity); is {
		return s.signal(ctx, to, x.UpdateActivity)
	}
	result, err := s.srv.execute(ctx, s.who(), s.id, c)
	switch {
	case err != nil:
		return err
	case result == nil:
		s.out.ack(to)
	default:
		s.reply(to, &pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Ack{Ack: &pb.Ack{RequestId: c.RequestId, Result: result}}})
	}
	return nil
}

// Execute carries out one command for a client that watches.
func (srv *Server) Execute(ctx context.Context, req *pb.ExecuteRequest) (*pb.ExecuteResponse, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	kind, signal := kindOfCommand(req.Command)
	if wait := srv.limits.of(caller.User.GetId(), kind, signal).Take(); wait > 0 {
		return nil, errTooOften(kind, wait)
	}
	result, err := srv.execute(ctx, caller, req.SessionId, req.Command)
	if err != nil {
		return nil, err
	}
	return &pb.ExecuteResponse{Ack: &pb.Ack{RequestId: req.Command.RequestId, Result: result}}, nil
}

// execute carries out a command, from whichever door. The result of a signal,
// which nobody waits for, is nil.
func (srv *Server) execute(ctx context.Context, caller identity.Caller, sessionID string, c *pb.Command) (*pb.CommandResult, error) {
	switch x := c.Command.(type) {
	case *pb.Command_UpdateActivity:
		return nil, srv.act(ctx, caller.User.GetId(), sessionID, x.UpdateActivity)
	case *pb.Command_UpdatePresence:
		srv.setIdle(caller.User.GetId(), sessionID, x.UpdatePresence.State == pb.PresenceState_PRESENCE_STATE_IDLE)
		return nil, nil //nolint:nilnil // a signal has no result
	default:
		return srv.deps.Commands.Do(identity.WithCaller(ctx, caller), c)
	}
}

// act shows a room what a session does in it.
func (srv *Server) act(ctx context.Context, userID, sessionID string, a *pb.UpdateActivityRequest) error {
	room, err := srv.mayShow(ctx, userID, a.Room)
	if err != nil {
		return err
	}
	return srv.show(room, userID, sessionID, a)
}

// mayShow returns the name of a room if a user may show what the user does there:
// to be in a room is not enough.
func (srv *Server) mayShow(ctx context.Context, userID, name string) (room event.Room, err error) {
	named, err := event.ParseRoom(name)
	if err != nil {
		return "", err
	}
	source := srv.deps.Rooms[named.Kind()]
	if source == nil {
		return "", access.ErrDenied
	}
	err = srv.deps.Store.View(ctx, func(r store.Reader) (err error) {
		room, err = source.Enter(r, userID, named, access.Signal)
		return err
	})
	return room, err
}

// show is for who may. The session has to be in the room.
func (srv *Server) show(room event.Room, userID, sessionID string, a *pb.UpdateActivityRequest) error {
	if !srv.deps.Presence.Update(room, userID, sessionID, a.Field, a.State, nil) {
		return access.ErrDenied
	}
	return nil
}

// setIdle tells all rooms of a session whether its user is at the machine. Of a
// session that is between two Watches, the next one says it.
func (srv *Server) setIdle(userID, sessionID string, idle bool) {
	srv.mu.Lock()
	s := srv.sessions[sessionKey{userID, sessionID}]
	srv.mu.Unlock()
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = idle
	for room := range s.rooms {
		srv.deps.Presence.SetIdle(room, userID, sessionID, idle)
	}
}

// refresh lets the session go on with a newer token of the same user.
func (s *Session) refresh(ctx context.Context, r *pb.RefreshToken) error {
	caller, err := s.srv.deps.Verify(ctx, r.Token)
	if err != nil {
		return err
	}
	s.mu.Lock()
	same := caller.User.Id == s.caller.User.Id
	if same {
		s.caller = identity.Caller{User: proto.CloneOf(caller.User), ExpiresAt: caller.ExpiresAt}
		s.expiresAt.Store(caller.ExpiresAt.UnixNano())
	}
	s.mu.Unlock()
	if !same {
		return fault.Field("token", "must name the user who opened the session; open another stream for another user")
	}
	s.look()
	return nil
}
