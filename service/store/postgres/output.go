package postgres

import (
	"fmt"

	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/column"
)

const (
	// chunkBytes is how far neighbouring pieces of one output are joined.
	chunkBytes = 64 << 10
	// pageRows is how many rows of output or of a log one question looks at.
	pageRows = 500
)

// AddOutput keeps output. Neighbours with the same key become one row.
func (t *tx) AddOutput(runID string, out []store.Output) error {
	run, err := t.runRef(runID)
	if err != nil {
		return fmt.Errorf("store output: %w", err)
	}
	var (
		of         []testName
		attempts   []int64
		data       [][]byte
		runs, nums []int64
	)
	for i := 0; i < len(out); {
		key := out[i].Key
		chunk := append([]byte{}, out[i].Data...) // the caller's is his
		for i++; i < len(out) && out[i].Key == key && len(chunk)+len(out[i].Data) <= chunkBytes; i++ {
			chunk = append(chunk, out[i].Data...)
		}
		of, attempts, data = append(of, testName{key.Suite, key.Name}), append(attempts, int64(key.Attempt)), append(data, chunk)
		runs, nums = append(runs, run.num), append(nums, next(&t.w.nums.output))
		t.bytes += len(chunk)
	}
	if len(of) == 0 {
		return nil
	}
	names, err := t.testNames(run.project, of)
	if err == nil {
		err = t.note(`INSERT INTO output (num, run, name, attempt, data)
			SELECT num, run, name, attempt, data
			FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[]) AS u (num, run, name, attempt, data)`, nums, runs, names, attempts, data)
	}
	if err != nil {
		return fmt.Errorf("store output of run %s: %w", runID, err)
	}
	return nil
}

// Output returns a part of stored output.
func (r *reader) Output(key store.OutputKey, after int64, limit int) (store.OutputPart, error) {
	part := store.OutputPart{Next: after}
	run, err := r.runRef(key.RunID)
	if err != nil {
		return part, column.OrNone(err)
	}
	name, attempt, err := r.outputKey(run, key)
	for more := true; more && err == nil; {
		more, err = r.readOutput(&part, limit, run.num, name, int64(attempt))
	}
	if column.OrNone(err) != nil {
		return store.OutputPart{}, fmt.Errorf("output of run %s: %w", key.RunID, err)
	}
	return part, nil
}

// selectOutput returns rows until their data is longer than a limit, and one more.
const selectOutput = `SELECT num, data FROM (
		SELECT num, data, sum(length(data)) OVER (ORDER BY num) - length(data) AS before
		FROM output WHERE run = $1 AND name = $2 AND attempt = $3 AND num > $4 ORDER BY num LIMIT $5) o
	WHERE before <= $6 ORDER BY num`

// readOutput reads on, and returns whether that is to be done again.
func (r *reader) readOutput(part *store.OutputPart, limit int, run, name, attempt int64) (again bool, err error) {
	read := 0
	err = r.each(selectOutput, []any{run, name, attempt, part.Next, pageRows, int64(max(limit-len(part.Data), 0))}, func(rows rows) error {
		var (
			num  int64
			data []byte
		)
		if err := rows.Scan(&num, &data); err != nil {
			return err
		}
		read++
		if len(part.Data) > 0 && len(part.Data)+len(data) > limit {
			part.More = true
			return errStop
		}
		part.Data, part.Next = append(part.Data, data...), num
		return nil
	})
	return read > 0 && !part.More, err
}

// outputKey finds the number of the name and, for attempt 0 of a test, that of
// its last attempt: the highest that has a result or output.
func (r *reader) outputKey(run runRef, key store.OutputKey) (name int64, attempt uint32, err error) {
	suite, err := r.findSuiteName(run.project, key.Suite)
	if err != nil {
		return 0, 0, err
	}
	if name, err = r.findTestName(suite, key.Name); err != nil {
		return 0, 0, err
	}
	if key.Attempt != 0 || key.Name == "" {
		return name, key.Attempt, nil
	}
	err = r.row(`SELECT greatest(1,
		(SELECT attempt FROM results WHERE run = $1 AND name = $2 AND attempt > 1 ORDER BY attempt DESC LIMIT 1),
		(SELECT attempt FROM output WHERE run = $1 AND name = $2 ORDER BY attempt DESC LIMIT 1))`,
		[]any{run.num, name}, &attempt)
	return name, attempt, err
}
