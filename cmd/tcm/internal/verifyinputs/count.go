package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// fields are the counts that are compared.
var fields = []string{"total", "passed", "failed", "errored", "skipped", "timed_out", "aborted", "running", "paused", "queued"}

// counts are numbers by the name of their field.
type counts map[string]int

// pkg is what was counted of a package.
type pkg struct {
	status string
	tests  counts
}

// String prints what is compared.
func (p pkg) String() string { return describe(p.status, p.tests) }

func describe(status string, c counts) string {
	parts := []string{status}
	for _, f := range fields {
		if c[f] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c[f], f))
		}
	}
	return strings.Join(parts, " ")
}

// tally is an independent count of a recording.
type tally struct {
	events    int
	tests     counts
	packages  counts
	byPackage map[string]pkg
}

// statuses are the words of the store for those of go test.
var statuses = map[string]string{"pass": "passed", "fail": "failed", "skip": "skipped"}

// countFile counts a recording in the plainest way there is: each line by
// encoding/json, and the last end of each (package, test) counts.
func countFile(name string) (*tally, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	type key struct{ pkg, test string }
	ends := map[key]string{}
	t := &tally{tests: counts{}, packages: counts{}, byPackage: map[string]pkg{}}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var event struct {
			Action  string `json:"Action"`
			Package string `json:"Package"`
			Test    string `json:"Test"`
		}
		if json.Unmarshal(lines.Bytes(), &event) != nil {
			continue
		}
		t.events++
		k := key{event.Package, event.Test}
		switch status, ended := statuses[event.Action]; {
		case ended && event.Package != "":
			ends[k] = status
		case event.Action == "run" || event.Action == "start":
			ends[k] = "running"
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	for k, status := range ends {
		p := t.byPackage[k.pkg]
		if p.tests == nil {
			p.tests = counts{}
		}
		if k.test == "" {
			p.status = status
		} else {
			p.tests["total"]++
			p.tests[status]++
			t.tests["total"]++
			t.tests[status]++
		}
		t.byPackage[k.pkg] = p
	}
	for name, p := range t.byPackage {
		if p.status == "failed" && p.tests["failed"]+p.tests["running"] == 0 {
			p.status = "errored" // it failed without a failing test
			t.byPackage[name] = p
		}
		t.packages["total"]++
		t.packages[p.status]++
	}
	return t, nil
}
