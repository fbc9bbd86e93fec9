package main

import (
	"context"
	"path/filepath"

	"google.golang.org/grpc"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/config"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/store/sqlite"
)

// newServices opens the store and makes the nouns that stand on it.
func newServices(ctx context.Context, c config.Config, d Deps) (*Services, error) {
	db, err := sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(c.DataDir, "tcmanager.db")})
	if err != nil {
		return nil, err
	}
	authenticator := identity.NewAuthenticator(d.Verifier, identity.NewUsers(db))
	return &Services{
		Store:         db,
		Authenticator: authenticator,
		Register: func(s *grpc.Server) {
			pb.RegisterIdentityServiceServer(s, d.Identity)
		},
		Run: func(ctx context.Context) error {
			<-ctx.Done()
			return nil
		},
		Drain: func(context.Context) {},
	}, nil
}
