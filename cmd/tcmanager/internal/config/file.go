package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFile is many times what all options take, and little to read by mistake.
const maxFile = 1 << 20

// document is a configuration file as it was read: YAML with the names of the flags
// as keys, and with values written as the flags take them.
type document struct {
	path   string
	values map[string]value
}

// value is one value and the line it stands on.
type value struct {
	text string
	line int
}

// readFile reads a configuration file. Its errors say in which line what is
// wrong; the values that are right are returned all the same.
func readFile(path string) (document, []error) {
	f := document{path: path, values: map[string]value{}}
	b, err := readAtMost(path, maxFile)
	if err != nil {
		return f, []error{fmt.Errorf("read the configuration: %w", err)}
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	var first, second yaml.Node
	if err := d.Decode(&first); errors.Is(err, io.EOF) {
		return f, nil // nothing but comments
	} else if err != nil {
		return f, []error{f.syntax(err)}
	}
	if err := d.Decode(&second); err == nil {
		return f, []error{f.at(second.Line, "a second document begins here: keep one, without a line ---")}
	} else if !errors.Is(err, io.EOF) {
		return f, []error{f.syntax(err)}
	}
	root := first.Content[0]
	if root.Tag == "!!null" {
		return f, nil
	}
	if root.Kind != yaml.MappingNode {
		return f, []error{f.at(root.Line, "this is no list of options: write one a line, as in \"grpc-addr: 127.0.0.1:9090\"")}
	}
	var errs []error
	for i := 0; i+1 < len(root.Content); i += 2 {
		if err := f.add(root.Content[i], root.Content[i+1]); err != nil {
			errs = append(errs, err)
		}
	}
	return f, errs
}

func readAtMost(path string, limit int64) ([]byte, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }() // it was only read
	b, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s has more than %d bytes, which no configuration has", path, limit)
	}
	return b, err
}

// add takes one option over.
func (f document) add(key, v *yaml.Node) error {
	o, known := optionNamed(key.Value)
	switch first, twice := f.values[key.Value]; {
	case key.Kind != yaml.ScalarNode:
		return f.at(key.Line, "a name of an option must stand before the colon")
	case !known:
		return f.at(key.Line, "there is no option %q%s", key.Value, suggestion(key.Value))
	case o.envOnly:
		return f.at(key.Line, "%s: secrets don't stand in this file, which gets copied and shown: put it into a file of its own and name that with %s-file", o.name, o.name)
	case o.name == configName:
		return f.at(key.Line, "%s: a configuration file can't name another", o.name)
	case twice:
		return f.at(key.Line, "%s stands in line %d already: keep one of them", o.name, first.line)
	}
	text, err := f.text(o, v)
	if err != nil {
		return err
	}
	if v.Tag == "!!null" {
		return nil // a name with nothing behind it is not set, like an empty variable
	}
	if (o.kind == "file" || o.kind == "dir") && text != "" && !filepath.IsAbs(text) {
		// Whoever writes the file knows what lies beside it, and not where the
		// server will be started.
		text = filepath.Join(filepath.Dir(f.path), text)
	}
	f.values[o.name] = value{text: text, line: key.Line}
	return nil
}

// text is a value as its flag would be given it.
func (f document) text(o option, v *yaml.Node) (string, error) {
	switch v.Kind {
	case yaml.ScalarNode:
		return v.Value, nil
	case yaml.SequenceNode:
		if !o.list() {
			return "", f.at(v.Line, "%s takes one %s, not a list", o.name, o.kind)
		}
		parts := make([]string, 0, len(v.Content))
		for _, item := range v.Content {
			if item.Kind != yaml.ScalarNode {
				return "", f.at(item.Line, "%s: each entry of the list must be a text", o.name)
			}
			parts = append(parts, item.Value)
		}
		return strings.Join(parts, ","), nil
	case yaml.AliasNode:
		return "", f.at(v.Line, "%s: anchors and aliases aren't understood here: write the value", o.name)
	default:
		return "", f.at(v.Line, "%s takes a %s, not options of its own", o.name, o.kind)
	}
}

func (f document) at(line int, format string, args ...any) error {
	return fmt.Errorf("%s:%d: "+format, append([]any{f.path, line}, args...)...)
}

var yamlError = regexp.MustCompile(`(?s)^yaml: (?:line (\d+): )?(.*)$`)

// syntax says where a file is no YAML.
func (f document) syntax(err error) error {
	place, what := f.path, err.Error()
	if m := yamlError.FindStringSubmatch(what); m != nil {
		if what = m[2]; m[1] != "" {
			place += ":" + m[1]
		}
	}
	return fmt.Errorf("%s: this is no YAML: %s; write one option a line, as in \"grpc-addr: 127.0.0.1:9090\", indented by nothing and not by tabs", place, what)
}

// suggestion names the option that was probably meant; empty if there is none.
func suggestion(name string) string {
	// As the environment spells it, or as other programs do.
	name = strings.ReplaceAll(strings.TrimPrefix(strings.ToLower(name), "tcm_"), "_", "-")
	name = strings.TrimPrefix(name, "--")
	best, distance := "", len(name)/3+2
	for _, o := range options {
		if o.envOnly || o.name == configName {
			continue
		}
		if d := edits(name, o.name); d < distance {
			best, distance = o.name, d
		}
	}
	if best == "" {
		return "; \"tcmanager config --example\" lists all"
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// edits is how many letters must be put in, taken out or replaced to make b of a
// (the Levenshtein distance).
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// Example writes a configuration file with every option at its default, each
// commented out.
func Example(w io.Writer) error {
	var b strings.Builder
	b.WriteString("# Options of tcmanager; give this file as --config FILE or TCM_CONFIG.\n" +
		"# A flag wins over an environment variable, which wins over this file. Take the\n" +
		"# # off what you change. Paths start from this file's folder.\n")
	group := ""
	for _, o := range options {
		if o.envOnly || o.name == configName {
			continue
		}
		if o.group != group {
			group = o.group
			b.WriteString("\n# ---- " + group + " ----\n")
		}
		line, err := o.exampleLine()
		if err != nil {
			return err
		}
		b.WriteString("\n# " + o.usage + "\n#" + line + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// exampleLine is the option at its default, in YAML.
func (o option) exampleLine() (string, error) {
	text := o.shownDefault()
	if o.list() {
		return o.name + ": [" + strings.ReplaceAll(text, ",", ", ") + "]", nil
	}
	switch {
	case text == "":
		return o.name + ":", nil
	case o.kind == "bool", o.kind == "number", o.kind == "bytes":
		return o.name + ": " + text, nil // as a text it would be quoted, and needs not be
	}
	quoted, err := yaml.Marshal(text)
	if err != nil {
		return "", fmt.Errorf("write %s as YAML: %w", o.name, err)
	}
	return o.name + ": " + strings.TrimSpace(string(quoted)), nil
}
