package sqlite

import (
	"errors"

	"github.com/tcmanager/tcmanager/service/store"
)

// maxNames is how many entries one generation of a cache of names keeps: a run
// of some 50,000 tests fits, at about 150 bytes each.
const maxNames = 65_536

// cache remembers rows that are in the database. It is bounded: when the young
// generation is full, the old one is forgotten.
type cache[K comparable, V any] struct {
	young, old map[K]V
	added      []K // since mark
}

func newCache[K comparable, V any]() cache[K, V] { return cache[K, V]{young: map[K]V{}} }

func (c *cache[K, V]) get(k K) (V, bool) {
	v, ok := c.young[k]
	if !ok {
		if v, ok = c.old[k]; ok {
			c.put(k, v)
		}
	}
	return v, ok
}

func (c *cache[K, V]) put(k K, v V) {
	if len(c.young) >= maxNames {
		c.young, c.old = map[K]V{}, c.young
	}
	c.young[k] = v
	c.added = append(c.added, k)
}

func (c *cache[K, V]) mark() { c.added = c.added[:0] }

// undo forgets what was added since mark: its rows may be gone.
func (c *cache[K, V]) undo() {
	for _, k := range c.added {
		delete(c.young, k)
		delete(c.old, k)
	}
	c.mark()
}

func (c *cache[K, V]) clear() { *c = newCache[K, V]() }

type (
	suiteKey struct {
		project int64
		name    string
	}
	nameKey struct {
		suite int64
		name  string
	}
	testKey struct {
		name   int64
		source string
	}
)

// names is the writer's memory of suite_names, test_names and tests.
type names struct {
	suites cache[suiteKey, int64]
	tests  cache[nameKey, int64]
	known  cache[testKey, struct{}]
}

func newNames() names {
	return names{newCache[suiteKey, int64](), newCache[nameKey, int64](), newCache[testKey, struct{}]()}
}

func (n *names) mark() {
	n.suites.mark()
	n.tests.mark()
	n.known.mark()
}

func (n *names) undo() {
	n.suites.undo()
	n.tests.undo()
	n.known.undo()
}

func (n *names) clear() {
	n.suites.clear()
	n.tests.clear()
	n.known.clear()
}

// suiteName returns the number of a suite's name, giving it one if need be.
func (t *tx) suiteName(project int64, name string) (int64, error) {
	k := suiteKey{project, name}
	if num, ok := t.w.names.suites.get(k); ok {
		return num, nil
	}
	num, err := t.findSuiteName(project, name)
	if errors.Is(err, store.ErrNotFound) {
		num, err = t.c.insert("INSERT INTO suite_names (project, name) VALUES (?, ?)", project, name)
	}
	if err == nil {
		t.w.names.suites.put(k, num)
	}
	return num, err
}

// testName returns the number of a test's name, giving it one if need be.
func (t *tx) testName(project int64, suite, name string) (int64, error) {
	s, err := t.suiteName(project, suite)
	if err != nil {
		return 0, err
	}
	k := nameKey{s, name}
	if num, ok := t.w.names.tests.get(k); ok {
		return num, nil
	}
	num, err := t.findTestName(s, name)
	if errors.Is(err, store.ErrNotFound) {
		num, err = t.c.insert("INSERT INTO test_names (suite, name) VALUES (?, ?)", s, name)
	}
	if err == nil {
		t.w.names.tests.put(k, num)
	}
	return num, err
}

// knowTest makes a test known to its project.
func (t *tx) knowTest(name int64, source string) error {
	k := testKey{name, source}
	if _, ok := t.w.names.known.get(k); ok {
		return nil
	}
	if _, err := t.c.exec("INSERT INTO tests (name, source) VALUES (?, ?) ON CONFLICT DO NOTHING", name, source); err != nil {
		return err
	}
	t.w.names.known.put(k, struct{}{})
	return nil
}

func (r *reader) findSuiteName(project int64, name string) (num int64, err error) {
	err = r.c.row("SELECT num FROM suite_names WHERE project = ? AND name = ?", []any{project, name}, &num)
	return num, err
}

func (r *reader) findTestName(suite int64, name string) (num int64, err error) {
	err = r.c.row("SELECT num FROM test_names WHERE suite = ? AND name = ?", []any{suite, name}, &num)
	return num, err
}
