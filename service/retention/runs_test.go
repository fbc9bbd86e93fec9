package retention

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/scene"
	"github.com/tcmanager/tcmanager/service/store"
)

// Trim and Delete are what the execution service does, without telling anybody.
func (st *stage) Trim(tx store.Tx, id string, _ time.Time) error   { return tx.TrimRun(id) }
func (st *stage) Delete(tx store.Tx, id string, _ time.Time) error { return tx.DeleteRun(id) }

// run makes a run with one test that passed, and ends it unless it is to go on.
func (st *stage) run(id string, ended bool) {
	st.t.Helper()
	st.Update(func(tx store.Tx) error {
		run := &pb.Run{Id: id, Key: id, ProjectId: scene.ProjectID, State: pb.RunState_RUN_STATE_RUNNING}
		err := tx.AddRun(run)
		if ended {
			run.State, run.EndedAt = pb.RunState_RUN_STATE_ENDED, timestamppb.Now()
		}
		return errors.Join(err, tx.PutRun(run), tx.PutResults(id, []store.Result{{Seq: 1, Attempt: 1, Status: pb.Status_STATUS_PASSED}}))
	})
}

// kept says which runs there are, the newest first, and of which the results.
func (st *stage) kept() string {
	st.t.Helper()
	synctest.Wait()
	var kept []string
	st.View(func(r store.Reader) error {
		runs, err := r.Runs(scene.ProjectID, 0, 100)
		for _, run := range runs {
			results, errResults := r.Results(run.Id, store.ResultQuery{Limit: 9})
			err = errors.Join(err, errResults)
			kept = append(kept, fmt.Sprint(run.Id, ":", len(results)))
		}
		return err
	})
	return strings.Join(kept, " ")
}

func (st *stage) keeps(want string) {
	st.t.Helper()
	if got := st.kept(); got != want {
		st.t.Errorf("kept %q, want %q", got, want)
	}
}

func TestRunsAreKeptForEverUnlessAskedOtherwise(t *testing.T) {
	onStage(t, Config{}, func(_ *testing.T, st *stage) {
		st.run("a", true)
		time.Sleep(72 * time.Hour)
		st.keeps("a:1")
	})
}

func TestRunsAreDeletedByTheirAge(t *testing.T) {
	onStage(t, Config{RunsAge: 24 * time.Hour}, func(t *testing.T, st *stage) {
		st.run("a", true)
		st.run("goes on", false)
		time.Sleep(12 * time.Hour)
		st.run("b", true)
		time.Sleep(12 * time.Hour)
		st.keeps("b:1 goes on:1 a:1")
		time.Sleep(2 * time.Minute)
		st.keeps("b:1 goes on:1")
		time.Sleep(12 * time.Hour)
		st.keeps("goes on:1")
		if log := st.sweeping.logged(); strings.Count(log, "deleted=1 trimmed=0 rows=1 ") != 2 || strings.Count(log, "\n") != 2 {
			t.Errorf("it logged\n%s\nwant what was deleted, twice", log)
		}
	})
}

func TestRunsAreDeletedByTheirNumberButNotRightAfterTheirEnd(t *testing.T) {
	onStage(t, Config{Runs: 2}, func(_ *testing.T, st *stage) {
		st.run("goes on", false)
		st.run("a", true)
		st.run("b", true)
		st.run("c", true)
		time.Sleep(settle)
		st.keeps("c:1 b:1 a:1 goes on:1")
		time.Sleep(2 * time.Minute)
		st.keeps("c:1 b:1 goes on:1")
		st.run("d", false)
		time.Sleep(2 * time.Minute)
		st.keeps("d:1 c:1 goes on:1")
	})
}

func TestResultsAreDroppedBeforeTheirRuns(t *testing.T) {
	onStage(t, Config{RunsAge: 48 * time.Hour, ResultsAge: 24 * time.Hour}, func(t *testing.T, st *stage) {
		st.run("a", true)
		st.run("goes on", false)
		time.Sleep(24 * time.Hour)
		st.keeps("goes on:1 a:1")
		time.Sleep(2 * time.Minute)
		st.keeps("goes on:1 a:0")
		time.Sleep(24 * time.Hour)
		st.keeps("goes on:1")
		synctest.Wait()
		if got, want := st.sweeper.Dropped(), (Dropped{RunsTrimmed: 1, RunsDeleted: 1, Rows: 1}); got != want {
			t.Errorf("it counted %+v, want %+v", got, want)
		}
	})
}

func TestManyRunsAreDeletedSomeAtATime(t *testing.T) {
	onStage(t, Config{RunsAge: time.Hour}, func(t *testing.T, st *stage) {
		for i := range 3*runsAtOnce + 1 {
			st.run(fmt.Sprint(i), true)
		}
		time.Sleep(time.Hour + 2*time.Minute)
		st.keeps("")
		if log := st.sweeping.logged(); !strings.Contains(log, "deleted=61 trimmed=0 rows=61 ") {
			t.Errorf("it logged\n%s", log)
		}
		at := st.sweeping.begun()
		pauses := 0
		for i := range len(at) - 1 {
			if at[i+1].Sub(at[i]) == pause {
				pauses++
			}
		}
		if pauses < 3 {
			t.Errorf("%d pauses in %d updates", pauses, len(at))
		}
	})
}

func TestADeletionThatWasCutOffIsGoneOnWithWithoutAPolicy(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		st.run("a", true)
		st.Update(func(tx store.Tx) error { return tx.DeleteRun("a") })
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := st.sweeper.Dropped().Rows; got != 1 {
			t.Errorf("%d rows were dropped", got)
		}
	})
}
