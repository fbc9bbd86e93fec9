package memory

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tcmanager/tcmanager/service/store"
)

// table is what a database has, with what its savepoint had.
type table struct{ rows, saved map[int]int }

func (t *table) write(q *Queue[int, int], r *Results) {
	for _, row := range q.Rows {
		t.rows[row.Key] = row.Row
	}
	for _, row := range r.Rows {
		t.rows[-int(row.Seq)] = int(row.Update[0])<<8 + int(row.Update[1])
	}
	q.written()
	r.written()
}

func TestWhatIsPendingAndWhatIsWrittenAreTogetherWhatWasPut(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 0))
		q, r := newQueue[int, int](), Results{}
		want, db := map[int]int{}, table{rows: map[int]int{}}
		for range 60 { // functions
			q.Mark()
			r.Mark()
			before := maps.Clone(want)
			db.saved = maps.Clone(db.rows)
			for range rng.IntN(8) {
				k, v := rng.IntN(9), rng.IntN(1<<16)
				switch rng.IntN(6) {
				case 0, 1:
					want[-k] = v
					update := []byte{byte(v >> 8), byte(v)}
					r.Put(1, false, []int64{2}, []store.Result{{Seq: uint64(k), Update: update}})
					clear(update) // it keeps a copy
				case 2: // something reads the table
					q.hold()
					r.hold()
					db.write(&q, &r)
				default:
					want[k+1] = v
					q.Put(k+1, v)
					if got, ok := q.Get(k + 1); !ok || got != v {
						t.Fatalf("seed %d: it has %d, want %d", seed, got, v)
					}
				}
			}
			if rng.IntN(3) == 0 {
				want, db.rows = before, db.saved
				q.Undo()
				r.Undo()
			}
			if rng.IntN(10) == 0 { // the group ends
				db.write(&q, &r)
			}
		}
		db.write(&q, &r)
		if !maps.Equal(db.rows, want) {
			t.Errorf("seed %d: written is %v, want %v", seed, db.rows, want)
		}
	}
}

func TestQueueWritesARowOnceInTheOrderOfTheFirst(t *testing.T) {
	q := newQueue[string, int]()
	for i, k := range []string{"a", "b", "a", "c", "b"} {
		q.Put(k, i)
	}
	if got := fmt.Sprint(q.Rows); got != "[{a 2} {b 4} {c 3}]" {
		t.Errorf("it has %s", got)
	}
}

func TestQueueOfALargeGroupLeavesNoMemory(t *testing.T) {
	q, r := newQueue[int, int](), Results{}
	for i := range 2 * maxKept {
		q.Put(i, i)
		r.Put(1, false, []int64{2}, []store.Result{{}})
	}
	q.written()
	r.written()
	if n := max(cap(q.Rows), cap(r.Rows)); n > maxKept {
		t.Errorf("there is room for %d rows afterwards", n)
	}
	q.Put(1, 1)
	if !slices.Equal(q.Rows, []Row[int, int]{{1, 1}}) {
		t.Errorf("then it has %v", q.Rows)
	}
}
