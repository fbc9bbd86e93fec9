package run

import (
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/scene"
	"github.com/tcmanager/tcmanager/service/store"
)

func TestARunWhoseRunnersAreLostIsGivenUpAfterTheGrace(t *testing.T) {
	for name, tc := range map[string]struct {
		finish bool
		want   pb.EndReason
	}{
		"all of them":         {false, endAborted},
		"one of two finished": {true, interrupted},
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, Config{Grace: time.Minute}, func(t *testing.T, st *stage) {
				st.sweeping()
				a, b := st.connect(scene.Bot), st.connect(scene.Bot)
				id := a.hello(&pb.PublishHello{RunKey: "k", Shard: "a", ExpectedShards: 2}).Run.Id
				b.hello(&pb.PublishHello{RunKey: "k", Shard: "b"})
				a.report(testIn("a", "A", 0, passed))
				b.report(testIn("b", "B", 0, running), testIn("b", "C", 0, passed))
				if tc.finish {
					a.finished(&pb.PublishFinish{})
				} else {
					a.cancel()
				}
				b.cancel()
				time.Sleep(59 * time.Second)
				st.wantRun(id, runRunning, notEnded)
				time.Sleep(20 * time.Second)
				synctest.Wait()
				st.wantRun(id, runEnded, tc.want)
				st.wantRows(id, "A 1 PASSED", "B 1 ABORTED", "C 1 PASSED")
				wantSynthetic(t, st, id)
			})
		})
	}
}

// wantSynthetic checks how the only test that never ended is shown, and its suite.
func wantSynthetic(t *testing.T, st *stage, id string) {
	t.Helper()
	st.View(func(r store.Reader) error {
		j := &pb.Joined{}
		if err := (Room{st.runs}).Snapshot(r, scene.Viewer, event.RunRoom(id), j); err != nil {
			return err
		}
		snap := j.GetRun()
		if len(snap.Running) != 0 || len(snap.Failures) != 1 {
			t.Fatalf("the run shows %v running and %v failed", snap.Running, snap.Failures)
		}
		u := snap.Failures[0]
		if u.Status != aborted || len(u.Flags) != 1 || u.Flags[0] != pb.ResultFlag_RESULT_FLAG_SYNTHETIC_END || u.Error.GetMessage() == "" {
			t.Errorf("the test that never ended is %v", u)
		}
		if s := snap.Suites[1]; s.Name != "b" || s.Status != aborted || s.Flags[0] != pb.ResultFlag_RESULT_FLAG_SYNTHETIC_END {
			t.Errorf("its suite is %v", s)
		}
		if s := snap.Suites[0]; s.Name != "a" || open(s.Status) {
			t.Errorf("the other suite is %v", s)
		}
		return nil
	})
}

func TestARunThatWasGivenUpGoesOnWhenARunnerComesBack(t *testing.T) {
	onStage(t, Config{Grace: time.Minute}, func(t *testing.T, st *stage) {
		st.sweeping()
		r := st.connect(scene.Bot)
		id := r.hello(&pb.PublishHello{RunKey: "k"}).Run.Id
		r.report(testOf("A", running), testOf("B", running))
		r.cancel()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		st.wantRun(id, runEnded, endAborted)
		back := st.connect(scene.Bot)
		if w := back.hello(&pb.PublishHello{RunKey: "k"}); w.Run.Id != id || w.Run.State != runRunning || w.Run.EndReason != notEnded || w.CommittedSequence != 2 {
			t.Errorf("welcomed back with %v", w)
		}
		st.wantRun(id, runRunning, notEnded)
		back.report(testOf("A", passed), testOf("B", passed), suiteOf("s", passed))
		back.finished(&pb.PublishFinish{})
		st.wantRun(id, runEnded, endedPassed)
		st.wantRows(id, "A 1 PASSED", "B 1 PASSED")
		if c := st.run(id).Counts; c.Flaky != 0 {
			t.Errorf("a test that was cut off and went on counts as flaky: %v", c)
		}
	})
}

func TestASilentRunnerLosesItsLeaseAndHeartbeatsKeepIt(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		st.sweeping()
		silent, alive := st.connect(scene.Bot), st.connect(scene.Bot)
		id := silent.hello(&pb.PublishHello{RunKey: "k", Shard: "silent"}).Run.Id
		alive.hello(&pb.PublishHello{RunKey: "k", Shard: "alive"})
		start := time.Now()
		stop := make(chan struct{})
		go func() {
			for {
				select {
				case <-time.After(10 * time.Second):
					alive.heartbeat()
				case <-stop:
					return
				}
			}
		}()
		if err := silent.ended(); !fault.IsReason(err, "LEASE_LOST") {
			t.Errorf("the silent stream ended with %v", err)
		}
		if d := time.Since(start); d < 30*time.Second || d > 40*time.Second {
			t.Errorf("it ended after %v, want soon after 30s", d)
		}
		st.wantShard(id, "silent", shardDisconnected)
		time.Sleep(5 * time.Minute)
		st.wantShard(id, "alive", shardLive)
		st.wantRun(id, runRunning, notEnded)
		close(stop)
	})
}

func TestAServerThatCameBackFindsTheShardsItLost(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Bot)
		id := r.hello(&pb.PublishHello{RunKey: "k"}).Run.Id
		r.report(testOf("A", running))
		// The server dies: what its handler would still write is never written.
		if err := st.Store.Close(); err != nil {
			t.Fatal(err)
		}
		r.cancel()
		<-r.done
		st.restart()
		st.wantShard(id, "main", shardLive)
		time.Sleep(10 * time.Second)
		st.sweeping()
		synctest.Wait()
		st.wantShard(id, "main", shardLive) // its runner has a lease to come back within
		time.Sleep(40 * time.Second)
		synctest.Wait()
		st.wantShard(id, "main", shardDisconnected)
		st.wantRun(id, runRunning, notEnded)
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		st.wantRun(id, runEnded, endAborted)
		st.wantRows(id, "A 1 ABORTED")
	})
}

func TestARunnerComesBackToAServerThatCameBack(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Bot)
		id := r.hello(&pb.PublishHello{RunKey: "k"}).Run.Id
		r.report(testOf("A", failed), testOf("A", running))
		r.cancel()
		<-r.done
		st.restart()
		back := st.connect(scene.Bot)
		if w := back.hello(&pb.PublishHello{RunKey: "k"}); w.CommittedSequence != 2 || w.Run.Id != id {
			t.Errorf("welcomed back with %v", w)
		}
		back.report(testOf("A", passed))
		back.finished(&pb.PublishFinish{})
		st.wantRows(id, "A 1 FAILED", "A 2 PASSED")
		if c := st.run(id).Counts; c.Total != 1 || c.Passed != 1 || c.Flaky != 1 {
			t.Errorf("the run counts %v", c)
		}
	})
}

func TestARunOfCallsAloneEndsWhenNobodyCallsAnyMore(t *testing.T) {
	onStage(t, Config{Idle: time.Hour}, func(t *testing.T, st *stage) {
		st.sweeping()
		resp, err := st.runs.StartRun(st.As(scene.Tester), &pb.StartRunRequest{Project: scene.Key})
		if err != nil {
			t.Fatal(err)
		}
		id := resp.Run.Id
		for range 3 { // each call gives it another hour
			time.Sleep(59 * time.Minute)
			if _, err := st.runs.ReportResult(st.As(scene.Tester), &pb.ReportResultRequest{RunId: id, Update: updateOf("s", "A", 0, running)}); err != nil {
				t.Fatal(err)
			}
		}
		st.wantRun(id, runRunning, notEnded)
		time.Sleep(61 * time.Minute)
		synctest.Wait()
		st.wantRun(id, runEnded, endAborted)
		st.wantRows(id, "A 1 ABORTED")
	})
}
