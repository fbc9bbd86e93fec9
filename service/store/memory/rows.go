package memory

import (
	"strings"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/column"
)

// Shards remembers shards as they are in the database: each commit of a runner reads
// and writes its own.
type Shards struct{ Cache[shardKey, store.Shard] }

type shardKey struct{ run, name string }

// NewShards returns an empty memory.
func NewShards() Shards { return Shards{NewCache[shardKey, store.Shard]()} }

// Get returns a shard that is remembered.
func (s *Shards) Get(runID, name string) (store.Shard, bool) {
	return s.Cache.Get(shardKey{runID, name})
}

// Put remembers a shard that was read or written.
func (s *Shards) Put(shard store.Shard) {
	if known, ok := s.Get(shard.RunID, shard.Name); ok {
		shard.RunID, shard.Name = known.RunID, known.Name
	} else { // a text may be a part of a whole request
		shard.RunID, shard.Name = strings.Clone(shard.RunID), strings.Clone(shard.Name)
	}
	shard.ChangedAt = column.Moment(shard.ChangedAt.UnixMicro())
	s.Cache.Put(shardKey{shard.RunID, shard.Name}, shard)
}

// Drop forgets a shard, whose row is being deleted.
func (s *Shards) Drop(runID, name string) { s.Cache.Drop(shardKey{runID, name}) }

// Roles remembers members' roles: each commit of a runner asks for its user's.
type Roles struct{ Cache[roleKey, pb.Role] }

type roleKey struct{ project, user string }

// NewRoles returns an empty memory.
func NewRoles() Roles { return Roles{NewCache[roleKey, pb.Role]()} }

// Get returns a role that is remembered.
func (r *Roles) Get(projectID, userID string) (pb.Role, bool) {
	return r.Cache.Get(roleKey{projectID, userID})
}

// Put remembers a role that was read or written.
func (r *Roles) Put(projectID, userID string, role pb.Role) {
	r.Cache.Put(roleKey{strings.Clone(projectID), strings.Clone(userID)}, role)
}

// Drop forgets a role, whose row is being deleted.
func (r *Roles) Drop(projectID, userID string) { r.Cache.Drop(roleKey{projectID, userID}) }
