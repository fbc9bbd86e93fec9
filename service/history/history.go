// Package history is what is checked when the guarantees of rooms are: a record
// of what clients were told and of what the store committed, and one function for
// each guarantee that finds where a history breaks it.
//
// A History is plain data, written as lines of JSON, so that the clients, the
// store's log and the check may be in different processes. Whoever records says
// what happened and judges nothing.
//
// # Words
//
// A session is one client over all of its streams, whatever carries them. A stay
// is a session's being in a room: from the answer to a join until the room is
// joined again, left, or the stream ends. A stay begins at a position: the one
// the client came back with if it was continued, that of the snapshot if not.
// The log is what the store had committed when the history was closed; what an
// older log had and a restored one has no longer is marked as gone. A right is a
// user's to hear a project: its room, and the rooms of its runs and test cases.
// A write is something that a client asked the server to keep, under a name of
// its own, however often it had to ask.
//
// # The guarantees
//
//   - Ordered: in a stay, durable events come by their offsets.
//   - Unique: in a stay, no durable event comes twice, and none that the session
//     had at the position where the stay began.
//   - Reliable: in a stay, nothing is missing between where it began and the last
//     event, bookmark or cursor told; and a session that stayed until the room was
//     quiet was told all that was committed.
//   - Resumable: a join with a position is continued with the event behind it, or
//     answered with a reset and a snapshot, and with a reset only if the log no
//     longer has that position. Each event told is the one in the log.
//   - Bookmarkable: when a bookmark or a cursor comes, all up to it was told in
//     the stay, and it is a place in the log.
//   - Authorised: later than Bound after a right was lost, or a token ended,
//     nothing is told that needed it; and nothing of a room outside of a stay.
//   - Durable: a write that was acknowledged is in the store.
//   - Once: no write is in the store twice, and none that was refused is.
//   - Present: nobody is shown in a room who has been away for longer than
//     Bounds.Gone, and nobody is missing for longer than Bounds.Back who is there.
//
// Time in which the clients or the server stood still doesn't count.
package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Bound is how long after a right was lost a session may still be told something
// that was on its way.
const Bound = time.Second

// Position is a place in a room's log; zero means none.
type Position struct {
	Epoch  uint64 `json:"epoch"`
	Offset uint64 `json:"offset"`
}

func (p Position) String() string { return fmt.Sprintf("%d (epoch %x)", p.Offset, p.Epoch) }

// Kind says what a record is of.
type Kind string

// What clients say and are told. Each names Session and Stream, and At is when the
// client sent or read it.
const (
	Opened   Kind = "opened"   // a stream: User, Carrier, Until (the end of its token)
	Renewed  Kind = "renewed"  // the stream's token: Until
	Asked    Kind = "asked"    // a join: ID, Room, Position (zero for none)
	Joined   Kind = "joined"   // its answer: ID (0 if not asked for), Room, Position, Recovered, Snapshot, Present, Crowd
	Refused  Kind = "refused"  // a request: ID, Reason
	Told     Kind = "told"     // a durable event: Room, Position, Hash, Time
	News     Kind = "news"     // an event that is not durable: Room; of presence also Who, and Gone for one who left; Crowd
	Alive    Kind = "alive"    // the answer to a ping
	Bookmark Kind = "bookmark" // Room, Position
	Cursor   Kind = "cursor"   // a bookmark in the last frame of a stream: Room, Position
	Reset    Kind = "reset"    // Room, Reason
	Evicted  Kind = "evicted"  // Room, Reason
	Left     Kind = "left"     // Room
	Stalled  Kind = "stalled"  // the client stopped reading: what it reads from now on may be old
	Ended    Kind = "ended"    // the stream: Reason
	Paused   Kind = "paused"   // no client of the process got to run or was heard, or the server wasn't: At, Until; of no session
	Stayed   Kind = "stayed"   // the room has been quiet: Room, Position (the newest event by then)
)

// What became of writes. Each names Write, and Session is who asked for it.
const (
	Sent   Kind = "sent"   // it was asked for, for the first time or again
	Acked  Kind = "acked"  // the server said that it is kept
	Denied Kind = "denied" // the server said that it is not kept, and it was not asked for again: Reason
)

// What the store knows.
const (
	Found  Kind = "found"  // an effect of a write: Write, Room, Position
	Room   Kind = "room"   // Room, Of (the project's room that decides who may be in it), Position (what was trimmed)
	Commit Kind = "commit" // an event of the log: Room, Position, Hash, Time, Gone
	Gained Kind = "gained" // a right: User, Room (the project's), At
	Lost   Kind = "lost"   // a right: User, Room (the project's), At
)

// Record is one thing that happened. Its Kind says which fields mean something.
type Record struct {
	Kind      Kind      `json:"kind"`
	At        time.Time `json:"at,omitzero"`
	Session   string    `json:"session,omitempty"`
	Stream    int       `json:"stream,omitempty"` // counts the session's streams from 1
	Carrier   string    `json:"carrier,omitempty"`
	User      string    `json:"user,omitempty"`
	ID        uint64    `json:"id,omitempty"`
	Room      string    `json:"room,omitempty"`
	Of        string    `json:"of,omitempty"`
	Position  Position  `json:"position,omitzero"`
	Hash      string    `json:"hash,omitempty"` // of the event's content
	Time      time.Time `json:"time,omitzero"`  // when the server took the event
	Recovered bool      `json:"recovered,omitempty"`
	Snapshot  bool      `json:"snapshot,omitempty"`
	Gone      bool      `json:"gone,omitempty"`
	Until     time.Time `json:"until,omitzero"`
	Reason    string    `json:"reason,omitempty"`
	Write     string    `json:"write,omitempty"`
	Who       string    `json:"who,omitempty"`     // the id of a user who came or went
	Present   []string  `json:"present,omitempty"` // of Joined: the ids of the users who are in the room
	Crowd     bool      `json:"crowd,omitempty"`   // more people are in the room than are told of one by one
}

// History is what is checked. Records of a session are in its order; others may
// stand anywhere.
type History struct {
	Seed    uint64 // repeats the choices that led to it
	Bounds  Bounds
	Records []Record
}

// Bounds are how late presence may be. They follow from what the server was
// configured with; if both are zero, presence is not looked at.
type Bounds struct {
	// Gone is how long somebody may be shown who has gone without a word: until the
	// silence was noticed, and the grace time is over.
	Gone time.Duration `json:"gone,omitempty"`
	// Back is how long somebody may be missing who is there.
	Back time.Duration `json:"back,omitempty"`
}

// header is the first line of a file.
type header struct {
	Seed   uint64 `json:"seed"`
	Bounds Bounds `json:"bounds,omitzero"`
}

// Write writes a history as lines of JSON.
func Write(w io.Writer, h *History) error {
	b := bufio.NewWriter(w)
	lines := json.NewEncoder(b)
	if err := lines.Encode(header{h.Seed, h.Bounds}); err != nil {
		return fmt.Errorf("write a history: %w", err)
	}
	for _, r := range h.Records {
		if err := lines.Encode(r); err != nil {
			return fmt.Errorf("write a history: %w", err)
		}
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("write a history: %w", err)
	}
	return nil
}

// Read reads what Write wrote. A last line that was cut off, as by a kill, is left
// out.
func Read(r io.Reader) (*History, error) {
	lines := bufio.NewReader(r)
	var head header
	if err := readLine(lines, &head); err != nil {
		return nil, fmt.Errorf("read the first line of a history: %w", err)
	}
	h := &History{Seed: head.Seed, Bounds: head.Bounds}
	for {
		var rec Record
		err := readLine(lines, &rec)
		if errors.Is(err, io.EOF) {
			return h, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read line %d of a history: %w", len(h.Records)+2, err)
		}
		h.Records = append(h.Records, rec)
	}
}

// readLine decodes a whole line; io.EOF stands for anything less.
func readLine(r *bufio.Reader, v any) error {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(bytes.TrimSpace(line), v)
}

// Violation is a place where a history breaks a guarantee.
type Violation struct {
	Guarantee string `json:"guarantee"`
	Session   string `json:"session"`
	Stream    int    `json:"stream,omitempty"`
	Room      string `json:"room,omitempty"`
	First     uint64 `json:"first,omitempty"` // the offsets it is about
	Last      uint64 `json:"last,omitempty"`
	What      string `json:"what"`
	Seed      uint64 `json:"seed"`
}

func (v Violation) String() string {
	offsets := ""
	switch {
	case v.First != v.Last:
		offsets = fmt.Sprintf(" at %d to %d", v.First, v.Last)
	case v.First != 0:
		offsets = fmt.Sprintf(" at %d", v.First)
	}
	return fmt.Sprintf("%s: session %s, stream %d, %s%s: %s (seed %d)", v.Guarantee, v.Session, v.Stream, v.Room, offsets, v.What, v.Seed)
}
