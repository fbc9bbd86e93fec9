package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/carrier"
	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/config"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/backup"
	"github.com/tcmanager/tcmanager/service/history"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/sqlite"
)

// TestARestoreIsNoticedByEachClientThatHasSeenMore: a server is backed up while it
// runs, goes on, is stopped and restored. Clients that left before the backup go on
// exactly where they were; those that have seen what the restored log doesn't have
// are reset, whether it is shorter than their position or has other events there.
func TestARestoreIsNoticedByEachClientThatHasSeenMore(t *testing.T) {
	const clients = 9
	w := newTown(t, 1)
	shorter, shorterRoom := w.startRun("shorter")
	longer, longerRoom := w.startRun("longer")
	_, all := w.crowd(1, 2*clients)
	early, late := all[:clients], all[clients:]
	for i, c := range all {
		if err := c.Open(t.Context(), carrier.All[i%len(carrier.All)]); err != nil {
			t.Fatal(err)
		}
		for _, room := range []string{shorterRoom, longerRoom} {
			if err := c.Join(t.Context(), target(room), history.Position{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.results(shorter, 5)
	w.results(longer, 5)
	w.settle(w.heads(), w.settleTime(), early...)
	for _, c := range early {
		c.Cut()
	}
	w.results(shorter, 3) // which the early ones have missed and the backup has
	w.results(longer, 3)
	to := filepath.Join(t.TempDir(), "mine.backup")
	if _, err := backup.Take(t.Context(), dataFile(w.cfg), to, backup.Options{}); err != nil {
		t.Fatal(err)
	}
	w.results(shorter, 4)
	w.results(longer, 4)
	w.settle(w.heads(), w.settleTime(), late...)
	w.log(true)

	if _, _, err := dataFile(w.cfg).Restore(t.Context(), to, nil); err == nil || !strings.Contains(err.Error(), "in use by a server") {
		t.Error("restored under a running server:", err)
	}
	w.stop(false)
	if _, aside, err := dataFile(w.cfg).Restore(t.Context(), to, nil); err != nil || aside == "" {
		t.Fatal(aside, err)
	}
	w.start()
	w.results(longer, 12)
	w.settle(w.heads(), w.settleTime(), all...)
	w.results(shorter, 2)
	w.results(longer, 2)
	w.settle(w.heads(), w.settleTime(), all...)
	for _, c := range all {
		c.Cut()
	}
	h := w.history()
	keep(t, h)
	w.check(h)
	for i := range all {
		name := fmt.Sprint("s", i)
		got := resetsOf(h, name)
		want := "[]"
		if i >= clients {
			want = fmt.Sprint([]string{"EPOCH_CHANGED in " + longerRoom, "POSITION_UNKNOWN in " + shorterRoom})
		}
		if fmt.Sprint(got) != want {
			t.Errorf("client %s was reset %v, want %s", name, got, want)
		}
	}
	if n := count(h); n["recovered by native"]+n["recovered by websocket"]+n["recovered by watch"] < 2*clients {
		t.Error("the early ones did not go on where they were:", listed(n))
	}
}

func resetsOf(h *history.History, session string) []string {
	resets := []string{}
	for _, r := range h.Records {
		if r.Session == session && r.Kind == history.Reset {
			resets = append(resets, r.Reason+" in "+r.Room)
		}
	}
	slices.Sort(resets)
	return slices.Compact(resets)
}

// largeData makes a data directory whose copy takes a while.
func largeData(t *testing.T, mb int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	s := opened(t, dir)
	for i := range mb {
		err := s.Update(t.Context(), func(tx store.Tx) error {
			return tx.PutUser(&pb.User{Id: fmt.Sprint("large", i), Name: strings.Repeat("x", 1<<20)})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// eventually waits until a thing is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !so(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not in time:", what)
		}
	}
}

func partials(dir string) []string {
	found, _ := filepath.Glob(filepath.Join(dir, ".*.partial-*"))
	return found
}

// TestAKillWithinABackupLeavesNoHalfFileUnderItsName kills the program at other
// moments of a backup each time.
func TestAKillWithinABackupLeavesNoHalfFileUnderItsName(t *testing.T) {
	data := largeData(t, 48)
	within, whole := 0, 0
	for i := range 12 {
		dir := t.TempDir()
		to := filepath.Join(dir, "mine.backup")
		cmd := program(t, "backup", "--data-dir", data, "--to", to)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the backup begins", func() bool { return len(partials(dir)) > 0 || exists(to) })
		<-time.After(time.Duration(i) * 15 * time.Millisecond)
		_ = cmd.Process.Kill()
		err := cmd.Wait()
		switch {
		case exists(to):
			whole++
			if _, err := dataFile(config.Config{}).Check(t.Context(), to, nil); err != nil {
				t.Errorf("half a file has the name: %v", err)
			}
		case err == nil:
			t.Error("it ended well and there is no backup")
		default:
			within++
		}
	}
	if within == 0 {
		t.Error("no kill came within a backup")
	}
	t.Logf("killed within the backup %d times, when it was there %d times", within, whole)
}

// TestAKillWithinARestoreLeavesOneWholeStateOrTheOther kills the program at other
// moments of a restore each time, and each time one more comes through afterwards.
func TestAKillWithinARestoreLeavesOneWholeStateOrTheOther(t *testing.T) {
	from := filepath.Join(t.TempDir(), "mine.backup")
	if _, err := backup.Take(t.Context(), dataFile(config.Config{DataDir: largeData(t, 32)}), from, backup.Options{}); err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	seen := map[string]int{}
	for i := range 10 {
		if err := errors.Join(os.RemoveAll(data), os.Mkdir(data, 0o700)); err != nil {
			t.Fatal(err)
		}
		put(t, data, "old")
		cmd := program(t, "restore", "--data-dir", data, "--from", from)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		left := func(pattern string) bool {
			found, _ := filepath.Glob(filepath.Join(data, pattern))
			return len(found) > 0
		}
		eventually(t, "the restore begins", func() bool { return left(".restoring-*") || left("*.replaced-*") })
		<-time.After(time.Duration(i) * 7 * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		was, is := has(t, data, "old"), has(t, data, "large0")
		if was == is {
			t.Errorf("kill %d: the old state is there: %v, the new one: %v", i, was, is)
		}
		seen[fmt.Sprint("restored ", is)]++
		if _, _, err := dataFile(config.Config{DataDir: data}).Restore(t.Context(), from, nil); err != nil || !has(t, data, "large0") || left(".restoring-*") {
			t.Errorf("after kill %d it can't be restored, or what was begun is left: %v", i, err)
		}
	}
	if seen["restored false"] == 0 {
		t.Error("no kill came within a restore")
	}
	t.Log(seen)
}

// put makes a user in a data directory, and has looks for one.
func put(t *testing.T, data, id string) {
	t.Helper()
	s := opened(t, data)
	err := s.Update(t.Context(), func(tx store.Tx) error { return tx.PutUser(&pb.User{Id: id}) })
	if err = errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
}

func has(t *testing.T, data, id string) bool {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+dataFile(config.Config{DataDir: data}).Path+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	n := 0
	if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM users WHERE id = ?", id).Scan(&n); err != nil {
		t.Error("the data can't be read:", err)
	}
	return n == 1
}

func opened(t *testing.T, data string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Options{Path: dataFile(config.Config{DataDir: data}).Path})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// served starts the program as a server and returns its web address.
func served(t *testing.T, args ...string) (cmd *exec.Cmd, addr string) {
	t.Helper()
	cmd = program(t, append([]string{"serve", "--dev", "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--log-format", "json"}, args...)...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stderr)
	line, err := lines.ReadString('\n')
	_, rest, found := strings.Cut(line, `"http.addr":"`)
	if err != nil || !found {
		t.Fatal(line, err)
	}
	addr, _, _ = strings.Cut(rest, `"`)
	go func() { _, _ = io.Copy(io.Discard, lines) }() // ends with the program
	return cmd, addr
}

// TestAKilledServersBackupIsTakenWhenItIsBack: what it had begun goes, and the first
// backup is there soon after the start.
func TestAKilledServersBackupIsTakenWhenItIsBack(t *testing.T) {
	data, dir := largeData(t, 48), filepath.Join(t.TempDir(), "backups")
	cmd, _ := served(t, "--data-dir", data, "--backup-dir", dir)
	eventually(t, "the backup begins", func() bool { return len(partials(dir)) > 0 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	backups := func() []string {
		found, _ := filepath.Glob(filepath.Join(dir, "tcmanager-*.backup"))
		return found
	}
	if len(partials(dir)) != 1 || len(backups()) != 0 {
		t.Fatalf("the kill came too late: %v, %v", partials(dir), backups())
	}
	cmd, addr := served(t, "--data-dir", data, "--backup-dir", dir)
	eventually(t, "a backup is there", func() bool { return len(backups()) == 1 })
	eventually(t, "what the killed one had begun goes", func() bool { return len(partials(dir)) == 0 })
	if _, err := dataFile(config.Config{}).Check(t.Context(), backups()[0], nil); err != nil {
		t.Error(err)
	}
	eventually(t, "it is counted", func() bool {
		metrics := fetch(t, "http://"+addr+"/metrics")
		return strings.Contains(metrics, `tcmanager_backups_total{result="ok"} 1`) && !strings.Contains(metrics, "tcmanager_backup_last_success_timestamp_seconds 0\n")
	})
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAnInterruptedBackupEndsAndLeavesNothing(t *testing.T) {
	data, dir := largeData(t, 48), t.TempDir()
	cmd := program(t, "backup", "--data-dir", data, "--to", filepath.Join(dir, "mine.backup"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the backup begins", func() bool { return len(partials(dir)) > 0 })
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("it ended with %d", code)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("it left %v (%v)", left, err)
	}
}

func TestProgressIsOneLineThatGoesAway(t *testing.T) {
	var b strings.Builder
	p := &progress{w: &b}
	p.say("copying", 0, 1000)
	p.say("copying", 1, 1000) // too soon to be shown
	p.say("copying", 1000, 1000)
	p.say("checking", 0, 0)
	p.end()
	p.end()
	want := "\rcopying   0 % of 1.0 kB\rcopying 100 % of 1.0 kB\rchecking ...           \r" + strings.Repeat(" ", len("checking ...")) + "\r"
	if b.String() != want || strings.Contains(b.String(), "\x1b") {
		t.Errorf("\n got %q\nwant %q", b.String(), want)
	}
	piped := newProgress(&b)
	b.Reset()
	piped.say("copying", 1000, 1000)
	piped.end()
	if b.Len() != 0 {
		t.Errorf("it is shown where there is no terminal: %q", b.String())
	}
}

// TestABackupOfAServerThatWasKilledHasAllThatWasAcknowledged: most of it is still in
// the log of the data file.
func TestABackupOfAServerThatWasKilledHasAllThatWasAcknowledged(t *testing.T) {
	data := t.TempDir()
	cmd, addr := served(t, "--data-dir", data)
	eventually(t, "it is ready", func() bool { return strings.Contains(fetch(t, "http://"+addr+"/readyz"), "ok") })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	to := filepath.Join(t.TempDir(), "mine.backup")
	if _, err := backup.Take(context.WithoutCancel(t.Context()), dataFile(config.Config{DataDir: data}), to, backup.Options{}); err != nil {
		t.Fatal(err)
	}
	restored := t.TempDir()
	if _, _, err := dataFile(config.Config{DataDir: restored}).Restore(t.Context(), to, nil); err != nil {
		t.Fatal(err)
	}
	s := opened(t, restored)
	err := s.View(t.Context(), func(r store.Reader) error { _, err := r.Project("demo"); return err })
	if err != nil {
		t.Error("what was in PATH-wal is missing:", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
