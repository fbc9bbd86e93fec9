package gotest

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"gotest.tools/gotestsum/testjson"
)

// silent is a handler that keeps nothing: the Execution has it all.
type silent struct{}

func (silent) Event(testjson.TestEvent, *testjson.Execution) error { return nil }
func (silent) Err(string) error                                    { return nil }

// gotestsumFiles are the recordings in gotestsum's own tests.
func gotestsumFiles(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "gotest.tools/gotestsum").Output()
	if err != nil {
		t.Fatalf("find gotestsum: %v", err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "testjson", "testdata")
	names, err := filepath.Glob(filepath.Join(dir, "input", "*.out"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no recordings in %s: %v", dir, err)
	}
	return append(names, filepath.Join(dir, "go-test-json-missing-test-events.out"), filepath.Join(dir, "go-test-json-with-nonjson-stdout.out"))
}

// differs are recordings on which gotestsum's parser and this one disagree for
// a reason.
var differs = map[string]string{
	"bench.json":                           "gotestsum fails benchmarks, for which go reports no end, when the package failed",
	"nonlv.json":                           "gotestsum doesn't read the ends that were printed after text without a newline",
	"go-test-json-missing-test-events.out": "nor those in the framing, of ends that were not reported",
}

// TestGotestsumAgrees compares the last result of every test with what the
// parser of gotestsum makes of the same input.
func TestGotestsumAgrees(t *testing.T) {
	t.Parallel()
	compared := 0
	for _, name := range append(gotestsumFiles(t), ownFiles(t)...) {
		if differs[filepath.Base(name)] != "" {
			continue
		}
		text := readFile(t, name)
		exec, err := testjson.ScanTestOutput(testjson.ScanConfig{Stdout: strings.NewReader(text), Handler: silent{}, IgnoreNonJSONOutputLines: true})
		if err != nil {
			t.Fatalf("%s: gotestsum: %v", name, err)
		}
		o := convert(t, text)
		got := o.results()
		for _, pkg := range exec.Packages() {
			for test, want := range oracle(exec.Package(pkg)) {
				compared++
				if s := got[suiteName(pkg)+" "+test]; agree(s) != want {
					t.Errorf("%s: %s is %v, gotestsum says %s", filepath.Base(name), test, s, want)
				}
			}
		}
	}
	if compared < 300 {
		t.Errorf("only %d tests were compared", compared)
	}
}

// oracle is gotestsum's view of the last attempts in a package.
func oracle(p *testjson.Package) map[string]string {
	newest := map[string]int{}
	words := map[string]string{}
	for word, cases := range map[string][]testjson.TestCase{"passed": p.Passed, "failed": p.Failed, "skipped": p.Skipped} {
		for _, c := range cases {
			if name := c.Test.Name(); c.ID > newest[name] {
				newest[name], words[name] = c.ID, word
			}
		}
	}
	return words
}

// agree is the word of gotestsum, which knows three, for a status.
func agree(s tcmv1.Status) string {
	switch s {
	case tcmv1.Status_STATUS_PASSED:
		return "passed"
	case tcmv1.Status_STATUS_SKIPPED:
		return "skipped"
	default:
		return "failed"
	}
}
