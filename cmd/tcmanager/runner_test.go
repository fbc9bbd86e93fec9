package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// publisher is a runner's stream, spoken frame by frame so that it can break at
// any of them.
type publisher struct {
	stream   grpc.BidiStreamingClient[pb.PublishResultsRequest, pb.PublishResultsResponse]
	cancel   context.CancelFunc
	run      string // the run's id
	sequence uint64 // of the last item sent
}

func (s *stage) newPublisher(who, key string) (*publisher, error) {
	ctx, cancel := s.asLong(who)
	stream, err := pb.NewExecutionServiceClient(s.conn).PublishResults(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	p := &publisher{stream: stream, cancel: cancel}
	res, err := p.exchange(&pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Hello{Hello: &pb.PublishHello{
		Project: "demo", RunKey: key, Info: &pb.RunInfo{Name: key, Source: "go"},
	}}})
	if err != nil {
		cancel()
		return nil, err
	}
	p.run, p.sequence = res.GetWelcome().GetRun().GetId(), res.GetWelcome().GetCommittedSequence()
	return p, nil
}

func (p *publisher) exchange(req *pb.PublishResultsRequest) (*pb.PublishResultsResponse, error) {
	if err := p.stream.Send(req); err != nil {
		_, err = p.stream.Recv() // holds the reason
		return nil, err
	}
	return p.stream.Recv()
}

// publish sends one item and waits until it is committed.
func (p *publisher) publish(u *pb.TestExecutionUpdate) error {
	p.sequence++
	res, err := p.exchange(&pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Batch{Batch: &pb.PublishBatch{
		FirstSequence: p.sequence, Items: []*pb.PublishItem{{Item: &pb.PublishItem_Test{Test: u}}},
	}}})
	for err == nil && res.GetAck().GetCommittedSequence() < p.sequence {
		res, err = p.stream.Recv()
	}
	if err == nil && len(res.GetAck().GetRejections()) > 0 {
		return refused{res.GetAck().GetRejections()[0].GetError()}
	}
	return err
}

// complete says that this was all, and waits until the server knows it.
func (p *publisher) complete() error {
	defer p.cancel()
	res, err := p.exchange(&pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Finish{Finish: &pb.PublishFinish{LastSequence: p.sequence}}})
	for err == nil && !res.GetAck().GetFinished() {
		res, err = p.stream.Recv()
	}
	return err
}

// cut breaks the connection.
func (p *publisher) cut() { p.cancel() }

// waitForRun asks until a run is as wanted.
func (s *stage) waitForRun(who, key string, want conditions) (*pb.GetRunResponse, error) {
	if s.runs[key] == "" {
		return nil, fmt.Errorf("there is no run %q in this script", key)
	}
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ctx, cancel := s.as(who)
		res, err := pb.NewExecutionServiceClient(s.conn).GetRun(ctx, &pb.GetRunRequest{RunId: s.runs[key]})
		cancel()
		if err != nil || want.holdFor(res.GetRun().ProtoReflect()) {
			return res, err
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("run %s is not %s after %s", key, want, patience), fmt.Errorf("it is %v", res.GetRun()))
		}
		<-tick.C
	}
}
