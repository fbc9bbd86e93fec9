package postgres

import (
	"errors"
	"fmt"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/column"
	"github.com/tcmanager/tcmanager/service/store/memory"
)

// maxKeyBytes is how long a text in the key of an index may be: PostgreSQL takes
// 2,700 bytes for all columns together.
const maxKeyBytes = 1000

func checkKey(what, key string) error {
	if len(key) > maxKeyBytes {
		return fmt.Errorf("%s %.40q... is of %d bytes, which is more than the %d that can be kept", what, key, len(key), maxKeyBytes)
	}
	return nil
}

// number returns the number of a row by its id, from the cache or the table.
func (t *tx) number(known *memory.Cache[string, int64], sql, id string) (num int64, err error) {
	if num, ok := known.Get(id); ok {
		return num, t.w.broken
	}
	if err = t.row(sql, []any{text(id)}, &num); err == nil {
		known.Put(id, num)
	}
	return num, err
}

const selectUserNum = "SELECT num FROM users WHERE id = $1"

func (r *reader) userNum(id string) (num int64, err error) {
	err = r.row(selectUserNum, []any{text(id)}, &num)
	if err != nil {
		return 0, fmt.Errorf("user %s: %w", id, err)
	}
	return num, nil
}

func (t *tx) userNum(id string) (int64, error) {
	num, err := t.number(&t.w.names.users, selectUserNum, id)
	if err != nil {
		return 0, fmt.Errorf("user %s: %w", id, err)
	}
	return num, nil
}

// User returns a user's record.
func (r *reader) User(id string) (*pb.User, error) {
	u := &pb.User{}
	err := r.row("SELECT id, name, email FROM users WHERE id = $1", []any{text(id)}, into(&u.Id), into(&u.Name), into(&u.Email))
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", id, err)
	}
	return u, nil
}

// PutUser makes or changes a user, and the user's room.
func (t *tx) PutUser(u *pb.User) error {
	err := checkKey("the id", u.Id)
	if err == nil {
		err = t.note(`INSERT INTO users (num, id, name, email) VALUES ($1, $2, $3, $4)
			ON CONFLICT (id) DO UPDATE SET name = excluded.name, email = excluded.email`,
			next(&t.w.nums.users), text(u.Id), text(u.Name), text(u.Email))
	}
	if err == nil {
		_, err = t.makeRoom(event.UserRoom(u.Id))
	}
	if err != nil {
		return fmt.Errorf("store user %s: %w", u.Id, err)
	}
	return nil
}

func (t *tx) projectNum(id string) (int64, error) {
	num, err := t.number(&t.w.names.projects, "SELECT num FROM projects WHERE id = $1", id)
	if err != nil {
		return 0, fmt.Errorf("project %s: %w", id, err)
	}
	return num, nil
}

// Project returns a project by id or key. No key looks like an id.
func (r *reader) Project(idOrKey string) (*pb.Project, error) {
	p := &pb.Project{}
	var created *int64
	err := r.row(`SELECT id, key, name, created_at FROM projects WHERE id = $1
		UNION ALL SELECT id, key, name, created_at FROM projects WHERE key = $1`,
		[]any{text(idOrKey)}, into(&p.Id), into(&p.Key), into(&p.Name), &created)
	if err != nil {
		return nil, fmt.Errorf("project %s: %w", idOrKey, err)
	}
	p.CreatedAt = column.Timestamp(created)
	return p, nil
}

// ProjectsOf returns a user's projects.
func (r *reader) ProjectsOf(userID string) ([]*pb.Project, error) {
	projects, err := all(r, func(rows rows) (*pb.Project, error) {
		p := &pb.Project{}
		var created *int64
		err := rows.Scan(into(&p.Id), into(&p.Key), into(&p.Name), &created, &p.MyRole)
		p.CreatedAt = column.Timestamp(created)
		return p, err
	}, `SELECT p.id, p.key, p.name, p.created_at, m.role
		FROM users u JOIN members m ON m.user_num = u.num JOIN projects p ON p.num = m.project
		WHERE u.id = $1 ORDER BY p.key`, text(userID))
	if err != nil {
		return nil, fmt.Errorf("projects of %s: %w", userID, err)
	}
	return projects, nil
}

// PutProject makes or renames a project, and its room.
func (t *tx) PutProject(p *pb.Project) error {
	err := errors.Join(checkKey("the id", p.Id), checkKey("the key", p.Key))
	var taken bool
	if err == nil {
		err = t.row("SELECT EXISTS (SELECT 1 FROM projects WHERE key = $1 AND id <> $2)", []any{text(p.Key), text(p.Id)}, &taken)
	}
	if taken {
		err = store.ErrExists
	}
	if err == nil {
		err = t.note(`INSERT INTO projects (num, id, key, name, created_at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (id) DO UPDATE SET key = excluded.key, name = excluded.name`,
			next(&t.w.nums.projects), text(p.Id), text(p.Key), text(p.Name), column.Micros(p.CreatedAt))
	}
	if err == nil {
		_, err = t.makeRoom(event.ProjectRoom(p.Id))
	}
	if err != nil {
		return fmt.Errorf("store project %s: %w", p.Key, err)
	}
	return nil
}

// Role returns a member's role.
func (r *reader) Role(projectID, userID string) (role pb.Role, err error) {
	err = r.row(`SELECT m.role FROM projects p JOIN members m ON m.project = p.num JOIN users u ON u.num = m.user_num
		WHERE p.id = $1 AND u.id = $2`, []any{text(projectID), text(userID)}, &role)
	if err != nil {
		return pb.Role_ROLE_UNSPECIFIED, fmt.Errorf("role of %s in project %s: %w", userID, projectID, err)
	}
	return role, nil
}

// Role returns a member's role, as this transaction has it.
func (t *tx) Role(projectID, userID string) (pb.Role, error) {
	if role, ok := t.w.names.roles.Get(projectID, userID); ok {
		return role, t.w.broken
	}
	role, err := t.reader.Role(projectID, userID)
	if err == nil {
		t.w.names.roles.Put(projectID, userID, role)
	}
	return role, err
}

// Members returns a project's members.
func (r *reader) Members(projectID string) ([]*pb.Member, error) {
	members, err := all(r, func(rows rows) (*pb.Member, error) {
		m := &pb.Member{User: &pb.User{}}
		return m, rows.Scan(into(&m.User.Id), into(&m.User.Name), into(&m.User.Email), &m.Role)
	}, `SELECT u.id, u.name, u.email, m.role
		FROM projects p JOIN members m ON m.project = p.num JOIN users u ON u.num = m.user_num
		WHERE p.id = $1 ORDER BY u.name, u.id`, text(projectID))
	if err != nil {
		return nil, fmt.Errorf("members of project %s: %w", projectID, err)
	}
	return members, nil
}

// PutMember makes or changes a membership.
func (t *tx) PutMember(projectID, userID string, role pb.Role) error {
	project, err := t.projectNum(projectID)
	if err != nil {
		return fmt.Errorf("store a member: %w", err)
	}
	user, err := t.userNum(userID)
	if err != nil {
		return fmt.Errorf("store a member: %w", err)
	}
	err = t.note(`INSERT INTO members (project, user_num, role) VALUES ($1, $2, $3)
		ON CONFLICT (project, user_num) DO UPDATE SET role = excluded.role`, project, user, int64(role))
	if err == nil {
		t.w.names.roles.Put(projectID, userID, role)
	}
	return err
}

// DeleteMember ends a membership.
func (t *tx) DeleteMember(projectID, userID string) error {
	_, err := t.Role(projectID, userID)
	if err == nil {
		err = t.note(`DELETE FROM members WHERE project = (SELECT num FROM projects WHERE id = $1)
			AND user_num = (SELECT num FROM users WHERE id = $2)`, text(projectID), text(userID))
	}
	if err != nil {
		return fmt.Errorf("delete member %s of project %s: %w", userID, projectID, err)
	}
	t.w.names.roles.Drop(projectID, userID)
	return nil
}
