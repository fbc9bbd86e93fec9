package run

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/scene"
	"github.com/tcmanager/tcmanager/service/store"
)

// ran is a run of two tests, one of which failed, that ended.
func (st *stage) ran(key string) (id string) {
	st.t.Helper()
	r := st.connect(scene.Bot)
	id = r.hello(&pb.PublishHello{RunKey: key}).Run.Id
	r.report(testOf("TestA", passed), testOf("TestB", failed), outputOf("s", "TestA", "said"))
	r.finished(&pb.PublishFinish{})
	return id
}

func (st *stage) delete(id string) {
	st.t.Helper()
	st.Update(func(tx store.Tx) error { return st.runs.Delete(tx, id, time.Now()) })
}

func (st *stage) trim(id string) {
	st.t.Helper()
	st.Update(func(tx store.Tx) error { return st.runs.Trim(tx, id, time.Now()) })
}

// purge drops what is left of deleted and trimmed runs.
func (st *stage) purge() {
	st.t.Helper()
	for more := true; more; {
		st.Update(func(tx store.Tx) error {
			done, err := tx.PurgeRuns()
			more = done.More
			return err
		})
	}
}

// wantDeleted checks what those hear who come for a run that was deleted.
func (st *stage) wantDeleted(id string) {
	st.t.Helper()
	calls := map[string]func(user string) error{
		"GetRun": func(u string) error { _, err := st.runs.GetRun(st.As(u), &pb.GetRunRequest{RunId: id}); return err },
		"ListResults": func(u string) error {
			_, err := st.runs.ListResults(st.As(u), &pb.ListResultsRequest{RunId: id})
			return err
		},
		"ReadOutput": func(u string) error {
			_, err := st.runs.ReadOutput(st.As(u), &pb.ReadOutputRequest{RunId: id})
			return err
		},
		"FinishRun": func(u string) error {
			_, err := st.runs.FinishRun(st.As(u), &pb.FinishRunRequest{RunId: id})
			return err
		},
		"ReportResult": func(u string) error {
			_, err := st.runs.ReportResult(st.As(u), &pb.ReportResultRequest{RunId: id, Update: updateOf("s", "TestA", 0, passed)})
			return err
		},
		"a join": func(u string) (err error) {
			st.View(func(r store.Reader) error {
				_, err = Room{st.runs}.Enter(r, u, event.RunRoom(id), access.Read)
				return nil
			})
			return err
		},
	}
	for name, call := range calls {
		if err := call(scene.Tester); !errors.Is(err, errDeleted) {
			st.t.Errorf("%s of a deleted run: %v, want RUN_DELETED", name, err)
		}
		if err := call(scene.Stranger); !errors.Is(err, access.ErrDenied) {
			st.t.Errorf("%s by a stranger: %v, want that nothing is said of it", name, err)
		}
	}
	for _, name := range []string{"FinishRun", "ReportResult"} {
		if err := calls[name](scene.Viewer); !errors.Is(err, access.ErrDenied) {
			st.t.Errorf("%s by a viewer: %v", name, err)
		}
	}
}

func TestADeletedRunIsToldOfAndSaidToBeDeleted(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		id, other := st.ran("k"), st.ran("other")
		st.Heard()
		st.delete(id)
		heard := st.Heard()
		if rooms := scene.Hears(heard); !slices.Equal(rooms, []event.Room{event.RunRoom(id), event.ProjectRoom(scene.ProjectID)}) {
			t.Fatalf("told to %v", rooms)
		}
		for _, ev := range heard {
			if c := ev.GetRunChanged(); c.GetChange() != pb.RunChange_RUN_CHANGE_DELETED || c.GetRun().GetId() != id || c.GetRun().GetNumber() != 1 || c.GetRun().GetKey() != "k" {
				t.Errorf("told %v", ev)
			}
		}
		st.wantDeleted(id)
		st.purge()
		st.wantDeleted(id)
		st.restart()
		st.wantDeleted(id)
		list, err := st.runs.ListRuns(st.As(scene.Viewer), &pb.ListRunsRequest{Project: scene.Key})
		if err != nil || len(list.Runs) != 1 || list.Runs[0].Id != other {
			t.Errorf("the project's runs are %v: %v", list, err)
		}
		st.wantRows(other, "TestA 1 PASSED", "TestB 1 FAILED")
		st.delete(id) // once more: somebody else was quicker
	})
}

func TestARunnerOfADeletedRunIsToldSoAndBeginsNoOther(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		id := st.ran("k")
		late := st.connect(scene.Bot) // it has a shard of a run that is over
		late.hello(&pb.PublishHello{RunKey: "k"})
		st.delete(id)
		late.publish(testOf("TestC", passed))
		if err := late.ended(); !errors.Is(err, errDeleted) {
			t.Errorf("what it publishes gets %v", err)
		}
		for _, incarnation := range []uint64{0, 1<<runnerBits | 7} {
			r := st.connect(scene.Bot)
			r.sendHello(&pb.PublishHello{RunKey: "k", Incarnation: incarnation})
			if err := r.ended(); !errors.Is(err, errKeyUsed) {
				t.Errorf("a hello for it gets %v", err)
			}
			st.purge()
		}
		if _, err := st.runs.StartRun(st.As(scene.Tester), &pb.StartRunRequest{Project: scene.Key, RunKey: "k"}); !errors.Is(err, errKeyUsed) {
			t.Errorf("a start of it gets %v", err)
		}
		list, err := st.runs.ListRuns(st.As(scene.Viewer), &pb.ListRunsRequest{Project: scene.Key})
		if err != nil || len(list.Runs) != 0 {
			t.Errorf("the project's runs are %v: %v", list, err)
		}
	})
}

func TestARunThatGoesOnIsNeitherDeletedNorTrimmed(t *testing.T) {
	onStage(t, Config{Grace: time.Minute}, func(t *testing.T, st *stage) {
		st.sweeping()
		r := st.connect(scene.Bot)
		w := r.hello(&pb.PublishHello{RunKey: "k"})
		r.report(testOf("TestA", passed))
		r.cancel()
		time.Sleep(3 * time.Minute)
		st.wantRun(w.Run.Id, runEnded, endAborted)
		r = st.connect(scene.Bot) // it is back, just before the sweep that found it ended
		r.hello(&pb.PublishHello{RunKey: "k", Incarnation: w.Incarnation})
		st.Heard()
		st.delete(w.Run.Id)
		st.trim(w.Run.Id)
		if heard := st.Heard(); len(heard) > 0 {
			t.Errorf("told %v", heard)
		}
		r.report(testOf("TestB", passed))
		st.wantRun(w.Run.Id, runRunning, notEnded)
		st.wantRows(w.Run.Id, "TestA 1 PASSED", "TestB 1 PASSED")
		r.cancel()
		synctest.Wait()
	})
}

func TestATrimmedRunKeepsWhatItSaysAndTakesNothingMore(t *testing.T) {
	onStage(t, Config{Grace: time.Minute, URL: func(id string) string { return "http://tests/" + id }}, func(t *testing.T, st *stage) {
		st.sweeping()
		r := st.connect(scene.Bot)
		w := r.hello(&pb.PublishHello{RunKey: "k"})
		id := w.Run.Id
		r.report(testOf("TestA", passed), testOf("TestB", failed), outputOf("s", "TestA", "said"))
		r.cancel()
		time.Sleep(3 * time.Minute)
		counts := st.run(id).Counts
		st.Heard()
		st.trim(id)
		heard := st.Heard()
		if len(heard) != 1 || event.Room(heard[0].Room) != event.RunRoom(id) || heard[0].GetRunChanged().GetChange() != pb.RunChange_RUN_CHANGE_TRIMMED {
			t.Fatalf("told %v", heard)
		}
		if run := heard[0].GetRunChanged().GetRun(); !run.GetResultsTrimmed() || run.GetCounts().GetTotal() != counts.GetTotal() || run.GetUrl() != "http://tests/"+id {
			t.Errorf("told of the run %v", run)
		}
		st.purge()
		st.wantRows(id, "TestB 1 FAILED")
		got, err := st.runs.GetRun(st.As(scene.Viewer), &pb.GetRunRequest{RunId: id})
		if err != nil || !got.Run.ResultsTrimmed || got.Run.Counts.Total != 2 || got.Run.Counts.Passed != counts.Passed || len(got.Suites) != 1 || got.Suites[0].Counts.Total != 2 {
			t.Errorf("the run is %v: %v", got, err)
		}
		// A run that was given up goes on when its runner is back, but not this one: its
		// tests would be counted twice.
		r = st.connect(scene.Bot)
		r.sendHello(&pb.PublishHello{RunKey: "k", Incarnation: w.Incarnation})
		if err := r.ended(); !errors.Is(err, errEnded) {
			t.Errorf("its runner gets %v", err)
		}
	})
}
