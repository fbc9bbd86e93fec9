package postgres

import (
	"context"
	"crypto/sha256"

	"github.com/jackc/pgx/v5"

	"github.com/tcmanager/tcmanager/service/store/memory"
)

// nums are the newest numbers given out. Only the one writer makes rows, so it
// needs no sequence, and knows a row's number before it has written it. Numbers
// of functions that were undone are never used.
type nums struct {
	users, projects, runs, suites, tests, output, cases, comments, notifications, rooms int64
}

func next(n *int64) int64 {
	*n++
	return *n
}

// load reads where the numbers are.
func (n *nums) load(ctx context.Context, conn *pgx.Conn) error {
	return conn.QueryRow(ctx, `SELECT
		coalesce((SELECT max(num) FROM users), 0), coalesce((SELECT max(num) FROM projects), 0),
		coalesce((SELECT max(num) FROM runs), 0), coalesce((SELECT max(num) FROM suite_names), 0),
		coalesce((SELECT max(num) FROM test_names), 0), coalesce((SELECT max(num) FROM output), 0),
		coalesce((SELECT max(num) FROM test_cases), 0), coalesce((SELECT max(num) FROM comments), 0),
		coalesce((SELECT max(num) FROM notifications), 0), coalesce((SELECT max(num) FROM rooms), 0)`).
		Scan(&n.users, &n.projects, &n.runs, &n.suites, &n.tests, &n.output, &n.cases, &n.comments, &n.notifications, &n.rooms)
}

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

// names is the writer's memory of rows that never change: those that others refer
// to by number. None of them is ever deleted.
type names struct {
	suites   memory.Cache[suiteKey, int64]
	tests    memory.Cache[nameKey, int64]
	known    memory.Cache[testKey, struct{}]
	users    memory.Cache[string, int64]
	projects memory.Cache[string, int64]
	runs     memory.Cache[string, knownRun]
	cases    memory.Cache[string, int64]

	// These change, and each commit of a runner asks for them.
	shards memory.Shards
	roles  memory.Roles
}

func newNames() names {
	return names{
		memory.NewCache[suiteKey, int64](), memory.NewCache[nameKey, int64](), memory.NewCache[testKey, struct{}](),
		memory.NewCache[string, int64](), memory.NewCache[string, int64](), memory.NewCache[string, knownRun](), memory.NewCache[string, int64](),
		memory.NewShards(), memory.NewRoles(),
	}
}

type cache interface {
	Mark()
	Undo()
	Clear()
}

func (n *names) each(fn func(cache)) {
	for _, c := range []cache{&n.suites, &n.tests, &n.known, &n.users, &n.projects, &n.runs, &n.cases, &n.shards, &n.roles} {
		fn(c)
	}
}

func (n *names) mark()  { n.each(cache.Mark) }
func (n *names) undo()  { n.each(cache.Undo) }
func (n *names) clear() { n.each(cache.Clear) }

// digest is how a long name is found.
func digest(name string) []byte {
	d := sha256.Sum256([]byte(name))
	return d[:]
}

// testName is a test's name within a suite's.
type testName struct{ suite, name string }

// testNames returns the numbers of tests' names, giving them some if need be, in
// two questions and two writes at most.
func (t *tx) testNames(project int64, of []testName) ([]int64, error) {
	suites := make([]string, len(of))
	for i := range of {
		suites[i] = of[i].suite
	}
	suiteNums, err := t.suiteNames(project, suites)
	if err != nil {
		return nil, err
	}
	out := make([]int64, len(of))
	unknown := map[nameKey]struct{}{}
	var ask nameRows
	for i := range of {
		k := nameKey{suiteNums[i], of[i].name}
		if num, ok := t.w.names.tests.Get(k); ok {
			out[i] = num
		} else if _, asked := unknown[k]; !asked {
			unknown[k] = struct{}{}
			ask.add(k.suite, 0, k.name)
			ask.digests = append(ask.digests, digest(k.name))
		}
	}
	if len(unknown) == 0 {
		return out, nil
	}
	if err := t.findTestNames(&ask, unknown); err != nil {
		return nil, err
	}
	var made nameRows
	for i := range of {
		k := nameKey{suiteNums[i], of[i].name}
		num, ok := t.w.names.tests.Get(k)
		if !ok {
			num = next(&t.w.nums.tests)
			t.w.names.tests.Put(k, num)
			made.add(k.suite, num, k.name)
		}
		out[i] = num
	}
	if len(made.nums) == 0 {
		return out, nil
	}
	return out, t.note("INSERT INTO test_names (num, suite, name) SELECT num, suite, name FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) AS u (num, suite, name)",
		made.nums, made.of, made.names)
}

// nameRows are columns of rows of names.
type nameRows struct {
	of, nums       []int64
	names, digests [][]byte
}

func (r *nameRows) add(of, num int64, name string) {
	r.of, r.nums, r.names = append(r.of, of), append(r.nums, num), append(r.names, bytesOf(name))
}

// findTestNames remembers those of the unknown that are in the table.
func (t *tx) findTestNames(ask *nameRows, unknown map[nameKey]struct{}) error {
	return t.each(`SELECT n.suite, n.name, n.num FROM unnest($1::bigint[], $2::bytea[]) AS k (suite, digest)
		JOIN test_names n ON n.suite = k.suite AND sha256(n.name) = k.digest`,
		[]any{ask.of, ask.digests}, func(rows rows) error {
			var k nameKey
			var num int64
			if err := rows.Scan(&k.suite, into(&k.name), &num); err != nil {
				return err
			}
			if _, ok := unknown[k]; ok {
				t.w.names.tests.Put(k, num)
			}
			return nil
		})
}

// suiteNames returns the numbers of suites' names, giving them some if need be.
func (t *tx) suiteNames(project int64, of []string) ([]int64, error) {
	out := make([]int64, len(of))
	unknown := map[string]struct{}{}
	var digests [][]byte
	for i, name := range of {
		if num, ok := t.w.names.suites.Get(suiteKey{project, name}); ok {
			out[i] = num
		} else if _, asked := unknown[name]; !asked {
			unknown[name] = struct{}{}
			digests = append(digests, digest(name))
		}
	}
	if len(unknown) == 0 {
		return out, nil
	}
	err := t.each("SELECT name, num FROM suite_names WHERE project = $1 AND sha256(name) = ANY($2::bytea[])",
		[]any{project, digests}, func(rows rows) error {
			var name string
			var num int64
			if err := rows.Scan(into(&name), &num); err != nil {
				return err
			}
			t.w.names.suites.Put(suiteKey{project, name}, num)
			return nil
		})
	if err != nil {
		return nil, err
	}
	var made nameRows
	for i, name := range of {
		k := suiteKey{project, name}
		num, ok := t.w.names.suites.Get(k)
		if !ok {
			num = next(&t.w.nums.suites)
			t.w.names.suites.Put(k, num)
			made.add(project, num, name)
		}
		out[i] = num
	}
	if len(made.nums) == 0 {
		return out, nil
	}
	return out, t.note("INSERT INTO suite_names (num, project, name) SELECT num, project, name FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) AS u (num, project, name)",
		made.nums, made.of, made.names)
}

// knowTests makes tests known to their project.
func (t *tx) knowTests(names []int64, sources []string) error {
	var rows nameRows
	for i, name := range names {
		k := testKey{name, sources[i]}
		if _, ok := t.w.names.known.Get(k); ok {
			continue
		}
		t.w.names.known.Put(k, struct{}{})
		rows.add(name, 0, k.source)
	}
	if len(rows.of) == 0 {
		return nil
	}
	return t.note("INSERT INTO tests (name, source) SELECT name, source FROM unnest($1::bigint[], $2::bytea[]) AS u (name, source) ON CONFLICT DO NOTHING", rows.of, rows.names)
}

func (r *reader) findSuiteName(project int64, name string) (num int64, err error) {
	err = r.row("SELECT num FROM suite_names WHERE project = $1 AND sha256(name) = $2", []any{project, digest(name)}, &num)
	return num, err
}

func (r *reader) findTestName(suite int64, name string) (num int64, err error) {
	err = r.row("SELECT num FROM test_names WHERE suite = $1 AND sha256(name) = $2", []any{suite, digest(name)}, &num)
	return num, err
}
