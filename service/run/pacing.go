package run

import (
	"time"
)

// A runner that sends small batches without waiting for their acks has those of some
// milliseconds committed together: a commit costs about as much as a hundred results.
const (
	// pacingEvery is the least time between the beginnings of two such commits.
	pacingEvery = 16 * time.Millisecond
	// pacingQuiet is for how long nothing comes before a commit isn't put off any longer.
	pacingQuiet = 4 * time.Millisecond
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
	last  time.Time // when the last commit began
	skips int       // how many commits aren't put off after a try that was of no use
	left  int       // of them
}

// begin notes that a commit begins.
func (p *pacing) begin(now time.Time) { p.last = now }

// wait returns how long a commit is put off; 0 after a pause, or if there is no use.
func (p *pacing) wait(now time.Time) time.Duration {
	left := pacingEvery - now.Sub(p.last)
	if left <= 0 {
		return 0
	}
	if p.left > 0 {
		p.left--
		return 0
	}
	return left
}

// tried notes whether putting a commit off was of use.
func (p *pacing) tried(useful bool) {
	if useful {
		p.skips = 0
	} else {
		p.skips = min(max(1, 2*p.skips), pacingSkips)
	}
	p.left = p.skips
}
