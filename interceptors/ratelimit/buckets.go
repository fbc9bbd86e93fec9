package ratelimit

import (
	"container/list"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxBuckets bounds the memory of one set of buckets to a few megabytes.
const maxBuckets = 20_000

// buckets are token buckets by key, at most maxBuckets. The one used longest ago
// makes room for a new one; its owner then starts with a full bucket again,
// which is what it would nearly have after so long.
type buckets struct {
	rate Rate

	mu    sync.Mutex
	byKey map[string]*list.Element // of *bucket
	order *list.List               // newest use first
}

type bucket struct {
	key    string
	tokens *rate.Limiter
}

func newBuckets(r Rate) *buckets {
	return &buckets{rate: r, byKey: make(map[string]*list.Element), order: list.New()}
}

// get returns the bucket of a key; nil when there is no limit.
func (b *buckets) get(key string) *rate.Limiter {
	if b.rate.PerSecond <= 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if e, ok := b.byKey[key]; ok {
		b.order.MoveToFront(e)
		return bucketOf(e).tokens
	}
	if b.order.Len() >= maxBuckets {
		oldest := b.order.Back()
		delete(b.byKey, bucketOf(oldest).key)
		b.order.Remove(oldest)
	}
	tokens := rate.NewLimiter(rate.Limit(b.rate.PerSecond), max(b.rate.Burst, 1))
	b.byKey[key] = b.order.PushFront(&bucket{key: key, tokens: tokens})
	return tokens
}

// bucketOf returns an element's bucket: nothing else is put into the list.
func bucketOf(e *list.Element) *bucket {
	if b, ok := e.Value.(*bucket); ok {
		return b
	}
	return &bucket{}
}

// take takes a token. Without one it returns how long until there is one.
func take(tokens *rate.Limiter) (wait time.Duration) {
	if tokens == nil || tokens.Allow() {
		return 0
	}
	r := tokens.Reserve()
	defer r.Cancel()
	return max(r.Delay(), time.Millisecond)
}
