package postgres

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tcmanager/tcmanager/service/store"
)

// Database is a database as backups see it: a server may write to it meanwhile, or
// none.
//
// A backup is a header, which says what it is, and what pg_dump wrote in its custom
// format, sealed with a checksum over all of it. PostgreSQL itself would not notice
// a flipped bit in a text.
type Database struct {
	DSN     string           // as Options.DSN
	Version string           // of this program; backups say which one took them
	Now     func() time.Time // nil for time.Now

	programs string // for tests: where else than in PATH PostgreSQL's programs are
}

// A backup begins with a line that says what it is, a line of JSON, spaces, and the
// checksum of all but itself. What pg_dump wrote follows at headerSize:
// tail -c +4097 FILE | pg_restore -f - shows it.
const (
	magic      = "TCManager backup of PostgreSQL, 1\n"
	family     = "TCManager backup of PostgreSQL, "
	headerSize = 4096
	sumSize    = 8 // hexadecimal digits, before a line feed
	atSum      = headerSize - 1 - sumSize

	sqliteMagic = "SQLite format 3\x00"
)

// header is what a backup says of itself.
type header struct {
	TakenAt time.Time `json:"taken_at"`
	Version string    `json:"version"`
	Schema  string    `json:"schema"`  // that the tables were in
	Newest  int64     `json:"newest"`  // migration
	Server  int       `json:"server"`  // version of PostgreSQL
	Program int       `json:"program"` // version of pg_dump
	Tables  []string  `json:"tables"`
	Bytes   int64     `json:"bytes"` // that pg_dump wrote
}

const (
	// syncEvery is after how many bytes the copy is synced: it may lie on the disk of
	// the database, whose commits would wait for all at once.
	syncEvery = 8 << 20
	// copyBuffer is what is read at a time.
	copyBuffer = 1 << 20
)

// Name is how the database is called in messages.
func (d Database) Name() string {
	c, err := parse(d.DSN)
	if err != nil {
		return "the database"
	}
	return "database " + address(c.ConnConfig)
}

// connect opens a connection to the database.
func (d Database) connect(ctx context.Context) (*pgx.Conn, string, error) {
	config, err := parse(d.DSN)
	if err != nil {
		return nil, "", err
	}
	pin(config.ConnConfig)
	config.ConnConfig.RuntimeParams["application_name"] = "tcmanager backup"
	where := address(config.ConnConfig)
	conn, err := connect(ctx, config.ConnConfig, where)
	return conn, where, err
}

// closeConn ends a connection, and whatever it was doing.
func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx) // it is of no use any more
}

// serverMajor is the version of the server of a connection.
func serverMajor(ctx context.Context, conn *pgx.Conn) (major int, err error) {
	err = conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int / 10000").Scan(&major)
	return major, err
}

// Backup writes the tables, as they are at one moment, into a file that is there and
// empty. Whoever uses the database goes on reading and writing.
func (d Database) Backup(ctx context.Context, to string, p store.Progress) error {
	conn, where, err := d.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	h := header{Version: d.Version}
	if h.Server, err = serverMajor(ctx, conn); err != nil {
		return explain(where, err)
	}
	dump, err := d.find(ctx, "pg_dump", h.Server)
	if err != nil {
		return err
	}
	h.Program = dump.major
	// pg_dump is given this transaction's moment, so that the header can't say
	// something else than what follows.
	var snapshot string
	if _, err = conn.Exec(ctx, "BEGIN READ ONLY, ISOLATION LEVEL REPEATABLE READ"); err == nil {
		err = conn.QueryRow(ctx, "SELECT pg_export_snapshot()").Scan(&snapshot)
	}
	if err != nil {
		return explain(where, err)
	}
	h.TakenAt = d.now()
	if err := checkSource(ctx, conn, where, &h); err != nil {
		return err
	}
	args := []string{"--format=custom", "--compress=1", "--no-owner", "--no-privileges", "--no-password", "--lock-wait-timeout=" + lockTimeout, "--snapshot=" + snapshot}
	for _, table := range h.Tables {
		args = append(args, "--table="+quote(h.Schema, table))
	}
	p.Say("copying", 0, 0)
	r := dump.command(ctx, environment(d.DSN, conn.Config()), args...)
	if h.Bytes, err = receive(ctx, r, to); err != nil {
		return fmt.Errorf("database %s: %w", where, err)
	}
	if err := seal(ctx, to, h); err != nil {
		return fmt.Errorf("seal the backup %s: %w", to, err)
	}
	return nil
}

func (d Database) now() time.Time {
	if d.Now == nil {
		return time.Now()
	}
	return d.Now()
}

// checkSource looks what there is to back up.
func checkSource(ctx context.Context, conn *pgx.Conn, where string, h *header) error {
	newest, err := newestMigration()
	if err != nil {
		return err
	}
	c, err := inspect(ctx, conn, where)
	if err != nil {
		return err
	}
	switch {
	case !c.ours:
		return fmt.Errorf("schema %q of database %s has nothing of TCManager's; check the address, and its search_path", c.schema, where)
	case c.version > newest:
		return newerError(where, c.version, newest)
	}
	h.Schema, h.Newest = c.schema, c.version
	var unreadable []string
	h.Tables, err = tables(ctx, conn, "true", false)
	if err == nil {
		unreadable, err = tables(ctx, conn, "NOT has_table_privilege(c.oid, 'SELECT')", false)
	}
	if err != nil {
		return explain(where, err)
	}
	if len(unreadable) > 0 {
		return fmt.Errorf("user %q may not read table %q of database %s; take the backup as the user that the server connects as", conn.Config().User, unreadable[0], where)
	}
	return nil
}

var createTable = regexp.MustCompile(`(?m)^CREATE TABLE (\w+)`)

// ownTables are the names of the tables that the migrations make.
func ownTables() ([]string, error) {
	own := []string{"goose_db_version"}
	files, err := fs.Glob(migrations, "migrations/*.sql")
	for _, name := range files {
		text, err := migrations.ReadFile(name)
		if err != nil {
			return nil, err
		}
		for _, m := range createTable.FindAllSubmatch(text, -1) {
			own = append(own, string(m[1]))
		}
	}
	return own, err
}

// tables returns which of our tables are there and meet a condition; or with all,
// which of anybody's that are no extension's.
func tables(ctx context.Context, conn *pgx.Conn, condition string, all bool) ([]string, error) {
	own, err := ownTables()
	if err != nil {
		return nil, err
	}
	rows, err := conn.Query(ctx, `SELECT c.relname FROM pg_class c WHERE c.relnamespace = quote_ident(current_schema())::regnamespace AND c.relkind IN ('r', 'p')
		AND ($1 OR c.relname = ANY ($2)) AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
		AND `+condition+` ORDER BY c.relname`, all, own)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// receive lets pg_dump write into a file, behind the place of the header, and
// returns how much it was.
func receive(ctx context.Context, r *run, to string) (n int64, err error) {
	f, err := os.OpenFile(to, os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Seek(headerSize, io.SeekStart); err != nil {
		return 0, err
	}
	out, err := r.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := r.Start(); err != nil {
		return 0, fmt.Errorf("start %s: %w", r.Path, err)
	}
	n, errFile := copySynced(f, out)
	if errFile != nil {
		_ = r.Process.Kill() // it may be blocked; what it says then is of no interest
	}
	errRun := r.explain(r.Wait())
	if errFile != nil || errRun != nil {
		return n, firstError(ctx, errFile, errRun)
	}
	return n, nil
}

func copySynced(f *os.File, from io.Reader) (n int64, err error) {
	for {
		k, err := io.CopyN(f, from, syncEvery)
		n += k
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err == nil {
			err = f.Sync()
		}
		if err != nil {
			return n, err
		}
	}
}

// seal writes into a file what it is, and its checksum.
func seal(ctx context.Context, path string, h header) (err error) {
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if len(magic)+len(text)+1 > atSum {
		return fmt.Errorf("what it is to say of itself is too long: %d bytes", len(text))
	}
	first := bytes.Repeat([]byte(" "), headerSize)
	copy(first[copy(first, magic):], append(text, '\n'))
	first[headerSize-1] = '\n'
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.WriteAt(first, 0); err != nil {
		return err
	}
	sum, err := checksum(ctx, f, func(int64) {})
	if err == nil {
		_, err = f.WriteAt([]byte(sum), atSum)
	}
	return err
}

// checksum returns the CRC-32C of a file without the place where it is kept.
func checksum(ctx context.Context, f io.ReaderAt, said func(int64)) (string, error) {
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	buf := make([]byte, copyBuffer)
	for at := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := f.ReadAt(buf, at)
		if at == 0 && n >= headerSize {
			copy(buf[atSum:], "--------")
		}
		_, _ = sum.Write(buf[:n])
		at += int64(n)
		said(at)
		if errors.Is(err, io.EOF) {
			return fmt.Sprintf("%0*x", sumSize, sum.Sum32()), nil
		}
		if err != nil {
			return "", err
		}
	}
}

func damaged(path, how string) error {
	return fmt.Errorf("backup %s is damaged (%s); use another one", path, how)
}

// Check reads a backup whole and returns what it says of itself. It refuses a file
// that is something else, one that is damaged in any bit, and one of a newer
// version. It asks nothing of the database.
func (d Database) Check(ctx context.Context, path string, p store.Progress) (store.Backup, error) {
	f, err := os.Open(path)
	if err != nil {
		return store.Backup{}, fmt.Errorf("open the backup: %w", err)
	}
	h, err := d.verify(ctx, f, path, p)
	return h.backup(), errors.Join(err, f.Close())
}

func (h header) backup() store.Backup {
	return store.Backup{TakenAt: h.TakenAt.UTC(), Version: h.Version, Schema: h.Newest, Bytes: headerSize + h.Bytes}
}

// verify checks that a file is a backup, as it was sealed, and one that can be
// restored by this program.
func (d Database) verify(ctx context.Context, f *os.File, path string, p store.Progress) (h header, err error) {
	h, want, err := readHeader(f, path)
	if err != nil {
		return header{}, err
	}
	sum, err := checksum(ctx, f, func(n int64) { p.Say("checking", n, headerSize+h.Bytes) })
	switch {
	case err != nil:
		return header{}, fmt.Errorf("read the backup: %w", err)
	case sum != want:
		return header{}, damaged(path, "its checksum is wrong")
	}
	newest, err := newestMigration()
	if err != nil {
		return header{}, err
	}
	if h.Newest > newest {
		return header{}, fmt.Errorf("backup %s is of a newer version (schema %d; this one knows %d); install that version or use an older backup", path, h.Newest, newest)
	}
	p.Say("checking", 0, 0)
	return h, d.list(ctx, f, path, h)
}

// readHeader returns what the beginning of a backup says, and the checksum that it
// should have.
func readHeader(f *os.File, path string) (h header, sum string, err error) {
	info, err := f.Stat()
	if err != nil {
		return h, "", fmt.Errorf("open the backup: %w", err)
	}
	if !info.Mode().IsRegular() {
		return h, "", fmt.Errorf("%s is not a file; name the file of a backup", path)
	}
	first := make([]byte, headerSize)
	n, err := f.ReadAt(first, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return h, "", fmt.Errorf("read the backup: %w", err)
	}
	text, isOurs := bytes.CutPrefix(first, []byte(magic))
	switch {
	case n == 0:
		return h, "", damaged(path, "it is empty")
	case bytes.HasPrefix(first, []byte(sqliteMagic)):
		return h, "", fmt.Errorf("%s is an SQLite file, and the store is PostgreSQL; a backup of a data directory is restored without --store", path)
	case !isOurs && bytes.HasPrefix(first, []byte(family)):
		return h, "", fmt.Errorf("backup %s is of a newer version, in a form that this one doesn't know; install that version or use an older backup", path)
	case !isOurs:
		return h, "", fmt.Errorf("%s is not a backup of TCManager's; name a file that \"tcmanager backup\" wrote", path)
	case n < headerSize:
		return h, "", damaged(path, fmt.Sprintf("it has %d bytes, and its header is cut off", n))
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	if err := json.Unmarshal(line, &h); err != nil {
		return h, "", damaged(path, "its header can't be read")
	}
	if want := headerSize + h.Bytes; info.Size() != want {
		return h, "", damaged(path, fmt.Sprintf("it has %d bytes of %d", info.Size(), want))
	}
	return h, string(first[atSum : atSum+sumSize]), nil
}

// list checks that pg_restore can read a backup, and that each table is in it.
func (d Database) list(ctx context.Context, f *os.File, path string, h header) error {
	restore, err := d.find(ctx, "pg_restore", h.restorer())
	if err != nil {
		return err
	}
	r := restore.command(ctx, nil, "--list")
	r.Stdin = dumpOf(f, h)
	out, err := r.Output()
	if err = r.explain(err); err != nil {
		return fmt.Errorf("read the backup %s: %w", path, firstError(ctx, err))
	}
	var listed []string
	for line := range strings.Lines(string(out)) {
		if _, rest, ok := strings.Cut(line, " TABLE DATA "); ok && !strings.HasPrefix(line, ";") {
			listed = append(listed, rest)
		}
	}
	for _, table := range append([]string{"tcmanager", "goose_db_version"}, h.Tables...) {
		of := func(rest string) bool { return strings.HasPrefix(rest, h.Schema+" "+table+" ") }
		if !slices.ContainsFunc(listed, of) {
			return damaged(path, fmt.Sprintf("table %q is missing from it", table))
		}
	}
	return nil
}

// restorer is the oldest version of pg_restore that can read a backup. The form of
// pg_dump's files changes seldom, and never with a minor version.
func (h header) restorer() int { return cmp.Or(h.Program, oldestServer) }

// dumpOf returns what pg_dump wrote. It is more than a file to those who would seek.
func dumpOf(f *os.File, h header) io.Reader {
	return bufio.NewReaderSize(io.NewSectionReader(f, headerSize, h.Bytes), copyBuffer)
}
