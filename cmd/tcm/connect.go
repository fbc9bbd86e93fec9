package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	tcmanager "github.com/tcmanager/tcmanager/clients/go"
	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// devUser is whom tcm signs in as on a development server.
const devUser = "demo-tester"

// callTimeout is how long a single call may take.
const callTimeout = 15 * time.Second

// dial connects to the server. say is called when tcm signs itself in.
func (g *global) dial(say func(format string, args ...any)) (*tcmanager.Client, error) {
	source := &signIn{file: g.tokenFile, server: g.server, say: say}
	opts := []tcmanager.Option{tcmanager.WithTokenSource(source.token), tcmanager.WithUserAgent("tcm/" + programVersion())}
	if g.plaintext {
		opts = append(opts, tcmanager.WithPlaintext())
	}
	client, err := tcmanager.Dial(g.server, opts...)
	if err != nil {
		return nil, err
	}
	source.client = client
	return client, nil
}

// signIn finds a token: in a file, in the environment, or from a development
// server on this machine.
type signIn struct {
	file   string
	server string
	client *tcmanager.Client
	say    func(format string, args ...any)
	said   bool
}

// token is a tcmanager.TokenSource.
func (s *signIn) token(ctx context.Context) (tcmanager.Token, error) {
	if s.file != "" {
		return readToken(s.file)
	}
	if v := strings.TrimSpace(os.Getenv("TCM_TOKEN")); v != "" {
		return tcmanager.Token{Value: v}, nil
	}
	if file := os.Getenv("TCM_TOKEN_FILE"); file != "" {
		return readToken(file)
	}
	return s.dev(ctx)
}

// readToken reads a token from a file, whose first line it is.
func readToken(file string) (tcmanager.Token, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the person names the file
	if err != nil {
		return tcmanager.Token{}, status.Errorf(codes.Unauthenticated, "read the token: %v", err)
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	if line = strings.TrimSpace(line); line == "" {
		return tcmanager.Token{}, status.Errorf(codes.Unauthenticated, "%s holds no token", file)
	}
	return tcmanager.Token{Value: line}, nil
}

// errNoToken says how to get one.
func errNoToken(why string) error {
	return status.Error(codes.Unauthenticated, why+": set TCM_TOKEN, or give --token-file")
}

// dev signs in as the development user.
func (s *signIn) dev(ctx context.Context) (tcmanager.Token, error) {
	if !tcmanager.IsLoopback(s.server) {
		return tcmanager.Token{}, errNoToken("there is no token for " + s.server)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	info, err := s.client.Identity().GetServerInfo(ctx, &tcmv1.GetServerInfoRequest{})
	if err != nil {
		return tcmanager.Token{}, fmt.Errorf("ask %s who it is: %w", s.server, err)
	}
	if !info.GetDev() {
		return tcmanager.Token{}, errNoToken("there is no token, and the server isn't a development server")
	}
	resp, err := s.client.Identity().SignInDev(ctx, &tcmv1.SignInDevRequest{UserId: devUser})
	if err != nil {
		return tcmanager.Token{}, fmt.Errorf("sign in as %s: %w", devUser, err)
	}
	if !s.said {
		s.said = true
		s.say("signed in to the development server as %s", devUser)
	}
	return tcmanager.Token{Value: resp.GetToken(), ExpiresAt: resp.GetExpiresAt().AsTime()}, nil
}

// describe prints an error for people: of a call, what the server said, without
// the frame that gRPC puts around it.
func describe(err error) string {
	if s, ok := status.FromError(err); ok && s.Message() != "" {
		switch s.Code() {
		case codes.Unavailable:
			return "the server can't be reached: " + unframe(s.Message())
		case codes.DeadlineExceeded:
			return "the server took too long to answer"
		default:
			return unframe(s.Message())
		}
	}
	return err.Error()
}

// unframe takes gRPC's words off a message.
func unframe(message string) string {
	for _, word := range []string{"rpc error: ", "connection error: ", "last connection error: "} {
		if i := strings.LastIndex(message, word); i >= 0 {
			message = message[i+len(word):]
		}
	}
	if _, rest, ok := strings.Cut(message, " desc = "); ok && strings.HasPrefix(message, "code = ") {
		message = rest
	}
	return strings.Trim(strings.TrimPrefix(message, "desc = "), `"`)
}
