package limit

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestBucketsAreBoundedInNumber(t *testing.T) {
	b := New(Rate{PerSecond: 1, Burst: 1})
	busy := b.Of("busy")
	for i := range 3 * maxBuckets {
		b.Of(fmt.Sprint(i))
		if i%1000 == 0 && b.Of("busy") != busy {
			t.Fatal("a bucket in use made room for others")
		}
	}
	if len(b.byKey) != maxBuckets || b.order.Len() != maxBuckets {
		t.Errorf("%d buckets, %d in order", len(b.byKey), b.order.Len())
	}
}

func TestABucketFillsAtItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := New(Rate{PerSecond: 10, Burst: 5}).Of("k")
		taken := 0
		for range 1000 {
			if tokens.Take() == 0 {
				taken++
			}
			time.Sleep(10 * time.Millisecond)
		}
		if taken < 104 || taken > 105 { // 5 at once and 10 a second
			t.Errorf("%d taken in 10 s", taken)
		}
	})
}

func TestNoRateMeansNoLimit(t *testing.T) {
	tokens := New(Rate{}).Of("k")
	for range 100_000 {
		if tokens.Take() != 0 {
			t.Fatal("limited")
		}
	}
}
