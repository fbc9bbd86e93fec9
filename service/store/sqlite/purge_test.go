package sqlite

import (
	"errors"
	"fmt"
	"testing"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
)

// TestKillWhileARunIsPurgedIsGoneOnWith deletes a run, kills several times whoever
// drops what is left of it, and looks each time that nothing of it is shown; at the
// end nothing is left but the row that keeps its number.
func TestKillWhileARunIsPurgedIsGoneOnWith(t *testing.T) {
	path := dataPath(t)
	s := open(t, Options{Path: path})
	if err := s.Update(t.Context(), deletedRun); err != nil {
		t.Fatal(err)
	}
	before, halfway := leftOf(t, s), false
	for life := range 4 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		killedChild(t, path, life, 50, "purge")
		s = open(t, Options{Path: path})
		left := leftOf(t, s)
		halfway = halfway || left > 0 && left < before
		checkIntegrity(t, s)
		err := s.View(t.Context(), func(r store.Reader) error {
			if _, err := r.Run("r"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("with %d rows left, the run is found: %v", left, err)
			}
			project, err := r.DeletedRun("r")
			if project != "p" {
				t.Errorf("it was of project %q", project)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if !halfway {
		t.Errorf("of %d rows none or all were there whenever it was killed", before)
	}
	for more := true; more; {
		err := s.Update(t.Context(), func(tx store.Tx) error {
			done, err := tx.PurgeRuns()
			more = done.More
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if left := leftOf(t, s); left != 0 {
		t.Errorf("%d rows are left", left)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// deletedRun makes a run with some thousand rows, and deletes it.
func deletedRun(tx store.Tx) error {
	var results []store.Result
	var out []store.Output
	for i := range 3000 {
		name := fmt.Sprint("test ", i)
		results = append(results, store.Result{Seq: uint64(i + 1), Attempt: 1, Suite: "s", Name: name, Update: []byte("x")})
		out = append(out, store.Output{Key: store.OutputKey{RunID: "r", Suite: "s", Name: name, Attempt: 1}, Data: []byte("y")})
	}
	d, err := event.NewDraft(event.RunRoom("r"), time.Unix(1_800_000_000, 0), nil, &pb.Event{Payload: &pb.Event_RunChanged{RunChanged: &pb.RunChanged{}}})
	if err != nil {
		return err
	}
	_, err = tx.Append(d)
	return errors.Join(err, tx.PutProject(&pb.Project{Id: "p", Key: "p"}), tx.AddRun(&pb.Run{Id: "r", Key: "r", ProjectId: "p"}),
		tx.PutResults("r", results), tx.AddOutput("r", out), tx.PutSuites("r", []*pb.Suite{{Name: "s"}}),
		tx.PutShard(store.Shard{RunID: "r", Name: "main", ChangedAt: time.Unix(1_800_000_000, 0)}), tx.DeleteRun("r"))
}

// leftOf counts the rows of the run, and those that remember it.
func leftOf(t *testing.T, s *Store) (n int) {
	t.Helper()
	err := s.View(t.Context(), func(r store.Reader) error {
		return r.(*reader).c.row("SELECT (SELECT count(*) FROM results) + (SELECT count(*) FROM output) + (SELECT count(*) FROM run_suites) + (SELECT count(*) FROM shards)"+
			" + (SELECT count(*) FROM purges) + (SELECT count(*) FROM rooms WHERE newest_offset = 1)", nil, &n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// purgeForEver drops what is left of runs in very small pieces.
func purgeForEver(t *testing.T, s *Store) {
	purgeBounds.rows = 20
	for t.Context().Err() == nil {
		err := s.Update(t.Context(), func(tx store.Tx) error {
			_, err := tx.PurgeRuns()
			return err
		})
		if err != nil {
			t.Error(err)
			return
		}
	}
}
