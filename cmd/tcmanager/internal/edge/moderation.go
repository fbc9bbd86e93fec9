package edge

import "time"

// Reading each small piece as it comes wakes the process up for each, which costs more
// than what is done with it. A connection whose peer sends piece after piece is
// therefore read from seldom, as network cards moderate their interrupts.
const (
	// moderateEvery is when what has come since the last read is read. Readers are told
	// at most each 12 ms and results of a stream are committed at most each 12 ms, so
	// that what is read so seldom waits for neither.
	moderateEvery = 16 * time.Millisecond
	// moderateBytes are read at once: about a buffer full.
	moderateBytes = 16 << 10
	// moderateGap is how soon a piece follows the one before, if there is to be a gain.
	moderateGap = 4 * time.Millisecond
	// moderateRow is how many pieces do so, without a write of ours in between, before
	// reads wait: fewer come from a peer that waits for answers.
	moderateRow = 8
	// moderateGain is how many pieces a read that waited brings at least.
	moderateGain = 3
	// moderateSkips and moderateMostSkips are how many pieces at least and at most are
	// read at once since waiting was of no use.
	moderateSkips     = 32
	moderateMostSkips = 8192
)

// moderation says whether the next read waits. Many calls at once that wait for their
// answers look like a peer that doesn't wait, and can't be told from one but by trying:
// less comes while we wait. Then it isn't tried again for a while, which doubles each
// time.
type moderation struct {
	on      bool
	last    time.Time // when all had been read that had come
	written uint32    // how often we had written

	row   int       // pieces that followed each other
	from  time.Time // when the row began
	bytes int       // of the row

	piece  int     // bytes of a piece, while on
	rate   float64 // bytes a nanosecond, while on
	missed bool    // the last read that waited brought less

	skips int // how many pieces aren't waited for after a try that was of no use
	left  int // of them
}

// drained notes that n bytes came since the last time, and that all of them are read.
// It reports whether the next read waits.
func (m *moderation) drained(now time.Time, n int, written uint32) bool {
	took := now.Sub(m.last)
	answered := written != m.written
	m.last, m.written = now, written
	switch {
	case m.on:
		m.judge(now, n, took)
	case answered || n >= moderateBytes || took > moderateGap:
		m.stop(now)
	default:
		m.follow(now, n)
	}
	return m.on
}

// stop begins a new row.
func (m *moderation) stop(now time.Time) {
	m.on, m.row, m.from, m.bytes = false, 0, now, 0
}

// follow adds a piece to the row.
func (m *moderation) follow(now time.Time, n int) {
	if m.left > 0 {
		m.left--
		m.from = now
		return
	}
	m.row++
	m.bytes += n
	if m.row == moderateRow {
		m.on, m.missed = true, false
		m.piece = m.bytes / m.row
		m.rate = float64(m.bytes) / float64(max(now.Sub(m.from), 1))
	}
}

// judge looks whether about as much came while we waited as came before. What comes at
// random may be less once, and isn't twice in a row.
func (m *moderation) judge(now time.Time, n int, took time.Duration) {
	const nearly = 2. / 3
	took = max(took, 1)
	gain := n >= moderateGain*m.piece
	if gain && float64(n) >= nearly*m.rate*float64(took) {
		m.skips /= 2
		m.rate = (3*m.rate + float64(n)/float64(took)) / 4
		m.missed = false
		return
	}
	if gain && !m.missed {
		m.missed = true
		return
	}
	if took < 2*moderateEvery { // or else the peer paused, and nothing waited for long
		m.skips = min(max(moderateSkips, 2*m.skips), moderateMostSkips)
		m.left = m.skips
	}
	m.stop(now)
}
