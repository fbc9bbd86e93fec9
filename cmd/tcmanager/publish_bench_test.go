package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that is wrapped
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/config"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/store/postgres/pgtest"
)

const (
	publishTests  = 50_000 // of a run
	publishWindow = 2      // batches a runner sends ahead of their acks: one is committed while the next arrives
)

// encodedCodec sends bytes that are encoded already, so that the runner costs
// little of what is measured.
type encodedCodec struct{ encoding.CodecV2 }

func (c encodedCodec) Marshal(v any) (mem.BufferSlice, error) {
	if b, ok := v.([]byte); ok {
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	return c.CodecV2.Marshal(v)
}

// publishBench is a server and a project of its own.
type publishBench struct {
	b     *testing.B
	conn  *grpc.ClientConn
	ctx   context.Context
	size  int      // results a batch
	batch [][]byte // of a run
	runs  int

	mu   sync.Mutex
	took []time.Duration // from sending a batch to its ack
}

// newPublishBench starts the server that "tcmanager serve" starts, behind its own
// listener, and lets a first run make the tests known.
func newPublishBench(b *testing.B, store string, size int) *publishBench {
	cmd := serveCommand()
	if err := cmd.Flags().Parse([]string{"--dev", "--data-dir", b.TempDir(), "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"}); err != nil {
		b.Fatal(err)
	}
	c, _, err := config.Load(cmd.Flags(), func(string) (string, bool) { return "", false })
	if err != nil {
		b.Fatal(err)
	}
	c.Store = store
	ctx, end := context.WithCancel(context.Background())
	running, err := newServer(ctx, c, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- running.run(ctx) }()
	p := &publishBench{b: b, size: size}
	p.conn, err = grpc.NewClient(running.grpcL.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = p.conn.Close()
		end()
		if err := <-stopped; err != nil {
			b.Error(err)
		}
	})
	signedIn, err := pb.NewIdentityServiceClient(p.conn).SignInDev(b.Context(), &pb.SignInDevRequest{UserId: "demo-manager"})
	if err != nil {
		b.Fatal(err)
	}
	p.ctx = metadata.AppendToOutgoingContext(b.Context(), "authorization", "Bearer "+signedIn.Token)
	p.encode()
	p.run("first", publishTests/size, 0)
	p.took = nil
	return p
}

// encode makes the batches of a run: each test ends once, as tcm tells it.
func (p *publishBench) encode() {
	begun := time.UnixMicro(1_800_000_000_123_456)
	for from := 0; from < publishTests; from += p.size {
		batch := &pb.PublishBatch{FirstSequence: uint64(from + 1)}
		for i := from; i < from+p.size; i++ {
			u := &pb.TestExecutionUpdate{
				Attempt: 1, Status: pb.Status_STATUS_PASSED, DurationMs: 12.5,
				Test: &pb.TestRef{
					Suite: fmt.Sprintf("golang.org/x/text/package%d", i/500), Name: fmt.Sprintf("TestSomething/case_%06d", i),
					Parent: "TestSomething", Kind: pb.TestKind_TEST_KIND_TEST,
				},
				Timestamp: timestamppb.New(begun), StartedAt: timestamppb.New(begun),
			}
			batch.Items = append(batch.Items, &pb.PublishItem{Item: &pb.PublishItem_Test{Test: u}})
		}
		data, err := proto.Marshal(&pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Batch{Batch: batch}})
		if err != nil {
			p.b.Fatal(err)
		}
		p.batch = append(p.batch, data)
	}
}

// publish sends n batches, as many runs as they fill. With every set, a batch is
// due that often, and its time begins when it is due.
func (p *publishBench) publish(n int, every time.Duration) {
	for n > 0 {
		now := min(n, len(p.batch))
		p.mu.Lock()
		p.runs++
		key := fmt.Sprint("run-", p.runs)
		p.mu.Unlock()
		p.run(key, now, every)
		n -= now
	}
}

func (p *publishBench) run(key string, n int, every time.Duration) {
	stream, err := pb.NewExecutionServiceClient(p.conn).PublishResults(p.ctx, grpc.ForceCodecV2(encodedCodec{encoding.GetCodecV2("proto")}))
	if err != nil {
		p.b.Error(err)
		return
	}
	hello := &pb.PublishHello{Project: "demo", RunKey: key}
	if err := stream.Send(&pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Hello{Hello: hello}}); err != nil {
		p.b.Error(err)
		return
	}
	if _, err := stream.Recv(); err != nil {
		p.b.Error(err)
		return
	}
	sent, window := make(chan time.Time, n), make(chan struct{}, publishWindow)
	var sender sync.WaitGroup
	sender.Go(func() {
		begun := time.Now()
		for i, data := range p.batch[:n] {
			if every > 0 {
				due := begun.Add(time.Duration(i) * every)
				time.Sleep(time.Until(due))
				sent <- due
			} else {
				window <- struct{}{}
				sent <- time.Now()
			}
			if err := stream.SendMsg(data); err != nil {
				return // Recv says why
			}
		}
		if err := stream.Send(&pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Finish{Finish: &pb.PublishFinish{LastSequence: uint64(n * p.size)}}}); err == nil {
			_ = stream.CloseSend()
		}
	})
	defer sender.Wait()
	var took []time.Duration
	for acked := 0; ; {
		resp, err := stream.Recv()
		if err != nil {
			p.b.Error(err)
			return
		}
		a := resp.GetAck()
		if len(a.GetRejections()) > 0 {
			p.b.Errorf("refused: %v", a.Rejections[0])
		}
		for ; acked < int(a.GetCommittedSequence())/p.size; acked++ {
			took = append(took, time.Since(<-sent))
			if every == 0 {
				<-window
			}
		}
		if a.GetFinished() {
			break
		}
	}
	p.mu.Lock()
	p.took = append(p.took, took...)
	p.mu.Unlock()
}

// processTime is how long this process has used the processor.
func processTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// measure reports what fn, which publishes b.N batches, took.
func (p *publishBench) measure(fn func()) {
	p.b.ReportAllocs()
	cpu := processTime()
	p.b.ResetTimer()
	fn()
	p.b.StopTimer()
	results := float64(p.b.N * p.size)
	p.b.ReportMetric(float64((processTime()-cpu).Nanoseconds())/1000/results, "cpu-µs/result")
	p.b.ReportMetric(results/p.b.Elapsed().Seconds(), "results/s")
	slices.Sort(p.took)
	for name, at := range map[string]int{"ack-p50-ms": 50, "ack-p99-ms": 99} {
		p.b.ReportMetric(float64(p.took[(len(p.took)-1)*at/100].Microseconds())/1000, name)
	}
}

// BenchmarkPublish is the runners' lane end to end: the server as it is served, real
// connections, a store on disk, acks after the commit. An operation is a batch of
// 1,000 results of tests that the project knows. The processor's time includes the
// runners' part, which sends bytes that are encoded already; PostgreSQL's isn't in it.
//
// "paced" sends 20,000 results a second in batches of 100: its acks say how long a
// result takes to the commit when the server isn't full.
func BenchmarkPublish(b *testing.B) {
	stores := map[string]func(b *testing.B) string{
		"sqlite": func(*testing.B) string { return "" },
		"postgres": func(b *testing.B) string {
			cluster := pgtest.Shared(b)
			return cluster.DSN(cluster.Database(b, ""))
		},
	}
	for _, name := range []string{"sqlite", "postgres"} {
		store := stores[name]
		b.Run(name+"/1", func(b *testing.B) {
			p := newPublishBench(b, store(b), 1000)
			p.measure(func() { p.publish(b.N, 0) })
		})
		b.Run(name+"/4", func(b *testing.B) {
			p := newPublishBench(b, store(b), 1000)
			p.measure(func() {
				var runners sync.WaitGroup
				for i := range 4 {
					runners.Go(func() { p.publish((b.N+i)/4, 0) })
				}
				runners.Wait()
			})
		})
		b.Run(name+"/paced", func(b *testing.B) {
			p := newPublishBench(b, store(b), 100)
			p.measure(func() { p.publish(b.N, 5*time.Millisecond) })
		})
	}
}
