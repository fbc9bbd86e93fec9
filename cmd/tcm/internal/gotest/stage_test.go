package gotest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"buf.build/go/protovalidate"
	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/protobuf/proto"
)

// outcome is all that a Converter made of an input.
type outcome struct {
	items   []*tcmv1.PublishItem
	human   string
	summary Summary
}

// convert runs text through a Converter, whole.
func convert(t testing.TB, text string) outcome {
	t.Helper()
	return convertWith(t, Options{}, func(c *Converter) { write(c, text) })
}

// write writes text, which never fails.
func write(c *Converter, text string) { _, _ = c.Write([]byte(text)) }

// convertWith lets drive feed a Converter, and checks that every item is one
// that the server takes.
func convertWith(t testing.TB, o Options, drive func(*Converter)) outcome {
	t.Helper()
	var out outcome
	var human bytes.Buffer
	o.Human = &human
	o.Publish = func(item *tcmv1.PublishItem) {
		if err := protovalidate.Validate(item); err != nil {
			t.Errorf("the server would refuse %v: %v", item, err)
		}
		out.items = append(out.items, proto.CloneOf(item))
	}
	c := NewConverter(o)
	drive(c)
	out.summary = c.End()
	out.human = human.String()
	return out
}

// lines joins events, each with a newline.
func lines(events ...string) string { return strings.Join(events, "\n") + "\n" }

// goroot is the Go distribution's directory.
var goroot = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	return strings.TrimSpace(string(out)), err
})

// goldenFiles are the outputs in Go's own tests of test2json.
func goldenFiles(t testing.TB) []string {
	t.Helper()
	root, err := goroot()
	if err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(root, "src/cmd/internal/test2json/testdata/*.json"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no golden files of test2json in %s: %v", root, err)
	}
	return names
}

// ownFiles are recordings of a module made of traps.
func ownFiles(t testing.TB) []string {
	t.Helper()
	names, err := filepath.Glob("testdata/*.json")
	if err != nil || len(names) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	return names
}

func readFile(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// describe prints items, one a line, without times: those of the recordings are
// as they happened.
func (o *outcome) describe() string {
	var b strings.Builder
	for _, item := range o.items {
		switch i := item.GetItem().(type) {
		case *tcmv1.PublishItem_Test:
			u := i.Test
			fmt.Fprintf(&b, "test    %s #%d %s", u.GetTest().GetName(), u.GetAttempt(), status(u.GetStatus()))
			if u.GetTest().GetParent() != "" {
				fmt.Fprintf(&b, " in %s", u.GetTest().GetParent())
			}
			if u.GetTest().GetKind() != tcmv1.TestKind_TEST_KIND_TEST {
				fmt.Fprintf(&b, " %s", u.GetTest().GetKind())
			}
			if len(u.GetCaseKeys()) > 0 {
				fmt.Fprintf(&b, " covers %v", u.GetCaseKeys())
			}
			describeEnd(&b, u.GetFlags(), u.GetError())
		case *tcmv1.PublishItem_Suite:
			u := i.Suite
			fmt.Fprintf(&b, "suite   %s %s %s", u.GetSuite(), status(u.GetStatus()), u.GetRawStatus())
			describeEnd(&b, u.GetFlags(), u.GetError())
		case *tcmv1.PublishItem_Output:
			fmt.Fprintf(&b, "output  %s %s #%d %.100q\n", i.Output.GetSuite(), i.Output.GetName(), i.Output.GetAttempt(), i.Output.GetData())
		}
	}
	return b.String()
}

func describeEnd(b *strings.Builder, flags []tcmv1.ResultFlag, f *tcmv1.Failure) {
	for _, flag := range flags {
		fmt.Fprintf(b, " %s", strings.TrimPrefix(flag.String(), "RESULT_FLAG_"))
	}
	if f != nil {
		fmt.Fprintf(b, " | %s %s:%d", f.GetMessage(), f.GetFile(), f.GetLine())
	}
	b.WriteByte('\n')
}

func status(s tcmv1.Status) string { return strings.TrimPrefix(s.String(), "STATUS_") }

// last returns the last update of a test, or fails.
func (o *outcome) last(t testing.TB, name string) *tcmv1.TestExecutionUpdate {
	t.Helper()
	for _, item := range slices.Backward(o.items) {
		if u := item.GetTest(); u.GetTest().GetName() == name {
			return u
		}
	}
	t.Fatalf("nothing about %s in\n%s", name, o.describe())
	return nil
}

// suite returns the last update of the only suite.
func (o *outcome) suite(t testing.TB) *tcmv1.SuiteExecutionUpdate {
	t.Helper()
	for _, item := range slices.Backward(o.items) {
		if u := item.GetSuite(); u != nil {
			return u
		}
	}
	t.Fatalf("no suite in\n%s", o.describe())
	return nil
}

// printed is the uploaded output of a test, or of the suite or run.
func (o *outcome) printed(suite, name string) string {
	var b strings.Builder
	for _, item := range o.items {
		if c := item.GetOutput(); c != nil && c.GetSuite() == suite && c.GetName() == name {
			b.Write(c.GetData())
		}
	}
	return b.String()
}

func wantStatus(t testing.TB, u *tcmv1.TestExecutionUpdate, want tcmv1.Status, flags ...tcmv1.ResultFlag) {
	t.Helper()
	if u.GetStatus() != want || fmt.Sprint(u.GetFlags()) != fmt.Sprint(flags) {
		t.Errorf("%s is %v %v, want %v %v", u.GetTest().GetName(), u.GetStatus(), u.GetFlags(), want, flags)
	}
}
