package history

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// span is a part of time; its end is not part of it.
type span struct{ from, to time.Time }

// forever is later than anything in a history.
var forever = time.Unix(1<<40, 0)

func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }

// union joins spans that touch, in order.
func union(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return a.from.Compare(b.from) })
	var joined []span
	for _, s := range spans {
		if n := len(joined); n > 0 && !s.from.After(joined[n-1].to) {
			joined[n-1].to = latest(joined[n-1].to, s.to)
			continue
		}
		joined = append(joined, s)
	}
	return joined
}

// gaps is the time within which none of some joined spans is.
func gaps(spans []span, within span) []span {
	var free []span
	from := within.from
	for _, s := range spans {
		if s.from.After(from) {
			free = append(free, span{from, earliest(s.from, within.to)})
		}
		from = latest(from, s.to)
	}
	free = append(free, span{from, within.to})
	return slices.DeleteFunc(free, func(s span) bool { return !s.from.Before(s.to) })
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// overlap is the time that is part of both; empty ones end before they begin.
func overlap(a, b span) span { return span{latest(a.from, b.from), earliest(a.to, b.to)} }

// being is when a user was in a room.
type being struct {
	surely []span // from the answer to a join until something was last heard of the server
	maybe  []span // from the question until the client knew that it was out
}

// observer is a stay that saw who was in the room.
type observer struct {
	stream *stream
	room   string
	span   span              // while something was heard of the server and read in time
	shown  map[string][]span // by user
}

// presence is who was where, and who saw it.
type presence struct {
	beings    map[string]map[string]*being // by room and user
	observers []*observer
	users     map[string]bool // those whose sessions the history has
}

// watcher reads the records of one stream.
type watcher struct {
	*presence
	stream *stream
	heard  time.Time            // when something was last heard of the server
	slow   bool                 // what is read may be old
	asks   map[uint64]string    // rooms by the number of the join
	asked  map[string]time.Time // since when the user may be in a room
	in     map[string]time.Time // since when the user surely is
	sees   map[string]*observer
	since  map[string]map[string]time.Time // by room and user: since when somebody is shown
}

func readPresence(h *History) *presence {
	p := &presence{beings: map[string]map[string]*being{}, users: map[string]bool{}}
	watchers := map[streamKey]*watcher{}
	var order []*watcher
	for _, r := range h.Records {
		if r.Session == "" || r.Write != "" {
			continue
		}
		key := streamKey{r.Session, r.Stream}
		if watchers[key] == nil {
			watchers[key] = &watcher{
				presence: p, stream: &stream{opened: r}, asks: map[uint64]string{}, asked: map[string]time.Time{},
				in: map[string]time.Time{}, sees: map[string]*observer{}, since: map[string]map[string]time.Time{},
			}
			order = append(order, watchers[key])
		}
		watchers[key].read(r)
	}
	for _, w := range order {
		w.out(forever)
	}
	for _, users := range p.beings {
		for _, b := range users {
			b.surely, b.maybe = union(b.surely), union(b.maybe)
		}
	}
	return p
}

func (w *watcher) read(r Record) {
	switch r.Kind {
	case Joined, Refused, Told, News, Bookmark, Cursor, Reset, Evicted, Left, Alive:
		if !w.slow {
			w.heard = r.At
		}
	default:
	}
	switch r.Kind {
	case Opened:
		w.users[r.User] = true
	case Asked:
		w.asks[r.ID] = r.Room
		if _, is := w.asked[r.Room]; !is {
			w.asked[r.Room] = r.At
		}
	case Joined:
		w.joined(r)
	case News:
		if r.Crowd {
			w.blind(r.Room, r.At)
		}
		if seen := w.sees[r.Room]; seen != nil && r.Who != "" && !w.slow {
			w.show(seen, r.Who, r.At, !r.Gone)
		}
	case Refused:
		w.leave(w.asks[r.ID], r.At)
	case Left, Evicted:
		w.leave(r.Room, r.At)
	case Stalled:
		w.slow = true
	case Ended:
		w.out(r.At)
	default:
	}
}

func (w *watcher) joined(r Record) {
	if _, is := w.in[r.Room]; !is && r.ID != 0 {
		w.in[r.Room] = r.At
	}
	w.blind(r.Room, r.At)
	if w.slow || r.Crowd { // who isn't shown may be there
		return
	}
	seen := &observer{stream: w.stream, room: r.Room, span: span{from: r.At}, shown: map[string][]span{}}
	w.sees[r.Room], w.since[r.Room] = seen, map[string]time.Time{}
	w.observers = append(w.observers, seen)
	for _, who := range r.Present {
		w.show(seen, who, r.At, true)
	}
}

// show notes that somebody is shown from now on, or no longer is.
func (w *watcher) show(seen *observer, who string, at time.Time, isThere bool) {
	since, was := w.since[seen.room][who]
	switch {
	case isThere && !was:
		w.since[seen.room][who] = at
	case !isThere && was:
		seen.shown[who] = append(seen.shown[who], span{since, at})
		delete(w.since[seen.room], who)
	}
}

// blind ends what is seen of a room.
func (w *watcher) blind(room string, at time.Time) {
	seen := w.sees[room]
	if seen == nil {
		return
	}
	delete(w.sees, room)
	seen.span.to = earliest(at, w.heard)
	for who, since := range w.since[room] {
		seen.shown[who] = append(seen.shown[who], span{since, seen.span.to})
	}
}

// leave ends a room.
func (w *watcher) leave(room string, at time.Time) {
	w.blind(room, at)
	if since, is := w.asked[room]; is {
		b := w.being(room)
		b.maybe = append(b.maybe, span{since, at})
	}
	if since, is := w.in[room]; is && since.Before(w.heard) {
		b := w.being(room)
		b.surely = append(b.surely, span{since, earliest(at, w.heard)})
	}
	delete(w.asked, room)
	delete(w.in, room)
}

// out ends all rooms.
func (w *watcher) out(at time.Time) {
	for room := range maps.Clone(w.asked) {
		w.leave(room, at)
	}
	for room := range maps.Clone(w.sees) { // those that the server brought it into
		w.blind(room, at)
	}
}

func (w *watcher) being(room string) *being {
	if w.beings[room] == nil {
		w.beings[room] = map[string]*being{}
	}
	user := w.stream.opened.User
	if w.beings[room][user] == nil {
		w.beings[room][user] = &being{}
	}
	return w.beings[room][user]
}

// Present finds who was shown in a room for too long after having gone, and who
// was missing there for too long. It judges only users whose sessions are in the
// history, all of them, and looks only with the eyes of clients that read in time, and
// at rooms that are told of everybody who is there.
func Present(h *History) []Violation {
	if h.Bounds == (Bounds{}) {
		return nil
	}
	f := find("Present", h)
	p := readPresence(h)
	for _, o := range p.observers {
		for _, user := range slices.SortedFunc(maps.Keys(p.users), cmp.Compare) {
			b := p.beings[o.room][user]
			if b == nil {
				b = &being{}
			}
			f.ghost(o, user, b, h.Bounds.Gone)
			f.missing(o, user, b, h.Bounds.Back)
		}
	}
	return f.found
}

func (f *finder) ghost(o *observer, user string, b *being, bound time.Duration) {
	shown := o.shown[user]
	if len(shown) == 0 {
		return
	}
	for _, away := range gaps(b.maybe, span{to: forever}) {
		for _, s := range shown {
			seen := overlap(s, away)
			if seen.from.Before(seen.to) && f.after(away.from, seen.to) > bound {
				f.add(o.stream, o.room, 0, 0, "%s was shown until %s and had gone %s", user, clock(seen.to), agoText(away.from, seen.to))
				return
			}
		}
	}
}

func agoText(from, to time.Time) string {
	if from.IsZero() {
		return "without ever having come"
	}
	return to.Sub(from).Round(time.Millisecond).String() + " before"
}

func (f *finder) missing(o *observer, user string, b *being, bound time.Duration) {
	if len(b.surely) == 0 {
		return
	}
	for _, unseen := range gaps(union(o.shown[user]), o.span) {
		for _, s := range b.surely {
			missed := overlap(s, unseen)
			if missed.from.Before(missed.to) && f.after(missed.from, missed.to) > bound {
				f.add(o.stream, o.room, 0, 0, "%s was not shown from %s on for %v and was there", user, clock(missed.from), missed.to.Sub(missed.from).Round(time.Millisecond))
				return
			}
		}
	}
}
