package identity

import (
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// Signer signs tokens with a shared secret, for --dev and for "tcmanager token".
type Signer struct {
	secret   []byte
	issuer   string
	audience string
}

// NewSigner returns a signer whose tokens a Verifier with the same keys accepts.
func NewSigner(keys Keys) (*Signer, error) {
	if len(keys.HS256Secret) < MinSecretBytes {
		return nil, fmt.Errorf("signing needs an HS256 secret of at least %d bytes", MinSecretBytes)
	}
	return &Signer{secret: keys.HS256Secret, issuer: keys.Issuer, audience: keys.Audience}, nil
}

// Sign returns a token for a user and when it stops being accepted, which is
// counted in whole seconds.
func (s *Signer) Sign(user *pb.User, ttl time.Duration) (token string, expires time.Time, err error) {
	if !userIDRule.MatchString(user.GetId()) {
		return "", time.Time{}, fmt.Errorf("user id %q: it must have 1 to 128 characters, none of them a space, a colon or a slash", user.GetId())
	}
	if ttl < time.Second {
		return "", time.Time{}, fmt.Errorf("a token that lasts %s: it must last at least a second", ttl)
	}
	now := time.Now()
	c := claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Subject:   user.GetId(),
			Issuer:    s.issuer,
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(ttl)),
		},
		UserID: user.GetId(), Email: user.GetEmail(), Name: user.GetName(),
	}
	if s.audience != "" {
		c.Audience = jwt.ClaimStrings{s.audience}
	}
	token, err = jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(s.secret)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign a token: %w", err)
	}
	return token, c.ExpiresAt.Time, nil
}
