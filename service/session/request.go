package session

import (
	"context"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/identity"
)

// handle carries out one request and queues its answer. A request that fails is
// answered with an error and doesn't end the stream.
func (s *Session) handle(ctx context.Context, req *pb.SubscribeRequest) {
	if err := s.srv.deps.Validate(req); err != nil {
		s.fail(req.Id, err)
		return
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
		s.leave(event.Room(f.Leave.Room), nil)
		s.reply(req.Id, &pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Left{Left: &pb.Left{Room: f.Leave.Room}}})
		return nil
	case *pb.SubscribeRequest_Command:
		return s.command(ctx, req.Id, f.Command)
	case *pb.SubscribeRequest_RefreshToken:
		return s.refresh(ctx, f.RefreshToken)
	case *pb.SubscribeRequest_Ping:
		s.reply(req.Id, &pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Pong{Pong: &pb.Pong{ServerTime: timestamppb.Now()}}})
		return nil
	case *pb.SubscribeRequest_Hello:
		return errHelloAgain
	default:
		return fault.Field("frame", "is of a kind this server doesn't know")
	}
}

func (s *Session) command(ctx context.Context, to uint64, c *pb.Command) error {
	if a := c.GetUpdateActivity(); a != nil {
		if !s.srv.deps.Presence.Update(event.Room(a.Room), s.userID(), s.id, a.Field, a.State) {
			return access.ErrDenied
		}
		return nil
	}
	result, err := s.srv.deps.Commands.Do(identity.WithCaller(ctx, s.who()), c)
	if err != nil {
		return err
	}
	s.reply(to, &pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Ack{Ack: &pb.Ack{RequestId: c.RequestId, Result: result}}})
	return nil
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
	}
	s.mu.Unlock()
	if !same {
		return fault.Field("token", "must name the user who opened the session; open another stream for another user")
	}
	poke(s.renewed)
	return nil
}
