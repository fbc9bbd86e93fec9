package certificate

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/certificate/certtest"
)

// keep returns a Keeper and what it logs.
func keep(t *testing.T, p certtest.Pair) (*Keeper, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	k, err := New(p.Cert, p.Key, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return k, &log
}

func (k *Keeper) serial(t *testing.T) string {
	t.Helper()
	c, err := k.TLS().GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return c.Leaf.SerialNumber.String()
}

func TestARenewedCertificateIsTakenOverWithoutARestart(t *testing.T) {
	authority := certtest.NewAuthority(t)
	p := authority.Issue(t)
	from, until := time.Now().Add(-time.Hour), time.Now().Add(90*24*time.Hour)
	synctest.Test(t, func(t *testing.T) {
		k, log := keep(t, p)
		old := k.serial(t)
		authority.Renew(t, p, from, until)
		if k.serial(t) != old {
			t.Error("the files were read again at once: a flood of handshakes would read them each time")
		}
		time.Sleep(checkEvery)
		if k.serial(t) == old {
			t.Error("the old one stays")
		}
		if !strings.Contains(log.String(), "was replaced") {
			t.Error(log.String())
		}
	})
}

func TestABrokenPairIsNotTakenOver(t *testing.T) {
	authority := certtest.NewAuthority(t)
	p, other := authority.Issue(t), authority.Issue(t)
	synctest.Test(t, func(t *testing.T) {
		k, log := keep(t, p)
		old := k.serial(t)
		for range 5 { // logged once for one change, and not at each handshake
			if err := os.Rename(other.Key, p.Key); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			time.Sleep(checkEvery)
			if k.serial(t) != old {
				t.Fatal("a certificate is served that has no key")
			}
		}
		if n := strings.Count(log.String(), "the old one stays"); n != 1 {
			t.Errorf("told %d times: %s", n, log)
		}
		// The other half comes: now they are a pair.
		if err := os.Rename(other.Cert, p.Cert); err != nil {
			t.Fatal(err)
		}
		time.Sleep(checkEvery)
		if k.serial(t) == old {
			t.Error("the old one stays")
		}
		if err := os.Remove(p.Key); err != nil {
			t.Fatal(err)
		}
		time.Sleep(checkEvery)
		if k.serial(t) == "" || !strings.Contains(log.String(), "read the key") {
			t.Error(log)
		}
	})
}

func TestHandshakesMayComeAtTheSameTime(t *testing.T) {
	authority := certtest.NewAuthority(t)
	p := authority.Issue(t)
	synctest.Test(t, func(t *testing.T) {
		k, err := New(p.Cert, p.Key, slog.New(slog.NewTextHandler(io.Discard, nil)))
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				for range 10 {
					k.serial(t)
					time.Sleep(time.Second)
				}
			})
		}
		all.Wait()
	})
}

func TestWhatIsDubiousIsLogged(t *testing.T) {
	authority := certtest.NewAuthority(t)
	now := time.Now()
	for _, c := range []struct {
		name        string
		from, until time.Time
		mode        os.FileMode
		want        string // empty: nothing
	}{
		{"good", now.Add(-time.Hour), now.Add(60 * 24 * time.Hour), 0o600, ""},
		{"a key that a group may read", now.Add(-time.Hour), now.Add(60 * 24 * time.Hour), 0o640, ""},
		{"a key that everyone may read", now.Add(-time.Hour), now.Add(60 * 24 * time.Hour), 0o644, "chmod o-rwx"},
		{"expired", now.Add(-2 * time.Hour), now.Add(-time.Hour), 0o600, "has expired"},
		{"about to expire", now.Add(-2 * time.Hour), now.Add(time.Hour), 0o600, "expires soon"},
		{"not yet good", now.Add(time.Hour), now.Add(60 * 24 * time.Hour), 0o600, "clock"},
	} {
		p := authority.Issue(t)
		authority.Renew(t, p, c.from, c.until)
		if err := os.Chmod(p.Key, c.mode); err != nil {
			t.Fatal(err)
		}
		_, log := keep(t, p)
		if got := log.String(); !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: %q", c.name, got)
		}
		if c.name == "expired" && !strings.Contains(log.String(), c.until.UTC().Format(time.RFC3339)) {
			t.Errorf("without the date: %s", log)
		}
	}
}

func TestWhatIsNoPairSaysWhatToDo(t *testing.T) {
	authority := certtest.NewAuthority(t)
	a, b := authority.Issue(t), authority.Issue(t)
	encrypted := filepath.Join(t.TempDir(), "encrypted.pem")
	if err := os.WriteFile(encrypted, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ cert, key, want string }{
		{"/not/there", a.Key, "read the certificate: open /not/there"},
		{a.Cert, "/not/there", "read the key: open /not/there"},
		{a.Cert, b.Key, "are no pair"},
		{a.Key, a.Cert, "holds no certificate"},
		{a.Cert, a.Cert, "holds no private key"},
		{a.Cert, encrypted, "openssl pkey"},
	} {
		if _, err := Load(c.cert, c.key); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %s: %v", c.cert, c.key, err)
		}
	}
}
