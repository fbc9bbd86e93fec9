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
)

const (
	programs = "/usr/lib/postgresql/15/bin"
	// Superuser is the user that every database belongs to.
	Superuser = "tcm"
	// Password is the user's, with characters that an address has to escape.
	Password = "a p@ss/word?"

	patience = 30 * time.Second
)

// Cluster is a running PostgreSQL.
type Cluster struct {
	dir  string
	port int
	as   *syscall.Credential // nil: this process's own

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
func Start() (*Cluster, error) {
	if _, err := os.Stat(filepath.Join(programs, "initdb")); err != nil {
		return nil, fmt.Errorf("these tests need PostgreSQL 15: run tools/setup.sh, or apt-get install postgresql-15 (%w)", err)
	}
	c := &Cluster{}
	if err := c.become(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pgtest-")
	if err != nil {
		return nil, err
	}
	c.dir = dir
	if err := c.init(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := c.Run(); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
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
		for _, path := range []string{c.dir, password} {
			if err := os.Chown(path, int(c.as.Uid), int(c.as.Gid)); err != nil {
				return err
			}
		}
	}
	out, err := c.command("initdb", "-D", c.data(), "-U", Superuser, "--pwfile", password, "-A", "md5", "-E", "UTF8", "--no-instructions", "--no-sync").CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

func (c *Cluster) data() string    { return filepath.Join(c.dir, "data") }
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
	c.process = c.command("postgres", "-D", c.data(), "-p", strconv.Itoa(c.port), "-h", "127.0.0.1", "-k", c.dir,
		"-c", "fsync=on", "-c", "max_connections=60", "-c", "shared_buffers=64MB", "-c", "autovacuum_naptime=5s")
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

// Freeze stops the processes of the server without ending them, until Thaw: its
// connections stay open and nobody answers.
func (c *Cluster) Freeze() error { return c.all(syscall.SIGSTOP) }

// Thaw is the reverse of Freeze.
func (c *Cluster) Thaw() error { return c.all(syscall.SIGCONT) }

// all signals the server's first process and its children.
func (c *Cluster) all(s syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	pid := c.process.Process.Pid
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return err
	}
	errs := []error{syscall.Kill(pid, s)}
	for field := range strings.FieldsSeq(string(children)) {
		child, err := strconv.Atoi(field)
		if err == nil {
			err = syscall.Kill(child, s)
		}
		if !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Stop ends the server and throws its data away.
func (c *Cluster) Stop() error { return errors.Join(c.Kill(), os.RemoveAll(c.dir)) }

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
