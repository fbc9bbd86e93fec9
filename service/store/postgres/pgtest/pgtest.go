// Package pgtest runs a PostgreSQL of their own for tests: Debian's programs, a
// data directory that is thrown away, a free port of the loopback. It never touches
// the system's own cluster.
//
// A test binary has one cluster, started by the first test that asks for it and
// stopped by Main; each test has a database of its own in it.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"
)

const (
	programs = "/usr/lib/postgresql/15/bin"
	// Superuser is the user that every database belongs to.
	Superuser = "tcm"
	// Password is the user's, with characters that an address has to escape.
	Password = "a p@ss/word?"

	patience = 30 * time.Second
)

// Options say what a cluster is like.
type Options struct {
	// Data and Log are directories, which its user must be able to reach, for its
	// data and for its write-ahead log; empty for the temporary one.
	Data, Log string
	// Brisk says that the write-ahead log is in files of 1 MB of which none is used
	// again, so that it soon needs new space; and that there is never much of it.
	Brisk bool
}

// Cluster is a running PostgreSQL.
type Cluster struct {
	dir    string // for what it says, and what else is beside the data
	data   string
	walDir string // empty if the write-ahead log is with the data
	brisk  bool
	port   int
	as     *syscall.Credential // nil: this process's own

	mu      sync.Mutex
	process *exec.Cmd // guarded by mu
	exited  chan struct{}

	databases atomic.Int64
}

var shared struct {
	sync.Mutex
	cluster *Cluster
	err     error
}

// Main runs a binary's tests and stops the shared cluster after them. It returns
// the code to exit with.
func Main(m *testing.M) int {
	code := m.Run()
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster != nil {
		if err := shared.cluster.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop PostgreSQL:", err)
			return 1
		}
	}
	return code
}

// Shared returns the cluster of this test binary, starting it if need be.
func Shared(tb testing.TB) *Cluster {
	tb.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster == nil && shared.err == nil {
		shared.cluster, shared.err = Start()
	}
	if shared.err != nil {
		tb.Fatal(shared.err)
	}
	return shared.cluster
}

// Start makes a cluster and starts it.
func Start() (*Cluster, error) { return StartAs(Options{}) }

// StartAs makes a cluster and starts it.
func StartAs(o Options) (_ *Cluster, err error) {
	if _, err := os.Stat(filepath.Join(programs, "initdb")); err != nil {
		return nil, fmt.Errorf("these tests need PostgreSQL 15: run tools/setup.sh, or apt-get install postgresql-15 (%w)", err)
	}
	if o.Brisk {
		// PostgreSQL inherits that, and is told of a file that is too long as an error.
		signal.Ignore(unix.SIGXFSZ)
	}
	c := &Cluster{brisk: o.Brisk}
	if err := c.become(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	if c.dir, err = c.mkdir(""); err != nil {
		return nil, err
	}
	c.data = filepath.Join(c.dir, "data")
	if o.Data != "" {
		if c.data, err = c.mkdir(o.Data); err != nil {
			return nil, err
		}
	}
	if o.Log != "" {
		if c.walDir, err = c.mkdir(o.Log); err != nil {
			return nil, err
		}
	}
	if err := c.init(); err != nil {
		return nil, err
	}
	return c, c.Run()
}

// mkdir makes a directory for the cluster in another one.
func (c *Cluster) mkdir(in string) (string, error) {
	dir, err := os.MkdirTemp(in, "pgtest-")
	if err == nil && c.as != nil {
		err = os.Chown(dir, int(c.as.Uid), int(c.as.Gid))
	}
	return dir, err
}

// become picks a user for the server, which refuses to run as root.
func (c *Cluster) become() error {
	if os.Getuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if errUID == nil && errGID == nil {
			c.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
			return nil
		}
	}
	return errors.New("there is no user postgres or nobody to run PostgreSQL as")
}

func (c *Cluster) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(programs, name), args...) //nolint:gosec,noctx // PostgreSQL's own; Stop ends it
	cmd.Dir = c.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "TZ=UTC", "HOME=" + c.dir}
	// It must not outlive the tests, also if they are killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.as, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

func (c *Cluster) init() error {
	password := filepath.Join(c.dir, "password")
	if err := os.WriteFile(password, []byte(Password+"\n"), 0o600); err != nil {
		return err
	}
	if c.as != nil {
		if err := os.Chown(password, int(c.as.Uid), int(c.as.Gid)); err != nil {
			return err
		}
	}
	args := []string{"-D", c.data, "-U", Superuser, "--pwfile", password, "-A", "md5", "-E", "UTF8", "--no-instructions", "--no-sync"}
	if c.walDir != "" {
		args = append(args, "--waldir", c.walDir)
	}
	if c.brisk {
		args = append(args, "--wal-segsize", "1")
	}
	out, err := c.command("initdb", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

func (c *Cluster) logFile() string { return filepath.Join(c.dir, "log") }

// Run starts the server, on the port that it had before. It returns once the server
// takes connections.
func (c *Cluster) Run() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.port == 0 {
		var err error
		if c.port, err = freePort(); err != nil {
			return err
		}
	}
	log, err := os.OpenFile(c.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	args := []string{
		"-D", c.data, "-p", strconv.Itoa(c.port), "-h", "127.0.0.1", "-k", c.dir,
		"-c", "fsync=on", "-c", "max_connections=60", "-c", "shared_buffers=64MB", "-c", "autovacuum_naptime=5s",
	}
	if c.brisk {
		args = append(args, "-c", "wal_recycle=off", "-c", "min_wal_size=2MB", "-c", "max_wal_size=32MB")
	}
	c.process = c.command("postgres", args...)
	c.process.Stdout, c.process.Stderr = log, log
	if err := c.process.Start(); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	exited, process := make(chan struct{}), c.process
	c.exited = exited
	go func() {
		_ = process.Wait()
		close(exited)
	}()
	return c.wait(exited)
}

// freePort returns a port that nobody listens on.
func freePort() (int, error) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	addr, err := netip.ParseAddrPort(l.Addr().String())
	return int(addr.Port()), err
}

// wait waits until the server takes connections.
func (c *Cluster) wait(exited <-chan struct{}) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(patience); ; {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		conn, err := pgx.Connect(ctx, c.DSN("postgres"))
		if err == nil {
			err = conn.Close(ctx)
		}
		cancel()
		if err == nil {
			return nil
		}
		if time.Now().After(until) {
			return fmt.Errorf("PostgreSQL takes no connections: %w", err)
		}
		select {
		case <-exited:
			text, _ := os.ReadFile(c.logFile())
			return fmt.Errorf("PostgreSQL ended at once:\n%s", text)
		case <-tick.C:
		}
	}
}

// Kill ends the server at once, as pg_ctl stop -m immediate does: the next start
// recovers from the log of what was committed.
func (c *Cluster) Kill() error { return c.signal(syscall.SIGQUIT) }

// Shutdown ends the server after its connections were cut: pg_ctl stop -m fast.
func (c *Cluster) Shutdown() error { return c.signal(syscall.SIGINT) }

func (c *Cluster) signal(s syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil {
		return nil
	}
	if err := c.process.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-c.exited:
	case <-time.After(patience):
		return errors.New("PostgreSQL didn't end")
	}
	c.process = nil
	return nil
}

// Ended reports whether the server has ended by itself, as it does when it has no
// space to recover in. Run starts it again.
func (c *Cluster) Ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.exited:
		return true
	default:
		return false
	}
}

// Said returns how often the server's log has some words.
func (c *Cluster) Said(words string) (int, error) {
	text, err := os.ReadFile(c.logFile())
	return strings.Count(string(text), words), err
}

// LimitFiles bounds how long a file may be that the server writes, in bytes; 0 for
// no bound. That needs no rights, and the cluster must be Brisk. If the bound isn't a
// multiple of 8,192, there is room for a part of a page only, which PostgreSQL takes
// for a full disk when a table grows: error 53100. Below 1 MB there is no room for
// the write-ahead log, and PostgreSQL panics.
func (c *Cluster) LimitFiles(bytes int64) error {
	limit := "unlimited"
	if bytes > 0 {
		limit = strconv.FormatInt(bytes, 10)
	}
	return c.each(func(pid int) error {
		// A program, because root may not do it to others everywhere, and they may.
		cmd := exec.Command("prlimit", "--pid", strconv.Itoa(pid), "--fsize="+limit+":") //nolint:gosec,noctx // it ends at once
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.as}
		out, err := cmd.CombinedOutput()
		if err != nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return syscall.ESRCH
		}
		if err != nil {
			return fmt.Errorf("bound the files of process %d: %w: %s", pid, err, out)
		}
		return nil
	})
}

// Freeze stops the processes of the server without ending them, until Thaw: its
// connections stay open and nobody answers.
func (c *Cluster) Freeze() error { return c.all(syscall.SIGSTOP) }

// Thaw is the reverse of Freeze.
func (c *Cluster) Thaw() error { return c.all(syscall.SIGCONT) }

func (c *Cluster) all(s syscall.Signal) error {
	return c.each(func(pid int) error { return syscall.Kill(pid, s) })
}

// each does something to the server's first process, and then to its children.
func (c *Cluster) each(do func(pid int) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	pid := c.process.Process.Pid
	errs := []error{do(pid)}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for field := range strings.FieldsSeq(string(children)) {
		child, err := strconv.Atoi(field)
		if err == nil {
			err = do(child)
		}
		if !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Stop ends the server and throws its data away.
func (c *Cluster) Stop() error {
	errs := []error{c.Kill()}
	for _, dir := range []string{c.dir, c.data, c.walDir} {
		if dir != "" {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// Addr is where the server listens.
func (c *Cluster) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)) }

// DSN returns the address of a database.
func (c *Cluster) DSN(database string) string {
	return fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=disable", Superuser, "a%20p%40ss%2Fword%3F", c.Addr(), database)
}

// Database makes a database, empty or as another one that nobody uses, and returns
// its name.
func (c *Cluster) Database(tb testing.TB, template string) string {
	tb.Helper()
	if template == "" {
		template = "template0"
	}
	name := fmt.Sprintf("test%d", c.databases.Add(1))
	c.Exec(tb, "postgres", fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", name, template))
	return name
}

// Exec runs statements in a database.
func (c *Cluster) Exec(tb testing.TB, database string, statements ...string) {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context())
	conn, err := pgx.Connect(ctx, c.DSN(database))
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, s := range statements {
		if _, err := conn.PgConn().Exec(ctx, s).ReadAll(); err != nil {
			tb.Fatalf("%s: %v", s, err)
		}
	}
}
