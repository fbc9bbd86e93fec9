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

// Postgres returns a store on a PostgreSQL of its own, which the server reaches over
// a network of its own.
func Postgres(ctx context.Context, dir string) (Store, error) {
	c, err := pgtest.Start() //nolint:contextcheck // it has a patience of its own
	if err != nil {
		return nil, err
	}
	s := &onPostgres{cluster: c, dir: dir}
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

func (s *onPostgres) told() []string { return nil }

func (s *onPostgres) close() error {
	if s.wire != nil {
		s.wire.close()
	}
	return errors.Join(s.cluster.Stop(), os.RemoveAll(filepath.Join(s.dir, "data")))
}

func (s *onPostgres) faults() []fault {
	return []fault{
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
