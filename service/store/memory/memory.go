// Package memory is what the one writer of a store keeps in memory: where each
// room's log is, with the events that aren't written yet; the rows that runners
// change, while they aren't; and which names have which numbers. All of it can
// forget what one failed function did.
//
// # Concurrency
//
// Nothing here is for more than one goroutine: the writer's.
package memory

// maxNames is how many entries one generation of a cache keeps: the tests of two
// large projects fit, some 60,000 each, at about 150 bytes each. With half of that,
// runs of the two that alternated forgot each other's.
const maxNames = 131_072

// Cache remembers rows that are in the database. It is bounded: when the young
// generation is full, the old one is forgotten.
type Cache[K comparable, V any] struct {
	young, old map[K]V
	added      []K // since Mark
}

// NewCache returns an empty cache.
func NewCache[K comparable, V any]() Cache[K, V] { return Cache[K, V]{young: map[K]V{}} }

// Get returns what is remembered of k.
func (c *Cache[K, V]) Get(k K) (V, bool) {
	v, ok := c.young[k]
	if !ok {
		if v, ok = c.old[k]; ok {
			c.Put(k, v)
		}
	}
	return v, ok
}

// Put remembers v.
func (c *Cache[K, V]) Put(k K, v V) {
	if len(c.young) >= maxNames {
		c.young, c.old = map[K]V{}, c.young
	}
	c.young[k] = v
	c.added = append(c.added, k)
}

// Drop forgets k, whose row is being deleted.
func (c *Cache[K, V]) Drop(k K) {
	delete(c.young, k)
	delete(c.old, k)
}

// Mark begins a function: Undo returns to here.
func (c *Cache[K, V]) Mark() { c.added = c.added[:0] }

// Undo forgets what was put since Mark: its rows may be gone.
func (c *Cache[K, V]) Undo() {
	for _, k := range c.added {
		delete(c.young, k)
		delete(c.old, k)
	}
	c.Mark()
}

// Clear forgets everything.
func (c *Cache[K, V]) Clear() { *c = NewCache[K, V]() }
