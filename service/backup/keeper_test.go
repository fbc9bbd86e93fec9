package backup

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// stage is a keeper that runs in a bubble, where time is the test's own and begins
// at midnight UTC of 2000-01-01.
type stage struct {
	*fake
	t    *testing.T
	dir  string
	log  lockedBuffer
	stop context.CancelFunc
	done chan error
	k    *Keeper
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func onStage(t *testing.T, keep int, fn func(*testing.T, *stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		st := &stage{fake: &fake{}, t: t, dir: filepath.Join(t.TempDir(), "backups")}
		if err := os.Mkdir(st.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		st.make(keep)
		fn(t, st)
		st.end()
	})
}

// make makes a keeper, as a new process does.
func (st *stage) make(keep int) {
	st.t.Helper()
	var err error
	st.k, err = NewKeeper(st.fake, Config{
		Dir: st.dir, Every: 24 * time.Hour, Keep: keep, Logger: slog.New(slog.NewTextHandler(&st.log, nil)), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		st.t.Fatal(err)
	}
}

// run runs the keeper, as a server that starts does.
func (st *stage) run() {
	ctx, cancel := context.WithCancel(st.t.Context())
	st.stop, st.done = cancel, make(chan error, 1)
	go func() { st.done <- st.k.Run(ctx) }()
	synctest.Wait()
}

func (st *stage) end() {
	if st.stop == nil {
		return
	}
	st.stop()
	if err := <-st.done; err != nil {
		st.t.Error("the keeper ended with", err)
	}
	st.stop = nil
}

// has checks which files there are, beside the lock.
func (st *stage) has(want ...string) {
	st.t.Helper()
	synctest.Wait()
	if got := strings.TrimSpace(strings.TrimPrefix(names(st.t, st.dir), lockName)); got != strings.Join(want, " ") {
		st.t.Errorf("there is %s, want %s", got, strings.Join(want, " "))
	}
}

func (st *stage) counted(ok, failed float64, last time.Time) {
	st.t.Helper()
	synctest.Wait()
	gotOK, gotFailed := testutil.ToFloat64(st.k.results.WithLabelValues("ok")), testutil.ToFloat64(st.k.results.WithLabelValues("failed"))
	var seconds float64
	if !last.IsZero() {
		seconds = float64(last.Unix())
	}
	if got := testutil.ToFloat64(st.k.last); gotOK != ok || gotFailed != failed || got != seconds {
		st.t.Errorf("counted %v good and %v failed, the last at %v; want %v, %v and %v", gotOK, gotFailed, got, ok, failed, seconds)
	}
}

const (
	day1 = "tcmanager-20000101T000000Z.backup"
	day2 = "tcmanager-20000102T000000Z.backup"
	day3 = "tcmanager-20000103T000000Z.backup"
	day4 = "tcmanager-20000104T000000Z.backup"
)

func TestBackupsAreTakenOnScheduleAndTheOldestGo(t *testing.T) {
	onStage(t, 2, func(t *testing.T, st *stage) {
		st.counted(0, 0, time.Time{})
		st.run()
		st.has(day1)
		time.Sleep(24 * time.Hour)
		st.has(day1, day2)
		time.Sleep(24 * time.Hour)
		st.has(day2, day3)
		time.Sleep(23 * time.Hour)
		st.has(day2, day3)
		time.Sleep(time.Hour)
		st.has(day3, day4)
		st.counted(4, 0, time.Now())
		if log := st.log.String(); strings.Count(log, "a backup was taken") != 4 || strings.Count(log, "an old backup was removed") != 2 {
			t.Error(log)
		}
	})
}

func TestRestartsNeitherPutABackupOffNorTakeMore(t *testing.T) {
	onStage(t, 7, func(t *testing.T, st *stage) {
		began := time.Now()
		for range 23 {
			st.run()
			time.Sleep(time.Hour)
			st.end()
		}
		st.has(day1)
		st.make(7) // another process: it knows the newest by its name
		st.run()
		st.counted(0, 0, began)
		time.Sleep(time.Hour)
		st.has(day1, day2)
		st.end()
		time.Sleep(10 * 24 * time.Hour)
		st.run() // it is overdue
		st.has(day1, day2, "tcmanager-20000112T000000Z.backup")
	})
}

func TestAFailedBackupIsSaidCountedAndTriedAgainAndRemovesNothing(t *testing.T) {
	onStage(t, 1, func(t *testing.T, st *stage) {
		began := time.Now()
		st.run()
		st.has(day1)
		st.set(func(f *fake) { f.write = func(string) error { return errors.New("the disk is full") } })
		time.Sleep(24 * time.Hour)
		st.has(day1)
		st.counted(1, 1, began)
		st.set(func(f *fake) { f.write, f.check = nil, errors.New("it is damaged") })
		time.Sleep(10 * time.Minute)
		st.has(day1)
		st.counted(1, 2, began)
		log := st.log.String()
		if strings.Count(log, "level=ERROR") != 2 || !strings.Contains(log, "the disk is full") || !strings.Contains(log, "it is damaged") || strings.Count(log, "again_in=10m0s") != 2 {
			t.Error(log)
		}
		st.set(func(f *fake) { f.check = nil })
		time.Sleep(10 * time.Minute)
		st.has("tcmanager-20000102T002000Z.backup")
		st.counted(2, 2, time.Now())
	})
}

func TestOnlyWhatTheKeeperNamedIsRemoved(t *testing.T) {
	onStage(t, 1, func(_ *testing.T, st *stage) {
		others := []string{
			"before-upgrade.backup", "notes.txt", "tcmanager-19991231T000000Z.backup.gz", "tcmanager-1999.backup", "tcmanager-19993131T000000Z.backup",
			"xtcmanager-19991231T000000Z.backup", ".mine.partial-1", ".tcmanager-x.partial-1",
		}
		for _, name := range others {
			put(st.t, filepath.Join(st.dir, name), "theirs")
		}
		folder, link := filepath.Join(st.dir, "tcmanager-19991230T000000Z.backup"), filepath.Join(st.dir, "tcmanager-19991229T000000Z.backup")
		if err := errors.Join(os.Mkdir(folder, 0o700), os.Symlink("notes.txt", link)); err != nil {
			st.t.Fatal(err)
		}
		for _, mine := range []string{"tcmanager-19991228T000000Z.backup", "tcmanager-19991227T000000Z.backup", ".tcmanager-19991227T000000Z.backup.partial-77"} {
			put(st.t, filepath.Join(st.dir, mine), "mine")
		}
		st.run()
		st.end()
		got := " " + names(st.t, st.dir) + " "
		for _, name := range append(others, filepath.Base(folder), filepath.Base(link), day1) {
			if !strings.Contains(got, " "+name+" ") {
				st.t.Errorf("%s is gone", name)
			}
		}
		if strings.Contains(got, "199912280") || strings.Contains(got, "19991227T") || strings.Contains(got, "19991228T") {
			st.t.Errorf("what is old, or was begun and never finished, is left: %s", got)
		}
	})
}

func TestTheGoodOneStaysWhenTheClockHasBeenWrong(t *testing.T) {
	onStage(t, 2, func(_ *testing.T, st *stage) {
		future := []string{"tcmanager-20500101T000000Z.backup", "tcmanager-20510101T000000Z.backup"}
		for _, name := range future {
			put(st.t, filepath.Join(st.dir, name), "from when the clock was wrong")
		}
		st.run()
		time.Sleep(24 * time.Hour) // and not in 2051
		st.has(day2, future[1])
		time.Sleep(24 * time.Hour)
		st.has(day3, future[1])
	})
}

func TestAStopWithinABackupLeavesNothingAndIsNoFailure(t *testing.T) {
	onStage(t, 1, func(_ *testing.T, st *stage) {
		st.wait = func(ctx context.Context) { <-ctx.Done() }
		st.run()
		if st.begun() != 1 {
			st.t.Error("it has not begun")
		}
		st.end()
		st.has()
		st.counted(0, 0, time.Time{})
		if log := st.log.String(); log != "" {
			st.t.Error(log)
		}
	})
}

func TestTwoKeepersOfOneFolderAreRefused(t *testing.T) {
	onStage(t, 1, func(t *testing.T, st *stage) {
		st.run()
		_, err := NewKeeper(st.fake, Config{Dir: st.dir, Every: time.Hour, Keep: 1})
		if err == nil || !strings.Contains(err.Error(), "is used by another server (process ") || !strings.Contains(err.Error(), "its own") {
			t.Error(err)
		}
		if err := st.k.Run(t.Context()); err == nil {
			t.Error("it ran twice")
		}
	})
}

func TestAFolderThatCannotBeIsRefusedAtTheStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	put(t, file, "")
	for _, dir := range []string{file, filepath.Join(file, "backups")} {
		if _, err := NewKeeper(&fake{}, Config{Dir: dir, Every: time.Hour, Keep: 1}); err == nil || !strings.Contains(err.Error(), "the folder for backups") || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	made := filepath.Join(t.TempDir(), "a", "b")
	if _, err := NewKeeper(&fake{}, Config{Dir: made, Every: time.Hour, Keep: 1}); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(made); err != nil || info.Mode().Perm() != 0o700 {
		t.Error(info, err)
	}
	for _, cfg := range []Config{{Dir: made, Every: time.Hour}, {Dir: made, Keep: 1}} {
		if _, err := NewKeeper(&fake{}, cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}

func TestAFolderThatIsTakenAwayIsAFailureThatIsSaid(t *testing.T) {
	onStage(t, 1, func(t *testing.T, st *stage) {
		st.run()
		if err := os.RemoveAll(st.dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if log := st.log.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, st.dir) {
			t.Error(log)
		}
		if err := os.Mkdir(st.dir, 0o700); err != nil { // it is mounted again
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		st.has("tcmanager-20000102T001000Z.backup")
	})
}
