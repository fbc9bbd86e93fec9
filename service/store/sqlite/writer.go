package sqlite

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/memory"
)

// bounds say when a group takes no more functions.
type bounds struct {
	count int           // functions: a failing commit fails them all
	bytes int           // written, about: changed pages stay in memory until the commit
	time  time.Duration // since the first began, which waits for the last
}

// A commit costs 0.3 ms of disk here, and 10 ms of work are some hundred functions:
// longer groups would make the first wait and save next to nothing.
var groupBounds = bounds{count: 256, bytes: 8 << 20, time: 10 * time.Millisecond}

// queueLength is how many updates may wait for the writer. Those behind them
// wait too, each in its own Update, for as long as its ctx allows.
const queueLength = 256

// job is one call of Update.
type job struct {
	ctx   context.Context
	fn    func(store.Tx) error
	taken atomic.Bool // by the writer, or by Update giving up; the first one decides
	done  chan error  // the outcome; never blocks
}

// take returns whether the caller was the first to take the job.
func (j *job) take() bool { return j.taken.CompareAndSwap(false, true) }

// writer owns the writing connection.
type writer struct {
	c       *conn
	epoch   uint64
	now     func() time.Time
	listen  store.Listener
	jobs    chan *job
	closing <-chan struct{}
	stopped chan struct{}
	bounds  bounds

	// What the goroutine alone knows. It mirrors the transaction as it stands, with
	// what is pending: a rollback restores it, a failed commit clears it.
	rooms   memory.Rooms
	names   names
	pending memory.Pending
	args    []any // of a statement with many rows, empty: its memory is used again

	group   *group // at work
	saved   bool   // there is a savepoint of the running function
	maxWAL  int64  // bytes
	walSize int64  // at which the next checkpoint is forced
	groups  int    // since the size was looked at
}

func newWriter(c *conn, epoch uint64, o Options, closing <-chan struct{}) *writer {
	return &writer{
		c: c, epoch: epoch, now: o.Now, listen: o.Listener,
		jobs: make(chan *job, queueLength), closing: closing, stopped: make(chan struct{}),
		bounds: groupBounds, maxWAL: maxWAL, walSize: maxWAL, rooms: memory.NewRooms(), names: newNames(),
		pending: memory.NewPending(),
	}
}

// update hands fn to the writer and waits for the outcome.
func (w *writer) update(ctx context.Context, fn func(store.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-w.closing:
		return store.ErrClosed
	default:
	}
	j := &job{ctx: ctx, fn: fn, done: make(chan error, 1)}
	select {
	case w.jobs <- j:
	case <-w.closing:
		return store.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		if j.take() {
			return ctx.Err()
		}
	case <-w.stopped:
		// The job was queued just as the writer looked into the queue for the
		// last time.
		if j.take() {
			return store.ErrClosed
		}
	}
	return <-j.done
}

// run works until the store closes; then it finishes what was accepted.
func (w *writer) run() {
	defer close(w.stopped)
	defer w.abandon()
	for {
		select {
		case j := <-w.jobs:
			w.commit(j)
		case <-w.closing:
			for j := w.next(); j != nil; j = w.next() {
				w.commit(j)
			}
			return
		}
	}
}

// next returns a job that waits, or nil.
func (w *writer) next() *job {
	select {
	case j := <-w.jobs:
		return j
	default:
		return nil
	}
}

// group is what one commit will make durable.
type group struct {
	jobs    []*job // that succeeded so far
	running *job   // whose function runs or ran last
	events  []event.Event
	bytes   int // about how much was written
	began   time.Time
	err     error // why the transaction is lost
}

func (g *group) full(b bounds) bool {
	return g.err != nil || len(g.jobs) >= b.count || g.bytes >= b.bytes || time.Since(g.began) >= b.time
}

// commit runs a job and those that wait behind it in one transaction. The
// listener hears of it before the callers do.
func (w *writer) commit(first *job) {
	g := &group{began: time.Now()}
	w.group = g
	w.c.broken = nil
	w.rooms.Shrink()
	if err := w.c.control("BEGIN IMMEDIATE"); err != nil {
		g.err = fmt.Errorf("begin to write: %w", err)
		if first.take() {
			g.jobs = append(g.jobs, first)
		}
	}
	for j := first; j != nil && g.err == nil; {
		w.do(g, j)
		if j = nil; !g.full(w.bounds) {
			j = w.next()
		}
	}
	w.finish(g)
	if g.err == nil && len(g.events) > 0 {
		w.listen(g.events)
	}
	for _, j := range g.jobs {
		j.done <- g.err
	}
	w.group = nil
	w.checkpoint()
}

// abandon answers the jobs of an unfinished group. There is one only if a function
// ended the goroutine, as t.Fatal does in a test.
func (w *writer) abandon() {
	if w.group == nil {
		return
	}
	for _, j := range append(w.group.jobs, w.group.running) {
		j.done <- fmt.Errorf("%w: an update ended the goroutine of the store instead of returning", store.ErrClosed)
	}
}

// finish commits the group, or sets its err and undoes all of it.
func (w *writer) finish(g *group) {
	if g.err == nil {
		if err := w.flushPending(); err != nil {
			g.err = err
		} else if err := w.flushLog(); err != nil {
			g.err = fmt.Errorf("write the log: %w", err)
		} else if err := w.c.control("COMMIT"); err != nil {
			g.err = fmt.Errorf("commit: %w", err)
		}
	}
	if g.err != nil {
		// An error here says that SQLite has rolled back by itself.
		_ = w.c.control("ROLLBACK")
		w.rooms.Clear()
		w.names.clear()
		w.pending.Clear()
	}
}

// do runs one job. A job that fails is answered at once.
func (w *writer) do(g *group, j *job) {
	if !j.take() {
		return
	}
	if err := j.ctx.Err(); err != nil {
		j.done <- err
		return
	}
	w.rooms.Mark()
	w.names.mark()
	w.pending.Mark()
	w.saved, w.c.before = false, w.before
	t := &tx{reader: reader{ctx: j.ctx, c: w.c}, w: w}
	g.running = j
	err := t.call(j.fn)
	w.c.before = nil
	if err == nil {
		err = w.c.broken // fn passed over it
	}
	if err == nil && w.saved {
		err = w.c.control("RELEASE job")
	}
	if g.err != nil {
		g.jobs = append(g.jobs, j)
		return
	}
	if err == nil {
		g.jobs = append(g.jobs, j)
		if g.events == nil {
			g.events = t.events
		} else {
			g.events = append(g.events, t.events...)
		}
		g.bytes += t.bytes
		return
	}
	w.undo(g)
	if g.err != nil {
		g.jobs = append(g.jobs, j)
		return
	}
	j.done <- err
}

// undo forgets what the running function did, and goes back to its savepoint if it
// has one. If that is gone, SQLite has rolled back the transaction, and the whole
// group is lost.
func (w *writer) undo(g *group) {
	if w.saved {
		err := w.c.control("ROLLBACK TO job")
		if err == nil {
			err = w.c.control("RELEASE job")
		}
		if err != nil {
			g.err = errors.Join(w.c.broken, fmt.Errorf("undo one update of several: %w", err))
			return
		}
	}
	w.c.broken = nil
	w.rooms.Undo()
	w.names.undo()
	w.pending.Undo()
}

// tx is the transaction as one function of Update sees it.
type tx struct {
	reader
	w      *writer
	events []event.Event
	bytes  int
}

var _ store.Tx = (*tx)(nil)

// call runs fn and turns a panic into an error, so that one bad function doesn't
// take the writer, and all others with it.
func (t *tx) call(fn func(store.Tx) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in an update: %v\n%s", p, debug.Stack())
		}
	}()
	return fn(t)
}

func (t *tx) probe() error {
	_, err := t.c.exec("UPDATE probe SET at = ?", t.w.now().UnixMicro())
	return err
}
