package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/tcmanager/tcmanager/service/store"
)

func outputKey(suite, name string, attempt uint32) store.OutputKey {
	return store.OutputKey{RunID: runID, Suite: suite, Name: name, Attempt: attempt}
}

func printed(key store.OutputKey, text string) store.Output {
	return store.Output{Key: key, Data: []byte(text)}
}

// readOutput reads all of a piece of output in parts of a size.
func readOutput(r store.Reader, key store.OutputKey, limit int) (string, error) {
	var out bytes.Buffer
	for after := int64(0); ; {
		part, err := r.Output(key, after, limit)
		if err != nil {
			return "", err
		}
		out.Write(part.Data)
		if !part.More {
			if rest, err := r.Output(key, part.Next, limit); err != nil || len(rest.Data) > 0 || rest.Next != part.Next {
				return "", fmt.Errorf("after the end: %q at %d, after %d: %w", rest.Data, rest.Next, part.Next, err)
			}
			return out.String(), nil
		}
		if len(part.Data) == 0 || part.Next == after {
			return "", fmt.Errorf("a part after %d is empty and says that there is more", after)
		}
		after = part.Next
	}
}

var outputTests = []test{
	{"output is kept in order, apart for tests, suites and the run", func(e *env) {
		test, suite, run := outputKey("pkg/a", "Test1", 1), outputKey("pkg/a", "", 0), outputKey("", "", 0)
		e.keeps(func(tx store.Tx) error {
			return errors.Join(populate(tx),
				tx.AddOutput(runID, []store.Output{printed(test, "one "), printed(suite, "suite "), printed(test, "two "), printed(test, "three ")}),
				tx.AddOutput(runID, []store.Output{printed(run, "run"), printed(suite, "again"), printed(test, "four\x00\xff")}),
				tx.AddOutput(runID, nil),
				fails(0, tx.AddOutput(missing, []store.Output{printed(test, "x")}))("output of no run", store.ErrNotFound))
		}, func(r store.Reader) error {
			return errors.Join(
				is(readOutput(r, test, 1<<20))("the test's", "one two three four\x00\xff"),
				is(readOutput(r, suite, 1<<20))("the suite's", "suite again"),
				is(readOutput(r, run, 1<<20))("the run's", "run"),
				is(readOutput(r, outputKey("pkg/a", "Test2", 1), 1<<20))("a silent test's", ""),
				is(readOutput(r, outputKey("pkg/b", "", 0), 1<<20))("a silent suite's", ""),
				is(readOutput(r, store.OutputKey{RunID: missing}, 1<<20))("no run's", ""),
			)
		})
	}},
	{"large output comes whole in parts of any size", func(e *env) {
		key := outputKey("pkg/a", "Test1", 1)
		var out []store.Output
		var want strings.Builder
		for i := range 300 {
			text := strings.Repeat(fmt.Sprintf("line %d\n", i), i)
			out = append(out, printed(key, text))
			want.WriteString(text)
		}
		e.keeps(func(tx store.Tx) error {
			return errors.Join(populate(tx), tx.AddOutput(runID, out[:100]), tx.AddOutput(runID, out[100:]))
		}, func(r store.Reader) error {
			part, err := r.Output(key, 0, 100_000)
			return errors.Join(
				is(len(part.Data) <= 100_000 && part.More, err)("a part is bounded", true),
				is(readOutput(r, key, 0))("in parts of one chunk", want.String()),
				is(readOutput(r, key, 100_000))("in parts of 100 kB", want.String()),
				is(readOutput(r, key, 1<<30))("in one part", want.String()),
			)
		})
	}},
	{"what is printed later comes after the place that was read to", func(e *env) {
		key := outputKey("pkg/a", "Test1", 1)
		e.update(func(tx store.Tx) error {
			return errors.Join(populate(tx), tx.AddOutput(runID, []store.Output{printed(key, "early")}))
		})
		var part store.OutputPart
		e.view(func(r store.Reader) (err error) {
			part, err = r.Output(key, 0, 100)
			return errors.Join(err, is(string(part.Data), nil)("what is there", "early"), is(part.More, nil)("more", false))
		})
		e.update(func(tx store.Tx) error { return tx.AddOutput(runID, []store.Output{printed(key, "late")}) })
		e.view(func(r store.Reader) error {
			part, err := r.Output(key, part.Next, 100)
			return is(string(part.Data), err)("what follows", "late")
		})
	}},
	{"attempt 0 of a test is its last attempt", func(e *env) {
		once, twice, silent := outputKey("pkg/1", "Test1", 1), outputKey("pkg/2", "Test2", 1), outputKey("pkg/0", "Test3", 1)
		second := twice
		second.Attempt = 2
		last := func(k store.OutputKey) store.OutputKey { k.Attempt = 0; return k }
		e.keeps(func(tx store.Tx) error {
			return errors.Join(populate(tx),
				tx.PutResults(runID, []store.Result{result(1, 1, passed, 1), result(2, 1, failed, 2), result(2, 2, passed, 3), result(3, 1, failed, 4), result(3, 2, failed, 5)}),
				tx.AddOutput(runID, []store.Output{printed(once, "once"), printed(twice, "first"), printed(second, "second"), printed(silent, "only the first")}))
		}, func(r store.Reader) error {
			return errors.Join(
				is(readOutput(r, last(once), 99))("of one attempt", "once"),
				is(readOutput(r, last(twice), 99))("of two", "second"),
				is(readOutput(r, twice, 99))("the first of two", "first"),
				is(readOutput(r, last(silent), 99))("of two, the second silent", ""),
			)
		})
	}},
}
