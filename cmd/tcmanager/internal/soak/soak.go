package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/crowd"
	"github.com/tcmanager/tcmanager/service/history"
)

// What may be left when all have gone. Before it is measured what there is at
// rest, as many clients were there for a while: what the first of them leaves for
// good (connections to the data file, caches, metrics by their labels) is there.
const (
	// leftGoroutines and leftFiles are for one that is just being looked at.
	leftGoroutines = 2
	leftFiles      = 2
	// leftHeap is for what is kept of what was done: test runs that are reported to
	// and rooms that were written to are in memory, as many as there may be, and the
	// attempts of the tests become more. A session that is kept costs 10 kB, so some
	// 300 of them are noticed; a thousand clients open as many streams in 5 s.
	leftHeap      = 2 << 20
	leftHeapParts = 10 // and one part of so many, which is how much it varies at rest
)

// times are the server's and the clients', so that there are as many heartbeats in
// a short soak as in a long one.
type times struct {
	interval, timeout time.Duration // of heartbeats
	pace              time.Duration // how often a client does something
	publish           time.Duration // how often an event is published
	warm              time.Duration
}

const (
	doneEvery     = 6 * time.Millisecond // one of all clients does something
	leastPace     = 300 * time.Millisecond
	presenceGrace = 5 * time.Second  // the server's
	pollPatience  = 20 * time.Second // likewise, for those who poll
	slack         = 5 * time.Second  // for a machine that has more to do
)

func timesOf(o options) times {
	t := times{
		interval: min(25*time.Second, max(time.Second, (o.length/24).Truncate(time.Second))),
		pace:     max(leastPace, doneEvery*time.Duration(o.connections)),
		publish:  50 * time.Millisecond,
		warm:     min(30*time.Second, o.length/4),
	}
	t.timeout = t.interval * 12 / 5
	return t
}

// soak does all of it, and returns an error if something is left or wrong.
func soak(ctx context.Context, o options, out io.Writer) error {
	dir, err := os.MkdirTemp("", "tcmanager-soak-")
	if err != nil {
		return err
	}
	t := timesOf(o)
	p, err := start(ctx, o.bin, dir, "--max-sessions", strconv.Itoa(o.connections+100),
		"--heartbeat-interval", t.interval.String(), "--heartbeat-timeout", t.timeout.String())
	if err != nil {
		return err
	}
	s := &run{options: o, times: t, p: p, out: out, began: time.Now()}
	if err := s.all(ctx); err != nil {
		return errors.Join(err, p.kill(), fmt.Errorf("what the server logged and stored is in %s", dir))
	}
	h, err := s.town.history(ctx, o.connections, history.Bounds{Gone: max(t.timeout+presenceGrace, pollPatience) + slack, Back: slack})
	if err == nil {
		err = s.check(h)
	}
	if err != nil {
		return errors.Join(err, fmt.Errorf("what the server logged and stored is in %s", dir))
	}
	return os.RemoveAll(dir)
}

// run is one soak.
type run struct {
	options
	times
	p     *process
	town  *town
	out   io.Writer
	began time.Time
	rows  int

	before, after sample // at rest, when as many had been there for a while, and in the end
}

func (s *run) all(ctx context.Context) (err error) {
	if s.town, err = found(ctx, s.p, s.seed, s.connections); err != nil {
		return err
	}
	if err := s.town.disconnect(); err != nil {
		return err
	}
	s.printf("%d connections for %v; heartbeats each %v\n", s.connections, s.length, s.interval)
	first, err := s.p.collected(ctx)
	if err != nil {
		return err
	}
	s.row("start", first)
	if err := s.crowded(ctx, "warm", s.warm, s.seed<<1); err != nil {
		return err
	}
	s.before, err = s.rest(ctx, "rest", first.goroutines+leftGoroutines, math.MaxInt)
	if err != nil {
		return err
	}
	if err := s.crowded(ctx, "soak", s.length, s.seed<<1+1); err != nil {
		return err
	}
	s.after, err = s.rest(ctx, "left", s.before.goroutines+leftGoroutines, s.before.files+leftFiles)
	if err != nil {
		return err
	}
	s.printf("%v\n", &s.town.tally)
	if err := s.p.stop(); err != nil {
		return err
	}
	return compare(s.before, s.after)
}

// summary is the last line.
func (s *run) summary(h *history.History, violations int) string {
	return fmt.Sprintf("connections %d, goroutines %d then %d, files %d then %d, heap %d then %d kB, records %d, violations %d",
		s.connections, s.before.goroutines, s.after.goroutines, s.before.files, s.after.files, s.before.heapAlloc>>10, s.after.heapAlloc>>10,
		len(h.Records), violations)
}

// printf writes what is for people; one who has gone away doesn't stop a soak.
func (s *run) printf(format string, args ...any) { _, _ = fmt.Fprintf(s.out, format, args...) }

// compare says what is left.
func compare(before, after sample) error {
	var errs []error
	left := func(what string, before, after, allowed int64, unit string) {
		if after-before > allowed {
			errs = append(errs, fmt.Errorf("%s: %d%s at rest before, %d%s after all had left; %d%s more would be well", what, before, unit, after, unit, allowed, unit))
		}
	}
	left("sessions", 0, int64(after.sessions), 0, "")
	left("goroutines", int64(before.goroutines), int64(after.goroutines), leftGoroutines, "")
	left("open files", int64(before.files), int64(after.files), leftFiles, "")
	left("heap", before.heapAlloc>>10, after.heapAlloc>>10, (leftHeap+before.heapAlloc/leftHeapParts)>>10, " kB")
	return errors.Join(errs...)
}

// rest waits until the server is alone, with as little as it may have, and the
// places of those who left are given up, and shows a row of that.
func (s *run) rest(ctx context.Context, phase string, goroutines, files int) (sample, error) {
	err := s.p.alone(ctx, goroutines, files, s.timeout+slack)
	if err == nil {
		err = wait(ctx, presenceGrace+time.Second)
	}
	var at sample
	if err == nil {
		at, err = s.p.collected(ctx)
	}
	at.at = time.Since(s.began)
	if err == nil {
		s.row(phase, at)
	}
	return at, err
}

// crowded lets the clients come and go for a while, and leave.
func (s *run) crowded(ctx context.Context, phase string, d time.Duration, seed uint64) error {
	w := s.town
	if err := w.connect(s.connections); err != nil {
		return err
	}
	living, stop := context.WithTimeout(ctx, d)
	defer stop()
	clients := make([]*client, s.connections)
	var group, others sync.WaitGroup
	for i := range clients {
		rec := w.rec
		if !isRecorded(i) {
			rec = nil
		}
		clients[i] = w.client(i, fmt.Sprint(phase, i), seed, rec, s.times)
		group.Go(func() { clients[i].live(living) })
	}
	group.Go(func() { w.publish(living, rand.New(rand.NewPCG(seed, 0)), s.publish) })
	watching, stopWatching := context.WithCancel(ctx)
	others.Go(func() { w.rec.Watch(watching) })
	echo, err := crowd.NewEcho(ctx)
	if err == nil {
		defer echo.Close()
		others.Go(func() {
			if err := echo.Watch(watching, echo.Addr(), w.rec); err != nil {
				s.printf("the echo has ended: %v\n", err)
			}
		})
		err = s.watch(living, phase, d)
	}
	group.Wait()
	if err == nil {
		err = w.settle(ctx, clients)
	}
	told := 0
	for _, c := range clients {
		group.Go(c.goAway)
	}
	group.Wait()
	for _, c := range clients {
		told += c.Told()
	}
	stopWatching()
	others.Wait()
	s.printf("%-8s %d events told\n", phase, told)
	return errors.Join(err, w.disconnect(), ctx.Err())
}

// watch shows rows of samples until ctx ends.
func (s *run) watch(ctx context.Context, phase string, d time.Duration) error {
	began := time.Now()
	const rows = 20
	row := time.NewTicker(max(time.Second, d/rows))
	defer row.Stop()
	line := time.NewTicker(time.Second)
	defer line.Stop()
	for {
		select {
		case <-line.C:
			if s.progress != nil {
				_, _ = fmt.Fprintf(s.progress, "\r%s: %v of %v \r", phase, time.Since(began).Round(time.Second), d)
			}
		case <-row.C:
			at, err := s.p.sample(context.WithoutCancel(ctx))
			if err != nil {
				return err
			}
			at.at = time.Since(s.began)
			s.row(phase, at)
		case <-ctx.Done():
			return nil
		}
	}
}

// row shows a sample.
func (s *run) row(phase string, at sample) {
	if s.rows%40 == 0 {
		s.printf("%-8s %7s %9s %11s %6s %14s %14s %13s\n", "phase", "at", "sessions", "goroutines", "files", "heap in use MB", "heap alloc MB", "resident MB")
	}
	s.rows++
	mb := func(n int64) float64 { return float64(n) / (1 << 20) }
	s.printf("%-8s %7s %9d %11d %6d %14.1f %14.1f %13.1f\n",
		phase, at.at.Round(time.Second), at.sessions, at.goroutines, at.files, mb(at.heapInUse), mb(at.heapAlloc), mb(at.resident))
}

// check holds what the recorded clients were told against the guarantees.
func (s *run) check(h *history.History) error {
	found := history.Check(h)
	for i, v := range found {
		if i == 20 {
			s.printf("and %d more\n", len(found)-i)
			break
		}
		s.printf("%v\n", v)
	}
	s.printf("%s\n", s.summary(h, len(found)))
	if len(found) > 0 {
		return fmt.Errorf("%d violations of the guarantees", len(found))
	}
	return nil
}
