package sqlite

import (
	"database/sql"
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

// names is the writer's memory of rows: of suite_names, test_names and tests, and of
// what each commit of a runner asks for.
type names struct {
	suites memory.Cache[suiteKey, int64]
	tests  memory.Cache[nameKey, testName]
	runs   memory.Cache[string, knownRun]
	shards memory.Shards
	roles  memory.Roles
}

func newNames() names {
	return names{
		memory.NewCache[suiteKey, int64](), memory.NewCache[nameKey, testName](), memory.NewCache[string, knownRun](),
		memory.NewShards(), memory.NewRoles(),
	}
}

func (n *names) mark() {
	n.suites.Mark()
	n.tests.Mark()
	n.runs.Mark()
	n.shards.Mark()
	n.roles.Mark()
}

func (n *names) undo() {
	n.suites.Undo()
	n.tests.Undo()
	n.runs.Undo()
	n.shards.Undo()
	n.roles.Undo()
}

func (n *names) clear() {
	n.suites.Clear()
	n.tests.Clear()
	n.runs.Clear()
	n.shards.Clear()
	n.roles.Clear()
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

// sourced is a test's name and a source that reports it.
type sourced struct {
	nameKey
	source string
}

// knownTest returns the number of a test's name if its test is known by the source.
func (n *names) knownTest(of sourced) (int64, bool) {
	t, ok := n.tests.Get(of.nameKey)
	return t.num, ok && t.known && t.source == of.source
}

// The statements that make tests known, each for so many at once as rowsAtOnce says.
var (
	findTests   = forRows(findTestsOf)
	insertNames = forRows(func(n int) string {
		return "INSERT INTO test_names (suite, name) VALUES " + rowsOf(n, 2) + " RETURNING suite, name, num"
	})
	insertTests = forRows(func(n int) string {
		return "INSERT INTO tests (name, source) VALUES " + rowsOf(n, 2) + " ON CONFLICT DO NOTHING"
	})
)

// findTestsOf looks for n tests: the join is crossed so that SQLite begins with those.
func findTestsOf(n int) string {
	return "WITH k (suite, name, source) AS (VALUES " + rowsOf(n, 3) + `)
		SELECT n.suite, n.name, n.num, t.name IS NOT NULL FROM k CROSS JOIN test_names n ON n.suite = k.suite AND n.name = k.name
		LEFT JOIN tests t ON t.name = n.num AND t.source = k.source`
}

// learn makes tests known to their project that aren't in memory. No name may be in
// it twice.
func (t *tx) learn(unknown []sourced) error {
	return inRows(unknown, func(some []sourced) error {
		fresh, err := t.recall(some)
		if err != nil {
			return err
		}
		var unnamed []sourced
		for _, s := range some {
			if _, ok := t.w.names.tests.Get(s.nameKey); !ok {
				unnamed = append(unnamed, s)
			}
		}
		if err := inRows(unnamed, t.nameTests); err != nil {
			return err
		}
		return inRows(append(fresh, unnamed...), t.addTests)
	})
}

// recall remembers those of some tests whose names are in the table, and returns
// which of them the project doesn't know by their source.
func (t *tx) recall(some []sourced) (fresh []sourced, err error) {
	sources, args := make(map[nameKey]string, len(some)), make([]any, 0, 3*len(some))
	for _, s := range some {
		sources[s.nameKey] = s.source
		args = append(args, s.suite, s.name, s.source)
	}
	err = t.c.each(findTests[len(some)], args, func(rows *sql.Rows) error {
		var k nameKey
		var num int64
		var known bool
		if err := rows.Scan(&k.suite, &k.name, &num, &known); err != nil {
			return err
		}
		t.w.names.tests.Put(k, testName{num, sources[k], true})
		if !known {
			fresh = append(fresh, sourced{k, sources[k]})
		}
		return nil
	})
	return fresh, err
}

// nameTests gives new names their numbers.
func (t *tx) nameTests(some []sourced) error {
	sources, args := make(map[nameKey]string, len(some)), make([]any, 0, 2*len(some))
	for _, s := range some {
		sources[s.nameKey] = s.source
		args = append(args, s.suite, s.name)
	}
	return t.c.each(insertNames[len(some)], args, func(rows *sql.Rows) error {
		var k nameKey
		var num int64
		if err := rows.Scan(&k.suite, &k.name, &num); err != nil {
			return err
		}
		t.w.names.tests.Put(k, testName{num, sources[k], true})
		return nil
	})
}

// addTests makes tests that have names known to their project.
func (t *tx) addTests(some []sourced) error {
	args := make([]any, 0, 2*len(some))
	for _, s := range some {
		name, _ := t.w.names.tests.Get(s.nameKey)
		args = append(args, name.num, s.source)
	}
	_, err := t.c.exec(insertTests[len(some)], args...)
	return err
}

func (r *reader) findSuiteName(project int64, name string) (num int64, err error) {
	err = r.c.row("SELECT num FROM suite_names WHERE project = ? AND name = ?", []any{project, name}, &num)
	return num, err
}

func (r *reader) findTestName(suite int64, name string) (num int64, err error) {
	err = r.c.row("SELECT num FROM test_names WHERE suite = ? AND name = ?", []any{suite, name}, &num)
	return num, err
}
