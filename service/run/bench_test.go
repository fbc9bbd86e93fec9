package run

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"

	"google.golang.org/grpc"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/scene"
	"github.com/tcmanager/tcmanager/service/store"
)

// feed is a stream whose runner sends batches and reads every answer at once.
type feed struct {
	grpc.ServerStream // nobody calls its other methods

	ctx    context.Context
	hello  *pb.PublishResultsRequest
	first  uint64
	left   int // batches
	failed error
}

const benchItems = 1000

func (f *feed) Context() context.Context { return f.ctx }

func (f *feed) Recv() (*pb.PublishResultsRequest, error) {
	if h := f.hello; h != nil {
		f.hello = nil
		return h, nil
	}
	if f.left == 0 {
		return nil, io.EOF
	}
	f.left--
	b := &pb.PublishBatch{FirstSequence: f.first, Items: make([]*pb.PublishItem, 0, benchItems)}
	for i := range uint64(benchItems) {
		n := (f.first + i - 1) / 2 // each test begins and ends
		item := testIn(fmt.Sprint("example.org/module/package", n%40), fmt.Sprint("TestThing/case_number_", n), 1, []pb.Status{running, passed}[(f.first+i-1)%2])
		b.Items = append(b.Items, item)
	}
	f.first += benchItems
	return &pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Batch{Batch: b}}, nil
}

func (f *feed) Send(resp *pb.PublishResultsResponse) error {
	if a := resp.GetAck(); a != nil && len(a.Rejections) > 0 {
		f.failed = fmt.Errorf("rejected: %v", a.Rejections[0])
	}
	return nil
}

// BenchmarkPublish measures one stream of batches of 1,000 updates, onto a real
// file, acks included.
func BenchmarkPublish(b *testing.B) {
	st := scene.New(b)
	runs := New(st.Store, Config{Logger: slog.New(slog.DiscardHandler)})
	defer runs.Close()
	b.ReportAllocs()
	f := &feed{ctx: st.As(scene.Bot), first: 1, left: b.N, hello: &pb.PublishResultsRequest{
		Frame: &pb.PublishResultsRequest_Hello{Hello: &pb.PublishHello{Project: scene.Key, RunKey: "k"}},
	}}
	b.ResetTimer()
	if err := runs.PublishResults(f); err != nil || f.failed != nil {
		b.Fatal(err, f.failed)
	}
	b.ReportMetric(float64(b.N*benchItems)/b.Elapsed().Seconds(), "results/s")
}

// BenchmarkReload measures how long a run of 46,000 tests takes to come back into
// memory, which happens once after a restart, while no other update runs.
func BenchmarkReload(b *testing.B) {
	st := scene.New(b)
	runs := New(st.Store, Config{Logger: slog.New(slog.DiscardHandler)})
	defer runs.Close()
	f := &feed{ctx: st.As(scene.Bot), first: 1, left: 92, hello: &pb.PublishResultsRequest{
		Frame: &pb.PublishResultsRequest_Hello{Hello: &pb.PublishHello{Project: scene.Key, RunKey: "k"}},
	}}
	if err := runs.PublishResults(f); err != nil || f.failed != nil {
		b.Fatal(err, f.failed)
	}
	var id string
	st.View(func(r store.Reader) error {
		running, err := r.RunningRuns("")
		id = running[0].Id
		return err
	})
	b.ReportAllocs()
	for b.Loop() {
		st.Update(func(tx store.Tx) error {
			live, err := readLive(tx, id)
			if err == nil && len(live.tests) != 46_000 {
				err = fmt.Errorf("%d tests came back", len(live.tests))
			}
			return err
		})
	}
}
