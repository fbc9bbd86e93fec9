// Package service_test holds what is true of all packages together.
package service_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/tcmanager/tcmanager"

// noun is what each package of commands may lean on. No noun knows another,
// but for run, which notifies.
var noun = []string{
	"service/access", "service/event", "service/fault", "service/identity",
	"service/once", "service/page", "service/store", "service/text",
}

// allowed says which packages of this module each package may import; gen/...
// every one may. Imports point downwards: a row names only rows above it. A name
// that ends in /... stands for the package and all below it.
var allowed = []struct {
	pkg     string
	imports []string
}{
	// What everything speaks.
	{"service/fault", nil},
	{"service/event", []string{"service/fault"}},
	{"service/rules", []string{"service/fault"}},
	{"service/page", []string{"service/fault"}},
	{"service/text", []string{"service/fault"}},
	{"service/wire", nil},
	{"service/batch", nil},
	{"service/history", nil},
	{"service/limit", nil},
	{"service/disk", nil},

	// What is kept.
	{"service/store", []string{"service/event", "service/fault"}},
	{"service/store/column", []string{"service/store"}},
	{"service/store/memory", []string{"service/store", "service/store/column", "service/event"}},
	{"service/store/storetest", []string{"service/store", "service/event"}},
	{"service/store/sqlite", []string{"service/store", "service/store/memory", "service/store/column", "service/event", "service/disk"}},
	{"service/store/postgres/pgtest", nil},
	{"service/store/postgres", []string{"service/store", "service/store/memory", "service/store/column", "service/event"}},

	// Who asks, what for, and how often.
	{"service/access", []string{"service/store", "service/fault"}},
	{"service/identity", []string{"service/store", "service/fault"}},
	{"service/once", []string{"service/store", "service/fault"}},
	{"service/scene", []string{"service/store", "service/store/sqlite", "service/event", "service/identity"}},

	// The nouns.
	{"service/project", noun},
	{"service/testcase", noun},
	{"service/collaboration", noun},
	{"service/notification", noun},
	{"service/run", append(slices.Clone(noun), "service/notification", "service/rules")},

	// What forgets.
	{"service/retention", []string{"service/once", "service/store"}},

	// What keeps copies.
	{"service/backup", []string{"service/disk", "service/store"}},

	// Those who listen.
	{"service/router", []string{"service/event", "service/store", "service/wire"}},
	{"service/presence", []string{"service/event", "service/router"}},
	{"service/session", []string{
		"service/access", "service/event", "service/fault", "service/identity", "service/limit", "service/once",
		"service/presence", "service/router", "service/rules", "service/store", "service/wire",
	}},

	// The doors. One of them knows that a store can be closed: to a client that
	// is "come back later".
	{"interceptors/faults", []string{"interceptors/...", "service/identity", "service/fault", "service/rules", "service/store"}},
	{"interceptors/...", []string{"interceptors/...", "service/identity", "service/fault", "service/limit", "service/rules"}},

	// What people start.
	{"clients/web", nil},
	{"clients/go", nil},
	{"clients/go/tcmtest", []string{"clients/go"}},
	{"cmd/tcm/...", []string{"cmd/tcm/...", "clients/go"}}, // it runs far from the server: nothing of service is there
	{"cmd/tcmanager/internal/chaos/...", []string{"cmd/tcmanager/...", "service/...", "clients/go"}},                             // it uses a server as its users do
	{"cmd/tcmbench/internal/bare", []string{"service/event", "service/store", "service/store/sqlite", "service/store/postgres"}}, // it writes rows as the stores do
	{"cmd/tcmbench/...", []string{"cmd/tcmbench/...", "service/store/postgres/pgtest"}},                                          // it uses servers as their users do
	{"cmd/tcmanager/...", []string{"cmd/tcmanager/...", "interceptors/...", "service/...", "clients/web"}},
}

// TestImportsPointDownwards reads the files itself: the go command would answer
// from the test cache.
func TestImportsPointDownwards(t *testing.T) {
	found := packages(t, "..")
	for _, pkg := range slices.Sorted(maps.Keys(found)) {
		if matches("gen/...", pkg) {
			continue
		}
		row := rowOf(pkg)
		if row < 0 {
			t.Errorf("%s has no row in this test: add one that says what it may import", pkg)
			continue
		}
		for imported, file := range found[pkg] {
			if !matches("gen/...", imported) && !slices.ContainsFunc(allowed[row].imports, func(p string) bool { return matches(p, imported) }) {
				t.Errorf("%s imports %s, which the row of %s doesn't allow", file, imported, allowed[row].pkg)
			}
		}
	}
}

func TestTheTableItselfPointsDownwards(t *testing.T) {
	for i, row := range allowed {
		for _, imported := range row.imports {
			if matches(imported, strings.TrimSuffix(row.pkg, "/...")) || imported == row.pkg {
				continue // a family may know itself
			}
			if !slices.ContainsFunc(allowed[:i], func(above struct {
				pkg     string
				imports []string
			}) bool {
				return matches(imported, above.pkg) || imported == above.pkg
			}) {
				t.Errorf("%s may import %s, which has no row above it", row.pkg, imported)
			}
		}
	}
}

func TestEachRowIsOfAPackageThatIsThere(t *testing.T) {
	found := packages(t, "..")
	for _, row := range allowed {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(found)), func(pkg string) bool { return matches(row.pkg, pkg) }) {
			t.Errorf("%s has a row and no files: take the row out", row.pkg)
		}
	}
}

// TestOnlyTestsUseWhatIsForTests: the product must not carry the testing package.
func TestOnlyTestsUseWhatIsForTests(t *testing.T) {
	for _, imports := range packages(t, "..") {
		for _, forTests := range []string{"service/scene", "service/store/storetest", "clients/go/tcmtest"} {
			if file, ok := imports[forTests]; ok {
				t.Errorf("%s imports %s, which is for tests", file, forTests)
			}
		}
	}
}

func rowOf(pkg string) int {
	for i, row := range allowed {
		if matches(row.pkg, pkg) {
			return i
		}
	}
	return -1
}

// matches reports whether pkg is the pattern or, for one that ends in /..., it or
// below it.
func matches(pattern, pkg string) bool {
	family, ok := strings.CutSuffix(pattern, "/...")
	return pkg == family || (ok && strings.HasPrefix(pkg, family+"/"))
}

// packages returns, for each package of the module, what it imports of the
// module, each with a file that does. Tests may import what they like: they
// bring things together that the product keeps apart.
func packages(t *testing.T, root string) map[string]map[string]string {
	t.Helper()
	found := map[string]map[string]string{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return enter(root, name)
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		return read(root, name, found)
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// enter skips what the go command skips, and other modules.
func enter(root, dir string) error {
	base := filepath.Base(dir)
	if dir == root {
		return nil
	}
	if strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" || base == "node_modules" {
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

func read(root, name string, found map[string]map[string]string) error {
	f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
	if err != nil {
		return fmt.Errorf("read the imports of %s: %w", name, err)
	}
	rel, err := filepath.Rel(root, name)
	if err != nil {
		return err
	}
	rel = filepath.ToSlash(rel)
	pkg := path.Dir(rel)
	if found[pkg] == nil {
		found[pkg] = map[string]string{}
	}
	for _, spec := range f.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		if in, ok := strings.CutPrefix(imported, module+"/"); ok {
			found[pkg][in] = rel
		}
	}
	return nil
}
