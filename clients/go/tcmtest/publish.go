package tcmtest

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	tcmanager "github.com/tcmanager/tcmanager/clients/go"
	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
)

// execute is the runner's lane: what tcmanager.Publisher speaks.
type execute struct {
	tcmv1.UnimplementedExecutionServiceServer
	*Server
}

// shard is what one runner has published.
type shard struct {
	items       []*tcmv1.PublishItem
	finish      *tcmv1.PublishFinish
	incarnation uint64
}

// Published returns what a shard's Publisher has brought here, in order; an empty
// shard is "main".
func (s *Server) Published(project, runKey, shard string) []*tcmv1.PublishItem {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.shardLocked(project, runKey, shard).items)
}

// Finished returns how a shard's Publisher finished; nil if it has not.
func (s *Server) Finished(project, runKey, shard string) *tcmv1.PublishFinish {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shardLocked(project, runKey, shard).finish
}

func (s *Server) shardLocked(project, runKey, name string) *shard {
	if name == "" {
		name = "main"
	}
	key := fmt.Sprintf("%q %q %q", project, runKey, name)
	if s.shards[key] == nil {
		s.shards[key] = &shard{}
	}
	return s.shards[key]
}

// PublishResults takes what a runner publishes and acks it.
func (e execute) PublishResults(g grpc.BidiStreamingServer[tcmv1.PublishResultsRequest, tcmv1.PublishResultsResponse]) error {
	if err := e.admit(g.Context()); err != nil {
		return err
	}
	req, err := g.Recv()
	if err != nil {
		return err
	}
	hello := req.GetHello()
	if hello == nil {
		return &tcmanager.Error{Code: codes.FailedPrecondition, Reason: "HELLO_FIRST", Message: "the first request must be a hello; send one"}
	}
	sh, welcome := e.welcome(hello)
	if err := g.Send(&tcmv1.PublishResultsResponse{Frame: &tcmv1.PublishResultsResponse_Welcome{Welcome: welcome}}); err != nil {
		return err
	}
	for {
		req, err := g.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := e.gate(g.Context()); err != nil {
			return err
		}
		ack, err := e.take(sh, welcome.GetIncarnation(), req)
		if err != nil {
			return err
		}
		if ack == nil {
			continue
		}
		if err := g.Send(&tcmv1.PublishResultsResponse{Frame: &tcmv1.PublishResultsResponse_Ack{Ack: ack}}); err != nil {
			return err
		}
	}
}

func (e execute) welcome(hello *tcmv1.PublishHello) (*shard, *tcmv1.PublishWelcome) {
	e.mu.Lock()
	defer e.mu.Unlock()
	sh := e.shardLocked(hello.GetProject(), hello.GetRunKey(), hello.GetShard())
	sh.incarnation++
	return sh, &tcmv1.PublishWelcome{
		Run:               &tcmv1.Run{Id: "run-" + hello.GetRunKey(), Key: hello.GetRunKey(), State: tcmv1.RunState_RUN_STATE_RUNNING},
		CommittedSequence: uint64(len(sh.items)), Incarnation: sh.incarnation,
		HeartbeatInterval: durationpb.New(10 * time.Second), MaxRequestBytes: 1 << 20, Finished: sh.finish != nil,
	}
}

// take commits a frame. A repeat is acked again, a gap and an older stream end.
func (e execute) take(sh *shard, incarnation uint64, req *tcmv1.PublishResultsRequest) (*tcmv1.PublishAck, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if sh.incarnation != incarnation {
		return nil, &tcmanager.Error{Code: codes.Aborted, Reason: "SHARD_TAKEN_OVER", Message: "a newer stream publishes this shard"}
	}
	committed := uint64(len(sh.items))
	switch f := req.GetFrame().(type) {
	case *tcmv1.PublishResultsRequest_Batch:
		first := f.Batch.GetFirstSequence()
		if first > committed+1 {
			return nil, &tcmanager.Error{
				Code: codes.FailedPrecondition, Reason: "SEQUENCE_GAP", Message: "items are missing",
				Metadata: map[string]string{"expected_sequence": strconv.FormatUint(committed+1, 10)},
			}
		}
		if known := committed + 1 - first; known < uint64(len(f.Batch.GetItems())) {
			sh.items = append(sh.items, f.Batch.GetItems()[known:]...)
		}
	case *tcmv1.PublishResultsRequest_Finish:
		sh.finish = f.Finish
	default:
		return nil, nil // a heartbeat
	}
	return &tcmv1.PublishAck{CommittedSequence: uint64(len(sh.items)), Finished: sh.finish != nil}, nil
}
