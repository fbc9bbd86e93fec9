package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// museum holds bugs that this server could have had, each as a patch in
// testdata/museum, with the proof and the guarantee that find it.
var museum = []struct {
	bug       string
	guarantee string
	proof     string // a test of this package
	seconds   string // at most, of each try
}{
	{"fresh-before-the-log", "Ordered", "TestRoomsLoseNothing", "2"},
	{"no-dedupe", "Unique", "TestAJoinMissesNothingOfWhatComesMeanwhile", "3"},
	{"subscribe-after-read", "Reliable", "TestAJoinMissesNothingOfWhatComesMeanwhile", "15"},
	{"resume-one-too-late", "Resumable", "TestRoomsLoseNothing", "1"},
	{"epoch-ignored", "Resumable", "TestAStoreThatWasCopiedBackIsNoticed", "3"},
	{"bookmark-jumps-the-queue", "Bookmarkable", "TestRoomsLoseNothing", "2"},
	{"role-checked-at-join-only", "Authorised", "TestARightThatIsLostEndsWithinASecond", "3"},
	{"purge-forgotten", "Authorised", "TestRoomsLoseNothing", "2"},
	{"drain-forgets-the-queue", "Bookmarkable", "TestARestartUnderLoadLosesNothing", "1"},
	{"ack-before-commit", "Durable", "TestEveryAcknowledgedWriteIsThereOnce", "1"},
	{"lost-fence", "Durable", "TestEveryAcknowledgedWriteIsThereOnce", "1"},
	{"request-ids-forgotten-too-soon", "Once", "TestEveryAcknowledgedWriteIsThereOnce", "1"},
	{"refused-and-kept", "Once", "TestEveryAcknowledgedWriteIsThereOnce", "1"},
	{"lost-without-a-lease", "Present", "TestNobodyIsShownWhoHasGone", "1"},
	{"silence-is-never-over", "Present", "TestNobodyIsShownWhoHasGone", "1"},
	{"ghost-of-a-resumed-session", "Present", "TestNobodyIsShownWhoHasGone", "1"},
}

// museumTries is how often a proof may be repeated until it finds a bug: its
// choices follow from a seed, but not when the server answers.
const museumTries = 3

// TestTheGuaranteesFindTheBugsOfTheMuseum builds this package's tests once for each
// exhibit, with it in the files it is of, and sees that the proof fails by the
// guarantee that the bug breaks.
func TestTheGuaranteesFindTheBugsOfTheMuseum(t *testing.T) {
	if os.Getenv("TCM_MUSEUM") != "" {
		t.Fatal("the museum was asked to visit itself")
	}
	for _, exhibit := range museum {
		t.Run(exhibit.bug, func(t *testing.T) {
			t.Parallel() // much of a proof is waiting, beside which another is built
			binary := buildWith(t, exhibit.bug)
			var found []string
			for range museumTries {
				out := runProof(t, binary, exhibit.proof, exhibit.seconds)
				if found = guaranteesIn(out); slices.Contains(found, exhibit.guarantee) {
					t.Logf("%s is found by %s: %s", exhibit.bug, exhibit.proof, strings.Join(found, ", "))
					return
				}
			}
			t.Errorf("%s doesn't break %s in %s, only %v", exhibit.bug, exhibit.guarantee, exhibit.proof, found)
		})
	}
}

func TestTheMuseumShowsEveryPatch(t *testing.T) {
	files, err := filepath.Glob("testdata/museum/*.patch")
	if err != nil || len(files) != len(museum) {
		t.Errorf("there are %d patches for %d exhibits: %v", len(files), len(museum), err)
	}
}

// buildWith builds the tests of this package with a bug. The files of the module
// stay as they are: the patch is applied to copies, which the build sees instead.
func buildWith(t *testing.T, bug string) (binary string) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	patch := filepath.Join(root, "cmd/tcmanager/testdata/museum", bug+".patch")
	dir := t.TempDir()
	overlay := struct {
		Replace map[string]string `json:"Replace"` //nolint:tagliatelle // the go command's word
	}{map[string]string{}}
	for _, name := range patched(t, patch) {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(copied), 0o700), os.WriteFile(copied, text, 0o600)); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[filepath.Join(root, name)] = copied
	}
	mustRun(t, dir, nil, "git", "apply", patch)
	list, err := json.Marshal(overlay)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "overlay.json"), list, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	binary = filepath.Join(dir, "proof.test")
	// -trimpath as in the Makefile: what "make build" has compiled is used again.
	mustRun(t, filepath.Join(root, "cmd/tcmanager"), nil,
		"go", "test", "-c", "-trimpath", "-ldflags=-s -w", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, ".")
	return binary
}

// patched returns the files that a patch is of.
func patched(t *testing.T, patch string) []string {
	t.Helper()
	text, err := os.ReadFile(patch)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^\+\+\+ b/(.+)$`).FindAllStringSubmatch(string(text), -1) {
		names = append(names, m[1])
	}
	return names
}

// mustRun runs a command that must succeed.
func mustRun(t *testing.T, dir string, env []string, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	// The copies may lie below a repository, which is none of the patch's.
	cmd.Env = append(os.Environ(), append(env, "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// runProof runs a proof that is meant to fail, and returns what it said.
func runProof(t *testing.T, binary, proof, seconds string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, "-test.run", "^"+proof+"$", "-test.timeout", "60s")
	cmd.Env = append(os.Environ(), "TCM_MUSEUM=1", "TCM_SIM_SEED=1", "TCM_SIM_SETTLE=1", "TCM_SIM_SECONDS="+seconds, "TCM_SIM_DIR=")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out)
}

// guaranteesIn returns the guarantees whose violations a proof printed.
func guaranteesIn(out string) []string {
	var found []string
	for _, m := range regexp.MustCompile(`(?m)^ +\S+_test\.go:\d+: ([A-Z][a-z]+): session `).FindAllStringSubmatch(out, -1) {
		if !slices.Contains(found, m[1]) {
			found = append(found, m[1])
		}
	}
	return found
}
