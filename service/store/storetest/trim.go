package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

// say appends n events to the run's room, each in an update of its own, so that no
// store keeps two of them in one piece.
func (e *env) say(n int) {
	e.Helper()
	for range n {
		e.update(func(tx store.Tx) error { return appendTexts(tx, "x") })
	}
}

// trim drops what a history doesn't keep, and returns how many events that were and
// in how many calls.
func (e *env) trim(h store.History) (events, calls int) {
	e.Helper()
	for more := true; more; calls++ {
		if calls > 10_000 {
			e.Fatal("there is always more to trim")
		}
		e.update(func(tx store.Tx) error {
			done, err := tx.TrimLogs(h)
			events, more = events+done.Events, done.More
			return err
		})
	}
	return events, calls
}

// kept checks what a room's log has: the trim mark, and all events between it and
// the newest, read from any offset.
func kept(r store.Reader, room event.Room, trim, newest uint64) error {
	head, err := r.Head(room)
	if err != nil {
		return err
	}
	errs := []error{
		is(head.Trim.Offset, nil)("the trim mark", trim),
		is(head.Newest.Offset, nil)("the newest", newest),
	}
	for after := range newest {
		part, err := r.Log(room, after, 1<<20)
		if err != nil {
			return err
		}
		first := max(after, trim) + 1
		if len(part.Events) != int(newest-first+1) || part.More {
			errs = append(errs, fmt.Errorf("%d events after %d, more %v; want %d", len(part.Events), after, part.More, newest-first+1))
			continue
		}
		for i, ev := range part.Events {
			if ev.Position.Offset != first+uint64(i) {
				return fmt.Errorf("event %d after %d is %d, want %d", i, after, ev.Position.Offset, first+uint64(i))
			}
		}
	}
	recent, err := r.Recent(room, math.MaxInt32)
	return errors.Join(append(errs, is(len(recent), err)("recent events", int(newest-trim)))...)
}

// stands runs a check in a view, and again after the store was opened anew.
func (e *env) stands(check func(store.Reader) error) {
	e.Helper()
	e.view(check)
	e.reopen()
	e.view(check)
}

var trimTests = []test{
	{"a log is trimmed by count: the newest stay", func(e *env) {
		e.update(populate)
		e.say(60)
		if n, _ := e.trim(store.History{Events: 25}); n != 35 {
			e.Errorf("%d events were dropped, want 35", n)
		}
		e.stands(func(r store.Reader) error { return kept(r, room, 35, 60) })
	}},
	{"a log is trimmed by age: those committed since stay", func(e *env) {
		e.update(populate)
		e.say(30)
		since := time.Now()
		e.say(40)
		if n, _ := e.trim(store.History{Since: since}); n != 30 {
			e.Errorf("%d events were dropped, want 30", n)
		}
		e.stands(func(r store.Reader) error { return kept(r, room, 30, 70) })
	}},
	{"with both, an event stays only if it is as new as both say", func(e *env) {
		e.update(populate)
		e.say(30)
		since := time.Now()
		e.say(40)
		e.trim(store.History{Events: 50, Since: since})
		e.view(func(r store.Reader) error { return kept(r, room, 30, 70) })
		e.trim(store.History{Events: 35, Since: since})
		e.stands(func(r store.Reader) error { return kept(r, room, 35, 70) })
	}},
	{"the newest 20 of a room stay, however old and whatever is asked", func(e *env) {
		e.update(populate)
		e.say(30)
		e.update(func(tx store.Tx) error {
			for range 7 {
				if _, err := tx.Append(durable("user:ada", "few")); err != nil {
					return err
				}
			}
			return nil
		})
		e.trim(store.History{Since: time.Now().Add(time.Hour)})
		e.view(func(r store.Reader) error { return kept(r, room, 10, 30) })
		e.say(5)
		e.trim(store.History{Events: 1})
		e.stands(func(r store.Reader) error {
			return errors.Join(kept(r, room, 15, 35), kept(r, "user:ada", 0, 7))
		})
	}},
	{"nothing is dropped that is as new as asked, nor anything when nothing is asked", func(e *env) {
		e.update(populate)
		before := time.Now()
		e.say(30)
		for _, h := range []store.History{{}, {Events: 30}, {Events: 1000}, {Since: before}} {
			if n, calls := e.trim(h); n != 0 || calls != 1 {
				e.Errorf("%v: %d events were dropped in %d calls", h, n, calls)
			}
		}
		e.view(func(r store.Reader) error { return kept(r, room, 0, 30) })
		if n, _ := e.trim(store.History{Events: 29}); n != 1 {
			e.Errorf("%d events were dropped of a room with one too many", n)
		}
		e.stands(func(r store.Reader) error { return kept(r, room, 1, 30) })
	}},
	{"the trim mark has the epoch of the event that was dropped", func(e *env) {
		e.update(populate)
		made := e.s.Epoch()
		e.say(10)
		e.reopen()
		second := e.s.Epoch()
		e.say(30)
		e.reopen()
		e.say(5)
		e.trim(store.History{Events: 40}) // the last dropped is 5, of the first start
		mark := func(offset, epoch uint64) func(store.Reader) error {
			return func(r store.Reader) error {
				head, err := r.Head(room)
				return is(head.Trim, err)("the trim mark", event.Position{Offset: offset, Epoch: epoch})
			}
		}
		e.view(mark(5, made))
		e.update(func(tx store.Tx) error { return mark(5, made)(tx) })
		e.reopen()
		e.view(mark(5, made))
		e.trim(store.History{Events: 25}) // now it is 20, of the second
		e.stands(mark(20, second))
		e.update(func(tx store.Tx) error { return mark(20, second)(tx) })
	}},
	{"the event after the trim mark follows it, the one before is gone", func(e *env) {
		e.update(populate)
		e.say(50)
		e.trim(store.History{Events: 30})
		e.stands(func(r store.Reader) error {
			var errs []error
			for after, first := range map[uint64]uint64{0: 21, 19: 21, 20: 21, 21: 22, 49: 50} {
				part, err := r.Log(room, after, 1)
				if err != nil {
					return err
				}
				errs = append(errs, is(part.Events[0].Position.Offset, nil)(fmt.Sprint("the first event after ", after), first))
			}
			return errors.Join(errs...)
		})
	}},
	{"a trimmed log goes on counting, and is trimmed again", func(e *env) {
		e.update(populate)
		e.say(40)
		e.trim(store.History{Events: 25})
		e.say(10)
		e.view(func(r store.Reader) error { return kept(r, room, 15, 50) })
		e.reopen()
		e.say(10)
		e.trim(store.History{Events: 25})
		e.stands(func(r store.Reader) error { return kept(r, room, 35, 60) })
	}},
	{"pieces of many events go whole or not at all", func(e *env) {
		e.update(populate)
		for range 20 {
			e.update(func(tx store.Tx) error { return appendTexts(tx, make([]string, 100)...) })
		}
		n, _ := e.trim(store.History{Events: 950})
		if n < 900 || n > 1050 {
			e.Errorf("%d of 2000 events were dropped, want about 1000 and at most 1050", n)
		}
		e.stands(func(r store.Reader) error { return kept(r, room, uint64(n), 2000) })
	}},
	{"a room is trimmed also if all of it came in one update", func(e *env) {
		texts := make([]string, 200)
		for i := range texts {
			texts[i] = strings.Repeat("x", 4000)
		}
		e.update(func(tx store.Tx) error { return errors.Join(populate(tx), appendTexts(tx, texts...)) })
		n, _ := e.trim(store.History{Events: 50})
		if n < 100 || n > 150 {
			e.Errorf("%d of 200 events were dropped, want most of 150", n)
		}
		e.stands(func(r store.Reader) error { return kept(r, room, uint64(n), 200) })
	}},
	{"much is trimmed a bounded piece at a time, and each leaves whole logs", func(e *env) {
		e.update(populate)
		rooms := make([]event.Room, 150)
		for i := range rooms {
			rooms[i] = event.Room("project:" + strconv.Itoa(i))
		}
		for range 40 {
			e.update(func(tx store.Tx) error {
				for _, room := range rooms {
					if _, err := tx.Append(durable(room, "x")); err != nil {
						return err
					}
				}
				return nil
			})
		}
		dropped, calls := 0, 0
		for more := true; more; calls++ {
			e.update(func(tx store.Tx) error {
				done, err := tx.TrimLogs(store.History{Events: 20})
				dropped, more = dropped+done.Events, done.More
				return err
			})
			e.view(func(r store.Reader) error {
				left := 0
				for i, room := range rooms {
					head, err := r.Head(room)
					if err != nil {
						return err
					}
					left += int(head.Newest.Offset - head.Trim.Offset)
					if i%10 == 0 {
						if err := kept(r, room, head.Trim.Offset, 40); err != nil {
							return err
						}
					}
				}
				return is(left+dropped, nil)("events kept and dropped", 40*len(rooms))
			})
		}
		if dropped != 20*len(rooms) || calls < 2 {
			e.Errorf("%d events were dropped in %d calls, want %d in some", dropped, calls, 20*len(rooms))
		}
	}},
	{"a trim that is undone leaves the log and its mark, here and after a restart", func(e *env) {
		e.update(populate)
		e.say(40)
		e.refuses(errUndo, func(tx store.Tx) error {
			if done, err := tx.TrimLogs(store.History{Events: 30}); err != nil || done.Events != 10 {
				return fmt.Errorf("dropped %d events: %w", done.Events, err)
			}
			if err := kept(tx, room, 10, 40); err != nil {
				return err
			}
			if err := appendTexts(tx, "y"); err != nil {
				return err
			}
			return errors.Join(kept(tx, room, 10, 41), errUndo)
		})
		e.update(func(tx store.Tx) error { return kept(tx, room, 0, 40) })
		e.stands(func(r store.Reader) error { return kept(r, room, 0, 40) })
		e.say(1)
		e.trim(store.History{Events: 30})
		e.stands(func(r store.Reader) error { return kept(r, room, 11, 41) })
	}},
	{"a transaction that appends and trims keeps what it appended", func(e *env) {
		e.update(populate)
		e.say(40)
		e.update(func(tx store.Tx) error {
			err := appendTexts(tx, make([]string, 30)...)
			if err != nil {
				return err
			}
			if _, err := tx.Append(durable("project:new", "y")); err != nil {
				return err
			}
			_, err = tx.TrimLogs(store.History{Events: 25, Since: time.Now().Add(time.Hour)})
			return err
		})
		e.view(func(r store.Reader) error {
			head, err := r.Head(room)
			if err != nil {
				return err
			}
			return errors.Join(kept(r, room, head.Trim.Offset, 70), kept(r, "project:new", 0, 1))
		})
		e.trim(store.History{Events: 25})
		e.stands(func(r store.Reader) error {
			head, err := r.Head(room)
			return errors.Join(err, is(head.Trim.Offset >= 40, nil)("the 40 before are gone", true), kept(r, room, head.Trim.Offset, 70))
		})
	}},
	{"a view keeps its events while they are trimmed", func(e *env) {
		e.update(populate)
		e.say(50)
		e.view(func(r store.Reader) error {
			if err := kept(r, room, 0, 50); err != nil { // so that it has its snapshot
				return err
			}
			e.trim(store.History{Events: 20})
			return kept(r, room, 0, 50)
		})
		e.view(func(r store.Reader) error { return kept(r, room, 30, 50) })
	}},
	{"rooms that are written, read and trimmed at once have no gap and lose nothing new", trimConcurrently},
}

// trimConcurrently lets writers, a sweep and views loose on a few rooms. Each view
// sees whole logs, and the listener has heard all of them.
func trimConcurrently(e *env) {
	e.update(populate)
	const writers, rounds = 8, 120
	rooms := []event.Room{room, "project:a", "project:b"}
	stop := make(chan struct{})
	var background, all sync.WaitGroup
	loop := func(fn func()) {
		background.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					fn()
				}
			}
		})
	}
	loop(func() { e.trim(store.History{Events: 30}) })
	loop(func() { e.trim(store.History{Since: time.Now().Add(-time.Millisecond)}) })
	for range 2 {
		loop(func() { e.wholeLogs(rooms) })
	}
	for w := range writers {
		all.Go(func() {
			for i := range rounds {
				e.update(func(tx store.Tx) error {
					_, err := tx.Append(durable(rooms[(w+i)%3], "a"), durable(rooms[(w+i+1)%3], "b"))
					return err
				})
			}
		})
	}
	all.Wait()
	close(stop)
	background.Wait()
	for _, room := range rooms {
		var heard []event.Event
		for _, ev := range e.hears() {
			if ev.Room == room {
				heard = append(heard, ev)
			}
		}
		e.view(func(r store.Reader) error {
			head, err := r.Head(room)
			if err != nil {
				return err
			}
			part, err := r.Log(room, head.Trim.Offset, math.MaxInt32)
			return errors.Join(err,
				is(int(head.Newest.Offset), nil)("the newest of "+string(room), len(heard)),
				is(head.Trim.Offset > 0, nil)("something was trimmed", true),
				is(bytes.Equal(wires(part.Events), wires(heard[head.Trim.Offset:])), nil)("the rest of the log is what was heard", true),
				is(head.Trim, nil)("the trim mark", heard[head.Trim.Offset-1].Position))
		})
	}
}

// wholeLogs checks in one view that each log goes from its trim mark to its newest
// event, and has the newest 20.
func (e *env) wholeLogs(rooms []event.Room) {
	err := e.s.View(e.ctx, func(r store.Reader) error {
		for _, room := range rooms {
			head, err := r.Head(room)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			part, errLog := r.Log(room, 0, math.MaxInt32)
			if err := errors.Join(err, errLog); err != nil {
				return err
			}
			n := int(head.Newest.Offset - head.Trim.Offset)
			if len(part.Events) != n || n < min(store.LeastHistory, int(head.Newest.Offset)) {
				return fmt.Errorf("%s has %d events between %v and %v", room, len(part.Events), head.Trim, head.Newest)
			}
			if !slices.IsSortedFunc(part.Events, func(a, b event.Event) int { return int(a.Position.Offset) - int(b.Position.Offset) }) ||
				n > 0 && part.Events[0].Position.Offset != head.Trim.Offset+1 {
				return fmt.Errorf("%s begins with %v after %v", room, part.Events[0].Position, head.Trim)
			}
		}
		return nil
	})
	if err != nil {
		e.Error(err)
	}
}
