package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/postgres"
	"github.com/tcmanager/tcmanager/service/store/postgres/pgtest"
)

// Disks are small file systems of their own for a PostgreSQL, which can be filled up.
// They are empty if there are none.
type Disks struct{ Data, Log string }

// Postgres returns a store on a PostgreSQL of its own, which the server reaches over
// a network of its own.
func Postgres(ctx context.Context, dir string, disks Disks) (Store, error) {
	c, err := pgtest.StartAs(pgtest.Options{Data: disks.Data, Log: disks.Log, Brisk: disks.Log != ""}) //nolint:contextcheck // it has a patience of its own
	if err != nil {
		return nil, err
	}
	s := &onPostgres{cluster: c, dir: dir, disks: disks}
	if s.wire, err = wireTo(ctx, c.Addr()); err == nil {
		err = s.exec(ctx, "postgres", "CREATE DATABASE chaos TEMPLATE template0")
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

type onPostgres struct {
	cluster *pgtest.Cluster
	dir     string // for what the server keeps beside it
	disks   Disks
	noticed bool // the server was told that there is no room for something
	wire    *wire
	server  *process
}

func (s *onPostgres) exec(ctx context.Context, database, statement string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.cluster.DSN(database))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

func (s *onPostgres) use(p *process) { s.server = p }

func (s *onPostgres) args() []string {
	return []string{"--data-dir", filepath.Join(s.dir, "data"), "--store", strings.Replace(s.cluster.DSN("chaos"), s.cluster.Addr(), s.wire.addr(), 1)}
}

func (s *onPostgres) open(ctx context.Context) (store.Store, error) {
	return postgres.Open(ctx, postgres.Options{DSN: s.cluster.DSN("chaos")})
}

func (s *onPostgres) told() []string {
	if s.noticed {
		return []string{"the database's disk is full; free some space there"}
	}
	return nil
}

func (s *onPostgres) close() error {
	if s.wire != nil {
		s.wire.close()
	}
	return errors.Join(s.cluster.Stop(), os.RemoveAll(filepath.Join(s.dir, "data")))
}

func (s *onPostgres) faults() []fault {
	var full []fault
	if s.disks != (Disks{}) {
		full = []fault{
			{name: "database's disk full", weight: 8, strike: s.fillData},
			{name: "disk of the database's log full", weight: 6, still: true, strike: s.fillLog},
		}
	}
	return append(full, []fault{
		{name: "database killed", weight: 8, still: true, strike: s.kill},
		{name: "database restarted", weight: 5, still: true, strike: s.restart},
		{name: "database frozen", weight: 8, still: true, strike: s.freeze},
		{name: "backends of the database ended", weight: 8, strike: s.endBackends},
		{name: "connections to the database reset", weight: 10, strike: func(context.Context, *rand.Rand) error {
			s.wire.cut()
			return nil
		}},
		{name: "connections to the database stalled", weight: 8, still: true, strike: func(ctx context.Context, rng *rand.Rand) error {
			return s.harmed(ctx, rng, harm{stalled: true})
		}},
		{name: "connections to the database half-open", weight: 8, still: true, strike: func(ctx context.Context, rng *rand.Rand) error {
			return s.harmed(ctx, rng, harm{lost: true})
		}},
		{name: "connections to the database refused", weight: 5, still: true, strike: func(ctx context.Context, rng *rand.Rand) error {
			s.wire.cut()
			return s.harmed(ctx, rng, harm{refused: true})
		}},
	}...)
}

// fillData leaves no space for tables to grow: PostgreSQL refuses what is written.
func (s *onPostgres) fillData(ctx context.Context, rng *rand.Rand) error {
	said, err := starve(ctx, rng, s.server, filepath.Join(s.disks.Data, "ballast"))
	s.noticed = s.noticed || said
	return errors.Join(err, s.back(ctx))
}

// fillLog leaves no space for PostgreSQL's write-ahead log: it panics, and again when
// it recovers, or ends. Once there is space it recovers by itself, or is started as
// the system would do it.
func (s *onPostgres) fillLog(ctx context.Context, rng *rand.Rand) error {
	const panics = "PANIC: "
	before, err := s.cluster.Said(panics)
	if err != nil {
		return err
	}
	ballast := filepath.Join(s.disks.Log, "ballast")
	err = writeUntilFull(ballast)
	for tries, after := 0, rng.IntN(20); tries < 100 && after > 0 && err == nil; tries++ {
		pause(ctx, 100*time.Millisecond)
		var said int
		if said, err = s.cluster.Said(panics); said > before {
			after--
		}
		err = errors.Join(err, writeUntilFull(ballast)) // what was given back is taken too
	}
	if err = errors.Join(err, os.Remove(ballast)); err != nil {
		return err
	}
	return s.revived(ctx)
}

// revived waits until the server works, and starts a database that has ended.
func (s *onPostgres) revived(ctx context.Context) error {
	for deadline := time.Now().Add(readyWait); ; pause(context.WithoutCancel(ctx), 50*time.Millisecond) {
		if s.cluster.Ended() {
			if err := s.cluster.Run(); err != nil { //nolint:contextcheck // as above
				return err
			}
		}
		works, what := s.server.works(ctx)
		if works {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("there is space for the database's log, and the server is not ready after %s: %s", readyWait, what)
		}
	}
}

// back sees that a server works again once its database does.
func (s *onPostgres) back(ctx context.Context) error {
	if err := s.server.ready(ctx); err != nil {
		return fmt.Errorf("the database is back: %w", err)
	}
	return nil
}

func (s *onPostgres) kill(ctx context.Context, rng *rand.Rand) error {
	if err := s.cluster.Kill(); err != nil {
		return err
	}
	pause(ctx, time.Duration(rng.IntN(1500))*time.Millisecond)
	return errors.Join(s.cluster.Run(), s.back(ctx)) //nolint:contextcheck // as above
}

func (s *onPostgres) restart(ctx context.Context, _ *rand.Rand) error {
	return errors.Join(s.cluster.Shutdown(), s.cluster.Run(), s.back(ctx)) //nolint:contextcheck // as above
}

func (s *onPostgres) freeze(ctx context.Context, rng *rand.Rand) error {
	if err := s.cluster.Freeze(); err != nil {
		return err
	}
	pause(ctx, time.Duration(200+rng.IntN(4000))*time.Millisecond)
	return errors.Join(s.cluster.Thaw(), s.back(ctx))
}

func (s *onPostgres) endBackends(ctx context.Context, _ *rand.Rand) error {
	err := s.exec(ctx, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'tcmanager%'")
	return errors.Join(err, s.back(ctx))
}

func (s *onPostgres) harmed(ctx context.Context, rng *rand.Rand, h harm) error {
	s.wire.set(h)
	pause(ctx, time.Duration(200+rng.IntN(4000))*time.Millisecond)
	s.wire.set(harm{})
	return s.back(ctx)
}
