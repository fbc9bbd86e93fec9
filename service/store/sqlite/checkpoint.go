package sqlite

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// SQLite copies PATH-wal into the data file whenever it has grown by 4 MB, and then
// begins it anew, unless a view still reads from it. On a server where some view
// always does, it would grow for ever.
const (
	maxWAL        = 64 << 20 // bytes; from here on the writer waits for the views
	groupsBetween = 64       // that are written before its size is looked at again

	// viewsTimeout is how long the writer waits for the views that run, while new
	// ones read from the data file. A view that takes longer is waited for again
	// when another maxWAL/4 was written.
	viewsTimeout = 100 * time.Millisecond
)

// checkpoint keeps PATH-wal from growing. Its failure harms nothing and shows in
// the next commit if it is one of the disk.
func (w *writer) checkpoint() {
	if w.groups++; w.groups < groupsBetween {
		return
	}
	w.groups = 0
	info, err := os.Stat(w.c.where + "-wal")
	if err != nil || info.Size() < w.walSize {
		return
	}
	if err := w.truncateWAL(); err != nil {
		w.walSize = info.Size() + w.maxWAL/4
		return
	}
	w.walSize = w.maxWAL
}

// truncateWAL copies all of PATH-wal and cuts it to nothing.
func (w *writer) truncateWAL() (err error) {
	w.c.broken = nil
	defer func() {
		err = errors.Join(err, w.c.control(fmt.Sprintf("PRAGMA busy_timeout = %d", busyTimeout.Milliseconds())))
		w.c.broken = nil
	}()
	if err := w.c.control(fmt.Sprintf("PRAGMA busy_timeout = %d", viewsTimeout.Milliseconds())); err != nil {
		return err
	}
	var busy, frames, copied int64
	if err := w.c.row("PRAGMA wal_checkpoint(TRUNCATE)", nil, &busy, &frames, &copied); err != nil {
		return err
	}
	if busy != 0 {
		return errors.New("a view still reads from the log")
	}
	return nil
}
