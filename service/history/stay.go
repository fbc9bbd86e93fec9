package history

import (
	"slices"
	"time"
)

// stay is a session's being in a room.
type stay struct {
	stream *stream
	room   string
	asked  *Record  // the join that began it; nil if the server did by itself
	came   Position // what the client came back with; zero for nothing
	joined Record
	reset  string   // the reason, if the client was told to start anew
	from   Position // where it begins: events behind it are told
	told   []Record // Told, Bookmark, Cursor and Stayed, in order
}

// events are the durable events that were told.
func (s *stay) events() []Record {
	var events []Record
	for _, r := range s.told {
		if r.Kind == Told {
			events = append(events, r)
		}
	}
	return events
}

type streamKey struct {
	session string
	number  int
}

// stream is one stream of a session.
type stream struct {
	opened Record
	until  time.Time // the end of its token; zero for none
	slow   time.Time // from when on what is read may be old; zero for never
	asks   map[uint64]Record
	open   map[string]Record // joins by room that are not answered
	stays  map[string]*stay  // by room
	resets map[string]string // by room: reasons of resets whose snapshot has not come
	gone   map[string]bool   // rooms that the session was put out of and has not asked for since
}

// book is a history, read.
type book struct {
	seed   uint64
	rooms  map[string]Record              // Room
	log    map[string]map[Position]Record // Commit
	kept   map[string]map[uint64]Record   // of log: those not gone, by offset
	rights map[string][]Record            // by user and room of a project: Gained and Lost, by time
	stays  []*stay                        // in order of their beginning
	heard  []heard                        // all that was told of a room
	pauses []Record                       // Paused, in their order
	strays []Record                       // Told, Bookmark, Cursor in rooms that the session was not in; News after it was put out
}

// heard is something that was told of a room, with what was the case then.
type heard struct {
	Record
	stream *stream
	stay   *stay
	until  time.Time
	slow   bool
}

func read(h *History) *book {
	b := &book{
		seed: h.Seed, rooms: map[string]Record{}, log: map[string]map[Position]Record{},
		kept: map[string]map[uint64]Record{}, rights: map[string][]Record{},
	}
	for _, r := range h.Records {
		b.readStore(r)
	}
	for _, changes := range b.rights {
		slices.SortStableFunc(changes, func(x, y Record) int { return x.At.Compare(y.At) })
	}
	slices.SortStableFunc(b.pauses, func(x, y Record) int { return x.At.Compare(y.At) })
	streams := map[streamKey]*stream{}
	for _, r := range h.Records {
		if r.Session == "" {
			continue
		}
		key := streamKey{r.Session, r.Stream}
		if streams[key] == nil {
			streams[key] = &stream{
				opened: r, asks: map[uint64]Record{}, open: map[string]Record{}, stays: map[string]*stay{},
				resets: map[string]string{}, gone: map[string]bool{},
			}
		}
		b.readStream(streams[key], r)
	}
	return b
}

func rightKey(user, projectRoom string) string { return user + " " + projectRoom }

func (b *book) readStore(r Record) {
	switch r.Kind {
	case Room:
		b.rooms[r.Room] = r
	case Commit:
		if b.log[r.Room] == nil {
			b.log[r.Room], b.kept[r.Room] = map[Position]Record{}, map[uint64]Record{}
		}
		if old, ok := b.log[r.Room][r.Position]; ok && !old.Gone {
			return // it was read before and is still there
		}
		b.log[r.Room][r.Position] = r
		if !r.Gone {
			b.kept[r.Room][r.Position.Offset] = r
		}
	case Gained, Lost:
		key := rightKey(r.User, r.Room)
		b.rights[key] = append(b.rights[key], r)
	case Paused:
		b.pauses = append(b.pauses, r)
	default:
	}
}

func (b *book) readStream(s *stream, r Record) {
	switch r.Kind {
	case Opened, Renewed:
		s.until = r.Until
	case Stalled:
		if s.slow.IsZero() {
			s.slow = r.At
		}
	case Asked:
		s.asks[r.ID] = r
		s.open[r.Room] = r
		delete(s.gone, r.Room)
	case Refused:
		if ask, ok := s.asks[r.ID]; ok {
			delete(s.open, ask.Room)
		}
	case Reset:
		s.resets[r.Room] = r.Reason
	case Joined:
		b.begin(s, r)
	case Told, Bookmark, Cursor, News:
		b.tell(s, r)
	case Stayed:
		if st := s.stays[r.Room]; st != nil {
			st.told = append(st.told, r)
		}
	case Left:
		delete(s.stays, r.Room)
	case Evicted:
		delete(s.stays, r.Room)
		_, asking := s.open[r.Room]
		s.gone[r.Room] = !asking
	case Ended:
		clear(s.stays)
	default:
	}
}

// begin begins a stay.
func (b *book) begin(s *stream, r Record) {
	st := &stay{stream: s, room: r.Room, joined: r, reset: s.resets[r.Room], from: r.Position}
	delete(s.resets, r.Room)
	delete(s.gone, r.Room)
	delete(s.open, r.Room)
	old := s.stays[r.Room]
	ask, asked := s.asks[r.ID]
	switch {
	case asked && r.ID != 0:
		st.asked, st.came = &ask, ask.Position
	case old != nil && st.reset != "": // the server began it anew
		st.came = old.place()
	case r.Recovered: // a run that is followed is told from its first event
		st.came = b.rooms[r.Room].Position
	}
	if r.Recovered {
		st.from = st.came
	}
	s.stays[r.Room] = st
	b.stays = append(b.stays, st)
	b.heard = append(b.heard, heard{r, s, st, s.until, !s.slow.IsZero()})
}

// place is where the client is: behind the last event, or where the stay began.
func (s *stay) place() Position {
	if events := s.events(); len(events) > 0 {
		return events[len(events)-1].Position
	}
	return s.from
}

func (b *book) tell(s *stream, r Record) {
	st := s.stays[r.Room]
	switch {
	case r.Kind == News && s.gone[r.Room], r.Kind != News && st == nil:
		b.strays = append(b.strays, r)
	case r.Kind != News:
		st.told = append(st.told, r)
	}
	b.heard = append(b.heard, heard{r, s, st, s.until, !s.slow.IsZero()})
}

// isPlace reports whether a position is one that the log has, or had if gone is
// asked for too.
func (b *book) isPlace(room string, p Position, gone bool) bool {
	if p == b.rooms[room].Position {
		return true
	}
	r, ok := b.log[room][p]
	return ok && (gone || !r.Gone)
}

// before returns the place before an event in the history that the event is of.
func (b *book) before(room string, ev Record) []Position {
	if ev.Position.Offset == b.rooms[room].Position.Offset+1 {
		return []Position{b.rooms[room].Position}
	}
	if !ev.Gone {
		return []Position{b.kept[room][ev.Position.Offset-1].Position}
	}
	var places []Position // a gone event may follow any other gone one, or a kept one
	for p := range b.log[room] {
		if p.Offset == ev.Position.Offset-1 {
			places = append(places, p)
		}
	}
	return places
}

// since returns since when a user has had no right to hear a room at a moment;
// false if the user had it.
func (b *book) since(user, room string, at time.Time) (time.Time, bool) {
	of := b.rooms[room].Of
	if of == "" {
		return time.Time{}, false // a user's own room
	}
	var lost time.Time
	var isLost bool
	for _, change := range b.rights[rightKey(user, of)] {
		if change.At.After(at) {
			break
		}
		if isLost = change.Kind == Lost; isLost {
			lost = change.At
		}
	}
	return lost, isLost
}

// after is how long after one moment another is, without the time in which the
// clients stood still. Who noticed that at the same time noticed the same.
func (b *book) after(from, to time.Time) time.Duration {
	d := to.Sub(from)
	for _, p := range b.pauses {
		begin, end := p.At, p.Until
		if begin.Before(from) {
			begin = from
		}
		if end.After(to) {
			end = to
		}
		if end.After(begin) {
			d -= end.Sub(begin)
			from = end
		}
	}
	return d
}
