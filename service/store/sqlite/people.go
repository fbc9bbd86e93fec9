package sqlite

import (
	"database/sql"
	"fmt"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"

	"github.com/tcmanager/tcmanager/service/store/column"
)

func (r *reader) userNum(id string) (num int64, err error) {
	err = r.c.row("SELECT num FROM users WHERE id = ?", []any{id}, &num)
	if err != nil {
		return 0, fmt.Errorf("user %s: %w", id, err)
	}
	return num, nil
}

// User returns a user's record.
func (r *reader) User(id string) (*pb.User, error) {
	u := &pb.User{}
	err := r.c.row("SELECT id, name, email FROM users WHERE id = ?", []any{id}, &u.Id, &u.Name, &u.Email)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", id, err)
	}
	return u, nil
}

// PutUser makes or changes a user, and the user's room.
func (t *tx) PutUser(u *pb.User) error {
	_, err := t.c.exec(`INSERT INTO users (id, name, email) VALUES (?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, email = excluded.email`, u.Id, u.Name, u.Email)
	if err == nil {
		_, err = t.makeRoom(event.UserRoom(u.Id))
	}
	if err != nil {
		return fmt.Errorf("store user %s: %w", u.Id, err)
	}
	return nil
}

func (r *reader) projectNum(id string) (num int64, err error) {
	err = r.c.row("SELECT num FROM projects WHERE id = ?", []any{id}, &num)
	if err != nil {
		return 0, fmt.Errorf("project %s: %w", id, err)
	}
	return num, nil
}

// Project returns a project by id or key. No key looks like an id.
func (r *reader) Project(idOrKey string) (*pb.Project, error) {
	p := &pb.Project{}
	var created *int64
	err := r.c.row("SELECT id, key, name, created_at FROM projects WHERE id = ? OR key = ?",
		[]any{idOrKey, idOrKey}, &p.Id, &p.Key, &p.Name, &created)
	if err != nil {
		return nil, fmt.Errorf("project %s: %w", idOrKey, err)
	}
	p.CreatedAt = column.Timestamp(created)
	return p, nil
}

// ProjectsOf returns a user's projects.
func (r *reader) ProjectsOf(userID string) ([]*pb.Project, error) {
	projects, err := all(r.c, func(rows *sql.Rows) (*pb.Project, error) {
		p := &pb.Project{}
		var created *int64
		err := rows.Scan(&p.Id, &p.Key, &p.Name, &created, &p.MyRole)
		p.CreatedAt = column.Timestamp(created)
		return p, err
	}, `SELECT p.id, p.key, p.name, p.created_at, m.role
		FROM users u JOIN members m ON m.user = u.num JOIN projects p ON p.num = m.project
		WHERE u.id = ? ORDER BY p.key`, userID)
	if err != nil {
		return nil, fmt.Errorf("projects of %s: %w", userID, err)
	}
	return projects, nil
}

// PutProject makes or renames a project, and its room.
func (t *tx) PutProject(p *pb.Project) error {
	_, err := t.c.exec(`INSERT INTO projects (id, key, name, created_at) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET key = excluded.key, name = excluded.name`, p.Id, p.Key, p.Name, column.Micros(p.CreatedAt))
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
	err = r.c.row(`SELECT m.role FROM projects p JOIN users u JOIN members m ON m.project = p.num AND m.user = u.num
		WHERE p.id = ? AND u.id = ?`, []any{projectID, userID}, &role)
	if err != nil {
		return pb.Role_ROLE_UNSPECIFIED, fmt.Errorf("role of %s in project %s: %w", userID, projectID, err)
	}
	return role, nil
}

// Role returns a member's role, as this transaction has it.
func (t *tx) Role(projectID, userID string) (pb.Role, error) {
	if role, ok := t.w.names.roles.Get(projectID, userID); ok {
		return role, t.c.broken
	}
	role, err := t.reader.Role(projectID, userID)
	if err == nil {
		t.w.names.roles.Put(projectID, userID, role)
	}
	return role, err
}

// Members returns a project's members.
func (r *reader) Members(projectID string) ([]*pb.Member, error) {
	members, err := all(r.c, func(rows *sql.Rows) (*pb.Member, error) {
		m := &pb.Member{User: &pb.User{}}
		return m, rows.Scan(&m.User.Id, &m.User.Name, &m.User.Email, &m.Role)
	}, `SELECT u.id, u.name, u.email, m.role
		FROM projects p JOIN members m ON m.project = p.num JOIN users u ON u.num = m.user
		WHERE p.id = ? ORDER BY u.name, u.id`, projectID)
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
	_, err = t.c.exec(`INSERT INTO members (project, user, role) VALUES (?, ?, ?)
		ON CONFLICT (project, user) DO UPDATE SET role = excluded.role`, project, user, int64(role))
	if err != nil {
		return fmt.Errorf("store member %s of project %s: %w", userID, projectID, err)
	}
	t.w.names.roles.Put(projectID, userID, role)
	return nil
}

// DeleteMember ends a membership.
func (t *tx) DeleteMember(projectID, userID string) error {
	err := t.c.change(`DELETE FROM members WHERE project = (SELECT num FROM projects WHERE id = ?)
		AND user = (SELECT num FROM users WHERE id = ?)`, projectID, userID)
	if err != nil {
		return fmt.Errorf("delete member %s of project %s: %w", userID, projectID, err)
	}
	t.w.names.roles.Drop(projectID, userID)
	return nil
}
