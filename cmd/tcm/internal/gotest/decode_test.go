package gotest

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"testing"
)

// describe prints an event so that two of them can be compared.
func (ev *event) describe() string {
	var b bytes.Buffer
	for _, f := range [][]byte{ev.word, ev.time, ev.pkg, ev.test, ev.output, ev.outputType, ev.importPath, ev.failedBuild, ev.key, ev.value, ev.path} {
		b.WriteString(string(f) + "\x00")
	}
	if ev.hasElapsed {
		b.WriteString(formatElapsed(ev.elapsed))
	}
	return b.String()
}

// bothWays decodes line by the fast path and by encoding/json. agree is true
// when the fast path declined, or both say the same.
func bothWays(line []byte) (fastTook bool, fast, slow string, agree bool) {
	var d decoder
	var a, b event
	slowTook := d.slow(line, &b)
	slow = b.describe()
	if len(line) == 0 || line[0] != '{' || !plain(line) || !d.fast(line, &a) {
		return false, "", slow, true
	}
	fast = a.describe()
	return true, fast, slow, slowTook && fast == slow
}

func TestTheFastPathSaysWhatEncodingJSONSays(t *testing.T) {
	t.Parallel()
	lines := []string{
		`{"Action":"run","Test":"TestA"}`,
		`{"Time":"2026-11-24T23:32:58.010316279Z","Action":"output","Package":"p","Test":"T","Output":"a\tb\n\"q\" \\ \u003cx\u003e \u2028 é 😀 \ud83d\ude00\n"}`,
		`{"Action":"pass","Elapsed":0}`, `{"Action":"pass","Elapsed":0.01}`, `{"Action":"pass","Elapsed":12.345}`,
		`{"Action":"pass","Elapsed":123456789.123456}`, `{"Action":"fail","Elapsed":0.0}`, `{"Action":"a","Action":"b"}`,
	}
	for _, l := range lines {
		took, fast, slow, agree := bothWays([]byte(l))
		if !took || !agree {
			t.Errorf("%s: took=%v\nfast %q\nslow %q", l, took, fast, slow)
		}
	}
}

func TestOddLinesAreLeftToEncodingJSON(t *testing.T) {
	t.Parallel()
	lines := []string{
		`{ "Action":"run"}`, `{"Action" :"run"}`, `{"Action":"run"} `, `{"Action":"run","X":1}`, `{"Action":null}`, `{"Action":"run","Elapsed":-1}`,
		`{"Action":"run","Elapsed":1e3}`, `{"Action":"run","Elapsed":01}`, `{"Action":"run","Elapsed":00.5}`, `{"Action":"run","Elapsed":1.}`, `{"Action":"run","Elapsed":.5}`,
		`{"Action":"run","Elapsed":12345678901234567890}`, `{"Action":"\ud83d"}`, `{"Action":"\x"}`, `{"Action":"\u12"}`, "{\"Action\":\"\xff\"}", "{\"Action\":\"a\tb\"}",
		`{"Action":"run"`, `{"Action":`, `{"Action"`, `{"`, `{`, `{}`, `{"Action":"run",}`, `{"Action":"run"}}`, `{"Elapsed":}`, `{"Elapsed":,"Action":"run"}`,
	}
	for _, l := range lines {
		if took, fast, _, _ := bothWays([]byte(l)); took {
			t.Errorf("%s: the fast path took it as %q", l, fast)
		}
	}
}

func TestWhatIsAnEvent(t *testing.T) {
	t.Parallel()
	yes := []string{
		`{"Action":"start"}`, `  {"Action":"pass"}`, "{\"Action\":\"pass\"}\r", `{"Action":"new-in-go-2","Package":"p"}`, `{"Action":"x","Time":"t"}`,
		`{"ImportPath":"p","Action":"build-fail"}`, `{"Action":"output","Output":"\ud83d"}`,
	}
	no := []string{
		``, ` `, `ok`, `{}`, `[]`, `"run"`, `{"level":"info","msg":"x"}`, `{"action":"pass"}`, `{"Action":"GET"}`, `{"Action":1}`, `{"Action":"pass","Test":1}`,
		`{"Action":"pass","Elapsed":"x"}`, `{"Action":"pass"} {"Action":"pass"}`, `{"Action":"pass"`, "\x00", `null`,
	}
	var d decoder
	var ev event
	for _, l := range yes {
		if !d.decode([]byte(l), &ev) {
			t.Errorf("%q should be an event", l)
		}
	}
	for _, l := range no {
		if d.decode([]byte(l), &ev) {
			t.Errorf("%q should be no event", l)
		}
	}
}

func TestBothPathsAgreeOnRecordedOutput(t *testing.T) {
	t.Parallel()
	fastLines, all := 0, 0
	for _, name := range append(goldenFiles(t), ownFiles(t)...) {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		sc := bufio.NewScanner(f)
		sc.Buffer(nil, 1<<22)
		for sc.Scan() {
			all++
			took, fast, slow, agree := bothWays(sc.Bytes())
			if !agree {
				t.Errorf("%s: %s\nfast %q\nslow %q", name, sc.Text(), fast, slow)
			}
			if took {
				fastLines++
			}
		}
		if err := sc.Err(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if fastLines*100 < all*98 {
		t.Errorf("the fast path took only %d of %d lines", fastLines, all)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"Time":"2026-11-24T23:32:58.010316279Z","Action":"output","Package":"p","Test":"T","Output":"a\tb\n\u003c😀\ud83d\ude00"}`))
	f.Add([]byte(`{"Action":"pass","Elapsed":0.25,"FailedBuild":"x"}`))
	f.Add([]byte("{\"Action\":\"\xc3\x28\"}"))
	f.Add([]byte(`{"Action":"run","Elapsed":00.5}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if _, fast, slow, agree := bothWays(line); !agree {
			t.Errorf("fast %q\nslow %q", fast, slow)
		}
		var d decoder
		var ev event
		d.decode(line, &ev)
	})
}

func BenchmarkDecode(b *testing.B) {
	line := []byte(`{"Time":"2026-11-24T23:27:54.734858751Z","Action":"output","Package":"golang.org/x/text/cases","Test":"TestCaseProperties","Output":"=== RUN   TestCaseProperties\n"}`)
	var d decoder
	var ev event
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if !d.decode(line, &ev) {
			b.Fatal("not an event")
		}
	}
}

// formatElapsed prints v with all its digits.
func formatElapsed(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
