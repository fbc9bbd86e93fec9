package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// gitTimeout is how long git may take to say what is checked out. A build must
// not wait for a repository on a slow disk.
const gitTimeout = 500 * time.Millisecond

// place is what can be found out about where tests run.
type place struct {
	branch, commit, ciURL string
	runKey                string // common to the jobs of one pipeline; empty outside CI
}

// locate asks the CI system's environment, and git for what that doesn't say.
func locate(getenv func(string) string, git func() (branch, commit string)) place {
	var p place
	switch {
	case getenv("GITHUB_ACTIONS") == "true":
		p = onGitHub(getenv)
	case getenv("GITLAB_CI") == "true" || getenv("CI_PIPELINE_ID") != "":
		p = onGitLab(getenv)
	}
	if p.branch == "" || p.commit == "" {
		branch, commit := git()
		p.branch = first(p.branch, branch)
		p.commit = first(p.commit, commit)
	}
	return p
}

func onGitHub(getenv func(string) string) place {
	p := place{
		branch: first(getenv("GITHUB_HEAD_REF"), getenv("GITHUB_REF_NAME")), // the first is set for pull requests
		commit: getenv("GITHUB_SHA"),
	}
	if id := getenv("GITHUB_RUN_ID"); id != "" {
		p.ciURL = getenv("GITHUB_SERVER_URL") + "/" + getenv("GITHUB_REPOSITORY") + "/actions/runs/" + id
		p.runKey = "github-" + id + "-" + first(getenv("GITHUB_RUN_ATTEMPT"), "1")
	}
	return p
}

func onGitLab(getenv func(string) string) place {
	p := place{
		branch: first(getenv("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME"), getenv("CI_COMMIT_REF_NAME")),
		commit: getenv("CI_COMMIT_SHA"),
		ciURL:  first(getenv("CI_JOB_URL"), getenv("CI_PIPELINE_URL")),
	}
	if id := getenv("CI_PIPELINE_ID"); id != "" {
		p.runKey = "gitlab-" + id
	}
	return p
}

// first returns the first string that isn't empty.
func first(s ...string) string {
	for _, v := range s {
		if v != "" {
			return v
		}
	}
	return ""
}

// askGit asks git what is checked out here; empty if it doesn't know.
func askGit() (branch, commit string) {
	ctx, cancel := context.WithTimeout(context.Background(), gitTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "git", "rev-parse", "HEAD", "--abbrev-ref", "HEAD").Output()
	lines := strings.Fields(string(out))
	if err != nil || len(lines) != 2 {
		return "", ""
	}
	if branch = lines[1]; branch == "HEAD" {
		branch = "" // detached
	}
	return branch, lines[0]
}

// defaultName is the title of a run that was given none. The server learns from
// the last run of the same name how many tests to expect, so it should be the
// same each time.
func defaultName(command []string) string {
	if len(command) > 0 {
		return strings.Join(command, " ")
	}
	dir, err := os.Getwd()
	if err != nil {
		return "go test"
	}
	return "go test in " + filepath.Base(dir)
}

// runInfo puts together what a run is told about itself, within the schema's
// limits.
func runInfo(name string, p place) *tcmv1.RunInfo {
	return &tcmv1.RunInfo{
		Name:   limit(name, 256),
		Source: "go",
		Branch: limit(p.branch, 256),
		Commit: limit(p.commit, 64),
		CiUrl:  limit(p.ciURL, 2048),
	}
}

// limit cuts s to n bytes of valid text.
func limit(s string, n int) string {
	s = strings.ToValidUTF8(s, "")
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "")
	}
	return s
}
