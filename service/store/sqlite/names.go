package sqlite

import (
	"errors"

	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/memory"
)

type (
	suiteKey struct {
		project int64
		name    string
	}
	nameKey struct {
		suite int64
		name  string
	}
	// testName is a row of test_names, and a source by which its test is known, the
	// one it was last reported by: nearly all have one.
	testName struct {
		num    int64
		source string
		known  bool
	}
)

// names is the writer's memory of suite_names, test_names and tests.
type names struct {
	suites memory.Cache[suiteKey, int64]
	tests  memory.Cache[nameKey, testName]
}

func newNames() names {
	return names{memory.NewCache[suiteKey, int64](), memory.NewCache[nameKey, testName]()}
}

func (n *names) mark() {
	n.suites.Mark()
	n.tests.Mark()
}

func (n *names) undo() {
	n.suites.Undo()
	n.tests.Undo()
}

func (n *names) clear() {
	n.suites.Clear()
	n.tests.Clear()
}

// suiteName returns the number of a suite's name, giving it one if need be.
func (t *tx) suiteName(project int64, name string) (int64, error) {
	k := suiteKey{project, name}
	if num, ok := t.w.names.suites.Get(k); ok {
		return num, nil
	}
	num, err := t.findSuiteName(project, name)
	if errors.Is(err, store.ErrNotFound) {
		num, err = t.c.insert("INSERT INTO suite_names (project, name) VALUES (?, ?)", project, name)
	}
	if err == nil {
		t.w.names.suites.Put(k, num)
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
	if known, ok := t.w.names.tests.Get(k); ok {
		return known.num, nil
	}
	num, err := t.findTestName(s, name)
	if errors.Is(err, store.ErrNotFound) {
		num, err = t.c.insert("INSERT INTO test_names (suite, name) VALUES (?, ?)", s, name)
	}
	if err == nil {
		t.w.names.tests.Put(k, testName{num: num})
	}
	return num, err
}

// knowTest makes a test of a suite known to its project, and returns the number of
// its name.
func (t *tx) knowTest(project, suite int64, r *store.Result) (int64, error) {
	k := nameKey{suite, r.Name}
	known, ok := t.w.names.tests.Get(k)
	if ok && known.known && known.source == r.Source {
		return known.num, nil
	}
	num, err := t.testName(project, r.Suite, r.Name)
	if err != nil {
		return 0, err
	}
	if _, err := t.c.exec("INSERT INTO tests (name, source) VALUES (?, ?) ON CONFLICT DO NOTHING", num, r.Source); err != nil {
		return 0, err
	}
	t.w.names.tests.Put(k, testName{num, r.Source, true})
	return num, nil
}

func (r *reader) findSuiteName(project int64, name string) (num int64, err error) {
	err = r.c.row("SELECT num FROM suite_names WHERE project = ? AND name = ?", []any{project, name}, &num)
	return num, err
}

func (r *reader) findTestName(suite int64, name string) (num int64, err error) {
	err = r.c.row("SELECT num FROM test_names WHERE suite = ? AND name = ?", []any{suite, name}, &num)
	return num, err
}
