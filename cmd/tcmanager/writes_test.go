package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/crowd"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/history"
	"github.com/tcmanager/tcmanager/service/store"
)

// TestEveryAcknowledgedWriteIsThereOnce kills the server's process over and over,
// in the moment in which something was acknowledged, while runners publish and
// people comment. They ask again for what they don't know the fate of, and now and
// then for what they do; older streams of a shard go on beside newer ones. In the
// end the store is looked at.
func TestEveryAcknowledgedWriteIsThereOnce(t *testing.T) {
	const lanes, people, kills = 3, 3, 20
	w := newTown(t, 1)
	w.stop(false)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	victim := &victim{w: w, rng: rand.New(rand.NewPCG(1, 0))}
	rng := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(2, n)) }
	var writers sync.WaitGroup
	for i := range lanes {
		l := &lane{w: w, name: fmt.Sprint("lane", i), rng: rng(uint64(i)), acked: victim.acked}
		writers.Go(func() { l.run(ctx) })
	}
	for i := range people {
		p := &person{w: w, name: fmt.Sprint("person", i), rng: rng(uint64(lanes + i)), acked: victim.acked}
		writers.Go(func() { p.run(ctx) })
	}
	for i := range kills {
		if err := victim.live(patience); err != nil {
			t.Fatalf("life %d: %v", i+1, err)
		}
	}
	cancel()
	writers.Wait()
	w.start()
	w.view(func(r store.Reader) error {
		rooms, err := w.allRooms(r)
		if err != nil {
			return err
		}
		return crowd.Writes(r, w.rec, rooms)
	})
	h := w.history()
	keep(t, h)
	w.check(h)
	t.Log(listed(count(h)))
	for _, kind := range []history.Kind{history.Acked, history.Denied, history.Found} {
		if w.rec.Count(kind) == 0 {
			t.Errorf("nothing was %s: nothing was tried", kind)
		}
	}
}

// victim is a process of the server that is killed.
type victim struct {
	w   *town
	rng *rand.Rand

	mu   sync.Mutex // guards the rest
	cmd  *exec.Cmd  // nil while there is none
	left int        // acks until it is killed
}

// live starts the server as a process of its own and waits until it was killed.
func (v *victim) live(most time.Duration) error {
	cfg := v.w.cfg
	cmd := program(v.w.t.(*testing.T), "serve", "--dev", "--data-dir", cfg.DataDir, "--grpc-addr", cfg.GRPCAddr, "--http-addr", cfg.HTTPAddr,
		"--call-rate", "0", "--message-rate", "0")
	var log bytes.Buffer
	cmd.Stderr = &log
	v.mu.Lock()
	v.left = 20 + v.rng.IntN(80)
	err := cmd.Start()
	v.cmd = cmd
	v.mu.Unlock()
	if err != nil {
		return err
	}
	late := time.AfterFunc(most, func() { _ = cmd.Process.Kill() }) // it may have ended
	_ = cmd.Wait()                                                  // killed, as it should be
	if !late.Stop() {
		return fmt.Errorf("it acknowledged too little in %v: %s", most, log.String())
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.cmd != nil {
		return fmt.Errorf("it ended by itself: %s", log.String())
	}
	return nil
}

// acked kills the process once it has acknowledged enough.
func (v *victim) acked() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.cmd == nil {
		return
	}
	if v.left--; v.left <= 0 {
		_ = v.cmd.Process.Kill() // it may have been killed for being late
		v.cmd = nil
	}
}

// lane is a runner that publishes one run, by one stream after the other.
type lane struct {
	w     *town
	name  string
	rng   *rand.Rand
	acked func()

	made    int               // items so far
	pending []*pb.PublishItem // sent or to be sent, and not acked; the first has number done+1
	done    uint64
}

// run publishes until ctx ends.
func (l *lane) run(ctx context.Context) {
	var old *laneStream // goes on beside a newer one
	for ctx.Err() == nil {
		s, err := l.open(ctx)
		if err != nil {
			pause(ctx, l.rng, 20*time.Millisecond)
			continue
		}
		if old != nil {
			l.intrude(old)
			old.cancel()
			old = nil
		}
		if l.publish(ctx, s) {
			old = s
			continue
		}
		s.cancel()
	}
	if old != nil {
		old.cancel()
	}
}

// laneStream is one stream of a lane.
type laneStream struct {
	grpc.BidiStreamingClient[pb.PublishResultsRequest, pb.PublishResultsResponse]
	cancel context.CancelFunc
}

// open opens a stream and learns what is committed.
func (l *lane) open(ctx context.Context) (*laneStream, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	stream, err := pb.NewExecutionServiceClient(l.w.conn).PublishResults(l.w.as(ctx, boss))
	if err == nil {
		err = stream.Send(&pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Hello{Hello: &pb.PublishHello{
			Project: "alpha", RunKey: l.name, Info: &pb.RunInfo{Name: l.name},
		}}})
	}
	var first *pb.PublishResultsResponse
	if err == nil {
		first, err = stream.Recv()
	}
	if err != nil {
		cancel()
		return nil, err
	}
	l.committed(first.GetWelcome().GetCommittedSequence())
	return &laneStream{stream, cancel}, nil
}

// publish sends batches, each when the one before was acked, until the stream
// breaks, or a newer one is to take over: then it reports true.
func (l *lane) publish(ctx context.Context, s *laneStream) (takeOver bool) {
	for ctx.Err() == nil {
		for len(l.pending) == 0 || l.rng.IntN(4) != 0 {
			l.pending = append(l.pending, l.item(l.rng.IntN(20) == 0))
		}
		if err := s.send(l.done+1, l.pending); err != nil {
			return false
		}
		for len(l.pending) > 0 {
			res, err := s.Recv()
			if err != nil {
				return false
			}
			for _, r := range res.GetAck().GetRejections() {
				l.record(history.Denied, nameOf(l.pending[r.Sequence-l.done-1]), r.GetError().GetReason())
			}
			l.committed(res.GetAck().GetCommittedSequence())
		}
		if l.rng.IntN(8) == 0 {
			return true
		}
	}
	return false
}

func (s *laneStream) send(first uint64, items []*pb.PublishItem) error {
	return s.Send(&pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Batch{Batch: &pb.PublishBatch{FirstSequence: first, Items: items}}})
}

// item makes an item of a name that there is once. A bad one has no status.
func (l *lane) item(bad bool) *pb.PublishItem {
	l.made++
	u := &pb.TestExecutionUpdate{Test: &pb.TestRef{Suite: "suite", Name: fmt.Sprint(l.name, "-", l.made)}, Status: pb.Status_STATUS_PASSED}
	if bad {
		u.Status = pb.Status_STATUS_UNSPECIFIED
	}
	l.record(history.Sent, u.Test.Name, "")
	return &pb.PublishItem{Item: &pb.PublishItem_Test{Test: u}}
}

func nameOf(item *pb.PublishItem) string { return item.GetTest().GetTest().GetName() }

// committed notes up to where the server has committed. A bad item is neither
// acknowledged by that nor, if the answer got lost, refused.
func (l *lane) committed(to uint64) {
	for ; l.done < to && len(l.pending) > 0; l.done++ {
		if l.pending[0].GetTest().GetStatus() != pb.Status_STATUS_UNSPECIFIED {
			l.record(history.Acked, nameOf(l.pending[0]), "")
			l.acked()
		}
		l.pending = l.pending[1:]
	}
}

// intrude lets an older stream of the shard publish something of its own. It must
// be refused; that the server was killed says nothing.
func (l *lane) intrude(old *laneStream) {
	item := l.item(false)
	_ = old.send(l.done+1, []*pb.PublishItem{item}) // how it ended, Recv says
	for {
		res, err := old.Recv()
		switch {
		case err == nil && res.GetAck().GetCommittedSequence() <= l.done:
			continue
		case err == nil:
			l.record(history.Acked, nameOf(item), "")
		case !unknown(err):
			l.record(history.Denied, nameOf(item), err.Error())
		}
		return
	}
}

// unknown reports whether an error leaves open what became of a request.
func unknown(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded, codes.Unknown, codes.Internal:
		return true
	default:
		return false
	}
}

func (l *lane) record(kind history.Kind, write, reason string) {
	l.w.rec.Add(history.Record{Kind: kind, Session: l.name, Write: write, Reason: reason})
}

// person comments on a test case.
type person struct {
	w     *town
	name  string
	rng   *rand.Rand
	acked func()
}

// run comments until ctx ends; some comments are a stranger's.
func (p *person) run(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		user := boss
		if p.rng.IntN(20) == 0 {
			user = "stranger"
		}
		text := fmt.Sprint(p.name, "-", i)
		known := p.comment(ctx, user, text)
		for known && p.rng.IntN(3) == 0 {
			known = p.comment(ctx, user, text)
		}
		for !known && ctx.Err() == nil {
			pause(ctx, p.rng, 20*time.Millisecond)
			known = p.comment(ctx, user, text)
		}
	}
}

// comment asks for a comment, under an id that is its own, and reports whether its
// fate is known.
func (p *person) comment(ctx context.Context, user, text string) (known bool) {
	p.record(history.Sent, text, "")
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := pb.NewCollaborationServiceClient(p.w.conn).AddComment(p.w.as(ctx, user),
		&pb.AddCommentRequest{TestCaseId: p.w.cases[0].Id, Text: text, RequestId: text})
	switch {
	case err == nil:
		p.record(history.Acked, text, "")
		p.acked()
	case unknown(err):
		return false
	default:
		p.record(history.Denied, text, err.Error())
	}
	return true
}

func (p *person) record(kind history.Kind, write, reason string) {
	p.w.rec.Add(history.Record{Kind: kind, Session: p.name, Write: write, Reason: reason})
}
