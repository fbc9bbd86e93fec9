package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/config"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// testServer is a server in this process, with a client.
type testServer struct {
	*server
	conn    *grpc.ClientConn
	end     context.CancelFunc
	stopped chan error
}

func testConfig(t *testing.T, args ...string) config.Config {
	t.Helper()
	cmd := serveCommand()
	defaults := []string{"--dev", "--data-dir", t.TempDir(), "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"}
	if err := cmd.Flags().Parse(append(defaults, args...)); err != nil {
		t.Fatal(err)
	}
	c, _, err := config.Load(cmd.Flags(), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func startServer(t *testing.T, c config.Config, change ...func(*server)) *testServer {
	t.Helper()
	ctx, end := context.WithCancel(context.Background())
	s, err := newServer(ctx, c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(s)
	}
	ts := &testServer{server: s, end: end, stopped: make(chan error, 1)}
	go func() { ts.stopped <- s.run(ctx) }()
	ts.conn, err = grpc.NewClient(s.grpcL.Addr().String(), grpc.WithTransportCredentials(transportFor(c)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = ts.conn.Close()
		if err := ts.stop(t); err != nil {
			t.Error(err)
		}
	})
	return ts
}

// stop stops the server and returns how run ended. It may be called again.
func (s *testServer) stop(t *testing.T) error {
	t.Helper()
	s.end()
	select {
	case err := <-s.stopped:
		s.stopped <- err
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("the server did not stop")
		return nil
	}
}

// signIn returns a context with the token of a development user.
func (s *testServer) signIn(t *testing.T, user string) context.Context {
	t.Helper()
	in, err := pb.NewIdentityServiceClient(s.conn).SignInDev(t.Context(), &pb.SignInDevRequest{UserId: user})
	if err != nil {
		t.Fatal(err)
	}
	return bearerContext(t, in.Token)
}

func bearerContext(t *testing.T, token string) context.Context {
	t.Helper()
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
}

func TestAStopIsCleanWithEveryKindOfStreamOpen(t *testing.T) {
	s := startServer(t, testConfig(t))
	ctx := s.signIn(t, "demo-tester")
	watch, err := healthpb.NewHealthClient(s.conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := watch.Recv(); err != nil || st.Status != healthpb.HealthCheckResponse_SERVING {
		t.Fatal(st, err)
	}
	session, err := pb.NewRealtimeServiceClient(s.conn).Subscribe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Send(&pb.SubscribeRequest{Id: 1, Frame: &pb.SubscribeRequest_Hello{Hello: &pb.Hello{}}}); err != nil {
		t.Fatal(err)
	}
	if resp, err := session.Recv(); err != nil || resp.GetWelcome() == nil {
		t.Fatal(resp, err)
	}
	began := time.Now()
	if err := s.stop(t); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s: something was waited for that doesn't end", took)
	}
	if resp, err := session.Recv(); err != nil || resp.GetGoingAway() == nil {
		t.Errorf("the session was not told: %v, %v", resp, err)
	}
	for {
		st, err := watch.Recv()
		if err != nil {
			if status.Code(err) != codes.Unavailable {
				t.Error(err)
			}
			break
		}
		if st.Status != healthpb.HealthCheckResponse_NOT_SERVING {
			t.Error(st)
		}
	}
}

func TestATokenOutlivesARestart(t *testing.T) {
	c := testConfig(t)
	first := startServer(t, c)
	ctx := first.signIn(t, "demo-viewer")
	if err := first.stop(t); err != nil {
		t.Fatal(err)
	}
	second := startServer(t, c)
	me, err := pb.NewIdentityServiceClient(second.conn).GetMe(ctx, &pb.GetMeRequest{})
	if err != nil || me.User.Name != "Demo Viewer" {
		t.Error(me, err)
	}
}

func TestWhatDoesNotEndInTimeIsCutOff(t *testing.T) {
	s := startServer(t, testConfig(t, "--stop-timeout", "200ms"), func(s *server) {
		s.services.Drain = func(context.Context) {} // nobody tells the session to leave
	})
	session, err := pb.NewRealtimeServiceClient(s.conn).Subscribe(s.signIn(t, "demo-tester"))
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Send(&pb.SubscribeRequest{Frame: &pb.SubscribeRequest_Hello{Hello: &pb.Hello{}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := session.Recv(); err != nil {
		t.Fatal(err)
	}
	if err := s.stop(t); err != nil {
		t.Error(err)
	}
	if _, err := session.Recv(); err == nil {
		t.Error("the stream goes on")
	}
}

func TestBackgroundWorkThatFailsStopsTheServer(t *testing.T) {
	c := testConfig(t)
	s, err := newServer(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the sweeper broke")
	run := s.services.Run
	s.services.Run = func(ctx context.Context) error {
		ended, cancel := context.WithCancel(ctx)
		cancel()
		return errors.Join(run(ended), broken)
	}
	if err := s.run(t.Context()); !errors.Is(err, broken) {
		t.Error(err)
	}
}

// grpcWeb makes a call as a browser does and returns the status it got.
func (s *testServer) grpcWeb(t *testing.T, method, token string) (code, message string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.publicURL+method, bytes.NewReader(make([]byte, 5)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc-web+proto")
	req.Header.Set("Origin", s.publicURL)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true, TLSClientConfig: trusting(s.cfg)}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if code := resp.Header.Get("Grpc-Status"); code != "" {
		return code, resp.Header.Get("Grpc-Message")
	}
	for len(body) >= 5 {
		n := int(binary.BigEndian.Uint32(body[1:]))
		if body[0]&0x80 != 0 {
			_, after, _ := strings.Cut(strings.ToLower(string(body[5:5+n])), "grpc-status: ")
			code, _, _ := strings.Cut(after, "\r\n")
			return code, ""
		}
		body = body[5+n:]
	}
	t.Fatalf("no status in %q %v", body, resp.Header)
	return "", ""
}

func TestBothListenersHaveTheSameChain(t *testing.T) {
	s := startServer(t, testConfig(t))
	in, err := pb.NewIdentityServiceClient(s.conn).SignInDev(t.Context(), &pb.SignInDevRequest{UserId: "demo-tester"})
	if err != nil {
		t.Fatal(err)
	}
	if code, _ := s.grpcWeb(t, pb.IdentityService_GetMe_FullMethodName, ""); code != "16" {
		t.Errorf("without a token: %s", code)
	}
	if code, _ := s.grpcWeb(t, pb.IdentityService_GetMe_FullMethodName, in.Token); code != "0" {
		t.Errorf("with one: %s", code)
	}
	if code, _ := s.grpcWeb(t, pb.IdentityService_SignInDev_FullMethodName, ""); code != "3" {
		t.Errorf("an empty user id: %s", code)
	}
	_, err = pb.NewIdentityServiceClient(s.conn).GetMe(t.Context(), &pb.GetMeRequest{})
	if status.Code(err) != codes.Unauthenticated {
		t.Error(err)
	}
}

func TestAMessageOverTheLimitIsRefused(t *testing.T) {
	s := startServer(t, testConfig(t, "--max-message-bytes", "65536"))
	_, err := pb.NewProjectServiceClient(s.conn).CreateProject(s.signIn(t, "demo-tester"), &pb.CreateProjectRequest{Key: "x", Name: strings.Repeat("x", 70_000)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Error(err)
	}
}

func TestTheDefaultLimitsLetARunnerPublish(t *testing.T) {
	s := startServer(t, testConfig(t))
	stream, err := pb.NewExecutionServiceClient(s.conn).PublishResults(s.signIn(t, "demo-tester"))
	if err != nil {
		t.Fatal(err)
	}
	send := func(req *pb.PublishResultsRequest) {
		if err := stream.Send(req); err != nil {
			_, err = stream.Recv()
			t.Fatal(err)
		}
	}
	send(&pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Hello{Hello: &pb.PublishHello{Project: "demo", RunKey: "k"}}})
	const frames = 5000 // of 1,000 items each they would be five million results
	for range frames {
		send(&pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Heartbeat{Heartbeat: &pb.PublishHeartbeat{}}})
	}
	send(&pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Finish{Finish: &pb.PublishFinish{}}})
	for {
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if resp.GetAck().GetFinished() {
			break
		}
	}
}

func TestReflectionListsTheServicesInDevelopment(t *testing.T) {
	list := func(s *testServer) (string, error) {
		stream, err := reflectionpb.NewServerReflectionClient(s.conn).ServerReflectionInfo(t.Context())
		if err != nil {
			return "", err
		}
		req := &reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}
		if err := stream.Send(req); err != nil && !errors.Is(err, io.EOF) { // EOF: Recv says why
			return "", err
		}
		defer func() { _ = stream.CloseSend() }()
		resp, err := stream.Recv()
		return resp.GetListServicesResponse().String(), err
	}
	names, err := list(startServer(t, testConfig(t)))
	if err != nil || !strings.Contains(names, "tcmanager.v1.RealtimeService") || !strings.Contains(names, "grpc.health.v1.Health") {
		t.Error(names, err)
	}
	if _, err := list(startServer(t, testConfig(t, "--reflection=false"))); status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
}

func TestAPortInUseSaysWhichFlagToChange(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	addr := l.Addr().String()
	_, err = newServer(t.Context(), testConfig(t, "--grpc-addr", addr, "--http-addr", addr), slog.New(slog.DiscardHandler))
	for _, want := range []string{"--grpc-addr", "--http-addr", addr, "in use"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

func TestAServerThatCannotStartGivesEverythingBack(t *testing.T) {
	c := testConfig(t)
	first := startServer(t, c)
	// The second finds the store locked, after it has opened its listeners.
	c.GRPCAddr = "127.0.0.1:0"
	if _, err := newServer(t.Context(), c, slog.New(slog.DiscardHandler)); err == nil {
		t.Fatal("two servers share a store")
	}
	if _, err := pb.NewIdentityServiceClient(first.conn).GetServerInfo(t.Context(), &pb.GetServerInfoRequest{}); err != nil {
		t.Error("the first suffers:", err)
	}
}

func TestTheBannerSaysWhatToDoNext(t *testing.T) {
	s := startServer(t, testConfig(t))
	b := s.banner()
	for _, want := range []string{s.publicURL, s.grpcL.Addr().String(), s.cfg.DataDir, "go test -json ./... | tcm stream --project demo --server " + s.grpcL.Addr().String()} {
		if !strings.Contains(b, want) {
			t.Errorf("%q is not in %q", want, b)
		}
	}
	other := *s.server // the running one reads its own
	other.cfg.Dev = false
	if strings.Contains(other.banner(), "sign in") {
		t.Error("a server with real tokens says that anyone can sign in")
	}
}

// program runs this program.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The test binary is the program when it is called by its name.
	name := filepath.Join(t.TempDir(), "tcmanager")
	if err := os.Symlink(self, name); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = []string{"HOME=" + t.TempDir()}
	return cmd
}

// output runs the program and returns what it wrote and its exit code.
func output(t *testing.T, cmd *exec.Cmd) (stdout, stderr string, code int) {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return out.String(), errOut.String(), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), errOut.String(), 0
}

func TestASignalStopsTheProgramCleanly(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		cmd := program(t, "serve", "--dev", "--data-dir", t.TempDir(), "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0")
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		log := json.NewDecoder(stderr) // JSON, since it is piped
		var line struct {
			Msg string `json:"msg"`
		}
		if err := log.Decode(&line); err != nil || line.Msg != "serving" {
			t.Fatal(line, err)
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		for err == nil {
			err = log.Decode(&line)
		}
		if err := cmd.Wait(); err != nil || line.Msg != "stopped" {
			t.Errorf("%s: %v after %q", sig, err, line.Msg)
		}
	}
}

func TestWrongOptionsEndTheProgramWith2(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"serve"}, []string{"no key", "--dev", "openssl rand -hex 32"}},
		{[]string{"serve", "--dev", "--http-addr", ":8080", "--log-level", "loud"}, []string{"--http-addr", "--log-level", "loud"}},
		{[]string{"serve", "--nonsense"}, []string{"--nonsense", "tcmanager serve --help"}},
		{[]string{"serve", "now"}, []string{`"now"`}},
		{[]string{"nonsense"}, []string{"nonsense"}},
		{[]string{"token"}, []string{"--user"}},
		{[]string{"token", "--user", "u"}, []string{"no secret", "--jwt-hs256-secret-file"}},
		{[]string{"config", "--heartbeat-interval", "x"}, []string{"--heartbeat-interval"}},
	} {
		_, stderr, code := output(t, program(t, c.args...))
		if code != 2 {
			t.Errorf("%v: exit code %d", c.args, code)
		}
		for _, want := range c.want {
			if !strings.Contains(stderr, want) {
				t.Errorf("%v: %q is not in %q", c.args, want, stderr)
			}
		}
	}
}

func TestConfigShowsWhatIsInForceAndNoSecrets(t *testing.T) {
	const secret = "0123456789abcdef0123456789abcdef"
	cmd := program(t, "config", "--json", "--grpc-addr", "127.0.0.1:7")
	cmd.Env = append(cmd.Env, "TCM_JWT_HS256_SECRET="+secret)
	stdout, stderr, code := output(t, cmd)
	var settings []config.Setting
	if err := json.Unmarshal([]byte(stdout), &settings); err != nil || code != 0 {
		t.Fatal(err, code, stderr)
	}
	got := map[string]config.Setting{}
	for _, s := range settings {
		got[s.Name] = s
	}
	for name, want := range map[string]config.Setting{
		"grpc-addr":        {Name: "grpc-addr", Env: "TCM_GRPC_ADDR", Value: "127.0.0.1:7", Source: "flag"},
		"jwt-hs256-secret": {Name: "jwt-hs256-secret", Env: "TCM_JWT_HS256_SECRET", Value: "(set, not shown)", Source: "env"},
		"http-addr":        {Name: "http-addr", Env: "TCM_HTTP_ADDR", Value: "127.0.0.1:8080", Source: "default"},
	} {
		if got[name] != want {
			t.Errorf("%+v, want %+v", got[name], want)
		}
	}
	if strings.Contains(stdout+stderr, secret) {
		t.Error("the secret is shown")
	}
	// Without a key the options are shown all the same.
	stdout, stderr, code = output(t, program(t, "config"))
	if code != 2 || !strings.Contains(stdout, "grpc-addr") || !strings.Contains(stderr, "no key") {
		t.Error(code, stdout, stderr)
	}
}

func TestASignedTokenIsGoodForTheServer(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("k", 40)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := testConfig(t, "--dev=false", "--jwt-hs256-secret-file", secret)
	s := startServer(t, c)
	token, stderr, code := output(t, program(t, "token", "--jwt-hs256-secret-file", secret, "--user", "ci", "--name", "The CI", "--ttl", "1m"))
	if code != 0 {
		t.Fatal(stderr)
	}
	me, err := pb.NewIdentityServiceClient(s.conn).GetMe(bearerContext(t, strings.TrimSpace(token)), &pb.GetMeRequest{})
	if err != nil || me.User.Id != "ci" || me.User.Name != "The CI" {
		t.Error(me, err)
	}
	if _, err := pb.NewIdentityServiceClient(s.conn).SignInDev(t.Context(), &pb.SignInDevRequest{UserId: "demo-tester"}); status.Code(err) != codes.Unimplemented {
		t.Error("SignInDev without --dev:", err)
	}
}

func TestADevTokenIsGoodForTheDevServer(t *testing.T) {
	c := testConfig(t)
	s := startServer(t, c)
	token, stderr, code := output(t, program(t, "token", "--dev", "--data-dir", c.DataDir, "--user", "demo-manager"))
	if code != 0 {
		t.Fatal(stderr)
	}
	me, err := pb.NewIdentityServiceClient(s.conn).GetMe(bearerContext(t, strings.TrimSpace(token)), &pb.GetMeRequest{})
	if err != nil || me.User.Name != "Demo Manager" {
		t.Error(me, err) // the token says no name, and the record keeps its own
	}
}

func TestTheSmallCommands(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"version"}, "tcmanager dev"},
		{[]string{"completion", "bash"}, "complete"},
		{[]string{"completion", "fish"}, "complete"},
		{[]string{"--help"}, "tcmanager serve --dev"},
		{[]string{"serve", "--help"}, "[TCM_GRPC_ADDR]"},
		{[]string{"help", "token"}, "TCM_TOKEN=$(tcmanager token"},
	} {
		stdout, stderr, code := output(t, program(t, c.args...))
		if code != 0 || !strings.Contains(stdout, c.want) {
			t.Errorf("%v: %d, %q, %q", c.args, code, stdout, stderr)
		}
	}
}

func TestASecondSignalEndsTheProgramAtOnce(t *testing.T) {
	cmd := program(t, "serve", "--dev", "--data-dir", t.TempDir(), "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--stop-timeout", "10m")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	log := json.NewDecoder(stderr)
	var line struct {
		Msg  string `json:"msg"`
		HTTP string `json:"http.addr"`
	}
	if err := log.Decode(&line); err != nil {
		t.Fatal(err)
	}
	// An open body is a call that goes on: the stop waits for it.
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", line.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "POST "+pb.IdentityService_GetServerInfo_FullMethodName+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/grpc-web+proto\r\n"+
		"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, len("HTTP/1.1 100 Continue"))); err != nil { // the handler is reading
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for line.Msg != "stopping" {
		if err := log.Decode(&line); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, stderr)
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 128+int(syscall.SIGTERM) {
		t.Error(err)
	}
}
