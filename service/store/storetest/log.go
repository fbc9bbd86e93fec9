package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

var room = event.RunRoom(runID)

// durable makes an event with a text to know it by.
func durable(room event.Room, text string) event.Draft {
	return draft(room, &pb.Event{Payload: &pb.Event_TestExecution{TestExecution: &pb.TestExecutionUpdate{Comment: text}}})
}

func progress(room event.Room) event.Draft {
	return draft(room, &pb.Event{Key: "run", Payload: &pb.Event_RunProgress{RunProgress: &pb.RunProgress{RunId: runID}}})
}

func typing(room event.Room) event.Draft {
	return draft(room, &pb.Event{Payload: &pb.Event_Activity{Activity: &pb.Activity{Field: "title"}}})
}

func draft(room event.Room, ev *pb.Event) event.Draft {
	d, err := event.NewDraft(room, noon, nil, ev)
	if err != nil {
		panic(fmt.Sprintf("make an event: %v", err)) // a fault of the suite
	}
	return d
}

// texts returns what the events were made with.
func texts(events []event.Event) ([]string, error) {
	var out []string
	for _, ev := range events {
		m, err := ev.Decode()
		if err != nil {
			return nil, err
		}
		if m.Room != string(ev.Room) || m.Offset != ev.Position.Offset || m.Epoch != ev.Position.Epoch {
			return nil, fmt.Errorf("event %v of %s says that it is %d of epoch %d in %s", ev.Position, ev.Room, m.Offset, m.Epoch, m.Room)
		}
		out = append(out, m.GetTestExecution().GetComment())
	}
	return out, nil
}

// appendTexts appends an event for each text, in one call each.
func appendTexts(tx store.Tx, texts ...string) error {
	var errs []error
	for _, text := range texts {
		_, err := tx.Append(durable(room, text))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// wholeLog reads a room's log in parts and checks that nothing is missing.
func wholeLog(r store.Reader, room event.Room, limit int) ([]event.Event, error) {
	var out []event.Event
	for {
		part, err := r.Log(room, uint64(len(out)), limit)
		if err != nil {
			return nil, err
		}
		for _, ev := range part.Events {
			if want := uint64(len(out) + 1); ev.Position.Offset != want || ev.Room != room {
				return nil, fmt.Errorf("event %v of %s where %d of %s should be", ev.Position, ev.Room, want, room)
			}
			out = append(out, ev)
		}
		if part.More && len(part.Events) == 0 {
			return nil, fmt.Errorf("an empty part after %d says that more follows", len(out))
		}
		if !part.More {
			return out, nil
		}
	}
}

func wires(events []event.Event) []byte {
	var out []byte
	for _, ev := range events {
		out = append(out, ev.Wire...)
	}
	return out
}

// checkPart compares one part of a log with the log.
func checkPart(r store.Reader, log []event.Event, after, limit int) error {
	part, err := r.Log(room, uint64(after), limit)
	if err != nil {
		return err
	}
	want, size := log[after:], 0
	for i, ev := range want {
		if size += len(ev.Wire); size > limit && i > 0 {
			want = want[:i]
			break
		}
	}
	if !bytes.Equal(wires(part.Events), wires(want)) || part.More != (after+len(want) < len(log)) {
		return fmt.Errorf("after %d, at most %d bytes: %d events, more %v; want %d", after, limit, len(part.Events), part.More, len(want))
	}
	for i, ev := range part.Events {
		if ev.Position != want[i].Position || ev.Kind != want[i].Kind || ev.Class != want[i].Class || ev.Room != want[i].Room {
			return fmt.Errorf("event %d after %d is %v, want %v", i, after, ev, want[i])
		}
	}
	return nil
}

var logTests = []test{
	{"a new room's head is before its first event, in the epoch it was made in", func(e *env) {
		e.update(populate)
		made := event.Position{Epoch: e.s.Epoch()}
		want := store.Head{Newest: made, Trim: made}
		check := func(r store.Reader) error {
			part, err := r.Log(room, 0, 100)
			recent, errRecent := r.Recent(room, 5)
			return errors.Join(err, errRecent,
				is(r.Head(room))("the head", want),
				is(len(part.Events)+len(recent), nil)("events", 0),
				is(part.More, nil)("more", false))
		}
		e.view(check)
		e.reopen()
		e.view(check)
		want.Newest = event.Position{Epoch: e.s.Epoch(), Offset: 1}
		checkHead := func(r store.Reader) error { return is(r.Head(room))("the head after an event", want) }
		e.keeps(func(tx store.Tx) error { return appendTexts(tx, "a") }, checkHead)
	}},
	{"a room that was never made is not found", func(e *env) {
		e.keeps(populate, func(r store.Reader) error {
			recent, err := r.Recent(event.RunRoom(missing), 5)
			return errors.Join(
				fails(r.Head(event.RunRoom(missing)))("its head", store.ErrNotFound),
				fails(r.Log(event.RunRoom(missing), 0, 100))("its log", store.ErrNotFound),
				is(len(recent), err)("its recent events", 0),
			)
		})
	}},
	{"an event makes the room it needs", func(e *env) {
		e.keeps(func(tx store.Tx) error {
			_, err := tx.Append(durable("project:new", "x"), typing("project:quiet"))
			return err
		}, func(r store.Reader) error {
			head, err := r.Head("project:new")
			quiet, errQuiet := r.Head("project:quiet")
			return errors.Join(
				is(head.Newest.Offset, err)("the head", 1),
				is(quiet.Newest.Offset, errQuiet)("the head of the room without durable events", 0),
			)
		})
	}},
	{"durable events are numbered from 1 in their room, the others not at all", func(e *env) {
		var events []event.Event
		e.update(func(tx store.Tx) (err error) {
			if err := populate(tx); err != nil {
				return err
			}
			events, err = tx.Append(durable(room, "a"), progress(room), durable("user:ada", "b"), typing(room), durable(room, "c"))
			return err
		})
		var got []event.Position
		for _, ev := range events {
			got = append(got, ev.Position)
		}
		in := func(offset uint64) event.Position { return event.Position{Epoch: e.s.Epoch(), Offset: offset} }
		if want := []event.Position{in(1), {}, in(1), {}, in(2)}; !same(got, want) {
			e.Errorf("positions %v, want %v", got, want)
		}
		e.view(func(r store.Reader) error {
			log, err := wholeLog(r, room, 1<<20)
			if err != nil {
				return err
			}
			head, err := r.Head(room)
			found, errTexts := texts(log)
			return errors.Join(is(found, errTexts)("the log", []string{"a", "c"}), is(head.Newest, err)("the head", in(2)))
		})
	}},
	{"a part of the log begins after any offset and ends at any size", func(e *env) {
		// Texts of many lengths, one beyond any row, in groups of one and of many.
		e.update(populate)
		var log []event.Event
		add := func(texts ...string) {
			e.update(func(tx store.Tx) error {
				for _, text := range texts {
					events, err := tx.Append(durable(room, text))
					if err != nil {
						return err
					}
					log = append(log, events...)
				}
				return nil
			})
		}
		for i := range 10 {
			add(fmt.Sprintf("single %d", i))
		}
		many := make([]string, 120)
		for i := range many {
			many[i] = strings.Repeat("x", i*i%4000)
		}
		add(many...)
		add(strings.Repeat("y", 200_000), "after it")
		check := func(r store.Reader) error {
			var errs []error
			for after := range len(log) + 1 {
				for _, limit := range []int{0, 1, 1000, 70_000, 1 << 20} {
					errs = append(errs, checkPart(r, log, after, limit))
				}
			}
			beyond, err := r.Log(room, uint64(len(log)+5), 100)
			far, errFar := r.Log(room, math.MaxInt64, 100)
			return errors.Join(append(errs, is(len(beyond.Events)+len(far.Events), errors.Join(err, errFar))("events beyond the end", 0))...)
		}
		e.view(check)
		e.reopen()
		e.view(check)
	}},
	{"recent events are the newest, oldest first", func(e *env) {
		e.update(populate)
		var want []string
		for i := range 7 {
			texts := []string{fmt.Sprintf("%d a", i), fmt.Sprintf("%d b", i), fmt.Sprintf("%d c", i)}
			want = append(want, texts...)
			e.update(func(tx store.Tx) error { return appendTexts(tx, texts...) })
		}
		check := func(r store.Reader) error {
			var errs []error
			for n := range len(want) + 3 {
				events, err := r.Recent(room, n)
				if err != nil {
					return err
				}
				got, err := texts(events)
				errs = append(errs, is(got, err)(fmt.Sprintf("the newest %d", n), want[max(0, len(want)-n):]))
			}
			return errors.Join(errs...)
		}
		e.view(check)
		e.reopen()
		e.view(check)
		e.update(func(tx store.Tx) error {
			want = append(want, "new 1", "new 2")
			return errors.Join(appendTexts(tx, "new 1", "new 2"), check(tx))
		})
	}},
	{"a transaction reads its own events behind those before it", func(e *env) {
		e.update(func(tx store.Tx) error { return errors.Join(populate(tx), appendTexts(tx, "a", "b")) })
		e.update(func(tx store.Tx) error {
			if err := appendTexts(tx, "c", strings.Repeat("d", 100_000), "e"); err != nil {
				return err
			}
			log, err := wholeLog(tx, room, 50)
			if err != nil {
				return err
			}
			got, err := texts(log)
			head, errHead := tx.Head(room)
			return errors.Join(
				is(got, err)("the log", []string{"a", "b", "c", strings.Repeat("d", 100_000), "e"}),
				is(head.Newest.Offset, errHead)("the head", 5))
		})
	}},
	{"events that were undone leave no gap and no trace", func(e *env) {
		undo := errors.New("undo")
		e.update(populate)
		var want []string
		for i := range 20 {
			err := e.s.Update(e.ctx, func(tx store.Tx) error {
				err := errors.Join(appendTexts(tx, strconv.Itoa(i), fmt.Sprint(i, "b")))
				if _, e := tx.Append(durable(event.Room(fmt.Sprintf("project:%d", i)), "x")); e != nil {
					return e
				}
				if i%3 == 0 {
					return errors.Join(err, undo)
				}
				return err
			})
			if i%3 == 0 {
				if !errors.Is(err, undo) {
					e.Fatalf("got %v", err)
				}
				continue
			}
			if err != nil {
				e.Fatal(err)
			}
			want = append(want, strconv.Itoa(i), fmt.Sprint(i, "b"))
		}
		check := func(r store.Reader) error {
			log, err := wholeLog(r, room, 100)
			if err != nil {
				return err
			}
			got, err := texts(log)
			_, errKept := r.Head("project:1")
			return errors.Join(is(got, err)("the log", want), errKept,
				fails(r.Head("project:0"))("a room that was undone", store.ErrNotFound))
		}
		e.view(check)
		e.reopen()
		e.view(check)
		if got, err := texts(runEvents(e.hears())); err != nil || !same(got, want) {
			e.Errorf("heard %v, want %v (%v)", got, want, err)
		}
	}},
	{"each start is a new epoch, and events keep theirs", func(e *env) {
		var epochs []uint64
		for i := range 4 {
			if e.s.Epoch() == 0 {
				e.Fatal("the epoch is 0")
			}
			for _, old := range epochs {
				if old == e.s.Epoch() {
					e.Fatalf("epoch %d came twice", old)
				}
			}
			epochs = append(epochs, e.s.Epoch())
			e.update(func(tx store.Tx) error {
				if i == 0 {
					if err := populate(tx); err != nil {
						return err
					}
				}
				return appendTexts(tx, strconv.Itoa(i), strconv.Itoa(i))
			})
			e.reopen()
			head := event.Position{Epoch: epochs[i], Offset: uint64(2*i + 2)}
			e.view(func(r store.Reader) error {
				h, err := r.Head(room)
				return is(h.Newest, err)("the head after a restart", head)
			})
		}
		e.view(func(r store.Reader) error {
			log, err := wholeLog(r, room, 100)
			if err != nil {
				return err
			}
			var errs []error
			for i, ev := range log {
				errs = append(errs, is(ev.Position.Epoch, nil)(fmt.Sprintf("the epoch of event %d", i+1), epochs[i/2]))
			}
			return errors.Join(errs...)
		})
	}},
}

// runEvents returns those of the run's room.
func runEvents(events []event.Event) []event.Event {
	var out []event.Event
	for _, ev := range events {
		if ev.Room == room {
			out = append(out, ev)
		}
	}
	return out
}
