package chaos

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestTheClockOfAServerCanBeMoved has a server tell the time in the tokens that it
// signs.
func TestTheClockOfAServerCanBeMoved(t *testing.T) {
	dir := t.TempDir()
	program, err := BuildWithClock(t.Context(), "../../../..", dir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := newClock(dir)
	if err != nil {
		t.Fatal(err)
	}
	now := func(env ...string) time.Time {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, "token", "--dev", "--data-dir", dir, "--user", "demo-tester")
		cmd.Env = append(os.Environ(), env...)
		token, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(string(token), ".")
		claims, err := base64.RawURLEncoding.DecodeString(parts[min(1, len(parts)-1)])
		if err != nil {
			t.Fatal(err)
		}
		var said struct {
			At int64 `json:"iat"`
		}
		if err := json.Unmarshal(claims, &said); err != nil {
			t.Fatalf("%v: %s", err, claims)
		}
		return time.Unix(said.At, 0)
	}
	moved := clockEnv + "=" + c.file
	for _, by := range []int64{0, 3600, -3600} {
		if err := c.set(by); err != nil {
			t.Fatal(err)
		}
		if off := time.Since(now(moved)) + time.Duration(by)*time.Second; off < -time.Minute || off > 2*time.Minute {
			t.Errorf("moved by %d s, it is off by %s", by, off)
		}
	}
	if off := time.Since(now()); off < -time.Minute || off > 2*time.Minute {
		t.Errorf("without the file its clock is off by %s", off)
	}
}
