package interceptors_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/test/bufconn"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/interceptors"
	"github.com/tcmanager/tcmanager/interceptors/ratelimit"
	"github.com/tcmanager/tcmanager/service/identity"
)

var secret = []byte("0123456789abcdef0123456789abcdef")

// keeper keeps no records: it takes users as their tokens describe them.
type keeper struct{ panics bool }

func (k keeper) EnsureUser(_ context.Context, u *pb.User) (*pb.User, error) {
	if k.panics {
		panic("the keeper of users broke")
	}
	return u, nil
}

// fake is every service; a test sets the methods that it calls.
type fake struct {
	pb.UnimplementedIdentityServiceServer
	pb.UnimplementedExecutionServiceServer
	pb.UnimplementedRealtimeServiceServer
	pb.UnimplementedProjectServiceServer
	pb.UnimplementedTestCaseServiceServer
	pb.UnimplementedCollaborationServiceServer
	pb.UnimplementedNotificationServiceServer

	getMe         func(context.Context) (*pb.GetMeResponse, error)
	createProject func(context.Context, *pb.CreateProjectRequest) (*pb.CreateProjectResponse, error)
	subscribe     func(grpc.BidiStreamingServer[pb.SubscribeRequest, pb.SubscribeResponse]) error
	publish       func(grpc.BidiStreamingServer[pb.PublishResultsRequest, pb.PublishResultsResponse]) error
}

func (f *fake) GetServerInfo(context.Context, *pb.GetServerInfoRequest) (*pb.GetServerInfoResponse, error) {
	return &pb.GetServerInfoResponse{Version: "test"}, nil
}

func (f *fake) GetMe(ctx context.Context, _ *pb.GetMeRequest) (*pb.GetMeResponse, error) {
	if f.getMe != nil {
		return f.getMe(ctx)
	}
	c, err := identity.From(ctx)
	return &pb.GetMeResponse{User: c.User}, err
}

func (f *fake) CreateProject(ctx context.Context, r *pb.CreateProjectRequest) (*pb.CreateProjectResponse, error) {
	return f.createProject(ctx, r)
}

func (f *fake) Subscribe(s grpc.BidiStreamingServer[pb.SubscribeRequest, pb.SubscribeResponse]) error {
	return f.subscribe(s)
}

func (f *fake) PublishResults(s grpc.BidiStreamingServer[pb.PublishResultsRequest, pb.PublishResultsResponse]) error {
	return f.publish(s)
}

// rig is a server with the whole chain, and a client of it, over bufconn.
type rig struct {
	conn     *grpc.ClientConn
	services map[string]grpc.ServiceInfo
	registry *prometheus.Registry
	log      *logBuffer
}

type options struct {
	keys   identity.Keys
	limits ratelimit.Config
	keeper keeper
}

func start(t *testing.T, f *fake, o options) *rig {
	t.Helper()
	if o.keys.HS256Secret == nil && o.keys.RS256PublicKey == nil {
		o.keys.HS256Secret = secret
	}
	verifier, err := identity.NewVerifier(o.keys)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{registry: prometheus.NewRegistry(), log: &logBuffer{}}
	chain, err := interceptors.Chain(interceptors.Config{
		Log:           slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Registerer:    r.registry,
		Authenticator: identity.NewAuthenticator(verifier, o.keeper),
		Limits:        o.limits,
	})
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(chain.Options...)
	pb.RegisterIdentityServiceServer(s, f)
	pb.RegisterExecutionServiceServer(s, f)
	pb.RegisterRealtimeServiceServer(s, f)
	pb.RegisterProjectServiceServer(s, f)
	pb.RegisterTestCaseServiceServer(s, f)
	pb.RegisterCollaborationServiceServer(s, f)
	pb.RegisterNotificationServiceServer(s, f)
	healthpb.RegisterHealthServer(s, health.NewServer())
	reflection.Register(s)
	r.services = s.GetServiceInfo()

	l := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	r.conn, err = grpc.NewClient("passthrough:///bufconn",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.conn.Close(); err != nil {
			t.Error(err)
		}
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return r
}

// as returns a context with a good token of a user.
func as(t *testing.T, user string) context.Context {
	t.Helper()
	return withToken(t, sign(t, user))
}

func sign(t *testing.T, user string) string {
	t.Helper()
	signer, err := identity.NewSigner(identity.Keys{HS256Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := signer.Sign(&pb.User{Id: user, Name: "Some Body"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func withToken(t *testing.T, token string) context.Context {
	t.Helper()
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
}

// logBuffer is a log that may be read while it is written.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// lines returns the lines that hold all of the given pieces.
func (b *logBuffer) lines(pieces ...string) (found []string) {
next:
	for line := range strings.Lines(b.String()) {
		for _, piece := range pieces {
			if !strings.Contains(line, piece) {
				continue next
			}
		}
		found = append(found, line)
	}
	return found
}
