package main

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/carrier"
	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/config"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/history"
)

// TestAJoinMissesNothingOfWhatComesMeanwhile lets clients join a room again and
// again while a few events come, and then nothing: what was missed is not noticed
// by a gap, and bookmarks are far away.
func TestAJoinMissesNothingOfWhatComesMeanwhile(t *testing.T) {
	const clients, events = 16, 4
	deadline := time.Now().Add(seconds(t, "TCM_SIM_SECONDS", time.Second))
	w := newTown(t, 1, func(c *config.Config) { c.HeartbeatInterval, c.HeartbeatTimeout = 20*time.Second, time.Minute })
	run, room := w.startRun("bursts")
	_, readers := w.crowd(1, clients)
	clear(w.short)
	rng := rand.New(rand.NewPCG(1, 1))
	for i, c := range readers {
		if err := c.Open(t.Context(), carrier.All[i%2]); err != nil { // those that take requests
			t.Fatal(err)
		}
	}
	for time.Now().Before(deadline) {
		var group sync.WaitGroup
		for _, c := range readers {
			after := time.Duration(rng.IntN(3000)) * time.Microsecond
			group.Go(func() {
				<-time.After(after)
				if err := c.Join(t.Context(), target(room), history.Position{}); err != nil {
					t.Error(err)
				}
			})
		}
		for i := range events {
			_, err := pb.NewExecutionServiceClient(w.conn).ReportResult(w.as(t.Context(), boss),
				&pb.ReportResultRequest{RunId: run, Update: result(rng, i)}, grpc.WaitForReady(true))
			if err != nil {
				t.Fatal(err)
			}
		}
		group.Wait()
		if !w.settle(w.heads(), w.settleTime(), readers...) {
			break // the history says what was missed
		}
	}
	for _, c := range readers {
		c.Cut()
	}
	h := w.history()
	keep(t, h)
	w.check(h)
	t.Log(listed(count(h)))
}
