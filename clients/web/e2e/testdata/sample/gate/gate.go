// Package gate lets whoever watches a test hold it where it is.
package gate

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Wait returns when there is a file of this name in the directory SAMPLE_GATES,
// at once if that isn't set.
func Wait(t *testing.T, name string) {
	t.Helper()
	dir := os.Getenv("SAMPLE_GATES")
	if dir == "" {
		return
	}
	for give := time.Now().Add(2 * time.Minute); time.Now().Before(give); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return
		}
	}
	t.Fatalf("gate %s did not open", name)
}
