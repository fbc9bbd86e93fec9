package workload

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/bare"
	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/target"
	"github.com/tcmanager/tcmanager/service/store/postgres/pgtest"
)

// Durable is results that a runner publishes and the server acknowledges once they
// are on disk, beside the engine alone, which writes the same rows.
type Durable struct {
	Rows     int
	Batch    int // results of a request, and rows of a commit of the bare engine
	InFlight int // batches sent and not acknowledged
	Postgres bool
}

// Run measures a server or an engine. PostgreSQL is one of its own, new each time.
func (w Durable) Run(ctx context.Context, k target.Kind, p target.Programs) (s Sample, err error) {
	if w.Postgres {
		cluster, err := pgtest.Start() //nolint:contextcheck // it has a patience of its own, and Stop ends it
		if err != nil {
			return s, err
		}
		defer func() { err = first(err, cluster.Stop()) }()
		if p.Store, err = newDatabase(ctx, cluster.DSN("postgres")); err != nil {
			return s, err
		}
	}
	if k.Server == target.TCManager {
		return served(ctx, k, p, w)
	}
	return w.bare(ctx, p.Store)
}

// newDatabase makes a database and returns its address.
func newDatabase(ctx context.Context, dsn string) (_ string, err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if _, err := conn.Exec(ctx, "CREATE DATABASE bench"); err != nil {
		return "", err
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return "", err
	}
	u.Path = "/bench"
	return u.String(), nil
}

// bare measures the engine.
func (w Durable) bare(ctx context.Context, dsn string) (s Sample, err error) {
	var r bare.Result
	if w.Postgres {
		r, err = bare.Postgres(ctx, dsn, w.Rows, w.Batch)
	} else {
		dir, failed := os.MkdirTemp("", "tcmbench-")
		if failed != nil {
			return s, failed
		}
		r, err = bare.SQLite(ctx, dir, w.Rows, w.Batch)
		err = first(err, os.RemoveAll(dir))
	}
	if err != nil {
		return s, err
	}
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return Sample{
		CPU: micro(r.CPU) / float64(r.Rows), PerS: float64(r.Rows) / r.Elapsed.Seconds(), P50: ms(r.CommitP50), P99: ms(r.CommitP99),
	}, nil
}

// Measure measures TCManager.
func (w Durable) Measure(ctx context.Context, t *target.Target) (s Sample, err error) {
	c, err := newCrowd(ctx, t)
	if err != nil {
		return s, err
	}
	defer func() { err = first(err, c.close()) }()
	if err := c.open(1); err != nil {
		return s, err
	}
	before, err := t.CPU()
	if err != nil {
		return s, err
	}
	var acks Latencies
	began := time.Now()
	if err := w.stream(c, &acks); err != nil {
		return s, err
	}
	took := time.Since(began)
	after, err := t.CPU()
	rows := float64(w.Rows)
	return Sample{
		CPU: micro(after-before) / rows, PerS: rows / took.Seconds(),
		P50: acks.Quantile(.5), P95: acks.Quantile(.95), P99: acks.Quantile(.99),
	}, err
}

// stream publishes all rows and waits until they are acknowledged.
func (w Durable) stream(c *crowd, acks *Latencies) error {
	runner := c.rooms[0].publisher
	type sent struct {
		last uint64
		at   time.Time
	}
	var waiting []sent
	done := func() bool {
		for len(waiting) > 0 && runner.acked >= waiting[0].last {
			acks.Add(time.Since(waiting[0].at).Nanoseconds())
			waiting = waiting[1:]
		}
		for len(waiting) < w.InFlight && c.published < w.Rows {
			c.fail(c.publish(min(w.Batch, w.Rows-c.published)))
			waiting = append(waiting, sent{uint64(c.published), time.Now()})
		}
		return int(runner.acked) >= w.Rows
	}
	return c.until(done, func() int { return int(runner.acked) },
		func() string { return fmt.Sprintf("result %d of %d to be acknowledged", runner.acked+1, w.Rows) })
}
