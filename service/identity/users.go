package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/store"
)

// maxCachedUsers bounds the memory of Users to a few megabytes. A user who falls
// out costs one read with the next call.
const maxCachedUsers = 10_000

// Users keeps the users' records: the first good token of a user makes the
// record, and a later token that says another name or email changes it.
type Users struct {
	store store.Store

	mu sync.Mutex
	// known maps a user's id to the claims that were stored last, so that a call
	// with an ordinary token costs no read. A full map drops any entry.
	known map[string]cachedUser
}

type cachedUser struct {
	claimed *pb.User
	record  *pb.User
}

// NewUsers returns the users of a store.
func NewUsers(s store.Store) *Users {
	return &Users{store: s, known: make(map[string]cachedUser)}
}

// EnsureUser makes the record of a user whom a good token names, or brings it up
// to date, and returns it. The record must not be changed.
func (u *Users) EnsureUser(ctx context.Context, claimed *pb.User) (*pb.User, error) {
	u.mu.Lock()
	cached, ok := u.known[claimed.GetId()]
	u.mu.Unlock()
	if ok && proto.Equal(cached.claimed, claimed) {
		return cached.record, nil
	}
	record, err := u.save(ctx, claimed)
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.known) >= maxCachedUsers {
		for id := range u.known {
			delete(u.known, id)
			break
		}
	}
	u.known[claimed.GetId()] = cachedUser{claimed: claimed, record: record}
	return record, nil
}

func (u *Users) save(ctx context.Context, claimed *pb.User) (*pb.User, error) {
	var record *pb.User
	err := u.store.View(ctx, func(r store.Reader) (err error) {
		record, err = r.User(claimed.GetId())
		return err
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("read user %q: %w", claimed.GetId(), err)
	}
	if err == nil && proto.Equal(merge(record, claimed), record) {
		return record, nil
	}
	err = u.store.Update(ctx, func(tx store.Tx) error {
		// Read again: another call may have made the record in between.
		record, err = tx.User(claimed.GetId())
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		record = merge(record, claimed)
		return tx.PutUser(record)
	})
	if err != nil {
		return nil, fmt.Errorf("keep user %q: %w", claimed.GetId(), err)
	}
	return record, nil
}

// merge is what a record becomes by a token. A token that says no name or email
// takes none away: hosts sign some tokens with the id alone.
func merge(record, claimed *pb.User) *pb.User {
	merged := proto.CloneOf(claimed)
	if record == nil {
		return merged
	}
	if merged.Email == "" {
		merged.Email = record.Email
	}
	if isFallbackName(claimed) && record.Name != "" {
		merged.Name = record.Name
	}
	return merged
}

func isFallbackName(u *pb.User) bool {
	local, _, _ := strings.Cut(u.GetEmail(), "@")
	return u.GetName() == u.GetId() || u.GetName() == local
}
