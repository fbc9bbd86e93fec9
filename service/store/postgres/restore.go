package postgres

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tcmanager/tcmanager/service/store"
)

// Restore checks a backup, puts its tables in the place of those of the database,
// and returns the schema where it keeps what was there; empty if nothing was.
//
// All that can be refused is refused before anything is changed: a bad backup, a
// server that uses the database, rights that are missing. Then all is done in one
// transaction: whatever goes wrong, the old state is left.
//
// What is kept is a store: with that schema as its search_path, a server starts on
// it.
func (d Database) Restore(ctx context.Context, from string, p store.Progress) (b store.Backup, aside string, err error) {
	f, err := os.Open(from)
	if err != nil {
		return b, "", fmt.Errorf("open the backup: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h, err := d.verify(ctx, f, from, p)
	if err != nil {
		return b, "", err
	}
	conn, where, err := d.connect(ctx)
	if err != nil {
		return b, "", err
	}
	defer closeConn(ctx, conn)
	if err := lockToRestore(ctx, conn, where); err != nil {
		return b, "", err
	}
	old, err := mayBeReplaced(ctx, conn, where, from, h)
	if err != nil {
		return b, "", err
	}
	restore, err := d.find(ctx, "pg_restore", h.restorer())
	if err != nil {
		return b, "", err
	}
	if aside, err = d.replace(ctx, conn, where, old, restore, f, h, p); err != nil {
		return b, "", err
	}
	if aside != "" {
		aside = fmt.Sprintf("schema %q of database %s", aside, where)
	}
	return h.backup(), aside, nil
}

// lockToRestore keeps servers out, until the connection ends.
func lockToRestore(ctx context.Context, conn *pgx.Conn, where string) error {
	err := lockSoon(ctx, conn, where)
	if e := (*lockedError)(nil); errors.As(err, &e) {
		return fmt.Errorf("database %s is in use by a server (%s); stop it, restore, and start it again", where, e.holder)
	}
	return err
}

// mayBeReplaced refuses to take another program's tables away, and to begin without
// the rights that are needed. It returns the names of the tables that are there.
func mayBeReplaced(ctx context.Context, conn *pgx.Conn, where, from string, h header) (old []string, err error) {
	c, err := inspect(ctx, conn, where)
	if err != nil {
		return nil, err
	}
	user := conn.Config().User
	switch {
	case !c.create:
		return nil, mayNotCreate(conn, where, c.schema)
	case c.schema != h.Schema:
		return nil, fmt.Errorf("backup %s is of a schema %q, and the address of database %s leads to schema %q; make a schema of that name and add search_path=%s to the address",
			from, h.Schema, where, c.schema, h.Schema)
	}
	newest, err := newestMigration()
	if err != nil {
		return nil, err
	}
	newer := c.version > newest // whose tables we don't all know
	if old, err = tables(ctx, conn, "true", newer); err != nil || len(old) == 0 {
		return nil, explain(where, err)
	}
	others, err := tables(ctx, conn, "NOT pg_has_role(c.relowner, 'USAGE')", newer)
	if err != nil {
		return nil, explain(where, err)
	}
	if len(others) > 0 {
		return nil, fmt.Errorf("table %q of database %s doesn't belong to user %q; restore as the user that the server connects as, and that its tables belong to", others[0], where, user)
	}
	var create bool
	if err := conn.QueryRow(ctx, "SELECT has_database_privilege(current_database(), 'CREATE')").Scan(&create); err != nil {
		return nil, explain(where, err)
	}
	if !create {
		return nil, fmt.Errorf("user %q may not make the schema in database %s where what is there is kept; GRANT CREATE ON DATABASE %s TO %s, or let the database belong to it",
			user, where, quote(conn.Config().Database), quote(user))
	}
	return old, nil
}

// replace moves the old tables into a schema of their own and makes the new ones.
func (d Database) replace(ctx context.Context, conn *pgx.Conn, where string, old []string, restore program, f *os.File, h header, p store.Progress) (aside string, err error) {
	if _, err := conn.Exec(ctx, "BEGIN"); err != nil {
		return "", explain(where, err)
	}
	if len(old) > 0 {
		if aside, err = d.keepAside(ctx, conn, h.Schema, old); err != nil {
			return "", fmt.Errorf("keep what is there aside: %w", explain(where, err))
		}
	}
	if err := play(ctx, conn, restore, f, h, p); err != nil {
		return "", fmt.Errorf("restore into database %s, which is left as it was: %w", where, explain(where, err))
	}
	// No server's epoch, so that one that is cut off from the database meanwhile does
	// not go on where it was.
	var version int64
	if err = conn.QueryRow(ctx, "SELECT max(version_id) FILTER (WHERE is_applied) FROM "+quote(h.Schema, "goose_db_version")).Scan(&version); err == nil && version != h.Newest {
		err = fmt.Errorf("what was restored is of schema %d and not %d", version, h.Newest)
	}
	if err == nil {
		_, err = conn.Exec(ctx, "UPDATE "+quote(h.Schema, "tcmanager")+" SET epoch = 0, commits = 0")
	}
	if err == nil {
		_, err = conn.Exec(ctx, "COMMIT")
	}
	return aside, explain(where, err)
}

// keepAside moves tables, with all that belongs to them, into a new schema.
func (d Database) keepAside(ctx context.Context, conn *pgx.Conn, schema string, old []string) (aside string, err error) {
	base := "tcmanager_replaced_" + d.now().UTC().Format("20060102t150405z")
	aside = base
	for n := 2; ; n++ {
		var taken bool
		if err := conn.QueryRow(ctx, "SELECT to_regnamespace($1) IS NOT NULL", quote(aside)).Scan(&taken); err != nil {
			return "", err
		}
		if !taken {
			break
		}
		aside = fmt.Sprintf("%s_%d", base, n)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE SCHEMA %s;", quote(aside))
	for _, table := range old {
		fmt.Fprintf(&b, "ALTER TABLE %s SET SCHEMA %s;", quote(schema, table), quote(aside))
	}
	_, err = conn.PgConn().Exec(ctx, b.String()).ReadAll()
	return aside, err
}

// play lets pg_restore write a backup as SQL and runs that in the transaction of a
// connection. To leave the connecting to pg_restore would take a second
// transaction for what is kept aside.
func play(ctx context.Context, conn *pgx.Conn, restore program, f *os.File, h header, p store.Progress) error {
	r := restore.command(ctx, nil, "--file=-", "--no-owner", "--no-privileges")
	r.Stdin = &counted{dumpOf(f, h), func(n int64) { p.Say("restoring", n, h.Bytes) }, 0}
	out, err := r.StdoutPipe()
	if err != nil {
		return err
	}
	if err := r.Start(); err != nil {
		return fmt.Errorf("start %s: %w", r.Path, err)
	}
	errSQL := runScript(ctx, conn, out)
	if errSQL != nil {
		_ = r.Process.Kill() // it may be blocked; what it says then is of no interest
	}
	errRun := r.explain(r.Wait())
	if errSQL != nil || errRun != nil {
		return firstError(ctx, errSQL, errRun)
	}
	return nil
}

// counted tells how much was read.
type counted struct {
	io.Reader
	said func(int64)
	n    int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += int64(n)
	c.said(c.n)
	return n, err
}

// runScript runs what pg_restore writes: statements, and rows after each COPY.
func runScript(ctx context.Context, conn *pgx.Conn, from io.Reader) error {
	in := bufio.NewReaderSize(from, copyBuffer)
	var statements strings.Builder
	flush := func() error {
		_, err := conn.PgConn().Exec(ctx, statements.String()).ReadAll()
		statements.Reset()
		return err
	}
	for {
		line, err := in.ReadString('\n')
		switch {
		case errors.Is(err, io.EOF):
			statements.WriteString(line)
			return flush()
		case err != nil:
			return err
		case strings.HasPrefix(line, `\`): // is for psql
		case strings.HasPrefix(line, "SET transaction_timeout "): // servers before 17 don't know it
		case strings.HasPrefix(line, "COPY ") && strings.HasSuffix(line, " FROM stdin;\n"):
			if err := flush(); err != nil {
				return err
			}
			rows := &copyRows{in: in, atStart: true}
			if _, err := conn.PgConn().CopyFrom(ctx, rows, line); err != nil {
				return err
			}
			if !rows.ended {
				return errors.New("the rows of a table end too early")
			}
		default:
			statements.WriteString(line)
		}
	}
}

// copyRows reads the rows that follow a COPY, to the line that ends them.
type copyRows struct {
	in      *bufio.Reader
	left    []byte // of what was read last
	atStart bool   // of a line
	ended   bool
}

func (c *copyRows) Read(b []byte) (int, error) {
	if c.ended {
		return 0, io.EOF
	}
	if len(c.left) == 0 {
		chunk, err := c.in.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return 0, io.ErrUnexpectedEOF
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return 0, err
		}
		if c.atStart && bytes.Equal(chunk, []byte("\\.\n")) {
			c.ended = true
			return 0, io.EOF
		}
		c.left, c.atStart = chunk, err == nil
	}
	n := copy(b, c.left)
	c.left = c.left[n:]
	return n, nil
}
