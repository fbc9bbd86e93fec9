package sqlite

import (
	"database/sql"
	"fmt"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/column"
)

func scanCase(rows *sql.Rows) (*pb.TestCase, error) {
	var (
		number                   int64
		id, project, description string
		data                     []byte
	)
	if err := rows.Scan(&id, &project, &number, &data, &description); err != nil {
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
	cases, err := all(r.c, scanCase, `SELECT c.id, p.id, c.number, c.data, c.description
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
	c, err := r.oneCase("WHERE c.id = ?", id)
	if err != nil {
		return nil, fmt.Errorf("test case %s: %w", id, err)
	}
	return c, nil
}

// TestCaseByKey returns a test case of a project by its key.
func (r *reader) TestCaseByKey(projectID, key string) (*pb.TestCase, error) {
	c, err := r.oneCase("WHERE p.id = ? AND c.number = ?", projectID, int64(column.CaseNumber(key)))
	if err != nil {
		return nil, fmt.Errorf("test case %q of project %s: %w", key, projectID, err)
	}
	return c, nil
}

// TestCases returns a page of a project's test cases.
func (r *reader) TestCases(projectID string, after uint64, limit int) ([]*pb.TestCase, error) {
	cases, err := all(r.c, scanCase, `SELECT c.id, p.id, c.number, c.data, ''
		FROM projects p JOIN test_cases c ON c.project = p.num
		WHERE p.id = ? AND c.number > ? ORDER BY c.number LIMIT ?`, projectID, int64(after), max(limit, 0))
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
	var number int64
	if err := t.c.row("SELECT coalesce(max(number), 0) + 1 FROM test_cases WHERE project = ?", []any{project}, &number); err != nil {
		return fmt.Errorf("number a test case: %w", err)
	}
	data, err := column.EncodeCase(c)
	if err != nil {
		return err
	}
	_, err = t.c.exec("INSERT INTO test_cases (id, project, number, data, description) VALUES (?, ?, ?, ?, ?)",
		c.Id, project, number, data, c.Description)
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
	if err := t.c.change("UPDATE test_cases SET data = ?, description = ? WHERE id = ?", data, c.Description, c.Id); err != nil {
		return fmt.Errorf("store test case %s: %w", c.Id, err)
	}
	t.bytes += len(data) + len(c.Description)
	return nil
}

func (r *reader) caseNum(id string) (num int64, err error) {
	err = r.c.row("SELECT num FROM test_cases WHERE id = ?", []any{id}, &num)
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
		err := r.c.row("SELECT num FROM comments WHERE id = ? AND test_case = ?", []any{after, of}, &afterNum)
		if err != nil {
			return nil, column.OrNone(err)
		}
	}
	comments, err := all(r.c, func(rows *sql.Rows) (*pb.Comment, error) {
		var data []byte
		if err := rows.Scan(&data); err != nil {
			return nil, err
		}
		c := &pb.Comment{}
		return c, column.Decode(data, c)
	}, "SELECT data FROM comments WHERE test_case = ? AND num > ? ORDER BY num LIMIT ?", of, afterNum, max(limit, 0))
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
	if _, err := t.c.exec("INSERT INTO comments (id, test_case, data) VALUES (?, ?, ?)", c.Id, of, data); err != nil {
		return fmt.Errorf("add comment %s: %w", c.Id, err)
	}
	t.bytes += len(data)
	return nil
}
