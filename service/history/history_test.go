package history_test

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/tcmanager/tcmanager/service/history"
)

const (
	room    = "testrun:r"
	project = "project:p"
	seed    = 7
)

var t0 = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// at is a moment, so many milliseconds after the beginning.
func at(ms int) time.Time { return t0.Add(time.Duration(ms) * time.Millisecond) }

func pos(offset uint64) Position { return Position{Epoch: 1, Offset: offset} }

// log is a store: a room with n events, one each 100 ms, and a member.
func log(n uint64) []Record {
	records := []Record{
		{Kind: Room, Room: room, Of: project, Position: pos(0)},
		{Kind: Room, Room: project, Of: project, Position: pos(0)},
		{Kind: Gained, User: "ann", Room: project, At: at(0)},
	}
	for i := range n {
		records = append(records, Record{Kind: Commit, Room: room, Position: pos(i + 1), Hash: fmt.Sprint(i + 1), Time: at(100 * int(i+1))})
	}
	return records
}

// session makes the records of one session's first stream, one each millisecond.
type session struct {
	records []Record
	stream  int
	ms      int
}

func open() *session {
	s := &session{stream: 1}
	return s.add(Record{Kind: Opened, User: "ann", Carrier: "native"})
}

func (s *session) add(rs ...Record) *session {
	for _, r := range rs {
		s.ms++
		r.Session, r.Stream = "s1", s.stream
		if r.Kind == Joined && r.ID != 0 && r.Present == nil {
			r.Present = []string{"ann"}
		}
		if r.At.IsZero() {
			r.At = at(s.ms)
		}
		s.records = append(s.records, r)
	}
	return s
}

func (s *session) join(p Position) *session {
	return s.add(Record{Kind: Asked, ID: 1, Room: room, Position: p})
}

// fresh joins and gets a snapshot at an offset.
func (s *session) fresh(offset uint64) *session {
	return s.join(Position{}).add(Record{Kind: Joined, ID: 1, Room: room, Position: pos(offset), Snapshot: true})
}

// resumed joins with a position and is continued; the newest event is another.
func (s *session) resumed(from Position, newest uint64) *session {
	return s.join(from).add(Record{Kind: Joined, ID: 1, Room: room, Position: pos(newest), Recovered: true})
}

func (s *session) told(offsets ...uint64) *session {
	for _, o := range offsets {
		s.add(Record{Kind: Told, Room: room, Position: pos(o), Hash: fmt.Sprint(o), Time: at(100 * int(o))})
	}
	return s
}

func (s *session) again() *session {
	s.add(Record{Kind: Ended})
	s.stream++
	return s.add(Record{Kind: Opened, User: "ann", Carrier: "websocket"})
}

func (s *session) mark(kind Kind, offset uint64) *session {
	return s.add(Record{Kind: kind, Room: room, Position: pos(offset)})
}

func TestGoodHistories(t *testing.T) {
	lost := Record{Kind: Lost, User: "ann", Room: project, At: at(1000)}
	for name, records := range map[string][]Record{
		"a snapshot and what follows":         open().fresh(2).told(3, 4, 5).mark(Stayed, 5).records,
		"continued on another carrier":        open().fresh(2).told(3).again().resumed(pos(3), 5).told(4, 5).mark(Stayed, 5).records,
		"continued from an older position":    open().fresh(2).told(3, 4, 5).again().resumed(pos(3), 5).told(4, 5).records,
		"joined again from the start":         open().resumed(pos(0), 5).told(1, 2).resumed(pos(0), 5).told(1, 2).records,
		"a bookmark behind its events":        open().fresh(2).told(3, 4).mark(Bookmark, 4).told(5).mark(Cursor, 5).records,
		"a bookmark where a stay begins":      open().fresh(2).mark(Bookmark, 2).records,
		"news before the answer to a join":    open().join(Position{}).mark(News, 0).add(Record{Kind: Joined, ID: 1, Room: room, Position: pos(2), Snapshot: true}).records,
		"left in the middle":                  open().fresh(0).told(1).mark(Left, 0).records,
		"reset for a position of nowhere":     open().join(pos(9)).add(Record{Kind: Reset, Room: room, Reason: "POSITION_UNKNOWN"}, Record{Kind: Joined, ID: 1, Room: room, Position: pos(2), Snapshot: true}).told(3).records,
		"reset because it was too far behind": open().fresh(0).told(1).add(Record{Kind: Reset, Room: room, Reason: "TOO_FAR_BEHIND"}, Record{Kind: Joined, Room: room, Position: pos(4), Snapshot: true}).told(5).records,
		"a run that is followed":              open().add(Record{Kind: Joined, Room: room, Position: pos(2), Recovered: true}).told(1, 2, 3).records,
		"put out in time, and refused": append(open().fresh(2).told(3).add(Record{Kind: Told, Room: room, Position: pos(4), Hash: "4", At: at(1900), Time: at(400)},
			Record{Kind: Evicted, Room: room, At: at(1950)}, Record{Kind: Asked, ID: 2, Room: room, At: at(3000)}, Record{Kind: Refused, ID: 2, At: at(3001)}).records, lost),
		"read late what was sent in time": append(open().fresh(2).add(Record{Kind: Stalled, At: at(500)},
			Record{Kind: Told, Room: room, Position: pos(3), Hash: "3", At: at(9000), Time: at(300)}).records, lost),
		"a right that came back": append(open().fresh(2).add(Record{Kind: Told, Room: room, Position: pos(3), Hash: "3", At: at(5000), Time: at(300)}).records,
			lost, Record{Kind: Gained, User: "ann", Room: project, At: at(1100)}),
		"clients that stood still": append(open().fresh(2).add(Record{Kind: Told, Room: room, Position: pos(3), Hash: "3", At: at(4000), Time: at(300)}).records,
			lost, Record{Kind: Paused, At: at(500), Until: at(3500)}),
		"written once":                   writer(Sent, Sent, Acked, Found),
		"written, and nobody was told":   writer(Sent, Found),
		"refused":                        writer(Sent, Denied),
		"refused at first":               writer(Sent, Denied, Sent, Acked, Found),
		"came and went":                  append(seeing(2100, 9000, 9500).records, bob(2000, 5000)...),
		"was there before":               append(seeing(0, 4000, 9500).records, bob(0, 3900)...),
		"lost, and back in another room": append(seeing(0, 0, 4000).records, bob(0, 100)...),
		"who goes on being there":        append(seeing(2100, 0, 20000).records, bob(2000, 0)...),
		"seen with old eyes":             append(seeing(0, 0, 4000).add(Record{Kind: Ended, At: at(60000)}).records, bob(0, 100)...),
		"read late": append(open().join(Position{}).add(Record{Kind: Joined, ID: 1, Room: room, Position: pos(5), Snapshot: true, Present: []string{"ann", "bob"}},
			Record{Kind: Stalled}, Record{Kind: News, Room: room, Who: "bob", Gone: true, At: at(9000)}).records, bob(0, 100)...),
		"came to a crowd": append(open().join(Position{}).add(Record{Kind: Joined, ID: 1, Room: room, Position: pos(5), Snapshot: true, Present: []string{"ann"}, Crowd: true},
			Record{Kind: Alive, At: at(9000)}).records, bob(2000, 8000)...),
		"came to what became a crowd": append(open().join(Position{}).add(Record{Kind: Joined, ID: 1, Room: room, Position: pos(5), Snapshot: true, Present: []string{"ann"}},
			Record{Kind: News, Room: room, Crowd: true, At: at(2100)}, Record{Kind: Alive, At: at(9000)}).records, bob(2000, 8000)...),
		"a token that was renewed": open().add(Record{Kind: Renewed, Until: at(100)}, Record{Kind: Renewed, Until: at(9000)}).fresh(2).
			add(Record{Kind: Told, Room: room, Position: pos(3), Hash: "3", At: at(5000), Time: at(300)}).records,
		"an event that a restored log has no longer": append(open().fresh(5).add(Record{Kind: Told, Room: room, Position: Position{1, 6}, Hash: "x"}).records,
			Record{Kind: Commit, Room: room, Position: Position{1, 6}, Hash: "x", Gone: true}),
	} {
		for _, v := range Check(&History{Seed: seed, Bounds: bounds, Records: append(log(5), records...)}) {
			t.Errorf("%s: %v", name, v)
		}
	}
}

// writer makes the records of what became of one write, and of its effects.
func writer(kinds ...Kind) []Record {
	var records []Record
	for i, k := range kinds {
		r := Record{Kind: k, Session: "s1", Write: "w1", At: at(i)}
		if k == Found {
			r.Session, r.Room, r.Position = "", room, pos(uint64(i))
		}
		records = append(records, r)
	}
	return records
}

// bob makes the records of another user's session: in the room from the first
// moment to the second, or without an end.
func bob(from, to int) []Record {
	records := []Record{
		{Kind: Opened, User: "bob", At: at(from)},
		{Kind: Asked, ID: 1, Room: room, At: at(from)},
		{Kind: Joined, ID: 1, Room: room, Position: pos(5), Snapshot: true, Present: []string{"ann", "bob"}, At: at(from + 10)},
	}
	if to > 0 {
		records = append(records, Record{Kind: Alive, At: at(to)}, Record{Kind: Ended, At: at(to)})
	}
	for i := range records {
		records[i].Session, records[i].Stream = "s2", 1
	}
	return records
}

// seeing joins, sees somebody come and go at some moments, and hears the last of
// the server at another. 0 is for never; a coming at 0 was before the join.
func seeing(comes, goes, last int) *session {
	present := []string{"ann"}
	s := open().join(Position{})
	if comes == 0 {
		present = append(present, "bob")
	}
	s.add(Record{Kind: Joined, ID: 1, Room: room, Position: pos(5), Snapshot: true, Present: present})
	if comes > 0 {
		s.add(Record{Kind: News, Room: room, Who: "bob", At: at(comes)})
	}
	if goes > 0 {
		s.add(Record{Kind: News, Room: room, Who: "bob", Gone: true, At: at(goes)})
	}
	return s.add(Record{Kind: Alive, At: at(last)}, Record{Kind: Ended, At: at(last)})
}

var bounds = Bounds{Gone: 5 * time.Second, Back: time.Second}

const never = -1

func TestEachGuaranteeFindsWhatBreaksIt(t *testing.T) {
	lost := Record{Kind: Lost, User: "ann", Room: project, At: at(1000)}
	other := Position{Epoch: 2, Offset: 3}
	late := Record{Kind: Told, Room: room, Position: pos(3), Hash: "3", At: at(2500), Time: at(300)}
	for _, bad := range []struct {
		name    string
		finds   string // all the guarantees that it breaks
		records []Record
	}{
		{"an event behind a later one", "Ordered", open().fresh(2).told(3, 5, 4).records},
		{"the log told before what waits", "Ordered Resumable", open().fresh(0).told(3, 1, 2).records},
		{"an event twice", "Unique", open().fresh(2).told(3, 4, 4).records},
		{"an event twice, later", "Unique", open().fresh(2).told(3, 4, 3).records},
		{"an event of the snapshot", "Unique", open().fresh(2).told(2, 3).records},
		{"an event that the client had", "Unique", open().fresh(2).told(3).again().resumed(pos(3), 3).told(3, 4).records},
		{"an event left out", "Reliable", open().fresh(2).told(3, 5).records},
		{"the last event never told", "Reliable", open().fresh(2).told(3, 4).mark(Stayed, 5).records},
		{"nothing told", "Reliable", open().fresh(2).mark(Stayed, 5).records},
		{"a bookmark over a gap", "Reliable Bookmarkable", open().fresh(2).told(3).mark(Bookmark, 4).records},
		{"continued one too late", "Reliable Resumable", open().fresh(2).told(3).again().resumed(pos(3), 5).told(5).records},
		{"began one too late", "Reliable Resumable", open().fresh(2).told(4).records},
		{"a silent jump", "Resumable", open().fresh(2).told(3).again().join(pos(3)).add(Record{Kind: Joined, ID: 1, Room: room, Position: pos(5), Snapshot: true}).records},
		{"a reset without a snapshot", "Resumable", open().join(pos(9)).add(Record{Kind: Reset, Room: room, Reason: "POSITION_UNKNOWN"}, Record{Kind: Joined, ID: 1, Room: room, Position: pos(5)}).records},
		{"a reset without need", "Resumable", open().join(pos(3)).add(Record{Kind: Reset, Room: room, Reason: "POSITION_TRIMMED"}, Record{Kind: Joined, ID: 1, Room: room, Position: pos(5), Snapshot: true}).records},
		{"continued and a snapshot", "Resumable", open().join(pos(3)).add(Record{Kind: Joined, ID: 1, Room: room, Position: pos(5), Recovered: true, Snapshot: true}).records},
		{"continued from another history", "Resumable", open().resumed(other, 5).told(4, 5).records},
		{"continued from a history that is gone", "Resumable", append(open().resumed(other, 5).told(4, 5).records, Record{Kind: Commit, Room: room, Position: other, Hash: "x", Gone: true})},
		{"another event than the log's", "Resumable", open().fresh(4).add(Record{Kind: Told, Room: room, Position: pos(5), Hash: "x"}).records},
		{"an event that was not committed", "Resumable", open().fresh(5).told(6).records},
		{"a bookmark ahead of an event", "Bookmarkable", open().fresh(2).told(3).mark(Bookmark, 5).told(4, 5).records},
		{"a cursor ahead of an event", "Reliable Bookmarkable", open().fresh(2).told(3).mark(Cursor, 5).records},
		{"a bookmark of another history", "Bookmarkable", open().fresh(2).told(3).add(Record{Kind: Bookmark, Room: room, Position: other}).records},
		{"a bookmark of a room that was left", "Bookmarkable", open().fresh(2).mark(Left, 0).mark(Bookmark, 2).records},
		{"an event long after the right was lost", "Authorised", append(open().fresh(2).add(late).records, lost)},
		{"an event long after, though the clients stood still before", "Authorised", append(open().fresh(2).add(late).records, lost, Record{Kind: Paused, At: at(100), Until: at(1200)})},
		{"an event long after, though two saw that the clients stood still", "Authorised", append(open().fresh(2).add(late).records, lost,
			Record{Kind: Paused, At: at(1200), Until: at(1580)}, Record{Kind: Paused, At: at(1100), Until: at(1550)})},
		{"a join long after the right was lost", "Authorised", append(open().add(Record{Kind: Asked, ID: 1, Room: room, At: at(4000)},
			Record{Kind: Joined, ID: 1, Room: room, Position: pos(5), Snapshot: true, At: at(4001)}).records, lost)},
		{"a slow reader is told what happened later", "Authorised", append(open().fresh(2).add(Record{Kind: Stalled},
			Record{Kind: Told, Room: room, Position: pos(3), Hash: "3", At: at(9000), Time: at(2500)}).records, lost)},
		{"an event after being put out", "Authorised", open().fresh(2).mark(Evicted, 0).told(3).records},
		{"news after being put out", "Authorised", open().fresh(2).mark(Evicted, 0).mark(News, 0).records},
		{"an event of a room never joined", "Authorised", open().told(3).records},
		{"another user's room", "Authorised", append(open().add(Record{Kind: News, Room: "user:bob"}).records, Record{Kind: Room, Room: "user:bob"})},
		{"an acknowledged write that isn't there", "Durable", writer(Sent, Acked)},
		{"a write that is there twice", "Once", writer(Sent, Sent, Acked, Found, Found)},
		{"a write that nobody was told of, twice", "Once", append(writer(Sent, Found, Found), writer(Acked)...)},
		{"a refused write that is there", "Once", writer(Sent, Denied, Found)},
		{"somebody who is shown for ever", "Present", append(seeing(0, 0, 9000).records, bob(0, 3000)...)},
		{"somebody who is shown too long", "Present", append(seeing(0, 9000, 9100).records, bob(0, 3000)...)},
		{"somebody who was never there", "Present", append(seeing(100, 0, 500).records, Record{Kind: Opened, Session: "s2", Stream: 1, User: "bob"})},
		{"somebody who is missing", "Present", append(seeing(never, 0, 9000).records, bob(2000, 8000)...)},
		{"somebody who is there and said to have gone", "Present", append(seeing(2100, 4000, 9000).records, bob(2000, 8000)...)},
		{"an event long after the token ended", "Authorised", open().add(Record{Kind: Renewed, Until: at(1000)}).fresh(2).add(late).records},
	} {
		h := &History{Seed: seed, Bounds: bounds, Records: append(log(5), bad.records...)}
		var found []string
		for _, v := range Check(h) {
			if !slices.Contains(found, v.Guarantee) {
				found = append(found, v.Guarantee)
			}
			if v.Session != "s1" || v.Seed != seed || !strings.Contains(v.String(), "seed 7") {
				t.Errorf("%s: a violation that doesn't say whose or how to repeat it: %v", bad.name, v)
			}
		}
		if got := strings.Join(found, " "); got != bad.finds {
			t.Errorf("%s: breaks %q, want %q", bad.name, got, bad.finds)
		}
	}
}

func TestAViolationNamesTheOffsets(t *testing.T) {
	v := Reliable(&History{Records: append(log(5), open().fresh(1).told(2).mark(Stayed, 5).records...)})
	if len(v) != 1 || v[0].First != 3 || v[0].Last != 5 || v[0].Room != room || v[0].Stream != 1 {
		t.Error(v)
	}
}

func TestAHistoryIsReadAsItWasWritten(t *testing.T) {
	want := &History{Seed: 1 << 63, Bounds: bounds, Records: append(log(3), open().fresh(2).told(3).mark(Stayed, 3).records...)}
	var file bytes.Buffer
	if err := Write(&file, want); err != nil {
		t.Fatal(err)
	}
	cut := file.Bytes()[:file.Len()-5]
	got, err := Read(&file)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	got, err = Read(bytes.NewReader(cut))
	if err != nil || !reflect.DeepEqual(got.Records, want.Records[:len(want.Records)-1]) {
		t.Errorf("cut off: got %v, %v", got, err)
	}
}

func TestWhatIsNoHistoryIsRefused(t *testing.T) {
	for _, text := range []string{"", "x\n", "{\"seed\":1}\nx\n"} {
		if _, err := Read(strings.NewReader(text)); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

func TestARecorderThatRunsAllTheTimeNotesNoPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := NewRecorder(seed)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); rec.Watch(ctx) }()
		time.Sleep(10 * time.Second)
		cancel()
		<-done
		if n := rec.Count(Paused); n != 0 {
			t.Errorf("%d pauses of a recorder that ran all the time", n)
		}
	})
}
