package run

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/scene"
	"github.com/tcmanager/tcmanager/service/store"
)

// The states that tests use most.
const (
	queued   = pb.Status_STATUS_QUEUED
	running  = pb.Status_STATUS_RUNNING
	passed   = pb.Status_STATUS_PASSED
	failed   = pb.Status_STATUS_FAILED
	errored  = pb.Status_STATUS_ERRORED
	skipped  = pb.Status_STATUS_SKIPPED
	timedOut = pb.Status_STATUS_TIMED_OUT
	aborted  = pb.Status_STATUS_ABORTED
)

// stage is the service over the real store, in a bubble where time is the test's.
type stage struct {
	*scene.Scene
	t    *testing.T
	cfg  Config
	runs *Service

	mu   sync.Mutex
	told []told
}

// told is progress that came to a room, and when.
type told struct {
	room event.Room
	at   time.Time
	*pb.RunProgress
}

func onStage(t *testing.T, cfg Config, fn func(*testing.T, *stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg.Logger = slog.New(slog.DiscardHandler)
		st := &stage{t: t}
		st.Scene = scene.Listening(t, st.hear)
		cfg.Progress = st.hear
		st.cfg = cfg
		st.runs = New(st.Store, cfg)
		defer func() { st.runs.Close() }()
		fn(t, st)
	})
}

// restart is a server that comes back: an empty memory over the same file.
func (st *stage) restart() {
	st.t.Helper()
	st.runs.Close()
	st.Reopen()
	st.runs = New(st.Store, st.cfg)
}

func (st *stage) hear(events []event.Event) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, e := range events {
		ev, err := e.Decode()
		if err != nil {
			st.t.Error(err)
			continue
		}
		if ev.GetRunProgress() == nil {
			continue
		}
		st.told = append(st.told, told{e.Room, time.Now(), ev.GetRunProgress()})
	}
}

// Heard returns what was told but progress, which is told when it is time.
func (st *stage) Heard() []*pb.Event {
	return slices.DeleteFunc(st.Scene.Heard(), func(ev *pb.Event) bool { return ev.GetRunProgress() != nil })
}

// sweeping lets the service sweep until the test ends.
func (st *stage) sweeping() {
	ctx, cancel := context.WithCancel(st.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := st.runs.Run(ctx); err != nil {
			st.t.Error(err)
		}
	}()
	st.t.Cleanup(func() { cancel(); <-done })
}

// run returns what the store has of a run.
func (st *stage) run(id string) *pb.Run {
	st.t.Helper()
	var run *pb.Run
	st.View(func(r store.Reader) (err error) {
		run, err = r.Run(id)
		return err
	})
	return run
}

// rows returns what the store has of a run's tests: "TestA 1 PASSED" for the
// first attempt of TestA, in order of appearance.
func (st *stage) rows(runID string) []string {
	st.t.Helper()
	var rows []string
	st.View(func(r store.Reader) error {
		return r.EachResult(runID, func(res store.Result) error {
			rows = append(rows, fmt.Sprintf("%s %d %s", res.Name, res.Attempt, res.Status.String()[7:]))
			return nil
		})
	})
	return rows
}

func (st *stage) wantRows(runID string, want ...string) {
	st.t.Helper()
	if got := st.rows(runID); !slices.Equal(got, want) {
		st.t.Errorf("the store has %q, want %q", got, want)
	}
}

// live checks a run's life in the store.
func (st *stage) wantRun(id string, state pb.RunState, reason pb.EndReason) {
	st.t.Helper()
	if run := st.run(id); run.State != state || run.EndReason != reason || (run.EndedAt != nil) != (state == pb.RunState_RUN_STATE_ENDED) {
		st.t.Errorf("the run is %v %v, ended at %v, want %v %v", run.State, run.EndReason, run.EndedAt, state, reason)
	}
}

func (st *stage) wantShard(runID, name string, state pb.ShardState) {
	st.t.Helper()
	for _, s := range st.run(runID).Shards {
		if s.Name == name {
			if s.State != state {
				st.t.Errorf("shard %s is %v, want %v", name, s.State, state)
			}
			return
		}
	}
	st.t.Errorf("there is no shard %s", name)
}

// runner is the other end of a stream of results.
type runner struct {
	grpc.ServerStream // nobody calls its other methods

	st     *stage
	ctx    context.Context
	cancel context.CancelFunc // breaks the connection
	in     chan *pb.PublishResultsRequest
	out    chan *pb.PublishResultsResponse
	done   chan error
	next   uint64
}

// connect opens a stream of a user, whose token never expires.
func (st *stage) connect(user string) *runner { return st.connectUntil(user, time.Time{}) }

func (st *stage) connectUntil(user string, expires time.Time) *runner {
	st.t.Helper()
	caller, err := identity.From(st.As(user))
	if err != nil {
		st.t.Fatal(err)
	}
	caller.ExpiresAt = expires
	ctx, cancel := context.WithCancel(identity.WithCaller(st.t.Context(), caller))
	r := &runner{
		st: st, ctx: ctx, cancel: cancel, next: 1,
		in: make(chan *pb.PublishResultsRequest, 64), out: make(chan *pb.PublishResultsResponse), done: make(chan error, 1),
	}
	runs := st.runs
	go func() {
		err := runs.PublishResults(r)
		cancel() // as gRPC does: what waits in Send or Recv goes on
		r.done <- err
	}()
	st.t.Cleanup(func() { cancel(); synctest.Wait() })
	return r
}

// Context, Send and Recv make a runner the server's side of its stream.
func (r *runner) Context() context.Context { return r.ctx }

func (r *runner) Send(resp *pb.PublishResultsResponse) error {
	select {
	case r.out <- proto.CloneOf(resp):
		return nil
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

func (r *runner) Recv() (*pb.PublishResultsRequest, error) {
	select {
	case req, ok := <-r.in:
		if !ok {
			return nil, io.EOF
		}
		return req, nil
	case <-r.ctx.Done():
		return nil, r.ctx.Err()
	}
}

// answer returns the next answer.
func (r *runner) answer() *pb.PublishResultsResponse {
	r.st.t.Helper()
	select {
	case resp := <-r.out:
		return resp
	case err := <-r.done:
		r.st.t.Fatalf("the stream ended: %v", err)
	case <-time.After(10 * time.Hour):
		r.st.t.Fatal("nothing came")
	}
	return nil
}

// ended returns how the stream ended, passing over answers.
func (r *runner) ended() error {
	r.st.t.Helper()
	for {
		select {
		case <-r.out:
		case err := <-r.done:
			return err
		case <-time.After(10 * time.Hour):
			r.st.t.Fatal("the stream did not end")
		}
	}
}

func (r *runner) hello(h *pb.PublishHello) *pb.PublishWelcome {
	r.st.t.Helper()
	r.sendHello(h)
	w := r.answer().GetWelcome()
	if w == nil {
		r.st.t.Fatal("the hello was not answered with a welcome")
	}
	r.next = w.CommittedSequence + 1
	return w
}

func (r *runner) sendHello(h *pb.PublishHello) {
	h.Project = scene.Key
	r.in <- &pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Hello{Hello: h}}
}

// publish sends items that follow the last ones.
func (r *runner) publish(items ...*pb.PublishItem) {
	r.batch(r.next, items...)
	r.next += uint64(len(items))
}

func (r *runner) batch(first uint64, items ...*pb.PublishItem) {
	r.in <- &pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Batch{Batch: &pb.PublishBatch{FirstSequence: first, Items: items}}}
}

func (r *runner) finish(f *pb.PublishFinish) {
	r.in <- &pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Finish{Finish: f}}
}

func (r *runner) heartbeat() {
	r.in <- &pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Heartbeat{Heartbeat: &pb.PublishHeartbeat{}}}
}

// ack returns the next answer, which must be an ack up to a sequence.
func (r *runner) ack(want uint64) *pb.PublishAck {
	r.st.t.Helper()
	a := r.answer().GetAck()
	if a == nil || a.CommittedSequence != want {
		r.st.t.Fatalf("the answer is %v, want an ack of %d", a, want)
	}
	return a
}

// report publishes items and waits until they are acked.
func (r *runner) report(items ...*pb.PublishItem) *pb.PublishAck {
	r.st.t.Helper()
	r.publish(items...)
	return r.ack(r.next - 1)
}

// done finishes the shard and waits until that is acked, and the stream over.
func (r *runner) finished(f *pb.PublishFinish) {
	r.st.t.Helper()
	f.LastSequence = r.next - 1
	r.finish(f)
	if a := r.ack(r.next - 1); !a.Finished {
		r.st.t.Errorf("the finish was acked with %v", a)
	}
	close(r.in)
	if err := r.ended(); err != nil {
		r.st.t.Errorf("the stream ended with %v", err)
	}
}

// test is an update of a test of suite "s".
func testOf(name string, status pb.Status) *pb.PublishItem { return testIn("s", name, 0, status) }

func testIn(suite, name string, attempt uint32, status pb.Status) *pb.PublishItem {
	return &pb.PublishItem{Item: &pb.PublishItem_Test{Test: updateOf(suite, name, attempt, status)}}
}

func updateOf(suite, name string, attempt uint32, status pb.Status) *pb.TestExecutionUpdate {
	return &pb.TestExecutionUpdate{Test: &pb.TestRef{Suite: suite, Name: name}, Attempt: attempt, Status: status}
}

func suiteOf(name string, status pb.Status) *pb.PublishItem {
	return &pb.PublishItem{Item: &pb.PublishItem_Suite{Suite: &pb.SuiteExecutionUpdate{Suite: name, Status: status}}}
}

func outputOf(suite, name, text string) *pb.PublishItem {
	return &pb.PublishItem{Item: &pb.PublishItem_Output{Output: &pb.OutputChunk{Suite: suite, Name: name, Data: []byte(text)}}}
}
