package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/sqlite"
)

// Store is where the server keeps what is written, and what can happen to it.
type Store interface {
	// args are the server's options for it.
	args() []string
	// use says which server works on it.
	use(p *process)
	// faults are those of its own.
	faults() []fault
	// open opens it, once the server has ended.
	open(ctx context.Context) (store.Store, error)
	// told returns what the log of the server must say after what happened to it.
	told() []string
	// close ends it and throws away what it holds.
	close() error
}

// SQLite returns a store in a directory, which it throws away in the end. If the
// directory is on a small file system of its own, that can be filled up; then
// limited must be true.
func SQLite(dir string, limited bool) Store { return &onSQLite{dir: dir, limited: limited} }

type onSQLite struct {
	dir     string
	limited bool
	server  *process // of which readiness is asked; set by use
	noticed bool     // the server had no room for something
}

func (s *onSQLite) use(p *process) { s.server = p }
func (s *onSQLite) data() string   { return filepath.Join(s.dir, "data") }
func (s *onSQLite) args() []string { return []string{"--data-dir", s.data()} }

func (s *onSQLite) open(ctx context.Context) (store.Store, error) {
	return sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(s.data(), "tcmanager.db")})
}

func (s *onSQLite) close() error { return os.RemoveAll(s.data()) }

const diskFull = "disk full"

func (s *onSQLite) told() []string {
	if s.noticed {
		return []string{"the disk is full; free some space"}
	}
	return nil
}

func (s *onSQLite) faults() []fault {
	if !s.limited {
		return nil
	}
	return []fault{{name: diskFull, weight: 10, strike: s.fill}}
}

// fill takes all space there is.
func (s *onSQLite) fill(ctx context.Context, rng *rand.Rand) error {
	said, err := starve(ctx, rng, s.server, filepath.Join(s.dir, "ballast"))
	s.noticed = s.noticed || said
	return errors.Join(err, s.server.ready(ctx))
}

// starve takes all space of a disk with a file of its own, until the server says that
// it can't work any more and for a while after that; there is some room in what it has
// already for a time. It returns whether the server said so, and what to do. Once there
// is space again, the server must go on by itself.
func starve(ctx context.Context, rng *rand.Rand, server *process, ballast string) (said bool, err error) {
	err = writeUntilFull(ballast)
	after := rng.IntN(6)
	for tries := 0; tries < 60 && after > 0 && err == nil; tries++ {
		if _, what := server.works(ctx); strings.Contains(what, "free some space") {
			said = true
			after--
		}
		pause(ctx, 100*time.Millisecond)
		err = writeUntilFull(ballast) // what was given back is taken too
	}
	return said, errors.Join(err, os.Remove(ballast))
}

func writeUntilFull(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("fill the disk: %w", err)
	}
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2 // down to the last byte
		}
	}
	return f.Close()
}

// readyWait is how soon a server must be ready again when what it lacked is there. A
// database connection that went dead without a word is given up when the round trip on
// it has taken too long, which postgres allows 30 s, on a machine that has more to do.
const readyWait = 40 * time.Second

// ready waits until the server says that it can work.
func (p *process) ready(ctx context.Context) error {
	var last string
	for deadline := time.Now().Add(readyWait); time.Now().Before(deadline); pause(context.WithoutCancel(ctx), 50*time.Millisecond) {
		var works bool
		if works, last = p.works(ctx); works {
			return nil
		}
	}
	return fmt.Errorf("the server is not ready again after %s: %s", readyWait, last)
}

// works asks the server whether it can work.
func (p *process) works(ctx context.Context) (ok bool, what string) {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, "http://"+p.http+"/readyz", http.NoBody)
	if err != nil {
		return false, err.Error()
	}
	res, err := client.Do(req)
	if err != nil {
		return false, err.Error()
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, 1000))
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return false, err.Error()
	}
	return res.StatusCode == http.StatusOK, string(text)
}
