package storetest

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

func newCase(id, title string) *pb.TestCase {
	return &pb.TestCase{
		Id: id, ProjectId: projectID, Title: title, Description: "how to do " + title, Priority: pb.Priority_PRIORITY_HIGH,
		Revisions: []*pb.FieldRevision{{Field: pb.TestCaseField_TEST_CASE_FIELD_TITLE, Revision: 1}},
		CreatedAt: at(1), UpdatedAt: at(2), UpdatedBy: &pb.UserRef{Id: "ada", Name: "Ada"},
	}
}

// keyed returns c with its key set.
func keyed(c *pb.TestCase, key string) *pb.TestCase {
	c.Key = key
	return c
}

func comment(id, text string) *pb.Comment {
	return &pb.Comment{Id: id, TestCaseId: "case", Text: text, Author: &pb.UserRef{Id: "ada"}, CreatedAt: at(3)}
}

var caseTests = []test{
	{"a test case is kept and found by id and by key", func(e *env) {
		first, second, elsewhere := newCase("a", "A"), newCase("b", "B"), newCase("c", "C")
		elsewhere.ProjectId = otherID
		e.keeps(func(tx store.Tx) error {
			return errors.Join(populate(tx), tx.AddTestCase(first), tx.AddTestCase(elsewhere), tx.AddTestCase(second),
				is(first.Key, nil)("the first key", "TC-1"),
				is(second.Key, nil)("the second key", "TC-2"),
				is(elsewhere.Key, nil)("the first key of another project", "TC-1"))
		}, func(r store.Reader) error {
			_, errRoom := r.Head(event.TestCaseRoom("a"))
			errs := []error{errRoom,
				is(r.TestCase("b"))("by id", second),
				is(r.TestCaseByKey(projectID, "TC-1"))("by key", first),
				is(r.TestCaseByKey(otherID, "TC-1"))("by key elsewhere", elsewhere),
				fails(r.TestCase(missing))("an unknown id", store.ErrNotFound),
			}
			for _, key := range []string{"TC-3", "TC-0", "TC-01", "TC-+1", "1", "tc-1", "TC-", "", "TC--1", "TC-99999999999999999999"} {
				errs = append(errs, fails(r.TestCaseByKey(projectID, key))(fmt.Sprintf("the key %q", key), store.ErrNotFound))
			}
			return errors.Join(errs...)
		})
	}},
	{"a test case needs a project and an id of its own", func(e *env) {
		e.update(func(tx store.Tx) error { return errors.Join(populate(tx), tx.AddTestCase(newCase("a", "A"))) })
		homeless := newCase("b", "B")
		homeless.ProjectId = missing
		e.refuses(store.ErrNotFound, func(tx store.Tx) error { return tx.AddTestCase(homeless) })
		e.refuses(store.ErrExists, func(tx store.Tx) error { return tx.AddTestCase(newCase("a", "A")) })
	}},
	{"a test case's changes are kept", func(e *env) {
		edited := newCase("a", "A")
		edited.Title, edited.Description, edited.Status = "New", "", pb.TestCaseStatus_TEST_CASE_STATUS_APPROVED
		edited.Revisions[0].Revision = 2
		e.keeps(func(tx store.Tx) error {
			return errors.Join(populate(tx), tx.AddTestCase(newCase("a", "A")), tx.PutTestCase(edited),
				fails(0, tx.PutTestCase(newCase(missing, "A")))("an unknown case", store.ErrNotFound))
		}, func(r store.Reader) error {
			return is(r.TestCase("a"))("the case", keyed(proto.CloneOf(edited), "TC-1"))
		})
	}},
	{"test cases come by number, in pages, without descriptions", func(e *env) {
		var want []*pb.TestCase
		e.keeps(func(tx store.Tx) error {
			want = nil
			err := populate(tx)
			for i := 1; i <= 12; i++ {
				c := newCase(fmt.Sprintf("case-%d", i), fmt.Sprintf("Case %d", i))
				err = errors.Join(err, tx.AddTestCase(c))
				c.Description = ""
				want = append(want, c)
			}
			return err
		}, func(r store.Reader) error {
			return errors.Join(
				is(r.TestCases(projectID, 0, 5))("a page", want[:5]),
				is(r.TestCases(projectID, 5, 5))("the next page", want[5:10]),
				is(r.TestCases(projectID, 10, 5))("the last page", want[10:]),
				is(r.TestCases(projectID, 12, 5))("what follows it", nil),
				is(r.TestCases(otherID, 0, 5))("another project's", nil),
				is(r.TestCases(missing, 0, 5))("no project's", nil),
			)
		})
	}},
	{"comments come oldest first, in pages", func(e *env) {
		// Ids out of order: what counts is the order of writing.
		all := []*pb.Comment{comment("3", "one"), comment("1", "two"), comment("2", "three")}
		e.keeps(func(tx store.Tx) error {
			return errors.Join(populate(tx), tx.AddTestCase(newCase("case", "A")), tx.AddTestCase(newCase("quiet", "B")),
				tx.AddComment(all[0]), tx.AddComment(all[1]), tx.AddComment(all[2]),
				fails(0, tx.AddComment(comment("1", "again")))("a taken id", store.ErrExists),
				fails(0, tx.AddComment(&pb.Comment{Id: "x", TestCaseId: missing}))("one of no case", store.ErrNotFound))
		}, func(r store.Reader) error {
			return errors.Join(
				is(r.Comments("case", "", 2))("a page", all[:2]),
				is(r.Comments("case", "1", 2))("the next page", all[2:]),
				is(r.Comments("case", "2", 2))("what follows it", nil),
				is(r.Comments("case", missing, 2))("what follows an unknown one", nil),
				is(r.Comments("quiet", "3", 2))("what follows another case's", nil),
				is(r.Comments("quiet", "", 2))("a quiet case's", nil),
				is(r.Comments(missing, "", 2))("no case's", nil),
			)
		})
	}},
}
