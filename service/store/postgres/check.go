package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// oldestServer is the oldest version of PostgreSQL that this was tested with.
const oldestServer = 15

// lockClass marks our advisory locks: "TCMg". Beside it stands the schema, so that
// two TCManagers may share a database by a search_path each.
const lockClass = 0x54434d67

// checkServer refuses a server that can't keep what we have.
func checkServer(ctx context.Context, conn *pgx.Conn, where string) error {
	var (
		version, pid      int
		standby, readOnly bool
		schema            *string
	)
	err := conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int / 10000, pg_backend_pid(), pg_is_in_recovery(),
		current_setting('transaction_read_only')::bool, current_schema()`).Scan(&version, &pid, &standby, &readOnly, &schema)
	switch {
	case err != nil:
		return explain(where, err)
	case version < oldestServer:
		return fmt.Errorf("database %s is served by PostgreSQL %d; %d or newer is needed: upgrade it", where, version, oldestServer)
	case pid != int(conn.PgConn().PID()):
		return fmt.Errorf("database %s: a connection pooler is in between, which would break the lock that keeps a second server out; give the address of PostgreSQL itself", where)
	case standby:
		return fmt.Errorf("database %s is a standby, which can't be written; give the address of the primary", where)
	case readOnly:
		return fmt.Errorf("database %s is read-only for this user; set default_transaction_read_only off", where)
	case schema == nil:
		return fmt.Errorf("database %s: no schema of the search_path exists; make it, or change the search_path", where)
	}
	// What an ack promises needs it, whatever the database's own setting is.
	_, err = conn.Exec(ctx, "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'")
	return explain(where, err)
}

// warnUnsafe tells of settings of the server that break what an ack promises.
func warnUnsafe(ctx context.Context, conn *pgx.Conn, log *slog.Logger, where string) {
	rows, err := conn.Query(ctx, "SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'")
	if err != nil {
		return // the next statement will tell
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err == nil && len(names) > 0 {
		log.Warn("the database loses acknowledged data when its machine stops; switch these settings on", "database", where, "off", strings.Join(names, ", "))
	}
}

// lockedError says that another connection has the lock.
type lockedError struct{ where, holder string }

func (e *lockedError) Error() string {
	return fmt.Sprintf("database %s is in use by another server (%s); stop it or choose another database", e.where, e.holder)
}

// lock takes the lock of the one who writes. It goes when the connection does.
func lock(ctx context.Context, conn *pgx.Conn, where string) error {
	var ok bool
	err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1::int, hashtext(current_schema()))", lockClass).Scan(&ok)
	if err != nil || ok {
		return explain(where, err)
	}
	holder := "who can't be seen"
	// Without a row it is gone by now, and trying again helps.
	_ = conn.QueryRow(ctx, `SELECT format('backend %s, from %s, since %s', l.pid, coalesce(host(a.client_addr), 'this machine'), to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS TZ'))
		FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
		WHERE l.locktype = 'advisory' AND l.classid = $1::int::oid AND l.objid::bigint = hashtext(current_schema())::bigint & 4294967295
		AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())`, lockClass).Scan(&holder)
	return &lockedError{where, holder}
}

// lockSoon takes the lock, waiting for a server that is just about to end.
func lockSoon(ctx context.Context, conn *pgx.Conn, where string) error {
	until := time.Now().Add(lockPatience)
	for {
		err := lock(ctx, conn, where)
		if e := (*lockedError)(nil); !errors.As(err, &e) || time.Now().After(until) {
			return err
		}
		select {
		case <-time.After(retryDelay):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// endOthers ends what is left of our own connections that write: the server may
// not have noticed yet that they are dead.
func endOthers(ctx context.Context, conn *pgx.Conn, epoch uint64) error {
	_, err := conn.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE application_name = $1 AND usename = current_user AND datname = current_database() AND pid <> pg_backend_pid()`, writerName(epoch))
	return err
}

// contents are what a schema of a database holds.
type contents struct {
	schema  string
	version int64 // the newest migration that was applied; 0 if there is none
	ours    bool  // our tables are there
	create  bool  // we may make tables
}

// inspect looks whose the schema is, and refuses that of another program.
func inspect(ctx context.Context, conn *pgx.Conn, where string) (c contents, err error) {
	var goose, others bool
	err = conn.QueryRow(ctx, `SELECT to_regclass(quote_ident(current_schema()) || '.goose_db_version') IS NOT NULL,
		to_regclass(quote_ident(current_schema()) || '.tcmanager') IS NOT NULL,
		has_schema_privilege(current_schema(), 'CREATE'), current_schema(),
		EXISTS (SELECT 1 FROM pg_class c WHERE c.relnamespace = quote_ident(current_schema())::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
			AND c.relname <> 'goose_db_version' AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e'))`).
		Scan(&goose, &c.ours, &c.create, &c.schema, &others)
	if err != nil {
		return c, explain(where, err)
	}
	foreign := others && (!goose || !c.ours)
	if goose && !foreign {
		if err := conn.QueryRow(ctx, "SELECT coalesce(max(version_id) FILTER (WHERE is_applied), 0) FROM goose_db_version").Scan(&c.version); err != nil {
			return c, explain(where, err)
		}
	}
	if foreign || (c.version > 0) != c.ours {
		return c, fmt.Errorf("schema %q of database %s has the tables of another program; choose another database, or another schema by search_path", c.schema, where)
	}
	return c, nil
}

// checkSchema looks whose database it is, whether its schema is one that we know,
// and whether we may do what we will. It returns whether there is something to
// migrate.
func checkSchema(ctx context.Context, conn *pgx.Conn, where string) (pending bool, err error) {
	newest, err := newestMigration()
	if err != nil {
		return false, err
	}
	c, err := inspect(ctx, conn, where)
	switch {
	case err != nil:
		return false, err
	case c.version > newest:
		return false, newerError(where, c.version, newest)
	case c.version < newest && !c.create:
		return false, mayNotCreate(conn, where, c.schema)
	}
	return c.version < newest, checkTables(ctx, conn, where)
}

func newerError(where string, version, newest int64) error {
	return fmt.Errorf("database %s was written by a newer version (schema %d; this one knows %d); install that version or restore an older backup",
		where, version, newest)
}

func mayNotCreate(conn *pgx.Conn, where, schema string) error {
	user := conn.Config().User
	return fmt.Errorf("user %q may not make tables in schema %q of database %s; GRANT CREATE ON SCHEMA %s TO %s, or let the database belong to it",
		user, schema, where, schema, user)
}

// checkTables checks that we may use the tables that are there.
func checkTables(ctx context.Context, conn *pgx.Conn, where string) error {
	rows, err := conn.Query(ctx, `SELECT relname FROM pg_class WHERE relnamespace = quote_ident(current_schema())::regnamespace AND relkind = 'r'
		AND NOT (has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT') AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE'))
		ORDER BY relname LIMIT 1`)
	if err != nil {
		return explain(where, err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return explain(where, err)
	}
	if len(names) > 0 {
		return fmt.Errorf("user %q may not use table %q of database %s; let the tables belong to that user", conn.Config().User, names[0], where)
	}
	return nil
}
