package memory

import (
	"regexp"
	"slices"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/column"
)

// maxKept is how many rows a queue has room for between groups: a large one leaves no
// memory behind that small ones would clear.
const maxKept = 4096

// chunkBytes is how much memory is made at once for the updates of small results.
const chunkBytes = 1 << 10

// Result is a row of results. What it says of the test's name is a number.
type Result struct {
	Run, Test int64
	Retried   bool // some test of the run may have more than one attempt
	store.Result
}

// RunColumns are the columns of a run that indexes are made of, and some that change
// as seldom.
type RunColumns struct {
	State              pb.RunState
	EndReason          pb.EndReason
	Source, Name       string
	StartedAt, EndedAt any // as column.Micros has them
}

// Run is a row of runs, as far as it changes.
type Run struct {
	RunColumns
	Total   uint32
	Data    []byte
	Columns bool // RunColumns may not be those that are written
}

// Pending is what the functions of a group put into the tables that each commit of a
// runner writes to, and that isn't written yet. It is written before something asks
// for those tables, and at the end of the group.
type Pending struct {
	Runs    Queue[int64, Run]
	Shards  Queue[RowKey, store.Shard]
	Suites  Queue[RowKey, []byte]
	Results Results

	columns Cache[int64, RunColumns] // of runs, as they were put last
	asks    map[string]bool          // for tables, by statement
}

// RowKey is the name of something within a run.
type RowKey struct {
	Run  int64
	Name string
}

// NewPending returns nothing.
func NewPending() Pending {
	return Pending{
		Runs: newQueue[int64, Run](), Shards: newQueue[RowKey, store.Shard](), Suites: newQueue[RowKey, []byte](),
		columns: NewCache[int64, RunColumns](), asks: map[string]bool{},
	}
}

// PutRun puts what can change of a run. It returns how many bytes that is.
func (p *Pending) PutRun(num int64, run *pb.Run) (int, error) {
	data, err := column.EncodeRun(run)
	if err != nil {
		return 0, err
	}
	row := Run{RunColumns: RunColumns{
		State: run.State, EndReason: run.EndReason, Source: run.GetInfo().GetSource(), Name: run.GetInfo().GetName(),
		StartedAt: column.Micros(run.StartedAt), EndedAt: column.Micros(run.EndedAt),
	}, Total: run.GetCounts().GetTotal(), Data: data}
	if known, ok := p.columns.Get(num); !ok || known != row.RunColumns {
		row.Columns = true
		p.columns.Put(num, row.RunColumns)
	}
	if earlier, ok := p.Runs.Get(num); ok {
		row.Columns = row.Columns || earlier.Columns
	}
	p.Runs.Put(num, row)
	return len(data), nil
}

// tables are those of which rows may be pending.
var tables = regexp.MustCompile(`\b(runs|shards|run_suites|results)\b`)

// Concerns returns whether something is pending of the tables that a statement asks
// for. Of statements there is a fixed number.
func (p *Pending) Concerns(statement string) bool {
	if p.Empty() {
		return false
	}
	asks, known := p.asks[statement]
	if !known {
		asks = tables.MatchString(statement)
		p.asks[statement] = asks
	}
	return asks
}

// Empty returns whether there is nothing to write.
func (p *Pending) Empty() bool {
	return len(p.Runs.Rows)+len(p.Shards.Rows)+len(p.Suites.Rows)+len(p.Results.Rows) == 0
}

// Mark begins a function: Undo returns to here.
func (p *Pending) Mark() {
	p.Runs.Mark()
	p.Shards.Mark()
	p.Suites.Mark()
	p.Results.Mark()
	p.columns.Mark()
}

// Undo takes back what was put since Mark.
func (p *Pending) Undo() {
	p.Runs.Undo()
	p.Shards.Undo()
	p.Suites.Undo()
	p.Results.Undo()
	p.columns.Undo()
}

// Hold keeps what was there at Mark: what is written from here on may be undone with
// the function, and then those rows are to be written again.
func (p *Pending) Hold() {
	p.Runs.hold()
	p.Shards.hold()
	p.Suites.hold()
	p.Results.hold()
}

// Written says that all rows are.
func (p *Pending) Written() {
	p.Runs.written()
	p.Shards.written()
	p.Suites.written()
	p.Results.written()
}

// Clear forgets everything.
func (p *Pending) Clear() {
	p.Runs.clear()
	p.Shards.clear()
	p.Suites.clear()
	p.Results.clear()
	p.columns.Clear()
}

// Row is a row of a queue.
type Row[K comparable, R any] struct {
	Key K
	Row R
}

// replaced is a row as it was before the running function put another one.
type replaced[R any] struct {
	at  int
	row R
}

// Queue is the rows of one table, each as it was put last, in the order in which they
// were put first.
type Queue[K comparable, R any] struct {
	Rows []Row[K, R]

	at       map[K]int
	marked   int           // so many rows were there at Mark
	replaced []replaced[R] // of those
	held     []Row[K, R]   // what was there at Mark, if some of it is written
}

func newQueue[K comparable, R any]() Queue[K, R] { return Queue[K, R]{at: map[K]int{}} }

// Get returns a row that is pending.
func (q *Queue[K, R]) Get(key K) (row R, ok bool) {
	at, ok := q.at[key]
	if ok {
		row = q.Rows[at].Row
	}
	return row, ok
}

// Put makes or replaces a row.
func (q *Queue[K, R]) Put(key K, row R) {
	at, ok := q.at[key]
	if !ok {
		q.at[key] = len(q.Rows)
		q.Rows = append(q.Rows, Row[K, R]{key, row})
		return
	}
	if at < q.marked {
		q.replaced = append(q.replaced, replaced[R]{at, q.Rows[at].Row})
	}
	q.Rows[at].Row = row
}

// Mark begins a function: Undo returns to here.
func (q *Queue[K, R]) Mark() {
	clear(q.replaced)
	q.marked, q.replaced, q.held = len(q.Rows), q.replaced[:0], nil
}

// Undo takes back what was put since Mark.
func (q *Queue[K, R]) Undo() {
	held := q.held
	if held == nil {
		q.restore()
		q.truncate(q.marked)
	} else {
		q.truncate(0)
		for _, r := range held {
			q.Put(r.Key, r.Row)
		}
	}
	q.Mark()
}

// restore takes back what replaced rows. One that was replaced twice is there twice:
// the first is as it was.
func (q *Queue[K, R]) restore() {
	for _, r := range slices.Backward(q.replaced) {
		q.Rows[r.at].Row = r.row
	}
	q.replaced = q.replaced[:0]
}

func (q *Queue[K, R]) truncate(n int) {
	for _, r := range q.Rows[n:] {
		delete(q.at, r.Key)
	}
	clear(q.Rows[n:])
	q.Rows = q.Rows[:n]
}

func (q *Queue[K, R]) hold() {
	if q.held != nil {
		return
	}
	q.held = append(make([]Row[K, R], 0, q.marked), q.Rows[:q.marked]...)
	for _, r := range slices.Backward(q.replaced) {
		q.held[r.at].Row = r.row
	}
}

func (q *Queue[K, R]) written() {
	if len(q.Rows) > maxKept {
		q.Rows, q.at = nil, map[K]int{}
	}
	q.truncate(0)
	clear(q.replaced)
	q.marked, q.replaced = 0, q.replaced[:0]
}

func (q *Queue[K, R]) clear() {
	q.written()
	q.held = nil
}

// Results are rows of results, in the order in which they were put: a later one of an
// attempt replaces the earlier one when it is written.
type Results struct {
	Rows []Result

	chunk  []byte // what the updates of the newest rows are part of
	marked int    // so many rows were there at Mark
	held   []Result
}

// Put adds results of a run, with the numbers of their tests' names. Of the updates it
// keeps a copy, which is good for as long as somebody refers to it.
func (q *Results) Put(run int64, retried bool, tests []int64, results []store.Result) (bytes int) {
	for i := range results {
		bytes += len(results[i].Update)
	}
	if cap(q.chunk)-len(q.chunk) < bytes {
		q.chunk = make([]byte, 0, max(bytes, chunkBytes))
	}
	for i := range results {
		r := Result{Run: run, Test: tests[i], Retried: retried, Result: results[i]}
		from := len(q.chunk)
		q.chunk = append(q.chunk, r.Update...)
		r.Update = q.chunk[from:len(q.chunk):len(q.chunk)]
		q.Rows = append(q.Rows, r)
	}
	return bytes
}

// Mark begins a function: Undo returns to here.
func (q *Results) Mark() { q.marked, q.held = len(q.Rows), nil }

// Undo takes back what was put since Mark.
func (q *Results) Undo() {
	if q.held != nil {
		q.Rows, q.marked = q.held, len(q.held)
	}
	clear(q.Rows[q.marked:])
	q.Rows = q.Rows[:q.marked]
	q.Mark()
}

func (q *Results) hold() {
	if q.held == nil {
		q.held = append(make([]Result, 0, q.marked), q.Rows[:q.marked]...)
	}
}

func (q *Results) written() {
	if cap(q.Rows) > maxKept {
		q.Rows = nil
	}
	clear(q.Rows)
	q.Rows, q.marked = q.Rows[:0], 0
	q.chunk = nil
}

func (q *Results) clear() {
	q.written()
	q.held = nil
}
