package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/carrier"
	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/crowd"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/history"
)

// blast reports results as fast as they are taken, until ctx ends.
func (w *town) blast(ctx context.Context, run string, rng *rand.Rand) {
	service := pb.NewExecutionServiceClient(w.conn)
	for i := 0; ctx.Err() == nil; i++ {
		_, err := service.ReportResult(w.as(ctx, boss), &pb.ReportResultRequest{RunId: run, Update: result(rng, i%50)}, grpc.WaitForReady(true))
		if err != nil {
			pause(ctx, rng, 10*time.Millisecond)
		}
	}
}

// startRun starts a run in project alpha and returns its id and room.
func (w *town) startRun(key string) (id, room string) {
	w.t.Helper()
	started, err := pb.NewExecutionServiceClient(w.conn).StartRun(w.as(w.t.Context(), boss), &pb.StartRunRequest{Project: "alpha", RunKey: key})
	if err != nil {
		w.t.Fatal(err)
	}
	w.addRun(started.Run)
	return started.Run.Id, "testrun:" + started.Run.Id
}

// TestARestartUnderLoadLosesNothing stops the server over and over while a run is
// reported as fast as can be. Each client goes on at the cursors it was sent away
// with.
func TestARestartUnderLoadLosesNothing(t *testing.T) {
	const stops, clients = 6, 18
	w := newTown(t, 1)
	run, room := w.startRun("busy")
	_, crowd := w.crowd(1, clients)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var publishers sync.WaitGroup
	for i := range uint64(3) {
		publishers.Go(func() { w.blast(ctx, run, rand.New(rand.NewPCG(1, i))) })
	}
	for i, c := range crowd {
		if err := c.Join(ctx, target(room), history.Position{}); err != nil {
			t.Fatal(i, err)
		}
	}
	for range stops {
		stopped := make(chan struct{})
		var readers sync.WaitGroup
		for i, c := range crowd {
			readers.Go(func() { goOn(ctx, c, carrier.All[i%len(carrier.All)], stopped) })
		}
		<-time.After(100 * time.Millisecond)
		w.stop(false)
		w.start()
		close(stopped)
		readers.Wait()
	}
	cancel()
	publishers.Wait()
	w.settle(w.quiet(), w.settleTime(), crowd...)
	for _, c := range crowd {
		c.Cut()
	}
	h := w.history()
	keep(t, h)
	w.check(h)
	n := count(h)
	t.Log(listed(n))
	if n["cursor"] < stops*clients/2 {
		t.Error("few clients were told where they were")
	}
}

func target(room string) crowd.Target { return crowd.Target{Room: room} }

// goOn keeps a client connected until the server is back.
func goOn(ctx context.Context, c *crowd.Client, by carrier.Carrier, back <-chan struct{}) {
	for {
		isBack := false
		select {
		case <-back:
			isBack = true
		default:
		}
		if !c.Connected() {
			if err := c.Open(ctx, by); err != nil {
				c.Wait(ctx, 10*time.Millisecond)
				continue
			}
		}
		if isBack {
			return
		}
		_ = c.Ping() // it fails if the server has gone
		c.Wait(ctx, 20*time.Millisecond)
	}
}
