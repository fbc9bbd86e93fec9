package tcmanager

import (
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	// maxLatest is how many keys of class LATEST wait for a reader; above it the
	// oldest is dropped.
	maxLatest = 1024
	// maxEphemeral is how many events wait that may be lost; above it the oldest is.
	maxEphemeral = 64
	// entryOverhead is about what an entry takes beside its encoded size.
	entryOverhead = 128
)

// buffer is what waits for the reader of one room. The classes have a queue each,
// so that none can push out another, and come out in the order in which they came
// in. It is bounded in bytes, as they were on the wire: a durable entry that
// doesn't fit is refused, for the server's log has it; of the other classes the
// oldest goes.
type buffer struct {
	limit int

	ordered     []entry // durable events, snapshots, resets: none may be missing
	bytes       int     // of ordered
	latest      map[latestKey]entry
	latestOrder []latestKey // oldest first
	latestBytes int
	ephemeral   []entry
	sequence    uint64 // of the last entry
}

type entry struct {
	delivery Delivery
	sequence uint64
	size     int
}

// latestKey names what a newer event of class LATEST replaces.
type latestKey struct {
	kind protoreflect.FieldNumber
	key  string
}

func (b *buffer) entry(d Delivery) entry {
	b.sequence++
	return entry{delivery: d, sequence: b.sequence, size: entryOverhead + proto.Size(d.Event) + proto.Size(d.Joined)}
}

// add queues deliveries of which none may be missing: all or, if there is no room
// for them, none. An empty queue takes them whatever their size.
func (b *buffer) add(ds ...Delivery) bool {
	entries := make([]entry, 0, 2)
	size := 0
	for _, d := range ds {
		e := b.entry(d)
		size += e.size
		entries = append(entries, e)
	}
	if len(b.ordered) > 0 && b.bytes+size > b.limit {
		return false
	}
	b.ordered = append(b.ordered, entries...)
	b.bytes += size
	return true
}

// addPosition queues the news that there is nothing else up to a position; one
// that waits already is enough.
func (b *buffer) addPosition(d Delivery) bool {
	if n := len(b.ordered); n > 0 && b.ordered[n-1].delivery.Kind == DeliveryPosition {
		b.ordered[n-1].delivery = d
		return true
	}
	return b.add(d)
}

// addLatest queues an event in the place of an older one of its key.
func (b *buffer) addLatest(kind protoreflect.FieldNumber, d Delivery) {
	k := latestKey{kind, d.Event.GetKey()}
	b.dropLatest(k)
	if b.latest == nil {
		b.latest = map[latestKey]entry{}
	}
	e := b.entry(d)
	b.latest[k] = e
	b.latestOrder = append(b.latestOrder, k)
	b.latestBytes += e.size
	for len(b.latestOrder) > maxLatest || len(b.latestOrder) > 1 && b.latestBytes > b.limit {
		b.dropLatest(b.latestOrder[0])
	}
}

func (b *buffer) dropLatest(k latestKey) {
	old, waits := b.latest[k]
	if !waits {
		return
	}
	delete(b.latest, k)
	b.latestBytes -= old.size
	i := slices.Index(b.latestOrder, k)
	b.latestOrder = slices.Delete(b.latestOrder, i, i+1)
}

// addEphemeral queues an event that may be lost.
func (b *buffer) addEphemeral(d Delivery) {
	if len(b.ephemeral) >= maxEphemeral {
		b.ephemeral = slices.Delete(b.ephemeral, 0, 1)
	}
	b.ephemeral = append(b.ephemeral, b.entry(d))
}

// forgetFleeting drops what a snapshot makes old.
func (b *buffer) forgetFleeting() {
	clear(b.latest)
	b.latestOrder, b.latestBytes, b.ephemeral = nil, 0, nil
}

// take removes the entry that came first.
func (b *buffer) take() (Delivery, bool) {
	const none = ^uint64(0)
	ordered, latest, ephemeral := none, none, none
	if len(b.ordered) > 0 {
		ordered = b.ordered[0].sequence
	}
	if len(b.latestOrder) > 0 {
		latest = b.latest[b.latestOrder[0]].sequence
	}
	if len(b.ephemeral) > 0 {
		ephemeral = b.ephemeral[0].sequence
	}
	switch first := min(ordered, latest, ephemeral); first {
	case none:
		return Delivery{}, false
	case ordered:
		e := b.ordered[0]
		b.ordered[0] = entry{}
		b.ordered = b.ordered[1:]
		b.bytes -= e.size
		return e.delivery, true
	case latest:
		k := b.latestOrder[0]
		e := b.latest[k]
		b.dropLatest(k)
		return e.delivery, true
	default:
		e := b.ephemeral[0]
		b.ephemeral = slices.Delete(b.ephemeral, 0, 1)
		return e.delivery, true
	}
}
