package gotest

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

var update = flag.Bool("update", false, "write what the recordings are converted to")

// TestRecordedOutput compares what is made of recordings of real traps with what
// was found right by reading it.
func TestRecordedOutput(t *testing.T) {
	t.Parallel()
	for _, name := range ownFiles(t) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			o := convert(t, readFile(t, name))
			verdict := "passed\n"
			if o.summary.Failed() {
				verdict = "failed\n"
			}
			got := o.describe() + "--- for the person\n" + o.human + "--- " + verdict
			golden := strings.TrimSuffix(name, ".json") + ".want"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if want := readFile(t, golden); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// results are the final states of tests.
func (o *outcome) results() map[string]tcmv1.Status {
	m := map[string]tcmv1.Status{}
	for _, item := range o.items {
		if u := item.GetTest(); u != nil {
			m[u.GetTest().GetSuite()+" "+u.GetTest().GetName()] = u.GetStatus()
		}
	}
	return m
}

// plainCount counts a recording by its end events alone.
func plainCount(text string) map[string]tcmv1.Status {
	m := map[string]tcmv1.Status{}
	for line := range strings.Lines(text) {
		var e struct {
			Action  string `json:"Action"`
			Package string `json:"Package"`
			Test    string `json:"Test"`
		}
		if json.Unmarshal([]byte(line), &e) != nil || e.Test == "" {
			continue
		}
		switch e.Action {
		case "pass", "fail", "skip":
			m[suiteName(e.Package)+" "+e.Test] = endStatus(actionNames[e.Action])
		}
	}
	return m
}

func TestEveryReportedEndIsTheResult(t *testing.T) {
	t.Parallel()
	for _, name := range append(goldenFiles(t), ownFiles(t)...) {
		text := readFile(t, name)
		o := convert(t, text)
		got := o.results()
		for test, want := range plainCount(text) {
			if got[test] != want {
				t.Errorf("%s: %s is %v, want %v", filepath.Base(name), test, got[test], want)
			}
		}
	}
}

func TestNothingIsLeftRunning(t *testing.T) {
	t.Parallel()
	for _, name := range append(goldenFiles(t), ownFiles(t)...) {
		text := readFile(t, name)
		// Whole, and cut off in the middle of a line somewhere.
		for _, text := range []string{text, text[:len(text)*2/3], text[:len(text)/3]} {
			o := convert(t, text)
			checkEnds(t, &o)
		}
	}
}

// checkEnds checks that everything that began has ended, and that output follows
// the first word about its test.
func checkEnds(t *testing.T, o *outcome) {
	t.Helper()
	state := map[string]tcmv1.Status{}
	for _, item := range o.items {
		if u := item.GetTest(); u != nil {
			state["test "+u.GetTest().GetSuite()+" "+u.GetTest().GetName()] = u.GetStatus()
		}
		if u := item.GetSuite(); u != nil {
			state["suite "+u.GetSuite()] = u.GetStatus()
		}
		if c := item.GetOutput(); c.GetName() != "" {
			if _, known := state["test "+c.GetSuite()+" "+c.GetName()]; !known {
				t.Errorf("output of %s before a word about it", c.GetName())
			}
		}
	}
	for what, s := range state {
		switch s {
		case tcmv1.Status_STATUS_PASSED, tcmv1.Status_STATUS_FAILED, tcmv1.Status_STATUS_SKIPPED, tcmv1.Status_STATUS_ERRORED, tcmv1.Status_STATUS_TIMED_OUT, tcmv1.Status_STATUS_ABORTED:
		default:
			t.Errorf("%s is left %v", what, s)
		}
	}
}

// timed reports whether a recording has the times of events: without them, the
// text shows how long the conversion took.
func timed(name string) bool { return strings.HasPrefix(name, "testdata") }

func TestHowTheInputIsCutDoesNotMatter(t *testing.T) {
	t.Parallel()
	for _, name := range append(goldenFiles(t), ownFiles(t)...) {
		text := readFile(t, name)
		want := convert(t, text)
		got := convertWith(t, Options{}, func(c *Converter) {
			for b := range len(text) {
				write(c, text[b:b+1])
			}
		})
		if got.describe() != want.describe() || timed(name) && got.human != want.human {
			t.Errorf("%s: byte by byte it is\n%s\nwhole it is\n%s", filepath.Base(name), got.describe(), want.describe())
		}
	}
}

func TestTicksShowMoreButChangeNoResult(t *testing.T) {
	t.Parallel()
	for _, name := range append(goldenFiles(t), ownFiles(t)...) {
		text := readFile(t, name)
		want := convert(t, text)
		got := convertWith(t, Options{}, func(c *Converter) {
			for line := range strings.Lines(text) {
				write(c, line)
				for range outputEvery {
					c.Tick()
				}
			}
		})
		checkEnds(t, &got)
		for test, s := range want.results() {
			if got.results()[test] != s {
				t.Errorf("%s: %s is %v with ticks, %v without", filepath.Base(name), test, got.results()[test], s)
			}
		}
		if timed(name) && got.human != want.human {
			t.Errorf("%s: with ticks the person reads\n%s\nwithout\n%s", filepath.Base(name), got.human, want.human)
		}
	}
}

func FuzzConverter(f *testing.F) {
	for _, name := range ownFiles(f) {
		text := readFile(f, name)
		f.Add([]byte(text[:min(len(text), 4000)]), uint8(7))
	}
	f.Add([]byte("garbage\n{\"Action\":\"run\",\"Test\":\"T\"}\n{\"Action\":\"fail\",\"Test\":\"T/x\"}"), uint8(1))
	f.Fuzz(func(t *testing.T, text []byte, every uint8) {
		o := convertWith(t, Options{}, func(c *Converter) {
			for i, line := range strings.SplitAfter(string(text), "\n") {
				write(c, line)
				if every > 0 && i%int(every) == 0 {
					c.Tick()
				}
			}
		})
		checkEnds(t, &o)
	})
}
