package workload

import (
	"math/bits"
	"time"
)

// Latencies counts durations in buckets that are at most 1/64 wide of what they
// hold, so that millions of them cost as little as a few.
type Latencies struct {
	counts [64 * perPower]uint32
	total  uint64
}

const (
	powerBits = 6
	perPower  = 1 << powerBits
)

// Add counts a duration in nanoseconds; one below zero, of a clock that was set
// back, as zero.
func (l *Latencies) Add(ns int64) {
	l.counts[bucket(uint64(max(0, ns)))]++
	l.total++
}

func bucket(v uint64) int {
	power := max(0, bits.Len64(v)-powerBits-1)
	return power<<powerBits + int(v>>power)
}

// at is the middle of a bucket.
func at(bucket int) float64 {
	power := max(0, bucket>>powerBits-1)
	low := uint64(bucket-power<<powerBits) << power
	return float64(low) + float64(uint64(1)<<power)/2
}

// Quantile is the duration that a part q of all is not above, in milliseconds; 0
// if there is none.
func (l *Latencies) Quantile(q float64) float64 {
	left := uint64(q * float64(l.total))
	for i, n := range l.counts {
		if n != 0 && left < uint64(n) {
			return at(i) / float64(time.Millisecond)
		}
		left -= min(left, uint64(n))
	}
	return 0
}
