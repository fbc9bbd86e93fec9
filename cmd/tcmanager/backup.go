package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/config"
	"github.com/tcmanager/tcmanager/service/backup"
	"github.com/tcmanager/tcmanager/service/disk"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/postgres"
	"github.com/tcmanager/tcmanager/service/store/sqlite"
)

// dataFile is the SQLite store of a server with these options, as backups see it.
func dataFile(c config.Config) sqlite.File {
	return sqlite.File{Path: filepath.Join(c.DataDir, "tcmanager.db"), Version: version}
}

// kept is the store of a server with these options, as backups see it, and how it is
// called.
func kept(c config.Config) (st backup.Store, name string) {
	if c.Store != "" {
		db := postgres.Database{DSN: c.Store, Version: version}
		return db, db.Name()
	}
	file := dataFile(c)
	return file, file.Path
}

// newKeeper returns what takes backups by itself; nil if no folder is set for them.
func newKeeper(c config.Config, d Deps) (*backup.Keeper, error) {
	if c.BackupDir == "" {
		return nil, nil
	}
	st, _ := kept(c)
	return backup.NewKeeper(st, backup.Config{
		Dir: c.BackupDir, Every: c.BackupEvery, Keep: c.BackupKeep, Logger: d.Log, Registerer: d.Registerer,
	})
}

func backupCommand() *cobra.Command {
	var to string
	var force, asJSON bool
	cmd := &cobra.Command{
		Use:   "backup --to FILE",
		Short: "Write a backup, also while the server runs",
		Long: `backup writes what the server keeps, as it is at one moment, into one file. The
server may run meanwhile, and goes on reading and writing.

The file has its name only once it is whole, synced to the disk, and checked:
every page, and a checksum over all of it. It can be read by its owner alone. It
holds everything but what lies in files of its own: secrets and certificates.

With --store, it holds TCManager's tables of that database, and is written and
checked by PostgreSQL's programs pg_dump and pg_restore, of the server's version or
newer (Debian: postgresql-client-15). The password is not on their command lines.

A server takes backups by itself with --backup-dir; see "tcmanager serve --help".`,
		Example: `  tcmanager backup --data-dir /var/lib/tcmanager --to /backups/before-upgrade.backup
  tcmanager backup --to latest.backup --force --json
  tcmanager backup --store postgres://tcm@db/tcm --to before-upgrade.backup`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := config.Load(cmd.Flags(), os.LookupEnv)
			if err == nil && to == "" {
				err = errors.New("--to is missing: where is the backup to be written?")
			}
			if err == nil && isOfData(c, to) {
				err = fmt.Errorf("--to %s is the data itself; choose another name", to)
			}
			if err != nil {
				return &usageError{err}
			}
			began := time.Now()
			p := newProgress(cmd.ErrOrStderr())
			st, _ := kept(c)
			b, err := backup.Take(cmd.Context(), st, to, backup.Options{Force: force, Progress: p.say})
			p.end()
			if err != nil {
				return err
			}
			done := report{File: to, TakenAt: b.TakenAt, Version: b.Version, Schema: b.Schema, Bytes: b.Bytes, TookMS: time.Since(began).Milliseconds()}
			return done.print(cmd.OutOrStdout(), asJSON, fmt.Sprintf("backup %s: %s, checked", to, disk.Size(b.Bytes)))
		},
	}
	config.Flags(cmd.Flags())
	cmd.SetUsageFunc(groupedUsage)
	cmd.Flags().StringVar(&to, "to", "", "the file to write")
	cmd.Flags().BoolVar(&force, "force", false, "replace the file if it is there")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func restoreCommand() *cobra.Command {
	var from string
	var dryRun, asJSON bool
	cmd := &cobra.Command{
		Use:   "restore --from FILE",
		Short: "Put a backup in the place of the data",
		Long: `restore makes the data directory hold what a backup holds. The server must be
stopped. What was there is kept beside it under another name, which is printed.

Before anything is changed, the backup is checked as a whole, and it is refused if
it is damaged, not TCManager's, or of a newer version; so is a data directory that
a server uses, that can't be written, or whose disk has no room.

With --store, the same is done with TCManager's tables of that database, in one
transaction: if anything fails, they are left as they were. What was there is kept
in a schema of its own, and a server starts on it with ?search_path=THAT_SCHEMA. A
backup of a data directory can't be restored to a database, nor the other way round.

Clients that come back and have seen what the backup doesn't hold start anew from
what it does; those that have not go on where they were.`,
		Example: `  tcmanager restore --from /backups/before-upgrade.backup --dry-run   # only check it
  tcmanager restore --from /backups/before-upgrade.backup --data-dir /var/lib/tcmanager
  tcmanager restore --from before-upgrade.backup --store postgres://tcm@db/tcm`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := config.Load(cmd.Flags(), os.LookupEnv)
			if err == nil && from == "" {
				err = errors.New("--from is missing: which backup is to be restored?")
			}
			if err != nil {
				return &usageError{err}
			}
			done, says, err := restore(cmd.Context(), c, from, dryRun, newProgress(cmd.ErrOrStderr()))
			if err != nil {
				return err
			}
			return done.print(cmd.OutOrStdout(), asJSON, says...)
		},
	}
	config.Flags(cmd.Flags())
	cmd.SetUsageFunc(groupedUsage)
	cmd.Flags().StringVar(&from, "from", "", "the backup")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "check the backup and change nothing")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// restore checks a backup and, unless it is a dry run, restores it. It returns what
// to tell.
func restore(ctx context.Context, c config.Config, from string, dryRun bool, p *progress) (done report, says []string, err error) {
	defer p.end()
	began := time.Now()
	st, name := kept(c)
	var b store.Backup
	if dryRun {
		b, err = st.Check(ctx, from, p.say)
	} else {
		b, done.Kept, err = st.Restore(ctx, from, p.say)
	}
	if err != nil {
		return done, nil, err
	}
	done.File, done.TakenAt, done.Version, done.Schema, done.Bytes = from, b.TakenAt, b.Version, b.Schema, b.Bytes
	done.TookMS = time.Since(began).Milliseconds()
	what := fmt.Sprintf("backup %s of %s, by tcmanager %s: %s", from, b.TakenAt.Format(time.RFC3339), b.Version, disk.Size(b.Bytes))
	if dryRun {
		return done, []string{what + ", good"}, nil
	}
	done.RestoredTo = name
	says = []string{what + ", restored to " + name}
	if done.Kept != "" {
		says = append(says, "what was there is kept as "+done.Kept+"; remove it when it isn't needed any more")
	}
	return done, says, nil
}

// isOfData reports whether a name is the data file's or one beside it that belongs
// to it: a backup must not take its place. A database has no files that we know of.
func isOfData(c config.Config, path string) bool {
	if c.Store != "" {
		return false
	}
	folder, errFolder := os.Stat(filepath.Dir(path))
	data, errData := os.Stat(c.DataDir)
	if errFolder != nil || errData != nil || !os.SameFile(folder, data) {
		return false
	}
	name := filepath.Base(dataFile(c).Path)
	rest, found := strings.CutPrefix(filepath.Base(path), name)
	return found && (rest == "" || rest == "-wal" || rest == "-shm" || rest == ".lock")
}

// report is what backup and restore print.
type report struct {
	File       string    `json:"file"`
	TakenAt    time.Time `json:"taken_at"`
	Version    string    `json:"version"`
	Schema     int64     `json:"schema"`
	Bytes      int64     `json:"bytes"`
	RestoredTo string    `json:"restored_to,omitempty"`
	Kept       string    `json:"kept,omitempty"`
	TookMS     int64     `json:"took_ms"`
}

func (r report) print(w io.Writer, asJSON bool, says ...string) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	_, err := fmt.Fprintln(w, strings.Join(says, "\n"))
	return err
}

// progress shows people at a terminal how far a long piece of work is, in one line
// that it writes over. Elsewhere it says nothing: what was done is said at the end.
type progress struct {
	w     io.Writer // nil for nobody
	shown string
	at    time.Time
}

func newProgress(w io.Writer) *progress {
	if !isTerminal(w) || os.Getenv("TERM") == "dumb" {
		w = nil
	}
	return &progress{w: w}
}

// redraw is how often the line changes at most.
const redraw = 100 * time.Millisecond

func (p *progress) say(doing string, done, total int64) {
	if p.w == nil || total > 0 && done < total && time.Since(p.at) < redraw {
		return
	}
	p.at = time.Now()
	line := doing + " ..."
	if total > 0 {
		line = fmt.Sprintf("%s %3d %% of %s", doing, 100*done/total, disk.Size(total))
	}
	p.draw(line)
}

// draw writes over what is shown, with spaces: every terminal knows those.
func (p *progress) draw(line string) {
	_, _ = fmt.Fprintf(p.w, "\r%-*s", len(p.shown), line)
	p.shown = line
}

// end takes the line away.
func (p *progress) end() {
	if p.shown != "" {
		p.draw("")
		_, _ = io.WriteString(p.w, "\r")
		p.shown = ""
	}
}
