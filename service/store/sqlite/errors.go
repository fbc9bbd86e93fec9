package sqlite

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/tcmanager/tcmanager/service/store"
)

// explain turns the driver's errors into the store's, and those of the disk into
// sentences that say what to do.
func explain(path string, err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return fmt.Errorf("%w (%s)", store.ErrExists, e.Error())
	}
	says := advice(e)
	switch {
	case says == "":
		return err
	case e.Code()&0xff == sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w: data file %s: %s: %w", store.ErrFull, path, says, err)
	}
	return fmt.Errorf("data file %s: %s: %w", path, says, err)
}

// explainBackup does the same for the file of a backup.
func explainBackup(path string, err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return damaged(path, e.Error())
	}
	if says := advice(e); says != "" {
		return fmt.Errorf("backup %s: %s: %w", path, says, err)
	}
	return fmt.Errorf("backup %s: %w", path, err)
}

// advice says what to do about an error of the disk; empty for others.
func advice(e *sqlite.Error) string {
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		return "the disk is full; free some space"
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return "it can't be written; check the permissions of the file and of its folder"
	case sqlite3.SQLITE_CANTOPEN:
		return "it can't be opened; check the path and the permissions"
	case sqlite3.SQLITE_CORRUPT:
		return "it is damaged; stop the server and restore it from a backup"
	case sqlite3.SQLITE_NOTADB:
		return "it is not an SQLite file; choose another path"
	case sqlite3.SQLITE_IOERR:
		return "the disk failed to read or write it; check the system's log"
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return "another program holds a lock on it; close that program"
	}
	return ""
}
