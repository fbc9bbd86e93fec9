package postgres

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/store/postgres/pgtest"
)

// cramped is a store on a PostgreSQL of its own that can run out of space.
type cramped struct {
	*testing.T
	c    *pgtest.Cluster
	s    *Store
	told told
	n    int // of updates
}

func newCramped(t *testing.T) *cramped {
	t.Helper()
	c, err := pgtest.StartAs(pgtest.Options{Brisk: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	s := open(t, Options{DSN: c.DSN(c.Database(t, "")), Patience: 30 * time.Second})
	t.Cleanup(func() { _ = s.Close() })
	return &cramped{T: t, c: c, s: s, told: newTold()}
}

// write makes a user of some kilobytes, which nothing can compress.
func (c *cramped) write() error {
	c.n++
	id := fmt.Sprint("u", c.n)
	var name strings.Builder
	for name.Len() < 16<<10 {
		name.WriteString(rand.Text())
	}
	p, err := commitUser(c.Context(), c.s, &pb.User{Id: id, Name: name.String()})
	switch {
	case err == nil:
		c.told.acked[id] = p
	case !errors.Is(err, store.ErrUncertain):
		c.told.refused[id] = true
	}
	return err
}

func (c *cramped) limit(bytes int64) {
	c.Helper()
	if err := c.c.LimitFiles(bytes); err != nil && !c.c.Ended() {
		c.Fatal(err)
	}
}

// TestDatabaseWithoutSpaceSaysSoAndGoesOn has PostgreSQL itself run out of space, by
// a bound on its files (see pgtest): the table of users can't grow, others can, so
// this says nothing of Ready.
func TestDatabaseWithoutSpaceSaysSoAndGoesOn(t *testing.T) {
	const advice = "the database's disk is full; free some space there"
	c := newCramped(t)
	for range 3 {
		if err := c.write(); err != nil {
			t.Fatal(err)
		}
	}
	c.limit(1<<20 + 4096)
	var err error
	for err == nil {
		if err = c.write(); c.n > 1000 {
			t.Fatal("there is space for all of it")
		}
	}
	for range 3 {
		if !errors.Is(err, store.ErrFull) || !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), advice) {
			t.Fatalf("update %d: got %v", c.n, err)
		}
		err = c.write()
	}
	if e := store.Fault(err); e == nil || e.Reason != "STORE_FULL" || !strings.Contains(e.Message, "free some space") {
		t.Errorf("callers are told %v", e)
	}
	c.limit(0)
	if err := c.s.Ready(t.Context()); err != nil {
		t.Errorf("there is space: %v", err)
	}
	for range 3 {
		if err := c.write(); err != nil {
			t.Error(err)
		}
	}
	c.told.check(t, c.s)
}

// TestDatabaseThatPanicsForWantOfSpaceLosesNothing leaves no space for PostgreSQL's
// write-ahead log: it ends what it does, recovers or can't even do that, and is
// started again once there is space, as the system would do it.
func TestDatabaseThatPanicsForWantOfSpaceLosesNothing(t *testing.T) {
	c := newCramped(t)
	for range 3 {
		if err := c.write(); err != nil {
			t.Fatal(err)
		}
	}
	c.limit(1<<20 - 4096)
	done, stop := make(chan struct{}), atomic.Bool{}
	go func() {
		defer close(done)
		for !stop.Load() {
			if err := c.write(); err != nil {
				t.Logf("update %d: %v", c.n, err)
			}
		}
	}()
	eventually(t, "PostgreSQL panics", func() bool {
		said, err := c.c.Said("PANIC")
		if err != nil {
			t.Fatal(err)
		}
		return said > 0
	})
	c.limit(0)
	eventually(t, "it is ready again", func() bool {
		if c.c.Ended() {
			if err := c.c.Run(); err != nil {
				t.Fatal(err)
			}
		}
		return c.s.Ready(t.Context()) == nil
	})
	stop.Store(true)
	<-done
	if err := c.write(); err != nil {
		t.Error(err)
	}
	c.told.check(t, c.s)
	t.Logf("%d updates, %d acknowledged, %d refused", c.n, len(c.told.acked), len(c.told.refused))
}
