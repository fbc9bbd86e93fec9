package tcmanager

import (
	"errors"
	"fmt"
	"os"
)

// Sizes of batches: large enough that a frame's cost doesn't show, small enough
// that the server takes them in one commit and well below its request limit.
const (
	batchBytes = 256 << 10
	batchItems = 1000
)

// errSpoolFull says that neither memory nor disk has room.
var errSpoolFull = errors.New("the spool is full")

// segment is a run of consecutive items, encoded as the entries of one batch.
type segment struct {
	first  uint64 // the number of the first item, from 1
	count  int
	size   int    // bytes
	data   []byte // nil while it is on disk
	offset int64  // in the file
	onDisk bool   // a copy is in the file
	closed bool   // no more items will be added
}

// last is the number of the last item.
func (s *segment) last() uint64 { return s.first + uint64(s.count) - 1 }

// queue holds the items that are not committed, in order: closed segments, and
// at the end perhaps an open one. Beyond its limit of memory it puts closed
// segments into a temporary file, a ring of fixed size, which has no name where
// the system allows that. A queue has no lock; its owner has.
type queue struct {
	segments []*segment
	next     int    // index of the first segment that was not sent on this stream
	sequence uint64 // the number of the last item, 0 before the first
	acked    uint64 // all items up to this number are committed

	memory      int // bytes of segments in memory
	memoryLimit int
	pinned      *segment // being read from the file, so its place may not be reused

	dir       string
	file      *os.File
	diskLimit int64
	head      int64 // where the oldest segment in the file begins
	tail      int64 // where the next one goes
	inFile    int   // segments in the file
	fileErr   error // the file can't be used
}

// add appends an encoded entry. It fails only when there is no room anywhere.
func (q *queue) add(entry []byte) error {
	s := q.open()
	if s != nil && (s.size+len(entry) > batchBytes || s.count >= batchItems) {
		q.closeOpen()
		s = nil
	}
	if q.memory+len(entry) > q.memoryLimit && !q.roomOnDisk(batchBytes) {
		return errSpoolFull
	}
	if s == nil {
		s = &segment{first: q.sequence + 1}
		q.segments = append(q.segments, s)
	}
	q.sequence++
	s.data = append(s.data, entry...)
	s.size = len(s.data)
	s.count++
	q.memory += len(entry)
	return nil
}

// open returns the open segment, or nil.
func (q *queue) open() *segment {
	if n := len(q.segments); n > 0 && !q.segments[n-1].closed {
		return q.segments[n-1]
	}
	return nil
}

// closeOpen closes the open segment, and moves it to disk if memory is full.
func (q *queue) closeOpen() {
	s := q.open()
	if s == nil {
		return
	}
	s.closed = true
	if q.memory > q.memoryLimit {
		q.spill(s)
	}
}

// spill moves a segment to disk. If that fails the segment stays in memory.
func (q *queue) spill(s *segment) {
	if q.fileErr == nil && q.file == nil {
		q.file, q.fileErr = createSpool(q.dir)
	}
	offset, ok := q.place(int64(s.size))
	if q.fileErr != nil || !ok {
		return
	}
	if _, err := q.file.WriteAt(s.data, offset); err != nil {
		q.fileErr = fmt.Errorf("write the spool: %w", err)
		return
	}
	if q.inFile == 0 {
		q.head = offset
	}
	q.tail = offset + int64(s.size)
	q.inFile++
	s.offset, s.onDisk = offset, true
	q.memory -= s.size
	s.data = nil
}

// place finds room for n bytes in the ring.
func (q *queue) place(n int64) (offset int64, ok bool) {
	switch {
	case q.inFile == 0:
		return 0, n <= q.diskLimit
	case q.tail > q.head && q.tail+n <= q.diskLimit:
		return q.tail, true
	case q.tail > q.head:
		return 0, n < q.head
	}
	return q.tail, q.tail+n < q.head
}

// roomOnDisk reports whether a segment of n bytes could be spilled.
func (q *queue) roomOnDisk(n int64) bool {
	_, ok := q.place(n)
	return ok && q.fileErr == nil
}

// createSpool makes the temporary file. It is removed at once: the system frees
// it when it is closed, or the process dies. Where an open file can't be
// removed, discard does it.
func createSpool(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "tcmanager-spool-*")
	if err != nil {
		return nil, fmt.Errorf("make the spool: %w", err)
	}
	_ = os.Remove(f.Name()) // fails on Windows, see discard
	return f, nil
}

// unsent returns the next segment to send, or nil. An open one counts only if
// flush is set, and is closed.
func (q *queue) unsent(flush bool) *segment {
	if q.next >= len(q.segments) {
		return nil
	}
	s := q.segments[q.next]
	if !s.closed {
		if !flush {
			return nil
		}
		q.closeOpen()
	}
	q.next++
	return s
}

// read returns the bytes of a segment that is on disk. It is called without the
// owner's lock, between pin and unpin.
func (s *segment) read(f *os.File) ([]byte, error) {
	data := make([]byte, s.size)
	if _, err := f.ReadAt(data, s.offset); err != nil {
		return nil, fmt.Errorf("read the spool: %w", err)
	}
	return data, nil
}

// ack drops what is committed: all items up to sequence.
func (q *queue) ack(sequence uint64) {
	q.acked = max(q.acked, min(sequence, q.sequence))
	q.trim()
}

// trim drops the segments that are committed.
func (q *queue) trim() {
	n := 0
	for n < len(q.segments) {
		s := q.segments[n]
		if s.count == 0 || s.last() > q.acked || !s.closed || s == q.pinned {
			break
		}
		q.drop(s)
		n++
	}
	clear(q.segments[:n])
	q.segments = q.segments[n:]
	q.next = max(0, q.next-n)
}

// drop gives back the room of the oldest segment.
func (q *queue) drop(s *segment) {
	if !s.onDisk {
		q.memory -= s.size
		return
	}
	q.inFile--
	q.head = s.offset + int64(s.size)
	if q.inFile > 0 {
		q.head = q.oldestInFile(s)
	}
}

// oldestInFile is where the oldest segment in the file after s begins.
func (q *queue) oldestInFile(after *segment) int64 {
	for _, s := range q.segments {
		if s != after && s.onDisk && s.first > after.first {
			return s.offset
		}
	}
	return q.tail
}

// rewind makes everything that isn't committed unsent again.
func (q *queue) rewind() { q.next = 0 }

// sentAll reports whether nothing waits to be sent.
func (q *queue) sentAll() bool { return q.next >= len(q.segments) }

// discard gives up all items and the file.
func (q *queue) discard() {
	q.segments, q.next, q.memory, q.inFile, q.pinned = nil, 0, 0, 0, nil
	if q.file != nil {
		_ = q.file.Close()
		_ = os.Remove(q.file.Name())
		q.file = nil
		q.fileErr = os.ErrClosed
	}
}
