package identity

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/store"
)

// DemoProject is the key of the project that Bootstrap makes.
const DemoProject = "demo"

type devMember struct {
	id, name string
	role     pb.Role
}

// devMembers are the development users and their roles in the demo project.
var devMembers = []devMember{
	{"demo-manager", "Demo Manager", pb.Role_ROLE_MANAGER},
	{"demo-tester", "Demo Tester", pb.Role_ROLE_TESTER},
	{"demo-viewer", "Demo Viewer", pb.Role_ROLE_VIEWER},
}

func (m devMember) user() *pb.User {
	return &pb.User{Id: m.id, Name: m.name, Email: m.id + "@tcmanager.invalid"}
}

// DevUsers returns the users that SignInDev accepts.
func DevUsers() []*pb.User {
	users := make([]*pb.User, 0, len(devMembers))
	for _, m := range devMembers {
		users = append(users, m.user())
	}
	return users
}

func devUser(id string) *pb.User {
	i := slices.IndexFunc(devMembers, func(m devMember) bool { return m.id == id })
	if i < 0 {
		return nil
	}
	return devMembers[i].user()
}

// Bootstrap makes the demo project and its three members for --dev. What is
// there already stays as it is, a changed role included, so it may run at each
// start.
func Bootstrap(ctx context.Context, s store.Store) error {
	err := s.Update(ctx, func(tx store.Tx) error {
		project, err := demoProject(tx)
		if err != nil {
			return err
		}
		for _, m := range devMembers {
			if err := ensureMember(tx, project.GetId(), m); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("make the demo project: %w", err)
	}
	return nil
}

func demoProject(tx store.Tx) (*pb.Project, error) {
	project, err := tx.Project(DemoProject)
	if !errors.Is(err, store.ErrNotFound) {
		return project, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	project = &pb.Project{Id: id.String(), Key: DemoProject, Name: "Demo project", CreatedAt: timestamppb.New(time.Now())}
	return project, tx.PutProject(project)
}

func ensureMember(tx store.Tx, projectID string, m devMember) error {
	if _, err := tx.User(m.id); errors.Is(err, store.ErrNotFound) {
		if err := tx.PutUser(m.user()); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	_, err := tx.Role(projectID, m.id)
	if errors.Is(err, store.ErrNotFound) {
		return tx.PutMember(projectID, m.id, m.role)
	}
	return err
}

// DevSecret returns the secret that signs development tokens, and makes it on
// the first call. It is random for each data directory and kept there, readable
// by its owner only, so that tokens outlive a restart and are good for no other
// server.
func DevSecret(dataDir string) ([]byte, error) {
	path := filepath.Join(dataDir, "dev-secret")
	secret, err := readSecret(path)
	if !errors.Is(err, os.ErrNotExist) {
		return secret, err
	}
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	if err := writeSecret(dataDir, path); err != nil {
		return nil, err
	}
	return readSecret(path)
}

// writeSecret puts a complete secret in place at once, and leaves the one that
// another process may have put there first.
func writeSecret(dir, path string) error {
	random := make([]byte, MinSecretBytes)
	if _, err := rand.Read(random); err != nil {
		return fmt.Errorf("make a development secret: %w", err)
	}
	f, err := os.CreateTemp(dir, "dev-secret-*") // made with mode 0600
	if err != nil {
		return fmt.Errorf("make a development secret: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.WriteString(hex.EncodeToString(random) + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the development secret: %w", err)
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("keep the development secret: %w", err)
	}
	return nil
}

func readSecret(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read the development secret: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others: \"chmod 600 %s\", or delete it to have a new one made", path, path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the development secret: %w", err)
	}
	secret := strings.TrimSpace(string(b))
	if len(secret) < MinSecretBytes {
		return nil, fmt.Errorf("%s is damaged: delete it to have a new one made", path)
	}
	return []byte(secret), nil
}
