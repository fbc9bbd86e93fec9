package gotest

// Limits of what is kept of one test's or suite's output. The head is uploaded
// as it comes; of what goes beyond, only the end is kept, because that is where
// a failure says why.
const (
	tapeHead  = 1 << 20 // bytes uploaded from the beginning
	tapeTail  = 8 << 10 // bytes uploaded from the end, beyond the head
	chunkSize = 32 << 10
)

// budget limits the memory of all tapes together: 10,000 parallel tests must
// not keep 10,000 MiB. A tape that grows while it is spent gives up what was
// already uploaded, except for the end.
type budget struct {
	used, limit int
}

// tape is the output of one attempt, for the upload and for the person.
type tape struct {
	buf     []byte // what is kept, in order
	sent    int    // how much of buf was handed out for upload
	total   int64  // bytes ever appended
	gone    int64  // bytes given up from the beginning of buf
	tail    []byte // the last bytes beyond the head; at most 2*tapeTail
	dropped int64  // bytes beyond the head
}

// add appends out and reports whether a full chunk waits for upload.
func (t *tape) add(out []byte, b *budget) (full bool) {
	t.total += int64(len(out))
	if room := tapeHead - int(t.total-int64(len(out))-t.dropped); room < len(out) {
		room = max(room, 0)
		t.addTail(out[room:])
		out = out[:room]
	}
	t.buf = append(t.buf, out...)
	b.used += len(out)
	return len(t.buf)-t.sent >= chunkSize
}

// addTail keeps the end of what goes beyond the head.
func (t *tape) addTail(out []byte) {
	t.dropped += int64(len(out))
	t.tail = append(t.tail, out...)
	if len(t.tail) > 2*tapeTail {
		t.tail = append(t.tail[:0], t.tail[len(t.tail)-tapeTail:]...)
	}
}

// take returns the bytes that wait for upload; they stay valid until the next
// call of a method.
func (t *tape) take() []byte {
	b := t.buf[t.sent:]
	t.sent = len(t.buf)
	return b
}

// shrink gives up uploaded bytes when the budget is spent.
func (t *tape) shrink(b *budget) {
	keep := 16 << 10
	if b.used > 2*b.limit {
		keep = 1 << 10
	}
	n := t.sent - keep
	if b.used <= b.limit || n <= 0 {
		return
	}
	t.gone += int64(n)
	b.used -= n
	t.buf = append([]byte(nil), t.buf[n:]...)
	t.sent -= n
}

// release gives the memory back.
func (t *tape) release(b *budget) {
	b.used -= len(t.buf)
	*t = tape{}
}

// lastPart returns what was kept of the end beyond the head, and how many bytes
// lie between the two.
func (t *tape) lastPart() (tail []byte, left int64) {
	tail = t.tail[max(0, len(t.tail)-tapeTail):]
	return tail, t.dropped - int64(len(tail))
}
