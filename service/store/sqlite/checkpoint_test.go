package sqlite

import (
	"os"
	"strings"
	"sync"
	"testing"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/store"
)

// relay keeps views open so that at each moment one is, none for long, until stop
// is called. Each reads, so that it has its snapshot, before the one before it ends.
func relay(t *testing.T, s *Store) (stop func()) {
	t.Helper()
	end := make(chan struct{})
	var views sync.WaitGroup
	open := func() (release func()) {
		began, let := make(chan struct{}), make(chan struct{})
		views.Go(func() {
			err := s.View(t.Context(), func(r store.Reader) error {
				_, err := r.User("ada")
				close(began)
				<-let
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
		<-began
		return func() { close(let) }
	}
	views.Go(func() {
		for release := open(); ; {
			select {
			case <-end:
				release()
				return
			default:
			}
			next := open()
			release()
			release = next
		}
	})
	return func() { close(end); views.Wait() }
}

func TestWriteAheadLogStaysBoundedWhileSomeViewAlwaysReads(t *testing.T) {
	const limit = 4 << 20
	s := open(t, Options{Path: dataPath(t)})
	defer func() { _ = s.Close() }()
	commit := func(name string) {
		err := s.Update(t.Context(), func(st store.Tx) error {
			st.(*tx).w.maxWAL, st.(*tx).w.walSize = limit, limit
			return st.PutUser(&pb.User{Id: "ada", Name: name})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	commit("first")
	stop := relay(t, s)
	defer stop()
	var largest int64
	for i := range 600 {
		commit(strings.Repeat(string(rune('a'+i%26)), 64<<10))
		info, err := os.Stat(s.path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		largest = max(largest, info.Size())
	}
	// It is looked at after every 64 commits of 64 kB, and on a busy machine the
	// views may take longer than they are waited for, once or twice.
	if largest > 4*limit {
		t.Errorf("the log grew to %d bytes, want about %d", largest, limit)
	}
}
