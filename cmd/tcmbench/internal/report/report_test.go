package report

import (
	"bytes"
	"strings"
	"testing"

	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/target"
	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/workload"
)

func TestTheMedianOfRoundsCounts(t *testing.T) {
	w := workload.Workload{Name: "paced"}
	k := target.Kind{Server: target.TCManager, Carrier: target.Web}
	r := Sum(w, k, []workload.Sample{{CPU: 9, P50: 1}, {CPU: 1, P50: 2}, {CPU: 2, P50: 3}})
	if *r.CPU != 2 || *r.CPUMin != 1 || *r.CPUMax != 9 || *r.P50 != 2 || r.KB != nil || r.Rounds != 3 {
		t.Errorf("result %+v", r)
	}
	if r = Sum(w, k, []workload.Sample{{CPU: 1, Lost: 1}, {CPU: 2, Lost: 2}}); *r.CPU != 1.5 || r.Lost != 3 {
		t.Errorf("of an even number: %+v", r)
	}
}

func TestRatiosSayWhatIsMet(t *testing.T) {
	result := func(workload string, k kind, cpu, p99 float64) Result {
		return Result{Workload: workload, Server: k.server, Carrier: k.carrier, CPU: &cpu, P99: &p99}
	}
	var b bytes.Buffer
	Ratios(&b, []Result{
		result("paced", web, 10, 20), result("paced", native, 10, 20), result("paced", socketio, 17, 25), result("paced", centrifuge, 13, 10),
		result("hot", web, 1, 26), result("hot", socketio, 3.5, 1),
	})
	for want, met := range map[string]string{
		"paced             web: CPU, socketio / ours ":   "aim",
		"paced             web: CPU, centrifuge / ours ": "floor",
		"paced             web: p99, centrifuge / ours ": "no",
		"hot               web: CPU, socketio / ours ":   "floor",
		"hot               web: p99, ms ":                "no",
	} {
		found := false
		for line := range strings.Lines(b.String()) {
			if strings.HasPrefix(line, want) {
				found = strings.HasSuffix(line, "  "+met+"\n")
			}
		}
		if !found {
			t.Errorf("there is no line %q that ends in %q:\n%s", want, met, &b)
		}
	}
	if strings.Contains(b.String(), "burst") {
		t.Errorf("a ratio of what was not measured:\n%s", &b)
	}
}

// TestAimsAreOfWhatIsMeasured: a name that is wrong would hide an aim for ever.
func TestAimsAreOfWhatIsMeasured(t *testing.T) {
	var all []Result
	one := 1.0
	for _, w := range workload.Plan(false) {
		for _, k := range w.Kinds {
			all = append(all, Result{Workload: w.Name, Server: k.Server, Carrier: k.Carrier, CPU: &one, P50: &one, P95: &one, P99: &one, PerS: &one, KB: &one})
		}
	}
	for _, a := range aims {
		if v, known := a.value(all); !known || v != 1 {
			t.Errorf("%s, %s: %v, %v", a.workload, a.what, v, known)
		}
	}
}

func TestNumbersHaveThreeDigits(t *testing.T) {
	for v, want := range map[float64]string{0.123: "0.12", 12.34: "12.3", 123.4: "123", 12345: "12.3 k", 4_600_000: "4.60 M"} {
		if got := number(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}
