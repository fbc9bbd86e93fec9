package sqlite

import (
	"database/sql"
	"fmt"
	"slices"

	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/column"
)

// chunkBytes is how far neighbouring pieces of one output are joined.
const chunkBytes = 64 << 10

// AddOutput keeps output. Neighbours with the same key become one row.
func (t *tx) AddOutput(runID string, out []store.Output) error {
	run, err := t.runRef(runID)
	if err != nil {
		return fmt.Errorf("store output: %w", err)
	}
	for i := 0; i < len(out); {
		key, data := out[i].Key, out[i].Data
		for i++; i < len(out) && out[i].Key == key && len(data)+len(out[i].Data) <= chunkBytes; i++ {
			data = append(slices.Clip(data), out[i].Data...)
		}
		name, err := t.testName(run.project, key.Suite, key.Name)
		if err != nil {
			return fmt.Errorf("store output of run %s: %w", runID, err)
		}
		_, err = t.c.exec("INSERT INTO output (run, name, attempt, data) VALUES (?, ?, ?, ?)",
			run.num, name, int64(key.Attempt), data)
		if err != nil {
			return fmt.Errorf("store output of run %s: %w", runID, err)
		}
		t.bytes += len(data)
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
	if err == nil {
		err = r.readOutput(&part, limit, run.num, name, int64(attempt), after)
	}
	if column.OrNone(err) != nil {
		return store.OutputPart{}, fmt.Errorf("output of run %s: %w", key.RunID, err)
	}
	return part, nil
}

func (r *reader) readOutput(part *store.OutputPart, limit int, where ...any) error {
	const query = "SELECT num, data FROM output WHERE run = ? AND name = ? AND attempt = ? AND num > ? ORDER BY num"
	return r.c.each(query, where, func(rows *sql.Rows) error {
		var (
			num  int64
			data []byte
		)
		if err := rows.Scan(&num, &data); err != nil {
			return err
		}
		if len(part.Data) > 0 && len(part.Data)+len(data) > limit {
			part.More = true
			return errStop
		}
		part.Data, part.Next = append(part.Data, data...), num
		return nil
	})
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
	err = r.c.row(`SELECT max(1,
		coalesce((SELECT max(attempt) FROM results WHERE run = ? AND name = ? AND attempt > 1), 1),
		coalesce((SELECT max(attempt) FROM output WHERE run = ? AND name = ?), 1))`,
		[]any{run.num, name, run.num, name}, &attempt)
	return name, attempt, err
}
