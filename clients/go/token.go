package tcmanager

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/grpc/credentials"
)

// Token proves who is calling.
type Token struct {
	// Value is a JWT; empty calls without proof.
	Value string
	// ExpiresAt is when it stops being accepted; zero if that isn't known.
	ExpiresAt time.Time
}

// TokenSource returns a token. It is called by one goroutine at a time, again
// when a token is about to expire or was refused.
type TokenSource func(ctx context.Context) (Token, error)

// StaticToken is a source of one token that can't be renewed.
func StaticToken(value string) TokenSource {
	return func(context.Context) (Token, error) { return Token{Value: value}, nil }
}

// renewBefore is how long before its end a token is replaced: longer than any
// unary call takes.
const renewBefore = 30 * time.Second

// anonymousMethods are called without a token: they are what one asks to get one.
var anonymousMethods = []string{
	tcmv1.IdentityService_GetServerInfo_FullMethodName,
	tcmv1.IdentityService_SignInDev_FullMethodName,
}

func anonymous(method string) bool { return slices.Contains(anonymousMethods, method) }

// tokens is the per-call credential: it remembers the last token of a source.
type tokens struct {
	source TokenSource

	fetch sync.Mutex // held while the source is asked
	mu    sync.Mutex // guards last
	last  Token
}

var _ credentials.PerRPCCredentials = (*tokens)(nil)

func newTokens(source TokenSource) *tokens {
	if source == nil {
		source = StaticToken("")
	}
	return &tokens{source: source}
}

// current is the token in use; zero if none is.
func (t *tokens) current() Token {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

// fresh reports whether tok can still be used.
func fresh(tok Token) bool {
	return tok.Value != "" && (tok.ExpiresAt.IsZero() || time.Until(tok.ExpiresAt) > renewBefore)
}

// get returns the token in use, or a new one.
func (t *tokens) get(ctx context.Context) (Token, error) {
	if tok := t.current(); fresh(tok) {
		return tok, nil
	}
	t.fetch.Lock()
	defer t.fetch.Unlock()
	if tok := t.current(); fresh(tok) {
		return tok, nil // somebody else fetched it meanwhile
	}
	tok, err := t.source(ctx)
	if err != nil {
		return Token{}, err
	}
	t.mu.Lock()
	t.last = tok
	t.mu.Unlock()
	return tok, nil
}

// reject forgets a token that the server refused. It reports whether asking
// again can help: not if it was already asked again, by somebody else, in vain.
func (t *tokens) reject(used Token) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last.Value == used.Value {
		t.last = Token{}
	}
	return used.Value != ""
}

// GetRequestMetadata adds the token to a call.
func (t *tokens) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	if info, ok := credentials.RequestInfoFromContext(ctx); ok && anonymous(info.Method) {
		return nil, nil
	}
	tok, err := t.get(ctx)
	if err != nil {
		return nil, fmt.Errorf("get a token: %w", err)
	}
	if tok.Value == "" {
		return nil, nil
	}
	return map[string]string{"authorization": "Bearer " + tok.Value}, nil
}

// RequireTransportSecurity says no, since Dial decided: plain text is spoken on
// loopback, or because the caller asked for it.
func (t *tokens) RequireTransportSecurity() bool { return false }
