package run

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/scene"
)

func TestSmallBatchesOfARunnerThatDoesNotWaitShareCommits(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Bot)
		r.hello(&pb.PublishHello{RunKey: "k"})
		const batches = 320
		go func() {
			for i := range batches {
				r.publish(testOf(fmt.Sprint(i), passed))
				time.Sleep(time.Millisecond)
			}
		}()
		acks := 0
		for began := time.Now(); ; acks++ {
			a := r.answer().GetAck()
			if late := time.Since(began) - time.Duration(a.CommittedSequence)*time.Millisecond; late > pacingEvery {
				t.Errorf("%d was acked %v after it was sent", a.CommittedSequence, late)
			}
			if a.CommittedSequence == batches {
				break
			}
		}
		if acks > batches/12+2 {
			t.Errorf("%d batches, one a millisecond, had %d commits", batches, acks)
		}
	})
}

func TestWhatWasReadTogetherIsCommittedTogetherAndSoon(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Bot)
		r.hello(&pb.PublishHello{RunKey: "k"})
		const reads, batches = 100, 16
		go func() {
			for i := range reads {
				time.Sleep(batches * time.Millisecond)
				for j := range batches {
					r.publish(testOf(fmt.Sprint(i, j), passed))
				}
			}
		}()
		acks := 0
		for began := time.Now(); ; acks++ {
			a := r.answer().GetAck()
			read := (a.CommittedSequence - 1) / batches
			late := time.Since(began) - time.Duration((read+1)*batches)*time.Millisecond
			if read > 0 && late > pacingSettle { // the first ones aren't known to come together
				t.Errorf("%d was acked %v after it was read", a.CommittedSequence, late)
			}
			if a.CommittedSequence == reads*batches {
				break
			}
		}
		if acks > reads+2 {
			t.Errorf("what was read in %d reads had %d commits", reads, acks)
		}
	})
}

func TestARunnerThatWaitsForAcksIsSeldomPutOff(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Bot)
		r.hello(&pb.PublishHello{RunKey: "k"})
		began := time.Now()
		const batches = 500
		for i := range batches {
			r.report(testOf(fmt.Sprint(i), passed))
		}
		// 1 + 1 + 2 + 4 + ... + 256 batches between ten tries.
		if took := time.Since(began); took > 10*pacingQuiet {
			t.Errorf("%d batches, each sent when the one before was acked, were put off by %v", batches, took)
		}
	})
}

func TestABatchAfterAPauseIsCommittedAtOnce(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Bot)
		r.hello(&pb.PublishHello{RunKey: "k"})
		for i := range 10 {
			began := time.Now()
			r.report(testOf(fmt.Sprint(i), passed))
			if took := time.Since(began); took > 0 {
				t.Errorf("batch %d was put off by %v", i, took)
			}
			time.Sleep(pacingEvery)
		}
	})
}

func TestWhatIsPutOffIsCommittedWhenItIsEnough(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Bot)
		r.hello(&pb.PublishHello{RunKey: "k"})
		r.report(testOf("first", passed))
		began := time.Now()
		many := make([]*pb.PublishItem, pacingItems/2)
		for i := range many {
			many[i] = testOf(fmt.Sprint(i), passed)
		}
		r.publish(many...)
		synctest.Wait()
		r.publish(many...)
		r.ack(r.next - 1)
		if took := time.Since(began); took > 0 {
			t.Errorf("%d results were put off by %v", pacingItems, took)
		}
	})
}

func TestAFinishEndsWhatIsPutOff(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		r := st.connect(scene.Bot)
		r.hello(&pb.PublishHello{RunKey: "k"})
		r.report(testOf("first", passed))
		began := time.Now()
		r.publish(testOf("last", passed))
		synctest.Wait()
		r.finish(&pb.PublishFinish{LastSequence: r.next - 1})
		r.ack(r.next - 1)
		if a := r.ack(r.next - 1); !a.Finished || time.Since(began) > 0 {
			t.Errorf("the finish was acked with %v after %v", a, time.Since(began))
		}
	})
}
