package bare

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tcmanager/tcmanager/service/store/postgres"
)

// Postgres writes results to a database, which must be empty: by COPY through pgx, with the server's own durability, so that a
// commit is on its disk when it returns.
func Postgres(ctx context.Context, dsn string, rows, perCommit int) (_ Result, err error) {
	s, err := postgres.Open(ctx, postgres.Options{DSN: dsn})
	if err != nil {
		return Result{}, err
	}
	if err := begin(ctx, s); err != nil {
		return Result{}, err
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	var p place
	const at = "SELECT r.project, r.num, m.num, m.newest_epoch FROM runs r JOIN rooms m ON position(r.id IN m.name) > 0 WHERE r.id = $1"
	if err := conn.QueryRow(ctx, at, []byte(runID)).Scan(&p.project, &p.run, &p.room, &p.epoch); err != nil {
		return Result{}, fmt.Errorf("find the run: %w", err)
	}
	return measure(ctx, p, rows, perCommit, func(c *commit) error { return write(ctx, conn, p, c) })
}

func write(ctx context.Context, conn *pgx.Conn, p place, c *commit) error {
	if _, err := conn.Exec(ctx, "BEGIN"); err != nil {
		return err
	}
	from := []byte(source)
	for _, table := range []struct {
		name    string
		columns []string
		row     func(r *result) []any
	}{
		{"test_names", []string{"num", "suite", "name"}, func(r *result) []any {
			return []any{r.seq, r.suite, []byte(r.name)}
		}},
		{"tests", []string{"name", "source"}, func(r *result) []any {
			return []any{r.seq, from}
		}},
		{"results", []string{"run", "seq", "attempt", "name", "change", "shard_attempt", "status", "last", "source", "shard", "data"}, func(r *result) []any {
			return []any{p.run, r.seq, int64(1), r.seq, r.seq, int64(1), int32(r.status), true, from, []byte{}, r.update}
		}},
	} {
		rows := pgx.CopyFromSlice(len(c.results), func(i int) ([]any, error) { return table.row(&c.results[i]), nil })
		if _, err := conn.CopyFrom(ctx, pgx.Identifier{table.name}, table.columns, rows); err != nil {
			return fmt.Errorf("%s: %w", table.name, err)
		}
	}
	return conn.SendBatch(ctx, rest(p, c)).Close()
}

// rest is the few rows that a commit has beside its results, and its end, in one round trip.
func rest(p place, c *commit) *pgx.Batch {
	b := &pgx.Batch{}
	for _, s := range c.made {
		b.Queue("INSERT INTO suite_names (num, project, name) VALUES ($1, $2, $3)", s.num, p.project, []byte(s.name))
	}
	for _, s := range c.suites {
		b.Queue("INSERT INTO run_suites (run, name, data) VALUES ($1, $2, $3) ON CONFLICT (run, sha256(name)) DO UPDATE SET data = excluded.data",
			p.run, []byte(s.name), s.data)
	}
	for _, l := range c.batches {
		b.Queue("INSERT INTO event_batches (room, first, last, epoch, at, data) VALUES ($1, $2, $3, $4, $5, $6)",
			p.room, l.first, l.last, p.epoch, c.at, l.data)
	}
	b.Queue("UPDATE rooms SET newest_offset = $1 WHERE num = $2", c.last(), p.room)
	b.Queue("UPDATE runs SET total = $1, data = $2 WHERE num = $3", c.total, c.run, p.run)
	b.Queue("COMMIT")
	return b
}
