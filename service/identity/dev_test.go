package identity

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestTheDevSecretOutlivesARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "yet")
	secrets := make([][]byte, 10)
	var wg sync.WaitGroup
	for i := range secrets { // several processes at once agree on one
		wg.Go(func() {
			var err error
			if secrets[i], err = DevSecret(dir); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, s := range secrets {
		if len(s) < MinSecretBytes || !bytes.Equal(s, secrets[0]) {
			t.Fatalf("%q and %q", s, secrets[0])
		}
	}
	info, err := os.Stat(filepath.Join(dir, "dev-secret"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "dev-secret-*")); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
	other, err := DevSecret(t.TempDir())
	if err != nil || bytes.Equal(other, secrets[0]) {
		t.Error("two servers share a secret", err)
	}
}

func TestADevSecretThatOthersMayReadIsRefused(t *testing.T) {
	dir := t.TempDir()
	if _, err := DevSecret(dir); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "dev-secret")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := DevSecret(dir); err == nil {
		t.Error("accepted")
	}
	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := DevSecret(dir); err == nil {
		t.Error("accepted a damaged one")
	}
}
