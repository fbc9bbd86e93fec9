package testcase

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/fault"
)

const (
	title       = pb.TestCaseField_TEST_CASE_FIELD_TITLE
	description = pb.TestCaseField_TEST_CASE_FIELD_DESCRIPTION
	priority    = pb.TestCaseField_TEST_CASE_FIELD_PRIORITY
	status      = pb.TestCaseField_TEST_CASE_FIELD_STATUS
)

// written is a case whose title was edited once and whose description twice.
func written() *pb.TestCase {
	return &pb.TestCase{
		Id: "case", Key: "TC-1", Title: "Sign in", Description: "1. open",
		Priority: pb.Priority_PRIORITY_HIGH, Status: pb.TestCaseStatus_TEST_CASE_STATUS_DRAFT,
		Revisions: []*pb.FieldRevision{
			{Field: title, Revision: 2}, {Field: description, Revision: 3},
			{Field: priority, Revision: 1}, {Field: status, Revision: 1},
		},
	}
}

func TestAnEditSetsOneFieldAndItsRevision(t *testing.T) {
	for name, tc := range map[string]struct {
		field    pb.TestCaseField
		value    string
		base     uint64
		want     string
		revision uint64
	}{
		"title":              {title, "Sign out", 2, "Sign out", 3},
		"title is trimmed":   {title, "  Sign out ", 2, "Sign out", 3},
		"title of 200":       {title, strings.Repeat("é", 200), 2, strings.Repeat("é", 200), 3},
		"description":        {description, "1. open\n2. close", 3, "1. open\n2. close", 4},
		"description, empty": {description, "", 3, "", 4},
		"line ends":          {description, "a\r\nb", 3, "a\nb", 4},
		"priority":           {priority, "PRIORITY_CRITICAL", 1, "PRIORITY_CRITICAL", 2},
		"status":             {status, "TEST_CASE_STATUS_APPROVED", 1, "TEST_CASE_STATUS_APPROVED", 2},
	} {
		t.Run(name, func(t *testing.T) {
			before := written()
			got, err := edit(before, tc.field, tc.value, tc.base)
			if err != nil {
				t.Fatal(err)
			}
			if v := fields[tc.field-1].get(got); v != tc.want {
				t.Errorf("the value is %q, want %q", v, tc.want)
			}
			for _, r := range got.GetRevisions() {
				want := revision(written(), r.GetField()).GetRevision()
				if r.GetField() == tc.field {
					want = tc.revision
				}
				if r.GetRevision() != want {
					t.Errorf("%s is at revision %d, want %d", r.GetField(), r.GetRevision(), want)
				}
			}
			for f := range fields {
				if f := pb.TestCaseField(f + 1); f != tc.field && fields[f-1].get(got) != fields[f-1].get(before) {
					t.Errorf("%s changed too", f)
				}
			}
			if !proto.Equal(before, written()) {
				t.Error("the case that was read changed")
			}
		})
	}
}

func TestAnEditThatBreaksARuleIsAFaultOfItsField(t *testing.T) {
	for name, tc := range map[string]struct {
		field pb.TestCaseField
		value string
		want  string // the field the fault names
	}{
		"title, blank":         {title, " \t", "value"},
		"title, too long":      {title, strings.Repeat("é", 201), "value"},
		"title, two lines":     {title, "a\nb", "value"},
		"description, control": {description, "a\x00b", "value"},
		"priority, unknown":    {priority, "HIGH", "value"},
		"priority, unset":      {priority, "PRIORITY_UNSPECIFIED", "value"},
		"priority, a number":   {priority, "3", "value"},
		"status, unknown":      {status, "approved", "value"},
		"status, unset":        {status, "TEST_CASE_STATUS_UNSPECIFIED", "value"},
		"no field":             {0, "x", "field"},
		"unknown field":        {99, "x", "field"},
		"negative field":       {-1, "x", "field"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := edit(written(), tc.field, tc.value, 1)
			if f := fault.Of(err); f == nil || f.Kind != fault.Invalid || f.Violations[0].Field != tc.want {
				t.Errorf("got %v, %v; want a fault about %s", got, err, tc.want)
			}
		})
	}
}

func TestAnEditOfAnotherRevisionIsRefusedWithWhatIsThere(t *testing.T) {
	for _, base := range []uint64{1, 3, 1 << 63} {
		_, err := edit(written(), title, "Sign out", base)
		f := fault.Of(err)
		if f == nil || f.Kind != fault.Conflict || f.Reason != "REVISION_MISMATCH" {
			t.Fatalf("base %d: got %v", base, err)
		}
		if f.Metadata["current_revision"] != "2" || f.Metadata["current_value"] != "Sign in" ||
			f.Metadata["field"] != "TEST_CASE_FIELD_TITLE" || f.Metadata["current_value_cut"] != "" {
			t.Errorf("base %d: metadata %v", base, f.Metadata)
		}
	}
}

func TestALongValueIsCutInTheConflict(t *testing.T) {
	tc := written()
	tc.Description = strings.Repeat("é", 600)
	_, err := edit(tc, description, "short", 1)
	f := fault.Of(err)
	if f == nil {
		t.Fatal(err)
	}
	if got := f.Metadata["current_value"]; got != strings.Repeat("é", 512) || f.Metadata["current_value_cut"] != "true" {
		t.Errorf("got %d bytes, cut %q", len(got), f.Metadata["current_value_cut"])
	}
}

// Two people who type the same agree; and a client that lost the answer to its
// edit and repeats it, without a request id even, is told that all is well.
func TestSettingWhatIsThereSucceedsWhateverTheRevision(t *testing.T) {
	for _, base := range []uint64{1, 2, 9} {
		if got, err := edit(written(), title, " Sign in ", base); got != nil || err != nil {
			t.Errorf("base %d: got %v, %v; want no change", base, got, err)
		}
	}
}

// A field that is added to the schema later has no entry in the cases there are.
func TestAFieldWithoutAnEntryIsAtRevisionOne(t *testing.T) {
	tc := written()
	tc.Revisions = tc.Revisions[:3]
	got, err := edit(tc, status, "TEST_CASE_STATUS_APPROVED", 1)
	if err != nil {
		t.Fatal(err)
	}
	if r := revision(got, status).GetRevision(); r != 2 || len(tc.GetRevisions()) != 3 {
		t.Errorf("revision %d; the case that was read has %d entries", r, len(tc.GetRevisions()))
	}
}

func TestEachFieldOfTheSchemaCanBeEdited(t *testing.T) {
	if got, want := len(fields), len(pb.TestCaseField_name)-1; got != want {
		t.Fatalf("%d fields can be edited, the schema has %d", got, want)
	}
	for n, name := range pb.TestCaseField_name {
		if int(n) > len(fields) {
			t.Errorf("%s has number %d, beyond the table", name, n)
		}
	}
}

func TestANewCaseStartsWithDefaultsAtRevisionOne(t *testing.T) {
	got, err := draft(&pb.CreateTestCaseRequest{Title: " Sign in ", Description: "a\r\nb"})
	if err != nil {
		t.Fatal(err)
	}
	want := &pb.TestCase{
		Title: "Sign in", Description: "a\nb",
		Priority: pb.Priority_PRIORITY_MEDIUM, Status: pb.TestCaseStatus_TEST_CASE_STATUS_DRAFT,
		Revisions: []*pb.FieldRevision{
			{Field: title, Revision: 1}, {Field: description, Revision: 1},
			{Field: priority, Revision: 1}, {Field: status, Revision: 1},
		},
	}
	if !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if got, err := draft(&pb.CreateTestCaseRequest{Title: "x", Priority: pb.Priority_PRIORITY_LOW}); err != nil || got.GetPriority() != pb.Priority_PRIORITY_LOW {
		t.Errorf("asked for LOW, got %v, %v", got.GetPriority(), err)
	}
	for field, req := range map[string]*pb.CreateTestCaseRequest{
		"title":       {Title: " "},
		"description": {Title: "x", Description: "\x00"},
	} {
		if _, err := draft(req); fault.Of(err) == nil || fault.Of(err).Violations[0].Field != field {
			t.Errorf("got %v, want a fault about %s", err, field)
		}
	}
}
