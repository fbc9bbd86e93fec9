package identity

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/sqlite"
)

// countingStore counts what a cache should spare.
type countingStore struct {
	store.Store
	views, updates atomic.Int32
}

func (s *countingStore) View(ctx context.Context, fn func(store.Reader) error) error {
	s.views.Add(1)
	return s.Store.View(ctx, fn)
}

func (s *countingStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	s.updates.Add(1)
	return s.Store.Update(ctx, fn)
}

func newStore(t *testing.T) *countingStore {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "test.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &countingStore{Store: s}
}

func stored(t *testing.T, s store.Store, id string) *pb.User {
	t.Helper()
	var u *pb.User
	if err := s.View(t.Context(), func(r store.Reader) (err error) { u, err = r.User(id); return err }); err != nil {
		t.Fatal(err)
	}
	return u
}

func TestTheFirstGoodTokenMakesTheRecord(t *testing.T) {
	s := newStore(t)
	users := NewUsers(s)
	ada := &pb.User{Id: "u1", Name: "Ada", Email: "ada@example.org"}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got, err := users.EnsureUser(t.Context(), proto.CloneOf(ada)); err != nil || !proto.Equal(got, ada) {
				t.Error(got, err)
			}
		})
	}
	wg.Wait()
	if got := stored(t, s, "u1"); !proto.Equal(got, ada) {
		t.Error(got)
	}
	views, updates := s.views.Load(), s.updates.Load()
	if _, err := users.EnsureUser(t.Context(), ada); err != nil {
		t.Fatal(err)
	}
	if s.views.Load() != views || s.updates.Load() != updates {
		t.Error("a known user was looked up again")
	}
	// After a restart a known user costs a read and no write.
	updates = s.updates.Load()
	if _, err := NewUsers(s).EnsureUser(t.Context(), ada); err != nil || s.updates.Load() != updates {
		t.Error(err, s.updates.Load()-updates)
	}
}

func TestALaterTokenChangesTheRecordAndTakesNothingAway(t *testing.T) {
	s := newStore(t)
	users := NewUsers(s)
	for _, c := range []struct{ claimed, want *pb.User }{
		{&pb.User{Id: "u1", Name: "u1"}, &pb.User{Id: "u1", Name: "u1"}},
		{&pb.User{Id: "u1", Name: "ada", Email: "ada@example.org"}, &pb.User{Id: "u1", Name: "u1", Email: "ada@example.org"}},
		{&pb.User{Id: "u1", Name: "Ada L.", Email: "ada@example.org"}, &pb.User{Id: "u1", Name: "Ada L.", Email: "ada@example.org"}},
		{&pb.User{Id: "u1", Name: "u1"}, &pb.User{Id: "u1", Name: "Ada L.", Email: "ada@example.org"}},
		{&pb.User{Id: "u1", Name: "Ada K.", Email: "k@example.org"}, &pb.User{Id: "u1", Name: "Ada K.", Email: "k@example.org"}},
	} {
		got, err := users.EnsureUser(t.Context(), c.claimed)
		if err != nil || !proto.Equal(got, c.want) || !proto.Equal(stored(t, s, "u1"), c.want) {
			t.Errorf("%v: %v, %v; want %v", c.claimed, got, err, c.want)
		}
	}
}

func TestTheCacheOfUsersIsBounded(t *testing.T) {
	users := NewUsers(newStore(t))
	for i := range maxCachedUsers {
		users.known[fmt.Sprint(i)] = cachedUser{}
	}
	if _, err := users.EnsureUser(t.Context(), &pb.User{Id: "new", Name: "New"}); err != nil {
		t.Fatal(err)
	}
	if len(users.known) != maxCachedUsers || users.known["new"].record == nil {
		t.Error(len(users.known))
	}
}

func TestBootstrapMakesTheDemoProjectOnce(t *testing.T) {
	s := newStore(t)
	if err := Bootstrap(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	check := func(want map[string]pb.Role) {
		t.Helper()
		err := s.View(t.Context(), func(r store.Reader) error {
			p, err := r.Project(DemoProject)
			if err != nil {
				return err
			}
			if p.Name != "Demo project" {
				t.Error(p)
			}
			members, err := r.Members(p.Id)
			if err != nil {
				return err
			}
			got := map[string]pb.Role{}
			for _, m := range members {
				got[m.User.Name] = m.Role
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%v, want %v", got, want)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]pb.Role{"Demo Manager": pb.Role_ROLE_MANAGER, "Demo Tester": pb.Role_ROLE_TESTER, "Demo Viewer": pb.Role_ROLE_VIEWER}
	check(want)
	// What people changed since stays as it is.
	err := s.Update(t.Context(), func(tx store.Tx) error {
		p, err := tx.Project(DemoProject)
		if err != nil {
			return err
		}
		return tx.PutMember(p.Id, "demo-viewer", pb.Role_ROLE_OWNER)
	})
	if err = errors.Join(err, Bootstrap(t.Context(), s)); err != nil {
		t.Fatal(err)
	}
	want["Demo Viewer"] = pb.Role_ROLE_OWNER
	check(want)
}

func TestDevSignInIsForDevServersAndDevUsers(t *testing.T) {
	keys := Keys{HS256Secret: secret}
	dev := NewService(Info{Version: "1", PublicURL: "http://x"}, signer(t, keys))
	info, err := dev.GetServerInfo(t.Context(), nil)
	if err != nil || !info.Dev || len(info.DevUsers) != 3 || info.PublicUrl != "http://x" || info.Version != "1" {
		t.Error(info, err)
	}
	for _, u := range info.DevUsers {
		in, err := dev.SignInDev(t.Context(), &pb.SignInDevRequest{UserId: u.Id})
		if err != nil {
			t.Fatal(err)
		}
		caller, err := verifier(t, keys).Verify(in.Token)
		if err != nil || !proto.Equal(caller.User, u) || !caller.ExpiresAt.Equal(in.ExpiresAt.AsTime()) {
			t.Error(caller, err)
		}
		me, err := dev.GetMe(WithCaller(t.Context(), caller), nil)
		if err != nil || !proto.Equal(me.User, u) || !me.TokenExpiresAt.AsTime().Equal(caller.ExpiresAt) {
			t.Error(me, err)
		}
	}
	if _, err := dev.SignInDev(t.Context(), &pb.SignInDevRequest{UserId: "root"}); !fault.IsReason(err, "UNKNOWN_DEV_USER") {
		t.Error(err)
	}
	other := NewService(Info{}, nil)
	if info, err := other.GetServerInfo(t.Context(), nil); err != nil || info.Dev || len(info.DevUsers) != 0 {
		t.Error(info, err)
	}
	_, err = other.SignInDev(t.Context(), &pb.SignInDevRequest{UserId: "demo-tester"})
	if e := fault.Of(err); e == nil || e.Kind != fault.Unimplemented {
		t.Error(err)
	}
	if _, err := other.GetMe(t.Context(), nil); fault.Of(err) != ErrUnauthenticated {
		t.Error(err)
	}
}
