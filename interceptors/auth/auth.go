// Package auth lets only calls with a good token through, and tells the services
// who is calling.
//
// Every bad token gets the same answer, identity.ErrUnauthenticated; what was
// wrong with it stands in the log line of the call. The table of public methods
// is here and nowhere else.
package auth

import (
	"context"
	"errors"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/auth"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/selector"
	"google.golang.org/grpc"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/interceptors/layer"
	"github.com/tcmanager/tcmanager/interceptors/logging"
	"github.com/tcmanager/tcmanager/service/identity"
)

// public are the methods that need no token. Reflection is only registered where
// it is wanted, so listing it opens nothing elsewhere.
var public = map[string]bool{
	"/grpc.health.v1.Health/Check":                                   true,
	"/grpc.health.v1.Health/List":                                    true,
	"/grpc.health.v1.Health/Watch":                                   true,
	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      true,
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": true,
	pb.IdentityService_GetServerInfo_FullMethodName:                  true,
	pb.IdentityService_SignInDev_FullMethodName:                      true,
}

// Authenticator turns a token into a caller; *identity.Authenticator is one. A
// bad token gets an *identity.TokenError.
type Authenticator interface {
	Authenticate(ctx context.Context, token string) (identity.Caller, error)
}

// Unary asks calls for a token.
func Unary(a Authenticator) grpc.UnaryServerInterceptor {
	return selector.UnaryServerInterceptor(auth.UnaryServerInterceptor(authenticate(a)), selector.MatchFunc(needsToken))
}

// Stream asks streams for a token when they open.
func Stream(a Authenticator) layer.Layer {
	known := authenticate(a)
	return func(ss grpc.ServerStream, info *grpc.StreamServerInfo) (grpc.ServerStream, func(error) error, error) {
		if public[info.FullMethod] {
			return nil, nil, nil
		}
		ctx, err := known(ss.Context())
		if err != nil {
			return nil, nil, err
		}
		return layer.WithContext(ctx, ss), nil, nil
	}
}

func needsToken(_ context.Context, call interceptors.CallMeta) bool {
	return !public[call.FullMethod()]
}

func authenticate(a Authenticator) auth.AuthFunc {
	return func(ctx context.Context) (context.Context, error) {
		token, err := auth.AuthFromMD(ctx, "bearer")
		if err != nil {
			logging.Add(ctx, logging.AuthRefused, "no token")
			return nil, identity.ErrUnauthenticated
		}
		caller, err := a.Authenticate(ctx, token)
		if bad := (*identity.TokenError)(nil); errors.As(err, &bad) {
			logging.Add(ctx, logging.AuthRefused, bad.Reason)
			return nil, identity.ErrUnauthenticated
		}
		if err != nil {
			return nil, err
		}
		logging.Add(ctx, logging.UserID, caller.User.GetId())
		return identity.WithCaller(ctx, caller), nil
	}
}
