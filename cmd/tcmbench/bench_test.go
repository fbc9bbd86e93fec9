package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/load"
	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/report"
	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/target"
	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/workload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestEachWorkloadDeliversAllOfEachServer runs all with few clients, against the
// real servers. A workload fails by itself if a reader misses an event.
func TestEachWorkloadDeliversAllOfEachServer(t *testing.T) {
	programs, err := target.Build(t.Context(), "../..", t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := load.Raise(connections); err != nil {
		t.Fatal(err)
	}
	for _, w := range workload.Plan(true) {
		t.Run(w.Name, func(t *testing.T) {
			for _, k := range w.Kinds {
				t.Run(k.String(), func(t *testing.T) {
					t.Parallel()
					s, err := w.Measure(t.Context(), k, programs)
					if err != nil {
						t.Fatal(err)
					}
					if s.Lost != 0 && k.Server == target.TCManager {
						t.Errorf("%d lost", s.Lost)
					}
				})
			}
		})
	}
}

func env(string) string { return "" }

func TestARunWritesTablesAndResults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results", "latest.json")
	var out bytes.Buffer
	args := []string{"-small", "-only", "burst-1000", "-servers", "tcmanager,raw-batched", "-rounds", "2", "-results", path, "-top", "../.."}
	if err := start(t.Context(), args, env, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"burst-1000        tcmanager/web ", "burst-1000        raw-batched ", "web: CPU, ours / raw-batched"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %q in\n%s", want, &out)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var results []report.Result
	if err := json.Unmarshal(b, &results); err != nil {
		t.Fatal(err)
	}
	var servers []string
	for _, r := range results {
		servers = append(servers, r.Server+"/"+r.Carrier)
		if r.Workload != "burst-1000" || r.Rounds != 2 || r.CPU == nil || r.P50 == nil || r.KB != nil || *r.CPUMin > *r.CPU || *r.CPU > *r.CPUMax {
			t.Errorf("result %+v", r)
		}
	}
	if want := []string{"tcmanager/web", "tcmanager/native", "raw-batched/"}; !slices.Equal(servers, want) {
		t.Errorf("results of %q, want those of %q", servers, want)
	}
}

func TestWhatIsNotThereIsNamed(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"-only bursts", `"bursts"`},
		{"-servers nginx", `"nginx"`},
		{"-rounds 0", "a round"},
		{"paced", `"paced"`},
	} {
		err := start(t.Context(), strings.Fields(c.args), env, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %s", c.args, err, c.want)
		}
	}
}

// TestVariablesAndFlagsSayTheSame: a flag wins.
func TestVariablesAndFlagsSayTheSame(t *testing.T) {
	for name, wrong := range map[string]string{"BENCH_ONLY": "none", "BENCH_SERVERS": "none", "BENCH_ROUNDS": "none"} {
		set := func(asked string) string {
			if asked == name {
				return wrong
			}
			return ""
		}
		if err := start(t.Context(), nil, set, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "none") {
			t.Errorf("%s=%s: %v", name, wrong, err)
		}
	}
}
