package run

import (
	"time"
)

// A runner that sends small batches without waiting for their acks has those of some
// milliseconds committed together: a commit costs about as much as a hundred results.
const (
	// pacingEvery is the least time between the beginnings of two such commits. What is
	// read from the network together, at most each 16 ms, doesn't wait for it.
	pacingEvery = 12 * time.Millisecond
	// pacingQuiet is for how long nothing comes before a commit isn't put off any longer.
	pacingQuiet = 4 * time.Millisecond
	// pacingSettle is the same for batches that were read from the network together: they
	// come within some tenths of a millisecond.
	pacingSettle = time.Millisecond
	// pacingItems and pacingBytes are worth a commit.
	pacingItems = 1000
	pacingBytes = 1 << 20
	// pacingSkips is how many commits at most aren't put off since that was of no use.
	pacingSkips = 256
)

// pacing says how long a stream's next commit is put off. A runner that waits for each
// ack before it sends more would lose by that, and can't be told from one that doesn't
// but by trying: when nothing came for pacingQuiet it isn't tried again for a while,
// which doubles each time.
type pacing struct {
	last    time.Time // when the last commit began
	several bool      // it was of several batches
	skips   int       // how many commits aren't put off after a try that was of no use
	left    int       // of them
}

// delay is how long a commit is put off: until most has passed, or nothing came for
// quiet.
type delay struct{ most, quiet time.Duration }

// begin notes that a commit of so many batches begins.
func (p *pacing) begin(now time.Time, batches int) { p.last, p.several = now, batches > 1 }

// wait returns how long a commit is put off: not at all after a pause, or if there is no
// use. When several batches came together last time, more than the first of the next may
// be on their way.
func (p *pacing) wait(now time.Time) delay {
	since := now.Sub(p.last)
	switch {
	case since >= pacingEvery && p.several && since < 2*pacingEvery:
		return delay{pacingQuiet, pacingSettle}
	case since >= pacingEvery:
		return delay{}
	case p.left > 0:
		p.left--
		return delay{}
	default:
		return delay{pacingEvery - since, pacingQuiet}
	}
}

// tried notes how it was to put a commit off: whether it was until most had passed, and
// how many batches came together.
func (p *pacing) tried(d delay, all bool, batches int) {
	if batches > 1 && (all || d.quiet == pacingSettle) {
		p.skips = 0
	} else {
		p.skips = min(max(1, 2*p.skips), pacingSkips)
	}
	p.left = p.skips
}
