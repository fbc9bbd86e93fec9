package identity

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/fault"
)

var secret = []byte("0123456789abcdef0123456789abcdef")

func verifier(t *testing.T, keys Keys) *Verifier {
	t.Helper()
	v, err := NewVerifier(keys)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func signer(t *testing.T, keys Keys) *Signer {
	t.Helper()
	s, err := NewSigner(keys)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func hs256(t *testing.T, c jwt.MapClaims) string {
	t.Helper()
	if _, ok := c["exp"]; !ok {
		c["exp"] = time.Now().Add(time.Hour).Unix()
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(secret)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestASignedTokenIsGoodForItsVerifier(t *testing.T) {
	for _, keys := range []Keys{{HS256Secret: secret}, {HS256Secret: secret, Issuer: "i", Audience: "a"}} {
		user := &pb.User{Id: "u1", Name: "Ada", Email: "ada@example.org"}
		token, expires, err := signer(t, keys).Sign(user, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		caller, err := verifier(t, keys).Verify(token)
		if err != nil || !proto.Equal(caller.User, user) || !caller.ExpiresAt.Equal(expires) {
			t.Errorf("%v %v, want %v %v: %v", caller.User, caller.ExpiresAt, user, expires, err)
		}
	}
}

func TestTheSignerRefusesWhatTheVerifierWould(t *testing.T) {
	s := signer(t, Keys{HS256Secret: secret})
	for _, id := range []string{"", "a b", "a:b", "a/b", strings.Repeat("x", 129)} {
		if _, _, err := s.Sign(&pb.User{Id: id}, time.Hour); err == nil {
			t.Errorf("signed a token for %q", id)
		}
	}
	if _, _, err := s.Sign(&pb.User{Id: "u"}, 0); err == nil {
		t.Error("signed a token that lasts no time")
	}
	if _, err := NewSigner(Keys{HS256Secret: []byte("short")}); err == nil {
		t.Error("took a short secret")
	}
}

func TestWhomClaimsName(t *testing.T) {
	v := verifier(t, Keys{HS256Secret: secret})
	for _, c := range []struct {
		name   string
		claims jwt.MapClaims
		want   *pb.User
	}{
		{"the seed's claims", jwt.MapClaims{"userId": "u1", "email": "ada@example.org"}, &pb.User{Id: "u1", Name: "ada", Email: "ada@example.org"}},
		{"the standard ones", jwt.MapClaims{"sub": "s1", "name": " Ada "}, &pb.User{Id: "s1", Name: "Ada"}},
		{"userId before sub", jwt.MapClaims{"sub": "s1", "userId": "u1"}, &pb.User{Id: "u1", Name: "u1"}},
		{"a long name", jwt.MapClaims{"sub": "s1", "name": strings.Repeat("ä", 200)}, &pb.User{Id: "s1", Name: strings.Repeat("ä", 128)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			caller, err := v.Verify(hs256(t, c.claims))
			if err != nil || !proto.Equal(caller.User, c.want) {
				t.Errorf("%v, %v; want %v", caller.User, err, c.want)
			}
		})
	}
}

func TestATokenEndsHalfAMinuteAfterItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := Keys{HS256Secret: secret}
		token, expires, err := signer(t, keys).Sign(&pb.User{Id: "u1"}, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		v := verifier(t, keys)
		time.Sleep(time.Until(expires.Add(leeway - time.Second)))
		if _, err := v.Verify(token); err != nil {
			t.Error("within the leeway:", err)
		}
		time.Sleep(time.Second)
		_, err = v.Verify(token)
		if bad := (*TokenError)(nil); !errors.As(err, &bad) || bad.Reason != "expired" {
			t.Error("after it:", err)
		}
	})
}

func TestATokenErrorTellsAClientNothing(t *testing.T) {
	_, err := verifier(t, Keys{HS256Secret: secret}).Verify("x.y.z")
	if e := fault.Of(err); e != ErrUnauthenticated {
		t.Errorf("%#v", e)
	}
}

func TestKeysThatCannotBeTrustedAreRefused(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, keys := range map[string]Keys{
		"none":                         {},
		"a short secret":               {HS256Secret: []byte("31 bytes are one less than neede")[:31]},
		"a public key for everything":  {RS256PublicKey: &key.PublicKey},
		"a public key for any service": {RS256PublicKey: &key.PublicKey, Issuer: "i"},
		"a public key of anybody":      {RS256PublicKey: &key.PublicKey, Audience: "a"},
	} {
		if _, err := NewVerifier(keys); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestAnRSAKeyAloneAcceptsNoHMAC(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	v := verifier(t, Keys{RS256PublicKey: &key.PublicKey, Issuer: "i", Audience: "a"})
	if _, err := v.Verify(hs256(t, jwt.MapClaims{"sub": "u1", "iss": "i", "aud": "a"})); err == nil {
		t.Error("accepted")
	}
}

func FuzzVerify(f *testing.F) {
	v, err := NewVerifier(Keys{HS256Secret: secret})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("")
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1In0.")
	f.Fuzz(func(t *testing.T, token string) {
		if c, err := v.Verify(token); err == nil {
			t.Errorf("%q names %v", token, c.User)
		}
	})
}

type failingKeeper struct{}

var errKeeper = errors.New("no disk")

func (failingKeeper) EnsureUser(context.Context, *pb.User) (*pb.User, error) { return nil, errKeeper }

func TestARecordThatCannotBeKeptIsNotTheTokensFault(t *testing.T) {
	a := NewAuthenticator(verifier(t, Keys{HS256Secret: secret}), failingKeeper{})
	_, err := a.Authenticate(t.Context(), hs256(t, jwt.MapClaims{"sub": "u1"}))
	if !errors.Is(err, errKeeper) || fault.Of(err) != nil {
		t.Error(err)
	}
}
