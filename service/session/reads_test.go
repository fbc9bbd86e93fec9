package session

import (
	"testing"
	"time"

	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/wire"
)

func TestWhatWasReadIsKeptForAMomentAndBounded(t *testing.T) {
	now := time.Now()
	var r reads
	at := func(offset uint64) readFrom {
		return readFrom{"testrun:r", event.Position{Epoch: 1, Offset: offset}}
	}
	piece := wire.Join(make([]byte, 2*frameBytes))
	r.put(at(0), wire.Join([]byte("little")), event.Position{Epoch: 1, Offset: 1}, now)
	if _, is := r.get(at(0), now); is {
		t.Error("what is little is kept")
	}
	const n = 1000
	for i := range uint64(n) {
		r.put(at(i), piece, event.Position{Epoch: 1, Offset: i + 9}, now)
		r.put(at(i), piece, event.Position{Epoch: 1, Offset: i + 9}, now) // by another reader
	}
	if r.bytes > keptReads || len(r.at) != len(r.order) || r.bytes != len(r.at)*piece.Size() {
		t.Errorf("%d bytes are kept in %d reads, %d in order", r.bytes, len(r.at), len(r.order))
	}
	if found, is := r.get(at(n-1), now); !is || found.last.Offset != n+8 {
		t.Errorf("the newest is %v, %v", found, is)
	}
	if _, is := r.get(at(0), now); is {
		t.Error("the oldest is kept")
	}
	if _, is := r.get(readFrom{"testrun:r", event.Position{Epoch: 2, Offset: n - 1}}, now); is {
		t.Error("what was read of one history is kept for another")
	}
	later := now.Add(readsLast + time.Second)
	if _, is := r.get(at(n-1), later); is {
		t.Error("it is kept for long")
	}
	r.put(at(n), piece, event.Position{Epoch: 1, Offset: n + 9}, later)
	if len(r.at) != 1 || r.bytes != piece.Size() {
		t.Errorf("%d reads with %d bytes are kept, all but one are too old", len(r.at), r.bytes)
	}
}
