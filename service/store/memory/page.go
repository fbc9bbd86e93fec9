package memory

import "github.com/tcmanager/tcmanager/service/event"

// Page collects the events of a part of a log until it is full.
type Page struct {
	Events []event.Event
	Full   bool

	room  event.Room
	after uint64
	limit int // bytes
	size  int
}

// NewPage returns a page for the events of a room after an offset, at most limit
// bytes of them but at least one.
func NewPage(room event.Room, after uint64, limit int) *Page {
	return &Page{room: room, after: after, limit: limit}
}

// Add adds the events of a row of the log. They keep data.
func (p *Page) Add(data []byte) error {
	events, err := event.Split(p.room, data)
	if err != nil {
		return err
	}
	for _, ev := range events {
		if ev.Position.Offset <= p.after {
			continue
		}
		if len(p.Events) > 0 && p.size+len(ev.Wire) > p.limit {
			p.Full = true
			return nil
		}
		p.Events = append(p.Events, ev)
		p.size += len(ev.Wire)
	}
	p.Full = p.size >= p.limit
	return nil
}
