package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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
	if g.caFile != "" && !g.plain() {
		config, err := trust(g.caFile)
		if err != nil {
			return nil, err
		}
		opts = append(opts, tcmanager.WithTLS(config))
	}
	client, err := tcmanager.Dial(g.server, opts...)
	if err != nil {
		return nil, err
	}
	source.client = client
	return client, nil
}

// plain reports whether the person asked for plain text. TCM_CA_FILE doesn't
// overrule that: it may be set for another server.
func (g *global) plain() bool { return g.plaintext || strings.HasPrefix(g.server, "http://") }

// trust is the TLS of those who believe the authorities in a file.
func trust(file string) (*tls.Config, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read --ca-file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--ca-file %s holds no certificate: it must be a PEM file with that of the authority", file)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}, nil
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
	text, err := os.ReadFile(file)
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
			return "the server can't be reached: " + unframe(s.Message()) + tlsAdvice(s.Message())
		case codes.DeadlineExceeded:
			return "the server took too long to answer"
		default:
			return unframe(s.Message())
		}
	}
	return err.Error()
}

// tlsAdvices say what to do about what goes wrong when a connection is made. gRPC
// passes the reason on as a text only.
var tlsAdvices = []struct{ text, advice string }{
	{"signed by unknown authority", "give --ca-file with the PEM file of the authority that signed the server's certificate"},
	{"certificate is not trusted", "give --ca-file with the PEM file of the authority that signed the server's certificate"},
	{"has expired or is not yet valid", "the server needs a new certificate, or a clock is wrong"},
	{"certificate is valid for", "name the server in --server as its certificate does"},
	{"certificate is not valid for any names", "the server needs a certificate with its name in it"},
	{"cannot validate certificate for", "name the server in --server as its certificate does"},
	{"first record does not look like a TLS handshake", "the server speaks plain text there: give --plaintext if the network is trusted, or http:// before the address"},
	{"error reading server preface", "if the server speaks TLS, put https:// before its address"},
}

// tlsAdvice says what to do about an error of TLS; it is empty if there is nothing.
func tlsAdvice(message string) string {
	for _, a := range tlsAdvices {
		if strings.Contains(message, a.text) {
			return " (" + a.advice + ")"
		}
	}
	return ""
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
