package history

// fate is what became of a write.
type fate struct {
	first         Record // that was heard of it
	acked, denied *Record
	found         []Record
}

// writes returns the names of all writes in the order in which they were first
// heard of, and what became of each.
func writes(h *History) (names []string, fates map[string]*fate) {
	fates = map[string]*fate{}
	for i, r := range h.Records {
		if r.Write == "" {
			continue
		}
		if fates[r.Write] == nil {
			fates[r.Write] = &fate{first: r}
			names = append(names, r.Write)
		}
		f := fates[r.Write]
		switch r.Kind {
		case Acked:
			f.acked = &h.Records[i]
		case Denied:
			f.denied = &h.Records[i]
		case Found:
			f.found = append(f.found, r)
		default:
		}
	}
	return names, fates
}

// Durable finds writes that were acknowledged and are not in the store.
func Durable(h *History) []Violation {
	f := find("Durable", h)
	names, fates := writes(h)
	for _, name := range names {
		if w := fates[name]; w.acked != nil && len(w.found) == 0 {
			f.add(&stream{opened: w.first}, w.acked.Room, 0, 0, "write %s was acknowledged at %s and is not there", name, clock(w.acked.At))
		}
	}
	return f.found
}

// Once finds writes that are in the store twice, or are there though they were
// refused.
func Once(h *History) []Violation {
	f := find("Once", h)
	names, fates := writes(h)
	for _, name := range names {
		w := fates[name]
		if n := len(w.found); n > 1 {
			first, last := w.found[0], w.found[n-1]
			f.add(&stream{opened: w.first}, first.Room, first.Position.Offset, last.Position.Offset, "write %s is there %d times", name, n)
		}
		if w.denied != nil && w.acked == nil && len(w.found) > 0 {
			at := w.found[0].Position.Offset
			f.add(&stream{opened: w.first}, w.found[0].Room, at, at, "write %s was refused (%s) and is there", name, w.denied.Reason)
		}
	}
	return f.found
}
