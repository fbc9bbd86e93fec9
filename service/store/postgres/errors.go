package postgres

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tcmanager/tcmanager/service/store"
)

// trouble is what an error of the driver means to the writer.
type trouble int

const (
	wrong trouble = iota // the statement can't be done
	again                // the transaction was undone by the server; said once more, it will work
	lost                 // the connection can't be used any more
)

// sort says what an error means. An error that isn't the server's own is one of
// the connection, unless the driver refused before it sent anything.
func sort(conn *pgx.Conn, err error) trouble {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		if conn.IsClosed() {
			return lost
		}
		return wrong
	}
	switch e.Code {
	case "40001", "40P01", "55P03": // serialization_failure, deadlock_detected, lock_not_available
		return again
	case "25006": // read_only_sql_transaction: a standby took the place of the primary, or the other way round
		return lost
	}
	if e.Severity == "FATAL" || e.Severity == "PANIC" || strings.HasPrefix(e.Code, "57P0") || conn.IsClosed() {
		return lost
	}
	return wrong
}

// explain turns the driver's errors into the store's, and those of the server into
// sentences that say what to do.
func explain(where string, err error) error {
	var e *pgconn.PgError
	if !errors.As(err, &e) || errors.Is(err, store.ErrFull) {
		return err // not of the server, or explained already
	}
	var advice string
	switch e.Code {
	case "23505": // unique_violation
		return fmt.Errorf("%w (%s)", store.ErrExists, e.ConstraintName)
	case "53100": // disk_full
		return fmt.Errorf("%w: database %s: the database's disk is full; free some space there: %w", store.ErrFull, where, err)
	case "53400": // configuration_limit_exceeded
		advice = "the database has reached a limit that it was given, perhaps temp_file_limit; raise it"
	case "53200":
		advice = "the database is out of memory; give it more, or less to do"
	case "42501":
		advice = "this user may not do that; let the tables belong to it"
	case "58030", "XX001", "XX002":
		advice = "the database can't read or write its files; check its log and its disk"
	default:
		return fmt.Errorf("database %s: %w", where, err)
	}
	return fmt.Errorf("database %s: %s: %w", where, advice, err)
}

// sick returns whether an error is one of the machine that the database is on, and
// not of what was asked.
func sick(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (strings.HasPrefix(e.Code, "53") || strings.HasPrefix(e.Code, "58") || strings.HasPrefix(e.Code, "XX"))
}

// explainConnect says why there is no connection and what to do. Nothing of it has
// the password: the driver keeps it out of its errors, and address never had it.
func explainConnect(where string, user string, err error) error {
	var (
		e   *pgconn.PgError
		dns *net.DNSError
	)
	advice := "is there a PostgreSQL server, and may this machine reach it?"
	switch {
	case errors.As(err, &e):
		switch e.Code {
		case "28P01":
			advice = fmt.Sprintf("the password of user %q is wrong", user)
		case "28000":
			advice = fmt.Sprintf("user %q may not connect; make the user, or allow it in pg_hba.conf", user)
		case "3D000":
			advice = "there is no such database; make it with createdb, or choose another one"
		case "42501":
			advice = fmt.Sprintf("user %q may not connect to this database; GRANT CONNECT", user)
		case "53300":
			advice = "it has no connection left; raise max_connections, or close other programs"
		case "57P03":
			advice = "it is starting or stopping; try again in a moment"
		case "08P01", "42704":
			advice = "a connection pooler seems to be in between; give the address of PostgreSQL itself"
		default:
			advice = "it refused"
		}
	case errors.As(err, &dns):
		advice = "there is no machine of that name; check the address"
	}
	return fmt.Errorf("can't connect to database %s: %s: %w", where, advice, err)
}

// address is how a database is called in errors and logs: never with a password.
func address(c *pgx.ConnConfig) string {
	host := c.Host
	if !strings.HasPrefix(host, "/") {
		host = net.JoinHostPort(host, strconv.FormatUint(uint64(c.Port), 10))
	} else {
		host = fmt.Sprintf("%s:%d", host, c.Port)
	}
	return fmt.Sprintf("%s/%s", host, c.Database)
}

// parse reads an address. The driver's own error might quote parts of it.
func parse(dsn string) (*pgxpool.Config, error) {
	c, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("the address of the database can't be read; it looks like " +
			"postgres://user:password@host:5432/database?sslmode=verify-full, with special characters of the password as %XX")
	}
	if c.ConnConfig.Database == "" {
		c.ConnConfig.Database = c.ConnConfig.User
	}
	return c, nil
}
