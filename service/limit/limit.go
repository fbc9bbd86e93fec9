// Package limit bounds how often somebody may do something, with a token bucket
// for each.
//
// # Concurrency
//
// Buckets may be used from any goroutine. Take costs one lock of the whole set
// and one of the bucket; who takes often looks its bucket up once.
package limit

import (
	"container/list"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Rate is how often something may be done: PerSecond on average, and up to Burst
// at once. A PerSecond of 0 means that there is no limit.
type Rate struct {
	PerSecond float64
	Burst     int
}

// maxBuckets bounds the memory of one set of buckets to a few megabytes.
const maxBuckets = 20_000

// Buckets are token buckets by key, at most 20,000. The one used longest ago
// makes room for a new one; its owner then starts with a full bucket again,
// which is what it would nearly have after so long.
type Buckets struct {
	rate Rate

	mu    sync.Mutex
	byKey map[string]*list.Element // of *Bucket
	order *list.List               // newest use first
}

// Bucket holds the tokens of one key. A nil Bucket has no limit.
type Bucket struct {
	key    string
	tokens *rate.Limiter
}

// New returns full buckets of one rate.
func New(r Rate) *Buckets {
	return &Buckets{rate: r, byKey: make(map[string]*list.Element), order: list.New()}
}

// Of returns the bucket of a key; nil when there is no limit.
func (b *Buckets) Of(key string) *Bucket {
	if b.rate.PerSecond <= 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if e, ok := b.byKey[key]; ok {
		b.order.MoveToFront(e)
		return bucketOf(e)
	}
	if b.order.Len() >= maxBuckets {
		oldest := b.order.Back()
		delete(b.byKey, bucketOf(oldest).key)
		b.order.Remove(oldest)
	}
	bucket := NewBucket(b.rate)
	bucket.key = key
	b.byKey[key] = b.order.PushFront(bucket)
	return bucket
}

// bucketOf returns an element's bucket: nothing else is put into the list.
func bucketOf(e *list.Element) *Bucket {
	if b, ok := e.Value.(*Bucket); ok {
		return b
	}
	return &Bucket{}
}

// NewBucket returns a full bucket that belongs to no set; nil for no limit.
func NewBucket(r Rate) *Bucket {
	if r.PerSecond <= 0 {
		return nil
	}
	return &Bucket{tokens: rate.NewLimiter(rate.Limit(r.PerSecond), max(r.Burst, 1))}
}

// Take takes a token. Without one it returns how long until there is one.
func (b *Bucket) Take() (wait time.Duration) {
	if b == nil || b.tokens.Allow() {
		return 0
	}
	r := b.tokens.Reserve()
	defer r.Cancel()
	return max(r.Delay(), time.Millisecond)
}
