package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tcmanager/tcmanager/service/store"
)

// fake is a store that is backed up in no time, and fails on purpose.
type fake struct {
	mu    sync.Mutex                // guards the rest
	write func(to string) error     // instead of writing, if set
	check error                     // what Check says
	wait  func(ctx context.Context) // while a backup is written
	times []time.Time               // when backups were begun
}

func (f *fake) Backup(ctx context.Context, to string, _ store.Progress) error {
	f.mu.Lock()
	f.times = append(f.times, time.Now())
	write, wait := f.write, f.wait
	f.mu.Unlock()
	if wait != nil {
		wait(ctx)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if write != nil {
		return write(to)
	}
	return os.WriteFile(to, []byte("good"), 0o600)
}

func (f *fake) Check(_ context.Context, path string, _ store.Progress) (store.Backup, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.check != nil {
		return store.Backup{}, f.check
	}
	b, err := os.ReadFile(path)
	if err == nil && string(b) != "good" {
		err = fmt.Errorf("%q is no backup", b)
	}
	return store.Backup{TakenAt: time.Now(), Bytes: int64(len(b))}, err
}

func (f *fake) Restore(context.Context, string, store.Progress) (store.Backup, string, error) {
	return store.Backup{}, "", errors.New("not here")
}

func (f *fake) set(change func(*fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fake) begun() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.times)
}

// names returns what is in a folder.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return strings.Join(list, " ")
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestABackupHasItsNameWhenItIsGoodAndOneOwner(t *testing.T) {
	dir := t.TempDir()
	st := &fake{}
	during := ""
	st.write = func(to string) error {
		during = names(t, dir)
		return os.WriteFile(to, []byte("good"), 0o600)
	}
	to := filepath.Join(dir, "mine")
	b, err := Take(t.Context(), st, to, Options{})
	if err != nil || b.Bytes != 4 || content(t, to) != "good" || names(t, dir) != "mine" {
		t.Errorf("%+v: %v, %s", b, err, names(t, dir))
	}
	if !strings.HasPrefix(during, ".mine.partial-") || strings.Contains(during, " ") {
		t.Errorf("while it was written there was %s", during)
	}
	if info, err := os.Stat(to); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
}

func TestABackupThatFailsLeavesWhatWasThere(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(f *fake, stop context.CancelFunc)
		want  string
	}{
		"not written": {func(f *fake, _ context.CancelFunc) { f.write = func(string) error { return errors.New("no rights") } }, "no rights"},
		"full disk": {func(f *fake, _ context.CancelFunc) {
			f.write = func(to string) error {
				return errors.Join(os.WriteFile(to, []byte("go"), 0o600), &os.PathError{Op: "write", Path: to, Err: syscall.ENOSPC})
			}
		}, "free some space"},
		"cut short": {func(f *fake, _ context.CancelFunc) {
			f.write = func(to string) error { return os.WriteFile(to, []byte("go"), 0o600) }
		}, "not good"},
		"not good":   {func(f *fake, _ context.CancelFunc) { f.check = errors.New("it is damaged") }, "it is damaged"},
		"ctx ended":  {func(f *fake, stop context.CancelFunc) { f.wait = func(context.Context) { stop() } }, "canceled"},
		"taken away": {func(f *fake, _ context.CancelFunc) { f.write = os.Remove }, "no such file"},
	} {
		for _, force := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " force ", force), func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				st := &fake{}
				test.spoil(st, cancel)
				dir := t.TempDir()
				to := filepath.Join(dir, "mine")
				left := ""
				if force {
					put(t, to, "old")
					left = "mine"
				}
				_, err := Take(ctx, st, to, Options{Force: force})
				if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), to) {
					t.Errorf("got %v, want one with %q", err, test.want)
				}
				if got := names(t, dir); got != left {
					t.Errorf("it left %s", got)
				}
				if force && content(t, to) != "old" {
					t.Error("the older one is gone")
				}
			})
		}
	}
}

func TestAFileIsReplacedOnlyWithForce(t *testing.T) {
	to := filepath.Join(t.TempDir(), "mine")
	put(t, to, "old")
	st := &fake{}
	if _, err := Take(t.Context(), st, to, Options{}); err == nil || !strings.Contains(err.Error(), "--force") || content(t, to) != "old" || st.begun() != 0 {
		t.Error(err)
	}
	if _, err := Take(t.Context(), st, to, Options{Force: true}); err != nil || content(t, to) != "good" {
		t.Error(err)
	}
}

func TestAFileThatComesWhileTheBackupIsWrittenIsNotReplaced(t *testing.T) {
	to := filepath.Join(t.TempDir(), "mine")
	st := &fake{wait: func(context.Context) { put(t, to, "theirs") }}
	if _, err := Take(t.Context(), st, to, Options{}); err == nil || !strings.Contains(err.Error(), "is there already") || content(t, to) != "theirs" {
		t.Error(err)
	}
}

func TestAPlaceWhereNoFileCanBeIsRefusedAtOnce(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "target"), link); err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]string{
		dir:                              "is a folder; name a file in it",
		filepath.Join(dir, "no", "mine"): "make it first",
		link:                             "is not a file",
	} {
		st := &fake{}
		if _, err := Take(t.Context(), st, to, Options{Force: true}); err == nil || !strings.Contains(err.Error(), want) || st.begun() != 0 {
			t.Errorf("%s: %v", to, err)
		}
	}
}
