package postgres

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
	bytes int           // written, about: they are kept until the commit, to be said again
	time  time.Duration // since the first began, which waits for the last
}

// A commit costs 0.4 ms of disk here, and 10 ms of work are some hundred functions:
// longer groups would make the first wait and save next to nothing.
var groupBounds = bounds{count: 256, bytes: 8 << 20, time: 10 * time.Millisecond}

// queueLength is how many updates may wait for the writer. Those behind them
// wait too, each in its own Update, for as long as its ctx allows.
const queueLength = 256

// maxTries is how often a transaction that the server undid is said again.
const maxTries = 5

// carefulGroups is how many groups find out at the end of each function whether
// what it wrote can be written, after a group was lost because of one that couldn't.
const carefulGroups = 100

// job is one call of Update.
type job struct {
	ctx   context.Context
	fn    func(store.Tx) error
	taken atomic.Bool // by the writer, or by Update giving up; the first one decides
	done  chan error  // the outcome; never blocks
}

// take returns whether the caller was the first to take the job.
func (j *job) take() bool { return j.taken.CompareAndSwap(false, true) }

// writer owns the writing connection, and the lock that comes with it.
type writer struct {
	link
	now     func() time.Time
	listen  store.Listener
	jobs    chan *job
	closing <-chan struct{}
	stopped chan struct{}
	bounds  bounds
	idle    time.Duration         // how often a connection with nothing to do is tried
	sick    atomic.Pointer[error] // why the database couldn't write, until it can

	// What the goroutine alone knows. Rooms, names and what is pending mirror the
	// transaction as it stands: an undone function restores them, a failed commit
	// clears them.
	session session
	rooms   memory.Rooms
	names   names
	pending memory.Pending
	nums    nums

	group   *group // at work
	doubt   *group // whose commit may have arrived or not; nothing is written before that is known
	start   int    // where the running function's writes begin in session.log
	broken  error  // why the running function can't succeed
	careful int    // so many groups are still written function by function
}

// update hands fn to the writer and waits for the outcome. If leave is set it
// waits no longer than ctx, also once fn has begun.
func (w *writer) update(ctx context.Context, fn func(store.Tx) error, leave bool) error {
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
		if j.take() || leave {
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
	idle, retry := time.NewTicker(w.idle), time.NewTicker(retryDelay)
	defer idle.Stop()
	defer retry.Stop()
	for {
		select {
		case j := <-w.jobs:
			w.serve(j)
		case <-retry.C:
			if w.session.conn == nil {
				w.retry()
			}
		case <-idle.C:
			w.look()
		case <-w.closing:
			for j := w.next(); j != nil; j = w.next() {
				w.serve(j)
			}
			return
		}
	}
}

// serve runs a job, or refuses it if the database has been away for too long.
func (w *writer) serve(j *job) {
	if w.doubt == nil && !w.hopeless() {
		w.commit(j)
	} else if j.take() {
		j.done <- w.unavailable()
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
	ending  bool  // COMMIT was sent
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
	w.rooms.Shrink()
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
	w.start, w.broken = len(w.session.log), nil
	t := &tx{reader: reader{ctx: j.ctx, db: w}, w: w}
	g.running = j
	err := t.call(j.fn)
	if err == nil && w.broken == nil && w.careful > 0 && (len(w.session.log) > w.start || !w.pending.Empty()) {
		w.pending.Hold()
		w.flushPending()
		_ = w.ask(&query{sql: "SELECT 1", row: func(rows) error { return nil }})
	}
	if err == nil {
		err = w.broken // fn passed over it, or its last writes failed
	}
	if g.err != nil {
		g.jobs = append(g.jobs, j)
		return
	}
	if err != nil {
		w.undo()
		j.done <- err
		return
	}
	g.jobs = append(g.jobs, j)
	if g.events == nil {
		g.events = t.events
	} else {
		g.events = append(g.events, t.events...)
	}
	g.bytes += t.bytes
}

// undo forgets what the running function wrote. If the server has some of it, it
// begins anew and is told the rest: that is seldom, and needs no savepoint before
// every function.
func (w *writer) undo() {
	if w.session.sent > w.start || w.broken != nil {
		w.session.rewind()
	}
	clear(w.session.log[w.start:])
	w.session.log = w.session.log[:w.start]
	w.rooms.Undo()
	w.names.undo()
	w.pending.Undo()
}

// ask sends what was noted and a query. If the server lost the transaction, it is
// told all of it again.
func (w *writer) ask(q *query) error {
	if w.broken != nil {
		return w.broken
	}
	w.before(q.sql)
	for tries := 1; ; tries++ {
		at, err := w.session.say(q, false)
		if err == nil {
			return nil
		}
		if e := (rowError{}); errors.As(err, &e) {
			return e.error
		}
		var more bool
		if more, err = w.recover(err, tries); more && !q.began {
			continue
		}
		w.broken = explain(w.where, err)
		w.notice(err)
		if at < w.start || errors.Is(err, store.ErrUnavailable) {
			w.fail(w.group, w.broken)
		}
		return w.broken
	}
}

// recover makes it possible to say the transaction again, if that helps.
func (w *writer) recover(err error, tries int) (more bool, _ error) {
	switch w.session.trouble(err) {
	case again:
		w.session.rewind()
		if tries < maxTries {
			w.log.Debug("the database undid a transaction, which is said again", "error", err)
			w.pause(time.Duration(tries) * againDelay)
			return true, nil
		}
		return false, fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	case lost:
		_, err = w.reconnect(err)
		return err == nil, err
	default:
		return false, err
	}
}

// fail gives a group up.
func (w *writer) fail(g *group, err error) {
	g.err = err
	if !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrUncertain) {
		w.careful = carefulGroups
	}
	w.notice(err)
}

// notice remembers for Ready that the database can't write.
func (w *writer) notice(err error) {
	if !sick(err) {
		return
	}
	if w.sick.Swap(&err) == nil {
		w.log.Error("the database can't write", "database", w.where, "error", explain(w.where, err))
	}
}

// recovered notes that the database has written.
func (w *writer) recovered() {
	if w.sick.Load() != nil && w.sick.Swap(nil) != nil {
		w.log.Info("the database can write again", "database", w.where)
	}
}

// finish commits the group, or sets its err and undoes all of it.
func (w *writer) finish(g *group) {
	if g.err == nil {
		w.flushPending()
		w.flushLog()
		if len(w.session.log) > 0 {
			w.session.note("UPDATE tcmanager SET commits = $1 WHERE epoch = $2", w.commits+1, int64(w.epoch))
			w.conclude(g)
		} else {
			w.session.rewind()
		}
	}
	if g.err != nil {
		w.session.rewind()
		w.session.reset()
		w.rooms.Clear()
		w.names.clear()
		w.pending.Clear()
		return
	}
	w.careful = max(0, w.careful-1)
}

// conclude says COMMIT until it is certain whether that was heard.
func (w *writer) conclude(g *group) {
	g.ending = true
	for tries := 1; ; tries++ {
		_, err := w.session.say(nil, true)
		if err == nil {
			w.commits++
			w.recovered()
			return
		}
		if w.session.trouble(err) != lost {
			var more bool
			if more, err = w.recover(err, tries); more {
				continue
			}
			w.fail(g, fmt.Errorf("commit: %w", explain(w.where, err)))
			return
		}
		// COMMIT may have arrived. The lock is free only once the old connection's
		// transaction has ended, so whoever has the lock again reads the truth.
		committed, err := w.reconnect(err)
		if err != nil {
			w.fail(g, fmt.Errorf("%w (%s)", store.ErrUncertain, err.Error())) // it isn't ErrUnavailable: that says that nothing was done
			w.doubt = g
			return
		}
		if committed {
			w.commits++
			w.session.reset()
			return
		}
	}
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

// note writes, at the latest with the commit.
func (t *tx) note(sql string, args ...any) error {
	if t.w.broken != nil {
		return t.w.broken
	}
	t.w.before(sql)
	t.w.session.note(sql, args...)
	return nil
}
