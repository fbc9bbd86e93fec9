package postgres

import (
	"fmt"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/column"
)

func scanCase(rows rows) (*pb.TestCase, error) {
	var (
		number                   int64
		id, project, description string
		data                     []byte
	)
	if err := rows.Scan(into(&id), into(&project), &number, &data, into(&description)); err != nil {
		return nil, err
	}
	c := &pb.TestCase{}
	if err := column.Decode(data, c); err != nil {
		return nil, err
	}
	c.Id, c.ProjectId, c.Key, c.Description = id, project, column.CaseKey(uint64(number)), description
	return c, nil
}

// oneCase returns the test case of a query.
func (r *reader) oneCase(where string, args ...any) (*pb.TestCase, error) {
	cases, err := all(r, scanCase, `SELECT c.id, p.id, c.number, c.data, c.description
		FROM test_cases c JOIN projects p ON p.num = c.project `+where, args...)
	if err == nil && len(cases) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return cases[0], nil
}

// TestCase returns a test case by id.
func (r *reader) TestCase(id string) (*pb.TestCase, error) {
	c, err := r.oneCase("WHERE c.id = $1", text(id))
	if err != nil {
		return nil, fmt.Errorf("test case %s: %w", id, err)
	}
	return c, nil
}

// TestCaseByKey returns a test case of a project by its key.
func (r *reader) TestCaseByKey(projectID, key string) (*pb.TestCase, error) {
	c, err := r.oneCase("WHERE p.id = $1 AND c.number = $2", text(projectID), int64(column.CaseNumber(key)))
	if err != nil {
		return nil, fmt.Errorf("test case %q of project %s: %w", key, projectID, err)
	}
	return c, nil
}

// TestCases returns a page of a project's test cases.
func (r *reader) TestCases(projectID string, after uint64, limit int) ([]*pb.TestCase, error) {
	cases, err := all(r, scanCase, `SELECT id, $1::bytea, number, data, ''::bytea FROM test_cases
		WHERE project = (SELECT num FROM projects WHERE id = $1) AND number > $2 ORDER BY number LIMIT $3`, text(projectID), int64(after), max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("test cases of project %s: %w", projectID, err)
	}
	return cases, nil
}

// AddTestCase stores a new test case with the project's next number, and makes its room.
func (t *tx) AddTestCase(c *pb.TestCase) error {
	project, err := t.projectNum(c.ProjectId)
	if err != nil {
		return fmt.Errorf("add a test case: %w", err)
	}
	data, err := column.EncodeCase(c)
	if err != nil {
		return err
	}
	var (
		number int64
		taken  bool
	)
	err = checkKey("the id", c.Id)
	if err == nil {
		err = t.row(`SELECT coalesce((SELECT max(number) FROM test_cases WHERE project = $1), 0) + 1,
			EXISTS (SELECT 1 FROM test_cases WHERE id = $2)`, []any{project, text(c.Id)}, &number, &taken)
	}
	if taken {
		err = store.ErrExists
	}
	if err == nil {
		err = t.note("INSERT INTO test_cases (num, id, project, number, data, description) VALUES ($1, $2, $3, $4, $5, $6)",
			next(&t.w.nums.cases), text(c.Id), project, number, data, text(c.Description))
	}
	if err == nil {
		_, err = t.makeRoom(event.TestCaseRoom(c.Id))
	}
	if err != nil {
		return fmt.Errorf("add test case %s: %w", c.Id, err)
	}
	c.Key = column.CaseKey(uint64(number))
	t.bytes += len(data) + len(c.Description)
	return nil
}

// PutTestCase changes a test case.
func (t *tx) PutTestCase(c *pb.TestCase) error {
	data, err := column.EncodeCase(c)
	if err != nil {
		return err
	}
	num, err := t.caseNum(c.Id)
	if err == nil {
		err = t.note("UPDATE test_cases SET data = $1, description = $2 WHERE num = $3", data, text(c.Description), num)
	}
	if err != nil {
		return fmt.Errorf("store test case %s: %w", c.Id, err)
	}
	t.bytes += len(data) + len(c.Description)
	return nil
}

const selectCaseNum = "SELECT num FROM test_cases WHERE id = $1"

func (r *reader) caseNum(id string) (num int64, err error) {
	err = r.row(selectCaseNum, []any{text(id)}, &num)
	if err != nil {
		return 0, fmt.Errorf("test case %s: %w", id, err)
	}
	return num, nil
}

func (t *tx) caseNum(id string) (int64, error) {
	num, err := t.number(&t.w.names.cases, selectCaseNum, id)
	if err != nil {
		return 0, fmt.Errorf("test case %s: %w", id, err)
	}
	return num, nil
}

// Comments returns a page of a test case's comments.
func (r *reader) Comments(testCaseID, after string, limit int) ([]*pb.Comment, error) {
	of, err := r.caseNum(testCaseID)
	if err != nil {
		return nil, column.OrNone(err)
	}
	var afterNum int64
	if after != "" {
		err := r.row("SELECT num FROM comments WHERE id = $1 AND test_case = $2", []any{text(after), of}, &afterNum)
		if err != nil {
			return nil, column.OrNone(err)
		}
	}
	comments, err := all(r, func(rows rows) (*pb.Comment, error) {
		var data []byte
		if err := rows.Scan(&data); err != nil {
			return nil, err
		}
		c := &pb.Comment{}
		return c, column.Decode(data, c)
	}, "SELECT data FROM comments WHERE test_case = $1 AND num > $2 ORDER BY num LIMIT $3", of, afterNum, max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("comments of test case %s: %w", testCaseID, err)
	}
	return comments, nil
}

// AddComment stores a comment.
func (t *tx) AddComment(c *pb.Comment) error {
	of, err := t.caseNum(c.TestCaseId)
	if err != nil {
		return fmt.Errorf("add a comment: %w", err)
	}
	data, err := column.Encode(c)
	if err != nil {
		return err
	}
	err = checkKey("the id", c.Id)
	var taken bool
	if err == nil {
		err = t.row("SELECT EXISTS (SELECT 1 FROM comments WHERE id = $1)", []any{text(c.Id)}, &taken)
	}
	if taken {
		err = store.ErrExists
	}
	if err == nil {
		err = t.note("INSERT INTO comments (num, id, test_case, data) VALUES ($1, $2, $3, $4)",
			next(&t.w.nums.comments), text(c.Id), of, data)
	}
	if err != nil {
		return fmt.Errorf("add comment %s: %w", c.Id, err)
	}
	t.bytes += len(data)
	return nil
}
