package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	tcmanager "github.com/tcmanager/tcmanager/clients/go"
)

// manyEvents is the output of n tests that pass.
func manyEvents(n int) string {
	var b strings.Builder
	b.WriteString(`{"Action":"start","Package":"p"}` + "\n")
	for i := range n {
		fmt.Fprintf(&b, `{"Action":"run","Package":"p","Test":"Test%d"}`+"\n", i)
		fmt.Fprintf(&b, `{"Action":"output","Package":"p","Test":"Test%d","Output":"=== RUN   Test%d\n"}`+"\n", i, i)
		fmt.Fprintf(&b, `{"Action":"output","Package":"p","Test":"Test%d","Output":"%s\n"}`+"\n", i, strings.Repeat("x", 300))
		fmt.Fprintf(&b, `{"Action":"pass","Package":"p","Test":"Test%d","Elapsed":0}`+"\n", i)
	}
	b.WriteString(`{"Action":"pass","Package":"p"}` + "\n")
	return b.String()
}

// runStream runs tcm stream in this process against f, with in as its input.
func runStream(t *testing.T, f *fakeServer, in io.Reader, timeout time.Duration) (code int, said string) {
	t.Helper()
	project := "demo"
	var out, err bytes.Buffer
	g := &global{terminal: &terminal{in: in, out: &out, err: &err}, server: f.addr}
	config := tcmanager.PublisherConfig{Project: project, RunKey: "k", SpoolDir: t.TempDir()}
	code = stream(g, &uploadOptions{project: &project, timeout: timeout}, config)
	return code, err.String()
}

// TestAStuckServerNeverMakesTheWriterWait writes more than memory and every
// window on the way would hold, to a server that takes nothing until the test
// has ended: that the end of the input is reached at all is the proof.
func TestAStuckServerNeverMakesTheWriterWait(t *testing.T) {
	f := &fakeServer{dev: true, token: "secret", stuck: make(chan struct{})}
	startFake(t, f, cleanup(t))
	defer close(f.stuck)
	text := manyEvents(40_000)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = io.WriteString(w, text)
		_ = w.Close()
	}()
	code, said := runStream(t, f, r, time.Second)
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if code != 0 || !strings.Contains(said, "items were not uploaded") {
		t.Errorf("exit code %d, said\n%s", code, said)
	}
}

func TestEverythingArrivesThroughAPipe(t *testing.T) {
	f := &fakeServer{dev: true, token: "secret"}
	startFake(t, f, cleanup(t))
	code, said := runStream(t, f, iotestHalf{strings.NewReader(manyEvents(5000))}, time.Minute)
	if code != 0 || strings.Contains(said, "not uploaded") || !strings.Contains(said, "5,000 tests, 5,000 passed") {
		t.Errorf("exit code %d, said\n%s", code, said)
	}
	if n := strings.Count(f.lines(), " passed: "); n != 5001 {
		t.Errorf("%d results", n)
	}
}

// iotestHalf reads odd amounts.
type iotestHalf struct{ r io.Reader }

func (h iotestHalf) Read(p []byte) (int, error) { return h.r.Read(p[:min(len(p), 4093)]) }

func TestTheGateHoldsTheTestsOutputBackUntilItIsOpened(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	g := &gate{w: &b}
	if _, err := g.Write([]byte("one ")); err != nil || b.Len() > 0 {
		t.Errorf("%v, %q", err, b.String())
	}
	g.release()
	if _, err := g.Write([]byte("two")); err != nil || b.String() != "one two" {
		t.Errorf("%v, %q", err, b.String())
	}
	full := &gate{w: &b}
	if _, err := full.Write(make([]byte, holdLimit+1)); err != nil || !full.open {
		t.Error("a full gate stays closed")
	}
}

func TestJSONIsAddedToGoTestOnly(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"go test ./...":              "go test -json ./...",
		"/usr/local/go/bin/go test":  "/usr/local/go/bin/go test -json",
		"go1.26.8 test -v":           "go1.26.8 test -json -v",
		"go test -json ./...":        "go test -json ./...",
		"go test --json=true":        "go test --json=true",
		"go test ./... -args -json":  "go test -json ./... -args -json",
		"go vet ./...":               "go vet ./...",
		"make test":                  "make test",
		"go":                         "go",
		"go test -jsonish ./json":    "go test -json -jsonish ./json",
		"gotestsum -- -json ./...":   "gotestsum -- -json ./...",
		"go test -run json ./... -v": "go test -json -run json ./... -v",
	} {
		if got := strings.Join(withJSON(strings.Fields(in)), " "); got != want {
			t.Errorf("%s became %s, want %s", in, got, want)
		}
	}
	for in, want := range map[string]bool{"go test -v": true, "go test --v=true": true, "go test -run v": false, "go test -args -v": false, "make -v": false, "go test -vet off": false} {
		if verboseGoTest(strings.Fields(in)) != want {
			t.Errorf("%s: verbose is %v", in, !want)
		}
	}
}

func TestWhereTestsRunIsReadFromTheCISystem(t *testing.T) {
	t.Parallel()
	git := func() (string, string) { return "from-git", "c0ffee" }
	for _, c := range []struct {
		name string
		env  map[string]string
		want place
	}{
		{"nowhere", nil, place{branch: "from-git", commit: "c0ffee"}},
		{"GitHub push", map[string]string{"GITHUB_ACTIONS": "true", "GITHUB_REF_NAME": "main", "GITHUB_SHA": "abc", "GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "o/r", "GITHUB_RUN_ID": "7"},
			place{branch: "main", commit: "abc", ciURL: "https://github.com/o/r/actions/runs/7", runKey: "github-7-1"}},
		{"GitHub pull request, second attempt", map[string]string{"GITHUB_ACTIONS": "true", "GITHUB_REF_NAME": "12/merge", "GITHUB_HEAD_REF": "fix", "GITHUB_SHA": "abc", "GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "o/r", "GITHUB_RUN_ID": "7", "GITHUB_RUN_ATTEMPT": "2"},
			place{branch: "fix", commit: "abc", ciURL: "https://github.com/o/r/actions/runs/7", runKey: "github-7-2"}},
		{"GitLab", map[string]string{"GITLAB_CI": "true", "CI_COMMIT_REF_NAME": "main", "CI_COMMIT_SHA": "abc", "CI_JOB_URL": "https://gitlab.com/j/1", "CI_PIPELINE_ID": "9"},
			place{branch: "main", commit: "abc", ciURL: "https://gitlab.com/j/1", runKey: "gitlab-9"}},
		{"GitLab merge request without a commit", map[string]string{"GITLAB_CI": "true", "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "fix", "CI_COMMIT_REF_NAME": "refs/merge", "CI_PIPELINE_URL": "https://gitlab.com/p/9"},
			place{branch: "fix", commit: "c0ffee", ciURL: "https://gitlab.com/p/9"}},
	} {
		if got := locate(func(k string) string { return c.env[k] }, git); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestCountsAreReadable(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 46287: "46,287", 1234567: "1,234,567"} {
		if got := count(n); got != want {
			t.Errorf("%d is printed %s", n, got)
		}
	}
	if got := printable("a\x1b[31m\nb\u0085é"); got != "a [31m b é" {
		t.Errorf("printable: %q", got)
	}
}
