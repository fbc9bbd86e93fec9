package gotest

import "bytes"

// maxBuildText is how much of one build's output is kept.
const maxBuildText = 64 << 10

// build is what the compiler, vet or the loader printed about one import path.
type build struct {
	text   []byte
	failed bool // the text is complete; more would begin another build
	used   bool // a package named it as the reason of its failure
}

// builds holds the failed builds by import path, which is the compiler's name of
// what was built ("p [p.test]"), and differs from the package that needed it.
type builds struct {
	texts map[string]*build
	size  int
}

// output adds to the text of a build. One import path can fail twice, for two
// packages that need it: the second text replaces the first.
func (b *builds) output(importPath string, text []byte) {
	e := b.texts[importPath]
	if e == nil {
		e = &build{}
		b.texts[importPath] = e
	}
	if e.failed {
		b.size -= len(e.text)
		e.text, e.failed = nil, false
	}
	// All builds together may keep a few dozen times the limit of one.
	room := min(maxBuildText-len(e.text), 32*maxBuildText-b.size)
	text = text[:max(0, min(room, len(text)))]
	e.text = append(e.text, text...)
	b.size += len(text)
}

// fail marks a build as failed.
func (b *builds) fail(importPath string) {
	e := b.texts[importPath]
	if e == nil {
		e = &build{}
		b.texts[importPath] = e
	}
	e.failed = true
}

// take returns the text of a failed build for a package that needed it.
func (b *builds) take(importPath string) []byte {
	if e := b.texts[importPath]; e != nil {
		e.used = true
		return e.text
	}
	return nil
}

// orphans counts failed builds that no package named.
func (b *builds) orphans() int {
	n := 0
	for _, e := range b.texts {
		if e.failed && !e.used {
			n++
		}
	}
	return n
}

// buildFailed reports whether a package's own words say that it wasn't built.
func buildFailed(raw string) bool {
	return raw == "[build failed]" || raw == "[setup failed]"
}

// rawStatus takes the bracketed remark from a package's last line, for example
// "[no test files]" or "(cached)"; empty if there is none.
func rawStatus(line []byte) string {
	line = bytes.TrimRight(line, "\n")
	for _, remark := range []string{"[no test files]", "[no tests to run]", "[build failed]", "[setup failed]", "(cached)"} {
		if bytes.Contains(line, []byte(remark)) {
			return remark
		}
	}
	return ""
}
