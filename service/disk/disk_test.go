package disk

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestALockIsHeldByOneUntilItIsGivenBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Lock(path)
	held := (*HeldError)(nil)
	if !errors.As(err, &held) || held.PID != os.Getpid() || !strings.HasPrefix(held.Holder("another server"), "another server (process ") {
		t.Errorf("got %v, want who has it", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}

func TestAHolderThatDidNotWriteWhoItIsIsStillOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Close() }()
	if err := first.Truncate(0); err != nil {
		t.Fatal(err)
	}
	_, err = Lock(path)
	held := (*HeldError)(nil)
	if !errors.As(err, &held) || held.Holder("another server") != "another server" {
		t.Errorf("got %v", err)
	}
}

func TestTooLittleSpaceSaysHowMuchThereIsAndWhatToDo(t *testing.T) {
	dir := t.TempDir()
	if err := NeedSpace(dir, 1); err != nil {
		t.Error(err)
	}
	if _, known, _ := freeSpace(dir); !known {
		t.Log("this system doesn't tell")
		return
	}
	err := NeedSpace(dir, math.MaxInt64)
	if err == nil || !strings.Contains(err.Error(), dir+" has ") || !strings.Contains(err.Error(), "9.2 EB are needed; free some space") {
		t.Error(err)
	}
	if err := NeedSpace(filepath.Join(dir, "not", "there"), 1); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestSizesAreWrittenForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", 999: "999 bytes", 1000: "1.0 kB", 12_345_678: "12.3 MB", 531_700_000: "531.7 MB", 2e12: "2.0 TB"} {
		if got := Size(n); got != want {
			t.Errorf("%d bytes are %s, want %s", n, got, want)
		}
	}
}
