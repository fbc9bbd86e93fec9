package history

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// MaxRecords bounds a Recorder: about 1 GB of memory.
const MaxRecords = 4_000_000

// ErrFull says that something happened that was not recorded any more.
var ErrFull = errors.New("the history is longer than a recorder holds; record for a shorter time")

// Recorder makes a History. Its methods may be called by many goroutines: each
// session's records keep the order of the calls.
type Recorder struct {
	mu      sync.Mutex // guards the rest
	history History
	full    bool
	counts  map[Kind]int
}

// NewRecorder returns a recorder of an empty history.
func NewRecorder(seed uint64) *Recorder {
	return &Recorder{history: History{Seed: seed}, counts: map[Kind]int{}}
}

// Add records something, and when, if At doesn't say it.
func (r *Recorder) Add(rec Record) {
	if rec.At.IsZero() {
		rec.At = time.Now()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.history.Records) >= MaxRecords {
		r.full = true
		return
	}
	r.history.Records = append(r.history.Records, rec)
	r.counts[rec.Kind]++
}

// Count returns how many records of a kind there are.
func (r *Recorder) Count(kind Kind) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts[kind]
}

const (
	tick = 20 * time.Millisecond
	// standstill is how late a tick may be before it counts: a loaded machine is often
	// late by some tens of milliseconds.
	standstill = 200 * time.Millisecond
)

// Watch records, until ctx ends, when this process stood still: because it was
// stopped, or others had the processors.
func (r *Recorder) Watch(ctx context.Context) {
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	for last := time.Now(); ; last = time.Now() {
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
		r.ticked(last, time.Now())
	}
}

func (r *Recorder) ticked(last, now time.Time) {
	if now.Sub(last) > standstill {
		r.Add(Record{Kind: Paused, At: last, Until: now})
	}
}

// History returns what was recorded until now. What is added afterwards is not in it.
func (r *Recorder) History() (*History, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.full {
		return nil, ErrFull
	}
	// Clipped, so that what is added goes elsewhere: Watch may go on.
	r.history.Records = slices.Clip(r.history.Records)
	h := r.history
	return &h, nil
}

// OfEvent returns a record of an event: Told or News, or, of the log, Commit.
func OfEvent(kind Kind, ev *pb.Event) Record {
	rec := Record{Kind: kind, Room: ev.GetRoom(), Position: Position{ev.GetEpoch(), ev.GetOffset()}}
	if ev.GetTime() != nil {
		rec.Time = ev.GetTime().AsTime()
	}
	if kind == News {
		if p := ev.GetPresence().GetPresence(); p != nil {
			state := p.GetState()
			rec.Who, rec.Gone = p.GetUser().GetId(), state == pb.PresenceState_PRESENCE_STATE_OFFLINE || state == pb.PresenceState_PRESENCE_STATE_UNLISTED
		}
		rec.Crowd = ev.GetHeadcount() != nil
		return rec
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(ev)
	if err != nil {
		rec.Reason = err.Error() // an event that was decoded can be encoded
		return rec
	}
	sum := sha256.Sum256(b)
	rec.Hash = hex.EncodeToString(sum[:8])
	return rec
}

// OfPresence returns who is in a room, as a record of Joined holds it.
func OfPresence(people []*pb.Presence) []string {
	ids := make([]string, 0, len(people))
	for _, p := range people {
		ids = append(ids, p.GetUser().GetId())
	}
	return ids
}

// OfPosition returns a position as records hold it.
func OfPosition(p *pb.Position) Position { return Position{p.GetEpoch(), p.GetOffset()} }

// Proto returns the position as a client sends it; nil for none.
func (p Position) Proto() *pb.Position {
	if p == (Position{}) {
		return nil
	}
	return &pb.Position{Epoch: p.Epoch, Offset: p.Offset}
}
