package identity

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/fault"
)

// devTokenLife is how long a development token lasts: a working day and a night,
// so that nobody is signed out in the middle of something.
const devTokenLife = 24 * time.Hour

// Info is what GetServerInfo says.
type Info struct {
	Version   string // for example "0.1.0"; "dev" for an unversioned build
	PublicURL string // without a trailing slash
}

// Service implements pb.IdentityServiceServer.
type Service struct {
	pb.UnimplementedIdentityServiceServer

	info Info
	dev  *Signer
}

// NewService returns the service. The signer signs development users in; nil on
// a server without --dev.
func NewService(info Info, dev *Signer) *Service { return &Service{info: info, dev: dev} }

// GetServerInfo describes the server; it needs no token.
func (s *Service) GetServerInfo(context.Context, *pb.GetServerInfoRequest) (*pb.GetServerInfoResponse, error) {
	info := &pb.GetServerInfoResponse{Version: s.info.Version, PublicUrl: s.info.PublicURL}
	if s.dev != nil {
		info.Dev, info.DevUsers = true, DevUsers()
	}
	return info, nil
}

// SignInDev signs a development user in; it needs no token, and exists only with
// --dev.
func (s *Service) SignInDev(_ context.Context, req *pb.SignInDevRequest) (*pb.SignInDevResponse, error) {
	if s.dev == nil {
		return nil, fault.New(fault.Unimplemented, "NOT_IN_DEV_MODE",
			"this server was not started with --dev: sign in where it gets its tokens from")
	}
	user := devUser(req.GetUserId())
	if user == nil {
		return nil, fault.New(fault.NotFound, "UNKNOWN_DEV_USER", "choose one of the users that GetServerInfo lists")
	}
	token, expires, err := s.dev.Sign(user, devTokenLife)
	if err != nil {
		return nil, err
	}
	return &pb.SignInDevResponse{Token: token, ExpiresAt: timestamppb.New(expires), User: user}, nil
}

// GetMe returns the caller's record.
func (s *Service) GetMe(ctx context.Context, _ *pb.GetMeRequest) (*pb.GetMeResponse, error) {
	caller, err := From(ctx)
	if err != nil {
		return nil, err
	}
	return &pb.GetMeResponse{User: caller.User, TokenExpiresAt: timestamppb.New(caller.ExpiresAt)}, nil
}
