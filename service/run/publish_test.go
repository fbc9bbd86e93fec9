package run

import (
	"errors"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/scene"
	"github.com/tcmanager/tcmanager/service/store"
)

const (
	runRunning = pb.RunState_RUN_STATE_RUNNING
	runEnded   = pb.RunState_RUN_STATE_ENDED

	shardLive         = pb.ShardState_SHARD_STATE_LIVE
	shardDisconnected = pb.ShardState_SHARD_STATE_DISCONNECTED
	shardFinished     = pb.ShardState_SHARD_STATE_FINISHED

	notEnded    = pb.EndReason_END_REASON_UNSPECIFIED
	endedPassed = pb.EndReason_END_REASON_PASSED
	endedFailed = pb.EndReason_END_REASON_FAILED
	cancelled   = pb.EndReason_END_REASON_CANCELLED
	interrupted = pb.EndReason_END_REASON_INTERRUPTED
	endAborted  = pb.EndReason_END_REASON_ABORTED
)

func TestARunIsPublishedFromHelloToFinish(t *testing.T) {
	onStage(t, Config{URL: func(id string) string { return "http://tests/" + id }}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Bot)
		w := r.hello(&pb.PublishHello{RunKey: "k", Info: &pb.RunInfo{Name: "go test ./...", Source: "go", ExpectedTotal: 7}})
		id := w.Run.Id
		if w.CommittedSequence != 0 || w.Incarnation>>runnerBits != 1 || w.Finished || w.HeartbeatInterval.AsDuration() != 10*time.Second ||
			w.MaxRequestBytes != 4<<20 || w.Run.Url != "http://tests/"+id || w.Run.ExpectedTotal != 7 || len(w.Run.Shards) != 1 {
			t.Errorf("welcomed with %v", w)
		}
		r.report(testOf("TestA", running), testOf("TestB", running), outputOf("s", "TestA", "hello"))
		st.wantShard(id, "main", shardLive)
		ack := r.report(testOf("TestA", passed), testOf("TestB", failed), suiteOf("s", failed))
		if want := (&pb.Counts{Total: 2, Passed: 1, Failed: 1}); !proto.Equal(ack.Counts, want) {
			t.Errorf("acked with the counts %v, want %v", ack.Counts, want)
		}
		st.wantRows(id, "TestA 1 PASSED", "TestB 1 FAILED")
		st.wantRun(id, runRunning, notEnded)
		r.finished(&pb.PublishFinish{ExitCode: proto.Int32(1)})
		st.wantRun(id, runEnded, endedFailed)
		st.wantShard(id, "main", shardFinished)
		if n := st.runs.Publishers(); n != 0 {
			t.Errorf("%d runners are connected, want 0", n)
		}
		heard(t, st, id)
	})
}

// heard checks what the rooms heard of the run of the test above.
func heard(t *testing.T, st *stage, id string) {
	t.Helper()
	got := map[event.Room][]string{}
	for _, ev := range st.Heard() {
		what := ""
		switch p := ev.Payload.(type) {
		case *pb.Event_RunChanged:
			what = p.RunChanged.Change.String()[len("RUN_CHANGE_"):]
		case *pb.Event_TestExecution:
			what = p.TestExecution.Test.Name + " " + p.TestExecution.Status.String()[7:]
		case *pb.Event_SuiteExecution:
			what = p.SuiteExecution.Suite + " " + p.SuiteExecution.Status.String()[7:]
		}
		got[event.Room(ev.Room)] = append(got[event.Room(ev.Room)], what)
	}
	want := map[event.Room][]string{
		event.RunRoom(id): {
			"STARTED", "SHARD", "TestA RUNNING", "TestB RUNNING", "TestA PASSED", "TestB FAILED", "s FAILED", "SHARD", "ENDED",
		},
		event.ProjectRoom(scene.ProjectID): {"STARTED", "SHARD", "TestB FAILED", "SHARD", "ENDED"},
	}
	for room, lines := range want {
		if fmt.Sprint(got[room]) != fmt.Sprint(lines) {
			t.Errorf("%s heard %q, want %q", room, got[room], lines)
		}
	}
}

func TestAnAckMeansCommitted(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Bot)
		id := r.hello(&pb.PublishHello{RunKey: "k"}).Run.Id
		const n = 40
		for i := range n {
			r.publish(testOf(fmt.Sprint("Test", i), passed), outputOf("s", fmt.Sprint("Test", i), "x"))
		}
		last := uint64(0)
		for last < 2*n {
			ack := r.answer().GetAck()
			if ack.GetCommittedSequence() <= last {
				t.Fatalf("after an ack of %d came %v", last, ack)
			}
			last = ack.CommittedSequence
			st.View(func(rd store.Reader) error {
				shard, err := rd.Shard(id, "main")
				if err != nil {
					return err
				}
				if rows := st.rows(id); shard.Committed < last || uint64(len(rows)) < last/2 {
					t.Errorf("an ack of %d came when the store had %d, with %d rows", last, shard.Committed, len(rows))
				}
				return nil
			})
		}
	})
}

func TestRepeatsAreAckedAgainAndHaveNoSecondEffect(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Bot)
		id := r.hello(&pb.PublishHello{RunKey: "k"}).Run.Id
		items := []*pb.PublishItem{testOf("A", running), testOf("A", failed), outputOf("s", "A", "text")}
		r.report(items...)
		before := len(st.Heard())
		r.batch(1, items...)
		r.ack(3)
		r.batch(2, items[1], items[2], testOf("B", passed)) // the last one is new
		r.ack(4)
		st.wantRows(id, "A 1 FAILED", "B 1 PASSED")
		if after := len(st.Heard()); before == 0 || after != 1 {
			t.Errorf("%d events, then %d; want some and then only that of B", before, after)
		}
		out, err := st.runs.ReadOutput(st.As(scene.Viewer), &pb.ReadOutputRequest{RunId: id, Suite: "s", Name: "A"})
		if err != nil || string(out.Data) != "text" {
			t.Errorf("A printed %q, %v", out.GetData(), err)
		}
	})
}

func TestAGapIsRefusedWithTheExpectedSequence(t *testing.T) {
	for name, send := range map[string]func(r *runner){
		"in a batch":    func(r *runner) { r.batch(4, testOf("C", passed)) },
		"in the finish": func(r *runner) { r.finish(&pb.PublishFinish{LastSequence: 3}) },
		"behind a batch": func(r *runner) {
			r.batch(2, testOf("A", passed))
			r.batch(4, testOf("C", passed))
		},
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, Config{}, func(t *testing.T, st *stage) {
				r := st.connect(scene.Bot)
				id := r.hello(&pb.PublishHello{RunKey: "k"}).Run.Id
				r.report(testOf("A", running), testOf("B", running))
				send(r)
				err := r.ended()
				if f := fault.Of(err); !fault.IsReason(err, "SEQUENCE_GAP") || f.Metadata["expected_sequence"] != "3" {
					t.Errorf("the stream ended with %v", err)
				}
				back := st.connect(scene.Bot)
				if w := back.hello(&pb.PublishHello{RunKey: "k"}); w.CommittedSequence != 2 || w.Run.Id != id {
					t.Errorf("welcomed back with %v", w)
				}
			})
		})
	}
}

func TestABadItemIsPassedOverAlone(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Bot)
		id := r.hello(&pb.PublishHello{RunKey: "k"}).Run.Id
		bad := map[uint64]*pb.PublishItem{
			2: {},
			3: testIn("s", "", 0, passed),
			4: testOf("B", pb.Status_STATUS_UNSPECIFIED),
			5: testOf("B", pb.Status_STATUS_BLOCKED), // without a comment
			6: {Item: &pb.PublishItem_Test{Test: &pb.TestExecutionUpdate{Status: passed}}},
			7: outputOf("", "no suite", "x"),
			8: {Item: &pb.PublishItem_Test{}},
			9: {Item: &pb.PublishItem_Suite{}},
		}
		items := []*pb.PublishItem{testOf("A", passed)}
		for seq := uint64(2); seq < 10; seq++ {
			items = append(items, bad[seq])
		}
		ack := r.report(append(items, testOf("Z", passed))...)
		for _, rej := range ack.Rejections {
			if bad[rej.Sequence] == nil || rej.Error.GetReason() != "INVALID_FIELD" || rej.Error.GetMessage() == "" {
				t.Errorf("rejected: %v", rej)
			}
			delete(bad, rej.Sequence)
		}
		if len(bad) > 0 {
			t.Errorf("not rejected: %v", bad)
		}
		st.wantRows(id, "A 1 PASSED", "Z 1 PASSED")
		if ack := r.report(testOf("A", failed)); len(ack.Rejections) > 0 {
			t.Errorf("the next ack says %v", ack)
		}
	})
}

func TestAnAckNamesAHundredRejections(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Bot)
		r.hello(&pb.PublishHello{RunKey: "k"})
		var items []*pb.PublishItem
		for range 150 {
			items = append(items, &pb.PublishItem{})
		}
		if ack := r.report(items...); len(ack.Rejections) != 100 {
			t.Errorf("%d rejections, want 100", len(ack.Rejections))
		}
	})
}

func TestWhatDoesNotBeginWithAHelloEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		send   func(*runner)
		reason string
	}{
		"a batch first":    {func(r *runner) { r.publish(testOf("A", passed)) }, "HELLO_FIRST"},
		"nothing at all":   {func(r *runner) { close(r.in) }, "HELLO_FIRST"},
		"an empty request": {func(r *runner) { r.in <- &pb.PublishResultsRequest{} }, "HELLO_FIRST"},
		"an empty hello": {func(r *runner) {
			r.in <- &pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Hello{}}
		}, "HELLO_FIRST"},
		"a hello without a key": {func(r *runner) { r.sendHello(&pb.PublishHello{}) }, "INVALID_FIELD"},
		"too many shards":       {func(r *runner) { r.sendHello(&pb.PublishHello{RunKey: "k", ExpectedShards: maxShards + 1}) }, "INVALID_FIELD"},
		"silence":               {func(*runner) {}, "LEASE_LOST"},
		"two hellos": {func(r *runner) {
			r.hello(&pb.PublishHello{RunKey: "k"})
			r.sendHello(&pb.PublishHello{RunKey: "k"})
		}, "HELLO_TWICE"},
		"an empty request later": {func(r *runner) {
			r.hello(&pb.PublishHello{RunKey: "k"})
			r.in <- &pb.PublishResultsRequest{}
		}, "INVALID_FIELD"},
		"an empty batch behind a batch": {func(r *runner) {
			r.hello(&pb.PublishHello{RunKey: "k"})
			r.publish(testOf("A", passed))
			r.publish()
		}, "INVALID_FIELD"},
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, Config{}, func(t *testing.T, st *stage) {
				r := st.connect(scene.Bot)
				tc.send(r)
				if err := r.ended(); !fault.IsReason(err, tc.reason) {
					t.Errorf("the stream ended with %v, want %s", err, tc.reason)
				}
				if n := st.runs.Publishers(); n != 0 {
					t.Errorf("%d runners are connected, want 0", n)
				}
			})
		})
	}
}

func TestWhoMayNotPublishLearnsNothing(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		for _, user := range []string{scene.Viewer, scene.Stranger} {
			r := st.connect(user)
			r.sendHello(&pb.PublishHello{RunKey: "k"})
			if err := r.ended(); fault.Of(err) != access.ErrDenied {
				t.Errorf("%s: %v, want ErrDenied", user, err)
			}
		}
		nowhere := st.connect(scene.Owner)
		nowhere.in <- &pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Hello{Hello: &pb.PublishHello{Project: "nowhere", RunKey: "k"}}}
		if err := nowhere.ended(); fault.Of(err) != access.ErrDenied {
			t.Errorf("an unknown project: %v, want ErrDenied", err)
		}
		if err := st.runs.PublishResults(&runner{ctx: t.Context()}); fault.Of(err) != identity.ErrUnauthenticated {
			t.Errorf("nobody: %v, want ErrUnauthenticated", err)
		}
		if evs := st.Heard(); len(evs) > 0 {
			t.Errorf("the rooms heard %v", evs)
		}
	})
}

func TestARightThatIsLostStopsAStream(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Tester)
		id := r.hello(&pb.PublishHello{RunKey: "k"}).Run.Id
		r.report(testOf("A", passed))
		st.Update(func(tx store.Tx) error { return tx.PutMember(scene.ProjectID, scene.Tester, pb.Role_ROLE_VIEWER) })
		r.publish(testOf("B", passed))
		if err := r.ended(); fault.Of(err) != access.ErrDenied {
			t.Errorf("the stream ended with %v, want ErrDenied", err)
		}
		st.wantRows(id, "A 1 PASSED")
	})
}

func TestAStreamEndsWithItsToken(t *testing.T) {
	onStage(t, Config{Lease: 3 * time.Hour}, func(t *testing.T, st *stage) {
		r := st.connectUntil(scene.Bot, time.Now().Add(time.Hour))
		id := r.hello(&pb.PublishHello{RunKey: "k"}).Run.Id
		r.report(testOf("A", passed))
		at := time.Now()
		if err := r.ended(); !fault.IsReason(err, "TOKEN_EXPIRED") || time.Since(at) != time.Hour {
			t.Errorf("after %v the stream ended with %v", time.Since(at), err)
		}
		st.wantShard(id, "main", shardDisconnected)
	})
}

func TestANewerStreamTakesAShardOver(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		old := st.connect(scene.Bot)
		id := old.hello(&pb.PublishHello{RunKey: "k", Shard: "x"}).Run.Id
		old.report(testOf("A", passed))
		other := st.connect(scene.Bot)
		other.hello(&pb.PublishHello{RunKey: "k", Shard: "y"})
		fresh := st.connect(scene.Bot)
		if w := fresh.hello(&pb.PublishHello{RunKey: "k", Shard: "x"}); w.Incarnation>>runnerBits != 2 || w.CommittedSequence != 1 {
			t.Errorf("welcomed with %v", w)
		}
		if err := old.ended(); !fault.IsReason(err, "SHARD_TAKEN_OVER") || fault.Of(err).Kind != fault.Conflict {
			t.Errorf("the older stream ended with %v", err)
		}
		fresh.report(testOf("B", passed))
		other.report(testOf("C", passed))
		st.wantShard(id, "x", shardLive)
		if n := st.runs.Publishers(); n != 2 {
			t.Errorf("%d runners are connected, want 2", n)
		}
	})
}

// TestARunnerThatComesBackIsToldThatItsShardWasTakenOver: what another one has
// committed meanwhile would look like its own.
func TestARunnerThatComesBackIsToldThatItsShardWasTakenOver(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		first := st.connect(scene.Bot)
		had := first.hello(&pb.PublishHello{RunKey: "k"}).Incarnation
		first.report(testOf("A", passed))
		first.cancel() // a network that breaks
		<-first.done
		back := st.connect(scene.Bot)
		again := back.hello(&pb.PublishHello{RunKey: "k", Incarnation: had})
		if again.CommittedSequence != 1 || again.Incarnation <= had {
			t.Errorf("welcomed back with %v after %d", again, had)
		}
		back.cancel()
		<-back.done
		// Its welcome may have been lost: it comes back with what it had before.
		back = st.connect(scene.Bot)
		again = back.hello(&pb.PublishHello{RunKey: "k", Incarnation: had})
		back.cancel()
		<-back.done
		other := st.connect(scene.Bot)
		other.hello(&pb.PublishHello{RunKey: "k"})
		other.report(testOf("B", passed))
		other.finished(&pb.PublishFinish{})
		late := st.connect(scene.Bot)
		late.sendHello(&pb.PublishHello{RunKey: "k", Incarnation: again.Incarnation})
		if err := late.ended(); !fault.IsReason(err, "SHARD_TAKEN_OVER") || fault.Of(err).Kind != fault.Conflict {
			t.Errorf("it ended with %v", err)
		}
	})
}

func TestAShardOfAnOlderStoreWasTakenOverByNobody(t *testing.T) {
	if takenOver(5<<runnerBits|7, 0) || takenOver(5<<runnerBits|7, 3<<runnerBits|7) || takenOver(3, 3) {
		t.Error("a shard of a restored store, or of an older version, is taken for another runner's")
	}
	if !takenOver(5<<runnerBits|7, 6<<runnerBits|8) {
		t.Error("another runner is taken for the same")
	}
}

// TestALateWriteOfAnOlderStreamIsRefused hands a batch to a stream that was
// fenced but has not noticed yet.
func TestALateWriteOfAnOlderStreamIsRefused(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		old := st.connect(scene.Bot)
		id := old.hello(&pb.PublishHello{RunKey: "k"}).Run.Id
		st.runs.mu.Lock()
		p := st.runs.publishers[shardKey{id, "main"}]
		st.runs.mu.Unlock()
		fresh := st.connect(scene.Bot)
		fresh.hello(&pb.PublishHello{RunKey: "k"})
		<-old.done
		late := &pb.PublishBatch{FirstSequence: 1, Items: []*pb.PublishItem{testOf("A", failed)}}
		if err := p.batches(t.Context(), []batch{{late, nil}}); !errors.Is(err, errFenced) {
			t.Errorf("a late batch: %v, want SHARD_TAKEN_OVER", err)
		}
		if err := p.finish(t.Context(), &pb.PublishFinish{}); !errors.Is(err, errFenced) {
			t.Errorf("a late finish: %v, want SHARD_TAKEN_OVER", err)
		}
		p.lose(t.Context())
		st.wantRows(id)
		st.wantShard(id, "main", shardLive)
		fresh.report(testOf("A", passed))
		st.wantRows(id, "A 1 PASSED")
	})
}

func TestARunEndsWhenAllAnnouncedShardsHaveFinished(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		var id string
		var shards []*runner
		for i := range 3 {
			r := st.connect(scene.Bot)
			id = r.hello(&pb.PublishHello{RunKey: "k", Shard: strconv.Itoa(i), ExpectedShards: 3}).Run.Id
			r.report(testIn("s", fmt.Sprint("T", i), 0, passed), testIn("s", fmt.Sprint("open", i), 0, running))
			shards = append(shards, r)
		}
		for i, r := range shards {
			st.wantRun(id, runRunning, notEnded)
			reason := notEnded
			if i == 1 {
				reason = cancelled
			}
			r.finished(&pb.PublishFinish{Reason: reason})
		}
		st.wantRun(id, runEnded, cancelled)
		st.wantRows(id, "T0 1 PASSED", "open0 1 ABORTED", "T1 1 PASSED", "open1 1 ABORTED", "T2 1 PASSED", "open2 1 ABORTED")
	})
}

func TestAShardThatFinishedEarlyDoesNotEndTheRunOfOthers(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		// Nobody said how many there are: a run is over when all that came have finished.
		a, b := st.connect(scene.Bot), st.connect(scene.Bot)
		id := a.hello(&pb.PublishHello{RunKey: "k", Shard: "a"}).Run.Id
		b.hello(&pb.PublishHello{RunKey: "k", Shard: "b"})
		a.finished(&pb.PublishFinish{})
		st.wantRun(id, runRunning, notEnded)
		b.finished(&pb.PublishFinish{})
		st.wantRun(id, runEnded, endedPassed)
	})
}

func TestAFinishIsAckedAgainAndAcceptsNothingMore(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Bot)
		id := r.hello(&pb.PublishHello{RunKey: "k"}).Run.Id
		r.report(testOf("A", passed))
		for range 2 {
			r.finish(&pb.PublishFinish{LastSequence: 1})
			if a := r.ack(1); !a.Finished {
				t.Errorf("the finish was acked with %v", a)
			}
		}
		events := len(st.Heard())
		r.cancel() // the runner never saw the acks
		<-r.done
		again := st.connect(scene.Bot)
		if w := again.hello(&pb.PublishHello{RunKey: "k"}); !w.Finished || w.CommittedSequence != 1 || w.Run.Id != id || w.Run.State != runEnded {
			t.Errorf("welcomed again with %v", w)
		}
		again.finish(&pb.PublishFinish{LastSequence: 1})
		if a := again.ack(1); !a.Finished {
			t.Errorf("the finish was acked again with %v", a)
		}
		again.batch(1, testOf("A", failed))
		if a := again.ack(1); !a.Finished {
			t.Errorf("a repeat was acked with %v", a)
		}
		if more := len(st.Heard()); events == 0 || more > 0 {
			t.Errorf("%d events, then %d more", events, more)
		}
		again.batch(2, testOf("B", failed))
		if err := again.ended(); !fault.IsReason(err, "SHARD_FINISHED") {
			t.Errorf("an item after the finish: %v", err)
		}
		st.wantRows(id, "A 1 PASSED")
		st.wantRun(id, runEnded, endedPassed)
	})
}

func TestWhatWasSaidBeforeTheEndOfTheStreamIsCommitted(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Bot)
		r.sendHello(&pb.PublishHello{RunKey: "k"})
		for i := range 10 {
			r.publish(testOf(fmt.Sprint(i), passed))
		}
		r.finish(&pb.PublishFinish{LastSequence: 10})
		close(r.in)
		id := r.answer().GetWelcome().GetRun().GetId()
		for a := (&pb.PublishAck{}); !a.Finished; {
			if a = r.answer().GetAck(); a == nil {
				t.Fatal("something else than acks came")
			}
		}
		if err := r.ended(); err != nil {
			t.Errorf("the stream ended with %v", err)
		}
		st.wantRun(id, runEnded, endedPassed)
		if n := len(st.rows(id)); n != 10 {
			t.Errorf("%d rows, want 10", n)
		}
	})
}

func TestABrokenStreamIsDisconnectedAtOnceAndGoesOn(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		st.sweeping()
		r := st.connect(scene.Bot)
		id := r.hello(&pb.PublishHello{RunKey: "k"}).Run.Id
		r.report(testOf("A", running), testOf("B", running))
		at := time.Now()
		r.cancel()
		<-r.done
		st.wantShard(id, "main", shardDisconnected)
		if d := time.Since(at); d > 0 {
			t.Errorf("the shard was disconnected after %v, want at once", d)
		}
		time.Sleep(100 * time.Second) // within the grace
		st.wantRun(id, runRunning, notEnded)
		back := st.connect(scene.Bot)
		if w := back.hello(&pb.PublishHello{RunKey: "k"}); w.CommittedSequence != 2 || w.Incarnation>>runnerBits != 2 || w.Run.Id != id {
			t.Errorf("welcomed back with %v", w)
		}
		back.report(testOf("A", passed), testOf("B", passed))
		back.finished(&pb.PublishFinish{})
		st.wantRows(id, "A 1 PASSED", "B 1 PASSED")
		st.wantRun(id, runEnded, endedPassed)
	})
}

func TestDrainSendsRunnersAwayAndLosesNothing(t *testing.T) {
	onStage(t, Config{ReconnectIn: func() time.Duration { return 3 * time.Second }}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Bot)
		id := r.hello(&pb.PublishHello{RunKey: "k"}).Run.Id
		acked := r.report(testOf("A", passed)).CommittedSequence
		for i := range 20 {
			r.publish(testOf(fmt.Sprint(i), passed))
		}
		st.runs.Drain()
		away := false
		for !away {
			switch f := r.answer().Frame.(type) {
			case *pb.PublishResultsResponse_Ack:
				acked = f.Ack.CommittedSequence
			case *pb.PublishResultsResponse_GoingAway:
				away = true
				if d := f.GoingAway.ReconnectAfter.AsDuration(); d != 3*time.Second {
					t.Errorf("told to come back after %v, want 3s", d)
				}
			}
		}
		if err := r.ended(); !fault.IsReason(err, "GOING_AWAY") {
			t.Errorf("the stream ended with %v", err)
		}
		if n := st.runs.Publishers(); n != 0 {
			t.Errorf("%d runners are connected after the drain", n)
		}
		late := st.connect(scene.Bot)
		late.sendHello(&pb.PublishHello{RunKey: "k"})
		if err := late.ended(); !fault.IsReason(err, "GOING_AWAY") {
			t.Errorf("a late stream ended with %v", err)
		}
		st.restart()
		back := st.connect(scene.Bot)
		w := back.hello(&pb.PublishHello{RunKey: "k"})
		if w.CommittedSequence < acked || w.Run.Id != id || len(st.rows(id)) != int(w.CommittedSequence) {
			t.Errorf("after the restart %d are committed with %d rows; %d were acked", w.CommittedSequence, len(st.rows(id)), acked)
		}
	})
}

func TestADrainWhileTheStoreIsBusySendsRunnersAwayToo(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Bot)
		id := r.hello(&pb.PublishHello{RunKey: "k"}).Run.Id
		busy, free := make(chan bool), make(chan bool)
		go func() {
			if err := st.Store.Update(t.Context(), func(store.Tx) error { busy <- true; <-free; return nil }); err != nil {
				t.Error(err)
			}
		}()
		<-busy
		r.publish(testOf("A", passed))
		synctest.Wait() // it waits for the store
		st.runs.Drain()
		if r.answer().GetGoingAway() == nil {
			t.Error("the runner was not told to come back")
		}
		free <- true
		if err := r.ended(); !fault.IsReason(err, "GOING_AWAY") {
			t.Errorf("the stream ended with %v", err)
		}
		st.wantRows(id)
		st.wantShard(id, "main", shardDisconnected)
	})
}

func TestARunnerThatNeverReadsIsLetGo(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		st.sweeping()
		deaf := st.connect(scene.Bot)
		deaf.sendHello(&pb.PublishHello{RunKey: "k"}) // and never reads the welcome
		synctest.Wait()
		for range cap(deaf.in) {
			select {
			case deaf.in <- &pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Heartbeat{Heartbeat: &pb.PublishHeartbeat{}}}:
			default:
			}
		}
		select {
		case err := <-deaf.done:
			if !fault.IsReason(err, "LEASE_LOST") {
				t.Errorf("the stream ended with %v", err)
			}
		case <-time.After(time.Minute):
			t.Fatal("the stream of a runner that never reads did not end")
		}
		synctest.Wait()
		if n := st.runs.Publishers(); n != 0 {
			t.Errorf("%d runners are connected", n)
		}
		resp, err := st.runs.ListRuns(st.As(scene.Viewer), &pb.ListRunsRequest{Project: scene.Key})
		if err != nil || len(resp.Runs) != 1 {
			t.Fatalf("the runs are %v, %v", resp, err)
		}
		id := resp.Runs[0].Id
		st.wantShard(id, "main", shardDisconnected)
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		st.wantRun(id, runEnded, endAborted)
	})
}

func TestARunnerThatStopsReadingLaterIsLetGo(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		st.sweeping()
		r := st.connect(scene.Bot)
		id := r.hello(&pb.PublishHello{RunKey: "k"}).Run.Id
		for i := range 50 {
			r.publish(testOf(fmt.Sprint(i), passed))
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		st.wantRun(id, runEnded, endAborted)
		if n := st.runs.Publishers(); n != 0 {
			t.Errorf("%d runners are connected", n)
		}
		if err := <-r.done; !fault.IsReason(err, "LEASE_LOST") {
			t.Errorf("the stream ended with %v", err)
		}
	})
}

func TestAPanicEndsOneStreamOnly(t *testing.T) {
	onStage(t, Config{URL: func(string) string { panic("the page's address") }}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Bot)
		r.sendHello(&pb.PublishHello{RunKey: "k"})
		if err := r.ended(); err == nil || fault.Of(err) != nil {
			t.Errorf("the stream ended with %v, want an internal error", err)
		}
	})
}

func TestARunHasAsManyShardsAsItMay(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Bot)
		id := r.hello(&pb.PublishHello{RunKey: "k"}).Run.Id
		st.Update(func(tx store.Tx) error {
			for i := range maxShards - 1 {
				if err := tx.PutShard(store.Shard{RunID: id, Name: fmt.Sprint(i), State: shardFinished, Incarnation: 1, ChangedAt: time.Now()}); err != nil {
					return err
				}
			}
			st.runs.lives.drop(id)
			return nil
		})
		more := st.connect(scene.Bot)
		more.sendHello(&pb.PublishHello{RunKey: "k", Shard: "more"})
		if err := more.ended(); !fault.IsReason(err, "TOO_MANY_SHARDS") {
			t.Errorf("a shard too many: %v", err)
		}
		known := st.connect(scene.Bot)
		known.hello(&pb.PublishHello{RunKey: "k", Shard: "main"})
	})
}

func TestAnEndedRunTakesNothingMore(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Bot)
		id := r.hello(&pb.PublishHello{RunKey: "k"}).Run.Id
		r.report(testOf("A", running))
		if _, err := st.runs.FinishRun(st.As(scene.Manager), &pb.FinishRunRequest{RunId: id, Reason: cancelled}); err != nil {
			t.Fatal(err)
		}
		r.publish(testOf("B", passed))
		if err := r.ended(); !fault.IsReason(err, "RUN_ENDED") {
			t.Errorf("the stream ended with %v", err)
		}
		again := st.connect(scene.Bot)
		again.sendHello(&pb.PublishHello{RunKey: "k"})
		if err := again.ended(); !fault.IsReason(err, "RUN_ENDED") {
			t.Errorf("a hello for an ended run: %v", err)
		}
		st.wantRows(id, "A 1 ABORTED")
		st.wantRun(id, runEnded, cancelled)
	})
}
