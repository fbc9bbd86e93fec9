package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// packaged is where Debian keeps PostgreSQL's programs, of several versions beside
	// each other.
	packaged = "/usr/lib/postgresql/*/bin"
	// askTimeout is how long a program may take to say of which version it is.
	askTimeout = 10 * time.Second
	// saidBytes is how much of what a program complains about is kept.
	saidBytes = 2 << 10
)

// program is one of PostgreSQL's own.
type program struct {
	path  string
	major int
}

var majorOf = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// find returns the oldest version of a program that is at least that new: pg_dump
// can't read a newer server, and what the newest one writes is made for the newest
// server.
func (d Database) find(ctx context.Context, name string, atLeast int) (program, error) {
	places := d.programs
	if places == "" {
		places = packaged
	}
	paths, err := filepath.Glob(filepath.Join(places, name))
	if err != nil {
		return program{}, err
	}
	if path, err := exec.LookPath(name); err == nil {
		paths = append([]string{path}, paths...)
	}
	var best program
	var tooOld []string
	for _, path := range paths {
		major, err := askMajor(ctx, path)
		switch {
		case ctx.Err() != nil:
			return program{}, ctx.Err()
		case err != nil: // it is broken; another one may not be
		case major < atLeast:
			tooOld = append(tooOld, fmt.Sprintf("%s is of version %d", path, major))
		case best.path == "" || major < best.major:
			best = program{path, major}
		}
	}
	if best.path == "" {
		found := "there is none in PATH or " + places
		if len(tooOld) > 0 {
			found = strings.Join(tooOld, ", ")
		}
		return program{}, fmt.Errorf("%s of PostgreSQL %d or newer is needed, and %s; install it (Debian: apt-get install postgresql-client-%d)", name, atLeast, found, atLeast)
	}
	return best, nil
}

func askMajor(ctx context.Context, path string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return 0, err
	}
	m := majorOf.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("%s doesn't say of which version it is", path)
	}
	return strconv.Atoi(string(m[1]))
}

// run is a program that runs. Its last words are in the error that Wait returns.
type run struct {
	*exec.Cmd
	name string
	said tail
}

// command makes a program ready to start. It is killed when ctx ends.
func (p program) command(ctx context.Context, env []string, args ...string) *run {
	r := &run{Cmd: exec.CommandContext(ctx, p.path, args...), name: filepath.Base(p.path)} //nolint:gosec // PostgreSQL's own
	// The driver has read what a service says, and env has it; addresses it leaves aside.
	r.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "PGSERVICE=") || strings.HasPrefix(v, "PGHOSTADDR=")
	})
	r.Env = append(append(r.Env, "LC_ALL=C"), env...)
	r.Stderr = &r.said
	r.WaitDelay = closeTimeout
	return r
}

func (r *run) explain(err error) error {
	if err == nil {
		return nil
	}
	text := strings.TrimSpace(string(r.said.b))
	advice := ""
	switch {
	case strings.Contains(text, "unsupported version"):
		advice = "; install a newer one"
	case strings.Contains(text, "permission denied"):
		advice = "; do it as the user that the server connects as"
	}
	return fmt.Errorf("%s: %w: %s%s", r.name, err, text, advice)
}

// tail keeps the end of what is written.
type tail struct{ b []byte }

func (t *tail) Write(b []byte) (int, error) {
	t.b = append(t.b, b...)
	if n := len(t.b) - saidBytes; n > 0 {
		t.b = append(t.b[:0], t.b[n:]...)
	}
	return len(b), nil
}

// environment tells a program where the database is: the password must not be on a
// command line, which every user of the machine can read. What the process's own
// environment says, the driver has read too.
func environment(dsn string, c *pgx.ConnConfig) []string {
	hosts, ports := []string{c.Host}, []string{strconv.Itoa(int(c.Port))}
	for _, f := range c.Fallbacks { // one host is there twice if TLS is optional
		port := strconv.Itoa(int(f.Port))
		if n := len(hosts) - 1; hosts[n] != f.Host || ports[n] != port {
			hosts, ports = append(hosts, f.Host), append(ports, port)
		}
	}
	env := []string{
		"PGHOST=" + strings.Join(hosts, ","), "PGPORT=" + strings.Join(ports, ","), "PGUSER=" + c.User, "PGPASSWORD=" + c.Password,
		"PGDATABASE=" + c.Database, "PGAPPNAME=tcmanager backup", "PGCONNECT_TIMEOUT=" + strconv.Itoa(int(attemptTimeout/time.Second)),
		"PGOPTIONS=",
	}
	if len(hosts) > 1 {
		env = append(env, "PGTARGETSESSIONATTRS=read-write")
	}
	for name, value := range settings(dsn) {
		if slices.Contains(secured, name) {
			env = append(env, "PG"+strings.ToUpper(strings.ReplaceAll(name, "_", ""))+"="+value)
		}
	}
	return env
}

// secured are the settings of an address that say how a connection is secured, each
// of which has a variable of nearly that name.
var secured = []string{"sslmode", "sslrootcert", "sslcert", "sslkey", "sslsni", "sslcrl", "sslnegotiation", "require_auth", "channel_binding", "krbsrvname"}

// settings returns those of an address in the form of a URL.
func settings(dsn string) map[string]string {
	all := map[string]string{}
	u, err := url.Parse(dsn)
	if err != nil {
		return all // the driver took it in its other form; then the environment says it
	}
	for name, values := range u.Query() {
		all[name] = values[0]
	}
	return all
}

// firstError returns the error that explains the other one: a program that is cut
// off complains too.
func firstError(ctx context.Context, errs ...error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return errors.New("it ended too early")
}

// quote writes a name as SQL wants it.
func quote(names ...string) string { return pgx.Identifier(names).Sanitize() }
