package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/config"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// patience is how long a script waits for what must happen. It is only used up
// by a failing one.
const patience = 30 * time.Second

// stage is the world of one script: a server and the people around it.
type stage struct {
	dir  string
	t    testscript.T
	args []string // of the server

	running *server
	stop    context.CancelFunc
	stopped chan error
	log     lockedBuffer
	cfg     config.Config

	conn       *grpc.ClientConn
	tokens     map[string]string     // person -> token
	sessions   map[string]*audience  // "tester", "tester/2"
	rooms      map[string]string     // as scripts name them -> as the server does
	runs       map[string]string     // key -> id
	cases      map[string]string     // key -> id
	publishers map[string]*publisher // run key -> the runner's stream
}

type stageKey struct{}

func setUpStage(env *testscript.Env) error {
	s := &stage{
		dir: env.WorkDir, t: env.T(), tokens: map[string]string{}, sessions: map[string]*audience{}, rooms: map[string]string{},
		runs: map[string]string{}, cases: map[string]string{}, publishers: map[string]*publisher{},
	}
	env.Values[stageKey{}] = s
	env.Setenv("HOME", env.WorkDir)
	env.Defer(s.close)
	return nil
}

func stageOf(ts *testscript.TestScript) *stage { return ts.Value(stageKey{}).(*stage) }

// close ends everybody and the server. The server's log is shown when a script
// is watched with -v or has failed.
func (s *stage) close() {
	for _, a := range s.sessions {
		a.hangUp()
	}
	for _, p := range s.publishers {
		p.cut()
	}
	if s.conn != nil {
		_ = s.conn.Close()
	}
	if err := s.stopServer(); err != nil {
		s.t.Log("stop the server:", err)
		s.t.FailNow()
	}
	if failed, ok := s.t.(interface{ Failed() bool }); ok && failed.Failed() {
		s.t.Log("the server's log:\n" + s.log.String())
	}
}

// startServer starts the server in this process, just as "tcmanager serve" does.
func (s *stage) startServer(args []string) error {
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	config.Flags(flags)
	defaults := []string{"--dev", "--data-dir", filepath.Join(s.dir, "data"), "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"}
	if err := flags.Parse(append(defaults, args...)); err != nil {
		return err
	}
	c, _, err := config.Load(flags, func(string) (string, bool) { return "", false })
	if err = errors.Join(err, c.Check()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	running, err := newServer(ctx, c, slog.New(slog.NewTextHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		cancel()
		return err
	}
	s.running, s.stop, s.cfg, s.args, s.stopped = running, cancel, c, args, make(chan error, 1)
	go func() { s.stopped <- running.run(ctx) }()
	if s.conn != nil {
		return nil // it finds the server again by itself
	}
	s.conn, err = grpc.NewClient(running.grpcL.Addr().String(), grpc.WithTransportCredentials(transportFor(c)),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	return err
}

func (s *stage) stopServer() error {
	if s.running == nil {
		return nil
	}
	s.stop()
	s.running = nil
	select {
	case err := <-s.stopped:
		return err
	case <-time.After(patience):
		return errors.New("the server did not stop")
	}
}

// restart stops the server and starts it where it was, with more flags if there
// are any.
func (s *stage) restart(more []string) error {
	grpcAddr, httpAddr := s.running.grpcL.Addr().String(), s.running.httpL.Addr().String()
	if err := s.stopServer(); err != nil {
		return err
	}
	return s.startServer(slices.Concat(s.args, []string{"--grpc-addr", grpcAddr, "--http-addr", httpAddr}, more))
}

// userID is the id of a person: the development users go by their roles.
func userID(who string) string {
	who, _, _ = strings.Cut(who, "/")
	switch who {
	case "manager", "tester", "viewer":
		return "demo-" + who
	}
	return who
}

// as returns a context for a call, which carries a person's token.
func (s *stage) as(who string) (context.Context, context.CancelFunc) {
	return s.asFor(who, patience)
}

// asLong is as for a stream, which may last as long as a script.
func (s *stage) asLong(who string) (context.Context, context.CancelFunc) {
	return s.asFor(who, 10*patience)
}

func (s *stage) asFor(who string, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	token, err := s.token(ctx, who)
	if err != nil {
		token = "none: " + err.Error() // the call that follows is refused, and says so
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), cancel
}

func (s *stage) token(ctx context.Context, who string) (string, error) {
	id := userID(who)
	if token := s.tokens[id]; token != "" {
		return token, nil
	}
	token, err := s.newToken(ctx, id)
	if err != nil {
		return "", err
	}
	s.tokens[id] = token
	return token, nil
}

func (s *stage) newToken(ctx context.Context, id string) (string, error) {
	if strings.HasPrefix(id, "demo-") && s.cfg.Dev {
		signedIn, err := pb.NewIdentityServiceClient(s.conn).SignInDev(ctx, &pb.SignInDevRequest{UserId: id})
		return signedIn.GetToken(), err
	}
	signer, err := signerOf(s.cfg)
	if err != nil {
		return "", err
	}
	token, _, err := signer.Sign(&pb.User{Id: id, Name: strings.ToUpper(id[:1]) + id[1:]}, time.Hour)
	return token, err
}

// room translates a script's name of a room to the server's.
func (s *stage) room(name string) string {
	if canonical := s.rooms[name]; canonical != "" {
		return canonical
	}
	kind, id, _ := strings.Cut(name, ":")
	switch kind {
	case "testrun":
		id = cmp.Or(s.runs[id], id)
	case "testcase":
		id = cmp.Or(s.cases[id], id)
	case "user":
		id = userID(id)
	}
	return kind + ":" + id
}

// get fetches a path of the web listener and returns the status and the body.
func (s *stage) get(path, bearer string) (status, body string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.running.publicURL+path, nil)
	if err != nil {
		return "", "", err
	}
	if bearer != "" {
		token, err := s.token(ctx, bearer)
		if err != nil {
			return "", "", err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: trusting(s.cfg), ForceAttemptHTTP2: true}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	return res.Status, string(b), err
}

// lockedBuffer is a log that may be written and read at the same time.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
