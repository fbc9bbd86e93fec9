package identity

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

const (
	// leeway is how far the clocks of the signer and this server may differ.
	leeway = 30 * time.Second
	// maxTokenBytes bounds what is parsed before anything is known of the sender.
	// Identity providers stay below 8 KiB, since proxies refuse larger headers.
	maxTokenBytes = 16 << 10
	// MinSecretBytes is the least an HS256 secret may have, see RFC 7518, 3.2.
	MinSecretBytes = 32
)

// userIDRule keeps ids apart from the separators of room names and paths.
var userIDRule = regexp.MustCompile(`^[^\s:/]{1,128}$`)

// Keys say whose tokens are good. Each key is good for one algorithm only, so
// that nobody can use a public key as a shared secret.
type Keys struct {
	HS256Secret    []byte         // shared with an embedding host; nil for none
	RS256PublicKey *rsa.PublicKey // of an identity provider; nil for none
	// Issuer and Audience, when set, must be what the token says. Without both a
	// public key is refused: a provider signs tokens for other services too.
	Issuer   string
	Audience string
}

// claims are the claims of the seed system beside the standard ones.
type claims struct {
	jwt.RegisteredClaims
	UserID string `json:"userId,omitempty"`
	Email  string `json:"email,omitempty"`
	Name   string `json:"name,omitempty"`
}

// Verifier tells good tokens from others. It may be used from many goroutines.
type Verifier struct {
	keys   Keys
	parser *jwt.Parser
}

// NewVerifier returns a verifier, or an error that says what is wrong with the keys.
func NewVerifier(keys Keys) (*Verifier, error) {
	var algorithms []string
	if keys.HS256Secret != nil {
		if len(keys.HS256Secret) < MinSecretBytes {
			return nil, fmt.Errorf("the HS256 secret has %d bytes and needs at least %d; make one with \"openssl rand -hex 32\"", len(keys.HS256Secret), MinSecretBytes)
		}
		algorithms = append(algorithms, jwt.SigningMethodHS256.Alg())
	}
	if keys.RS256PublicKey != nil {
		if keys.Issuer == "" || keys.Audience == "" {
			return nil, errors.New("an RS256 key needs an issuer and an audience: an identity provider signs tokens for other services too")
		}
		algorithms = append(algorithms, jwt.SigningMethodRS256.Alg())
	}
	if len(algorithms) == 0 {
		return nil, errors.New("neither an HS256 secret nor an RS256 key is configured")
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods(algorithms), jwt.WithExpirationRequired(), jwt.WithLeeway(leeway), jwt.WithStrictDecoding(),
	}
	if keys.Issuer != "" {
		options = append(options, jwt.WithIssuer(keys.Issuer))
	}
	if keys.Audience != "" {
		options = append(options, jwt.WithAudience(keys.Audience))
	}
	return &Verifier{keys: keys, parser: jwt.NewParser(options...)}, nil
}

// Verify returns the caller that a good token names, as the token describes the
// user. Its error is a *TokenError.
func (v *Verifier) Verify(token string) (Caller, error) {
	if len(token) > maxTokenBytes {
		return Caller{}, &TokenError{Reason: "longer than 16 KiB"}
	}
	var c claims
	if _, err := v.parser.ParseWithClaims(token, &c, v.key); err != nil {
		return Caller{}, &TokenError{Reason: refusal(err)}
	}
	id := c.UserID
	if id == "" {
		id = c.Subject
	}
	if !userIDRule.MatchString(id) {
		return Caller{}, &TokenError{Reason: "no usable user id"}
	}
	user := &pb.User{Id: id, Name: displayName(c.Name, c.Email, id), Email: c.Email}
	return Caller{User: user, ExpiresAt: c.ExpiresAt.Time}, nil
}

// key returns the one key that belongs to the token's algorithm.
func (v *Verifier) key(t *jwt.Token) (any, error) {
	switch t.Method.Alg() {
	case jwt.SigningMethodHS256.Alg():
		if v.keys.HS256Secret != nil {
			return v.keys.HS256Secret, nil
		}
	case jwt.SigningMethodRS256.Alg():
		if v.keys.RS256PublicKey != nil {
			return v.keys.RS256PublicKey, nil
		}
	}
	return nil, errors.New("no key for this algorithm")
}

// refusal names what was wrong in fixed words: a parser's own text may quote
// parts of the token.
func refusal(err error) string {
	for _, known := range []struct {
		is   error
		word string
	}{
		{jwt.ErrTokenExpired, "expired"},
		{jwt.ErrTokenNotValidYet, "not valid yet"},
		{jwt.ErrTokenUsedBeforeIssued, "issued in the future"},
		{jwt.ErrTokenInvalidIssuer, "wrong issuer"},
		{jwt.ErrTokenInvalidAudience, "wrong audience"},
		{jwt.ErrTokenRequiredClaimMissing, "a required claim is missing"},
		{jwt.ErrTokenSignatureInvalid, "wrong signature or algorithm"},
		{jwt.ErrTokenUnverifiable, "no key for it"},
		{jwt.ErrTokenMalformed, "malformed"},
	} {
		if errors.Is(err, known.is) {
			return known.word
		}
	}
	return "invalid"
}

// maxNameRunes bounds names, which every event of the user carries.
const maxNameRunes = 128

// displayName is the name to show: the claim, else the email's local part, else
// the id.
func displayName(name, email, id string) string {
	name = strings.ToValidUTF8(strings.TrimSpace(name), "")
	if name == "" {
		name, _, _ = strings.Cut(email, "@")
	}
	if name == "" {
		name = id
	}
	if runes := []rune(name); len(runes) > maxNameRunes {
		name = string(runes[:maxNameRunes])
	}
	return name
}
