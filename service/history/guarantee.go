package history

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Guarantee is a promise with the function that holds a history against it.
type Guarantee struct {
	Name  string
	Check func(*History) []Violation
}

// Guarantees are all of them.
var Guarantees = []Guarantee{
	{"Ordered", Ordered},
	{"Unique", Unique},
	{"Reliable", Reliable},
	{"Resumable", Resumable},
	{"Bookmarkable", Bookmarkable},
	{"Authorised", Authorised},
	{"Durable", Durable},
	{"Once", Once},
	{"Present", Present},
}

// Check holds a history against every guarantee.
func Check(h *History) []Violation {
	var all []Violation
	for _, g := range Guarantees {
		all = append(all, g.Check(h)...)
	}
	return all
}

// finder collects the violations of one guarantee.
type finder struct {
	*book
	guarantee string
	found     []Violation
}

func find(guarantee string, h *History) *finder { return &finder{book: read(h), guarantee: guarantee} }

func (f *finder) add(s *stream, room string, first, last uint64, what string, args ...any) {
	f.found = append(f.found, Violation{
		Guarantee: f.guarantee, Session: s.opened.Session, Stream: s.opened.Stream, Room: room,
		First: first, Last: last, What: fmt.Sprintf(what, args...), Seed: f.seed,
	})
}

// Ordered finds durable events that came behind one with a higher offset. One
// that comes again is a matter of Unique.
func Ordered(h *History) []Violation {
	f := find("Ordered", h)
	for _, s := range f.stays {
		told := map[Position]bool{}
		highest := s.from.Offset
		for _, ev := range s.events() {
			at := ev.Position.Offset
			if at < highest && at > s.from.Offset && !told[ev.Position] {
				f.add(s.stream, s.room, at, at, "it was told after event %d", highest)
			}
			told[ev.Position] = true
			highest = max(highest, at)
		}
	}
	return f.found
}

// Unique finds durable events that came twice in a stay, or that the session had
// when the stay began.
func Unique(h *History) []Violation {
	f := find("Unique", h)
	for _, s := range f.stays {
		told := map[Position]bool{}
		for _, ev := range s.events() {
			at := ev.Position.Offset
			switch {
			case told[ev.Position]:
				f.add(s.stream, s.room, at, at, "it was told twice")
			case at <= s.from.Offset:
				f.add(s.stream, s.room, at, at, "it was told to a session that began at %v", s.from)
			}
			told[ev.Position] = true
		}
	}
	return f.found
}

// Reliable finds events that were not told though what is behind them was
// promised: another event, a bookmark or a cursor was, or the room was quiet.
func Reliable(h *History) []Violation {
	f := find("Reliable", h)
	for _, s := range f.stays {
		told := map[uint64]bool{}
		var last Record
		for _, r := range s.told {
			if r.Kind == Told {
				told[r.Position.Offset] = true
			}
			if r.Position.Offset > last.Position.Offset {
				last = r
			}
		}
		f.addGaps(s, told, last)
	}
	return f.found
}

func (f *finder) addGaps(s *stay, told map[uint64]bool, last Record) {
	for at := s.from.Offset + 1; at <= last.Position.Offset; at++ {
		if told[at] {
			continue
		}
		first := at
		for at < last.Position.Offset && !told[at+1] {
			at++
		}
		f.add(s.stream, s.room, first, at, "it was never told, though the session began at %v and had %s %d", s.from, last.Kind, last.Position.Offset)
	}
}

// Resumable finds joins that were neither continued where the client was nor reset
// for a good reason, and events that are not the log's.
func Resumable(h *History) []Violation {
	f := find("Resumable", h)
	for _, s := range f.stays {
		switch {
		case s.joined.Recovered:
			f.continued(s)
		default:
			f.begunAnew(s)
		}
		f.behind(s)
		for _, ev := range s.events() {
			f.sameAsLog(s, ev)
		}
	}
	return f.found
}

// continued looks at a stay that goes on where the client was.
func (f *finder) continued(s *stay) {
	at := s.came.Offset
	switch {
	case s.came == (Position{}):
		f.add(s.stream, s.room, at, at, "it was continued, though the client came without a position")
	case s.reset != "":
		f.add(s.stream, s.room, at, at, "it was continued and reset (%s)", s.reset)
	case s.joined.Snapshot:
		f.add(s.stream, s.room, at, at, "it was continued and got a snapshot, which may be ahead of what follows")
	case !f.isPlace(s.room, s.came, true):
		f.add(s.stream, s.room, at, at, "it was continued from %v, which no log has had", s.came)
	case s.joined.Position.Offset < at:
		f.add(s.stream, s.room, at, at, "it was continued from %v, though the newest event was %v", s.came, s.joined.Position)
	case !f.isPlace(s.room, s.came, false) && f.isPlace(s.room, s.joined.Position, false):
		f.add(s.stream, s.room, at, at, "it was continued from %v of another history", s.came)
	}
}

// begunAnew looks at a stay that began with a snapshot.
func (f *finder) begunAnew(s *stay) {
	at := s.came.Offset
	if !s.joined.Snapshot {
		f.add(s.stream, s.room, at, at, "it began anew without a snapshot")
	}
	if s.came == (Position{}) {
		return
	}
	if s.reset == "" {
		f.add(s.stream, s.room, at, s.joined.Position.Offset, "the client came back with %v and began at %v without a reset", s.came, s.joined.Position)
	}
	trimmed := s.reset == "POSITION_TRIMMED" && s.came.Offset < f.rooms[s.room].Position.Offset
	if f.isPlace(s.room, s.came, false) && !trimmed && s.reset != "TOO_FAR_BEHIND" {
		f.add(s.stream, s.room, at, at, "it was reset (%s), though the log has %v", s.reset, s.came)
	}
}

// behind looks whether the first event told is the one behind where a stay began.
func (f *finder) behind(s *stay) {
	events := s.events()
	if len(events) == 0 || events[0].Position.Offset <= s.from.Offset {
		return // the latter is a matter of Unique
	}
	first := events[0].Position
	if first.Offset != s.from.Offset+1 {
		f.add(s.stream, s.room, s.from.Offset+1, first.Offset-1, "the stay began at %v, and event %d came first", s.from, first.Offset)
		return
	}
	if slices.Contains(f.before(s.room, f.log[s.room][first]), s.from) {
		return
	}
	if _, known := f.log[s.room][first]; known {
		f.add(s.stream, s.room, first.Offset, first.Offset, "the stay began at %v, which is of another history than event %v", s.from, first)
	}
}

func (f *finder) sameAsLog(s *stay, ev Record) {
	at := ev.Position.Offset
	committed, ok := f.log[s.room][ev.Position]
	switch {
	case !ok:
		f.add(s.stream, s.room, at, at, "an event %v was told that no log has had", ev.Position)
	case committed.Hash != ev.Hash:
		f.add(s.stream, s.room, at, at, "event %v is another in the log", ev.Position)
	}
}

// Bookmarkable finds bookmarks and cursors that were ahead of an event, or are no
// place in the log.
func Bookmarkable(h *History) []Violation {
	f := find("Bookmarkable", h)
	for _, s := range f.stays {
		told := map[uint64]bool{}
		place := s.from.Offset // all up to here was told
		for _, r := range s.told {
			switch r.Kind {
			case Told:
				told[r.Position.Offset] = true
				for told[place+1] {
					place++
				}
			case Bookmark, Cursor:
				f.bookmark(s, r, place)
			default:
			}
		}
	}
	for _, r := range f.strays {
		if r.Kind == Bookmark || r.Kind == Cursor {
			f.add(&stream{opened: r}, r.Room, r.Position.Offset, r.Position.Offset, "a %s came for a room that the session was not in", r.Kind)
		}
	}
	return f.found
}

func (f *finder) bookmark(s *stay, r Record, place uint64) {
	at := r.Position.Offset
	if at > place {
		f.add(s.stream, s.room, place+1, at, "a %s at %d came before them", r.Kind, at)
	}
	if !f.isPlace(s.room, r.Position, true) {
		f.add(s.stream, s.room, at, at, "a %s at %v is no place in a log", r.Kind, r.Position)
	}
}

// Authorised finds what was told without the right to hear it.
func Authorised(h *History) []Violation {
	f := find("Authorised", h)
	for _, r := range f.strays {
		if r.Kind == Told || r.Kind == News {
			f.add(&stream{opened: r}, r.Room, r.Position.Offset, r.Position.Offset, "it was told in a room that the session was not in")
		}
	}
	for _, r := range f.heard {
		f.right(r)
		f.token(r)
	}
	return f.found
}

// right looks whether a right had been lost for too long. A client that stopped
// reading may read late what was sent in time, so there it is asked whether the
// event itself is from after the loss.
func (f *finder) right(r heard) {
	at, user := r.Position.Offset, r.stream.opened.User
	if owner, ok := strings.CutPrefix(r.Room, "user:"); ok {
		if owner != user {
			f.add(r.stream, r.Room, at, at, "%s was told of another user's room", user)
		}
		return
	}
	when := r.At
	if r.slow {
		when = r.Time
	}
	if when.IsZero() {
		return
	}
	lost, isLost := f.since(user, r.Room, when)
	if isLost && f.after(lost, when) > Bound && (!r.slow || r.stay != nil && lost.After(r.stay.joined.At)) {
		f.add(r.stream, r.Room, at, at, "%s %v after %s lost the right", r.Kind, when.Sub(lost).Round(time.Millisecond), user)
	}
}

// token looks whether the token had ended too long ago.
func (f *finder) token(r heard) {
	when := r.At
	if r.slow {
		when = r.Time
	}
	if !r.until.IsZero() && f.after(r.until, when) > Bound {
		f.add(r.stream, r.Room, r.Position.Offset, r.Position.Offset, "%s %v after the token ended", r.Kind, when.Sub(r.until).Round(time.Millisecond))
	}
}
