package tcmanager

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"
)

// lane is a server of the runner's lane in memory. Its hooks make it misbehave.
type lane struct {
	tcmv1.UnimplementedExecutionServiceServer

	// onBatch runs before a batch is committed; an error ends the stream with
	// it. Nil commits all. acked is false to commit without an ack.
	onBatch func(stream int, b *tcmv1.PublishBatch) (acked bool, err error)
	// onHello runs before the welcome.
	onHello func(ctx context.Context, stream int) error
	// committedBefore is what an earlier process left in the shard.
	committedBefore uint64
	maxRequest      uint32
	goAway          func(stream int) *time.Duration // after the first commit; nil stays

	mu         sync.Mutex // guards all below
	streams    int
	hellos     []*tcmv1.PublishHello
	committed  uint64
	items      []*tcmv1.PublishItem
	finish     *tcmv1.PublishFinish
	heartbeats int
	biggest    int
	orderly    int // streams that the client closed
}

func (l *lane) PublishResults(stream tcmv1.ExecutionService_PublishResultsServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.streams++
	n := l.streams
	l.hellos = append(l.hellos, first.GetHello())
	if n == 1 {
		l.committed = l.committedBefore
	}
	welcome := &tcmv1.PublishWelcome{
		Run: &tcmv1.Run{Id: "run-1", Url: "http://x/runs/1"}, CommittedSequence: l.committed, Incarnation: uint64(n),
		HeartbeatInterval: durationpb.New(5 * time.Second), MaxRequestBytes: l.maxRequest, Finished: l.finish != nil,
	}
	l.mu.Unlock()
	if l.onHello != nil {
		if err := l.onHello(stream.Context(), n); err != nil {
			return err
		}
	}
	if err := stream.Send(&tcmv1.PublishResultsResponse{Frame: &tcmv1.PublishResultsResponse_Welcome{Welcome: welcome}}); err != nil {
		return err
	}
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			l.mu.Lock()
			l.orderly++
			l.mu.Unlock()
			return nil
		}
		if err != nil {
			return err
		}
		if err := l.frame(stream, n, req); err != nil {
			return err
		}
	}
}

func (l *lane) frame(stream tcmv1.ExecutionService_PublishResultsServer, n int, req *tcmv1.PublishResultsRequest) error {
	ack := &tcmv1.PublishAck{Counts: &tcmv1.Counts{Total: 1}}
	switch f := req.GetFrame().(type) {
	case *tcmv1.PublishResultsRequest_Batch:
		acked := true
		if l.onBatch != nil {
			var err error
			if acked, err = l.onBatch(n, f.Batch); err != nil {
				return err
			}
		}
		rejections, err := l.commit(f.Batch)
		if err != nil || !acked {
			return err
		}
		ack.Rejections = rejections
	case *tcmv1.PublishResultsRequest_Finish:
		l.mu.Lock()
		l.finish = f.Finish
		l.mu.Unlock()
		ack.Finished = true
	case *tcmv1.PublishResultsRequest_Heartbeat:
		l.mu.Lock()
		l.heartbeats++
		l.mu.Unlock()
		return nil
	}
	l.mu.Lock()
	ack.CommittedSequence = l.committed
	l.mu.Unlock()
	if l.goAway != nil {
		if after := l.goAway(n); after != nil {
			return stream.Send(&tcmv1.PublishResultsResponse{Frame: &tcmv1.PublishResultsResponse_GoingAway{GoingAway: &tcmv1.PublishGoingAway{ReconnectAfter: durationpb.New(*after)}}})
		}
	}
	return stream.Send(&tcmv1.PublishResultsResponse{Frame: &tcmv1.PublishResultsResponse_Ack{Ack: ack}})
}

// commit stores what is new, and refuses a gap.
func (l *lane) commit(b *tcmv1.PublishBatch) ([]*tcmv1.Rejection, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b.GetFirstSequence() > l.committed+1 {
		return nil, gapError()
	}
	var rejections []*tcmv1.Rejection
	size := 0
	for i, item := range b.GetItems() {
		size += len(item.GetOutput().GetData())
		seq := b.GetFirstSequence() + uint64(i)
		if seq <= l.committed {
			continue
		}
		l.committed = seq
		if item.GetItem() == nil || item.GetOutput().GetSuite() == "bad" {
			rejections = append(rejections, &tcmv1.Rejection{Sequence: seq, Error: &tcmv1.Error{Message: "no such thing"}})
			continue
		}
		l.items = append(l.items, item)
	}
	l.biggest = max(l.biggest, size)
	return rejections, nil
}

func gapError() error {
	s, err := status.New(codes.FailedPrecondition, "items are missing").WithDetails(&errdetails.ErrorInfo{Reason: "SEQUENCE_GAP", Metadata: map[string]string{"expected_sequence": "1"}})
	if err != nil {
		return err
	}
	return s.Err()
}

// names are the names of the committed outputs, in order.
func (l *lane) names() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for _, i := range l.items {
		names = append(names, i.GetOutput().GetName())
	}
	return names
}

// serve starts l over a pipe and returns a client of it. When the test ends, all
// of it has.
func serve(t *testing.T, l *lane, opts ...Option) *Client {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	tcmv1.RegisterExecutionServiceServer(server, l)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	client := dialTo(t, func(ctx context.Context) (net.Conn, error) { return listener.DialContext(ctx) }, opts...)
	t.Cleanup(func() {
		server.Stop()
		// A test that ends at once may stop the server before it serves.
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	return client
}

// dialTo returns a client that connects with dial.
func dialTo(t *testing.T, dial func(context.Context) (net.Conn, error), opts ...Option) *Client {
	t.Helper()
	opts = append(opts, WithDialOptions(
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) })))
	client, err := Dial("passthrough:///bufconn", opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

// output is an item of n bytes.
func output(name string, n int) *tcmv1.PublishItem {
	return &tcmv1.PublishItem{Item: &tcmv1.PublishItem_Output{Output: &tcmv1.OutputChunk{Suite: "s", Name: name, Data: make([]byte, n)}}}
}

// bearer is the token of a call.
func bearer(ctx context.Context) string {
	md, _ := metadata.FromIncomingContext(ctx)
	if v := md.Get("authorization"); len(v) > 0 {
		return v[0]
	}
	return ""
}
