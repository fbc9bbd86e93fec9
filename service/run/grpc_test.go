package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/scene"
)

// asBot is a stream whose caller is the scene's bot.
type asBot struct {
	grpc.ServerStream
	ctx context.Context
}

func (s asBot) Context() context.Context { return s.ctx }

// dial serves the stage over gRPC and returns a client of it.
func (st *stage) dial() pb.ExecutionServiceClient {
	st.t.Helper()
	lis := bufconn.Listen(64 << 10)
	srv := grpc.NewServer(grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
		caller, err := identity.From(st.As(scene.Bot))
		if err != nil {
			return err
		}
		err = h(srv, asBot{ss, identity.WithCaller(ss.Context(), caller)})
		if f := fault.Of(err); f != nil {
			return status.Error(codes.Code(f.Kind), f.Reason)
		}
		return err
	}))
	pb.RegisterExecutionServiceServer(srv, st.runs)
	go func() {
		if err := srv.Serve(lis); err != nil {
			st.t.Error(err)
		}
	}()
	conn, err := grpc.NewClient("passthrough:///bufnet", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		st.t.Fatal(err)
	}
	st.t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			st.t.Error(err)
		}
		srv.Stop()
		synctest.Wait()
	})
	return pb.NewExecutionServiceClient(conn)
}

func request(frame any) *pb.PublishResultsRequest {
	switch f := frame.(type) {
	case *pb.PublishHello:
		return &pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Hello{Hello: f}}
	case *pb.PublishBatch:
		return &pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Batch{Batch: f}}
	case *pb.PublishFinish:
		return &pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Finish{Finish: f}}
	}
	return nil
}

func TestOverGRPCARunnerMaySayAllAndCloseItsSide(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		stream, err := st.dial().PublishResults(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		frames := []any{&pb.PublishHello{Project: scene.Key, RunKey: "k"}}
		for i := range 20 {
			frames = append(frames, &pb.PublishBatch{FirstSequence: uint64(i + 1), Items: []*pb.PublishItem{testOf(fmt.Sprint(i), passed)}})
		}
		for _, f := range append(frames, &pb.PublishFinish{LastSequence: 20}) {
			if err := stream.Send(request(f)); err != nil {
				t.Fatal(err)
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		var last *pb.PublishResultsResponse
		for {
			resp, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			last = resp
		}
		if a := last.GetAck(); !a.GetFinished() || a.CommittedSequence != 20 || a.Counts.Passed != 20 {
			t.Errorf("the last answer was %v", last)
		}
	})
}

func TestOverGRPCARunnerThatNeverReadsIsLetGo(t *testing.T) {
	onStage(t, Config{}, func(t *testing.T, st *stage) {
		st.sweeping()
		stream, err := st.dial().PublishResults(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(request(&pb.PublishHello{Project: scene.Key, RunKey: "k"})); err != nil {
			t.Fatal(err)
		}
		bad := make([]*pb.PublishItem, 200) // whose rejections make long acks
		for i := range bad {
			bad[i] = &pb.PublishItem{}
		}
		go func() {
			for i := uint64(0); ; i++ {
				if err := stream.Send(request(&pb.PublishBatch{FirstSequence: i*200 + 1, Items: bad})); err != nil {
					return // io.EOF: the stream is over
				}
			}
		}()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := st.runs.Publishers(); n != 0 {
			t.Errorf("%d runners are connected, want 0", n)
		}
		for err == nil {
			_, err = stream.Recv()
		}
		if s := status.Convert(err); s.Code() != codes.Unavailable || s.Message() != "LEASE_LOST" {
			t.Errorf("the stream ended with %v, want LEASE_LOST", err)
		}
	})
}
