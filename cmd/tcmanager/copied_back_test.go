package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/carrier"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/history"
)

// TestAStoreThatWasCopiedBackIsNoticed puts an older copy of the data directory in
// the place of the newer one. Clients come back with positions of what is gone,
// some of them at offsets that the older store has given to other events since.
func TestAStoreThatWasCopiedBackIsNoticed(t *testing.T) {
	const clients = 12
	w := newTown(t, 1)
	run, room := w.startRun("restored")
	_, readers := w.crowd(1, clients)
	clear(w.short)
	listen := func(turn int) {
		for i, c := range readers {
			if err := c.Open(t.Context(), carrier.All[(i+turn)%len(carrier.All)], target(room)); err != nil {
				t.Fatal(err)
			}
		}
		w.results(run, 20)
		if !w.settle(w.heads(), w.settleTime(), readers...) {
			t.Error("not all were told all")
		}
		for _, c := range readers {
			c.Cut()
		}
	}
	listen(0)
	w.stop(false)
	backup := filepath.Join(t.TempDir(), "backup")
	replace(t, w.cfg.DataDir, backup)
	w.start()
	listen(1)
	w.log(true)
	w.stop(true)
	replace(t, backup, w.cfg.DataDir)
	w.start()
	w.results(run, 30) // beyond where the clients were
	listen(2)
	h := w.history()
	keep(t, h)
	w.check(h)
	resets := 0
	for _, r := range h.Records {
		if r.Kind == history.Reset && r.Reason == "EPOCH_CHANGED" {
			resets++
		}
	}
	if resets != clients {
		t.Errorf("%d of %d clients were told that the history is another", resets, clients)
	}
}

// results reports so many results.
func (w *town) results(run string, n int) {
	w.t.Helper()
	rng := rand.New(rand.NewPCG(1, 1))
	service := pb.NewExecutionServiceClient(w.conn)
	for i := range n {
		req := &pb.ReportResultRequest{RunId: run, Update: result(rng, i), RequestId: fmt.Sprint(time.Now().UnixNano())}
		_, err := service.ReportResult(w.as(w.t.Context(), boss), req, grpc.WaitForReady(true))
		if status.Code(err) == codes.Unavailable { // the connection was one to the server before
			_, err = service.ReportResult(w.as(w.t.Context(), boss), req, grpc.WaitForReady(true))
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// replace puts a copy of a directory in the place of another.
func replace(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(to, "dev-secret"), 0o600); err != nil {
		t.Fatal(fmt.Errorf("keep the secret secret: %w", err))
	}
}
