package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/rules"
	"github.com/tcmanager/tcmanager/service/store"
)

const (
	defaultShard  = "main"
	framesWaiting = 4     // requests received and not yet committed, of one stream
	itemsCommit   = 10000 // about how many items of one stream go into one transaction
	maxRejections = 100   // told in one ack
)

// Why a runner's stream ends.
var (
	errHelloFirst = fault.New(fault.Precondition, "HELLO_FIRST", "the first request must be a hello; send one")
	errHelloTwice = fault.New(fault.Precondition, "HELLO_TWICE", "there was a hello already; open another stream for another shard")
	errFenced     = fault.New(fault.Conflict, "SHARD_TAKEN_OVER", "a newer stream publishes this shard; give each shard of a run its own name")
	errLost       = fault.New(fault.Unavailable, "LEASE_LOST", "nothing was heard for too long; reconnect and go on")
	errExpired    = fault.New(fault.Unauthenticated, "TOKEN_EXPIRED", "the token expired; reconnect with a new one and go on")
	errDraining   = fault.New(fault.Unavailable, "GOING_AWAY", "the server is stopping; reconnect and go on").After(time.Second)
	errShards     = fault.New(fault.Exhausted, "TOO_MANY_SHARDS", "a run may have %d shards; split it into several runs", maxShards)
	errFinished   = fault.New(fault.Precondition, "SHARD_FINISHED", "this shard has finished; start another run with a new run key")
)

// shardKey names a shard.
type shardKey struct{ runID, shard string }

// linger is how long a stream that has to end waits for what is being committed
// and sent. A runner that doesn't read its acks would keep it for ever otherwise:
// Send doesn't return until the handler has.
const linger = time.Second

// publisher is one runner's stream: one incarnation of a shard.
type publisher struct {
	s           *Service
	stream      grpc.BidiStreamingServer[pb.PublishResultsRequest, pb.PublishResultsResponse]
	caller      identity.Caller
	end         context.CancelCauseFunc
	heard       atomic.Int64 // when something was last received, in Unix nanoseconds
	key         shardKey     // zero until the shard is open
	incarnation uint64
	pacing      pacing // of the commits
}

// PublishResults serves one runner. It only waits: one goroutine receives, one
// commits and sends. Both end once this has returned, whatever they wait for.
func (s *Service) PublishResults(stream grpc.BidiStreamingServer[pb.PublishResultsRequest, pb.PublishResultsResponse]) error {
	caller, err := identity.From(stream.Context())
	if err != nil {
		return err
	}
	if s.isDraining() {
		return errDraining
	}
	ctx, end := context.WithCancelCause(stream.Context())
	defer end(nil)
	if !caller.ExpiresAt.IsZero() {
		defer time.AfterFunc(time.Until(caller.ExpiresAt), func() { end(errExpired) }).Stop()
	}
	p := &publisher{s: s, stream: stream, caller: caller, end: end}
	p.heard.Store(time.Now().UnixNano())
	frames := make(chan received, framesWaiting)
	go p.receive(ctx, frames)
	done := make(chan error, 1)
	go func() { done <- p.work(ctx, frames) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(linger):
		return context.Cause(ctx)
	}
}

// work serves a stream from its hello to its end.
func (p *publisher) work(ctx context.Context, frames <-chan received) (err error) {
	defer recovered(&err)
	// The lease runs from the first moment: a stream that never says hello ends too.
	first := time.AfterFunc(p.s.cfg.Lease, func() { p.end(errLost) })
	select {
	case r := <-frames:
		first.Stop()
		defer p.lose(ctx)
		if err := p.hello(ctx, r); err != nil {
			return err
		}
		return p.serve(ctx, frames)
	case <-ctx.Done():
		first.Stop()
		return context.Cause(ctx)
	}
}

// recovered turns a panic into an error. It must be deferred.
func recovered(err *error) {
	if x := recover(); x != nil {
		*err = fmt.Errorf("panic while serving a runner: %v\n%s", x, debug.Stack())
	}
}

// received is a request, and what is wrong with it. It is zero at the end of the
// stream.
type received struct {
	req *pb.PublishResultsRequest
	err error         // it breaks a rule
	bad map[int]error // the items of its batch that do, by their index
}

// batch is a batch, and which of its items break a rule.
type batch struct {
	*pb.PublishBatch
	bad map[int]error
}

// receive hands requests to the worker until the stream or the handler ends. A
// runner that closed its side has said all: what it said is still committed.
func (p *publisher) receive(ctx context.Context, frames chan<- received) {
	var panicked error
	defer func() {
		if panicked != nil {
			p.end(panicked)
		}
	}()
	defer recovered(&panicked)
	for {
		req, err := p.stream.Recv()
		if errors.Is(err, io.EOF) {
			close(frames)
			return
		}
		if err != nil {
			p.end(err)
			return
		}
		p.heard.Store(time.Now().UnixNano())
		select {
		case frames <- checked(req):
		case <-ctx.Done():
			return
		}
	}
}

// checked looks at the rules of a request: here, while the worker commits the one
// before, and not in the store's transaction, where all runners would wait.
func checked(req *pb.PublishResultsRequest) received {
	r := received{req: req, err: rules.Message(req)}
	if r.err != nil {
		return r
	}
	for i, item := range req.GetBatch().GetItems() {
		if err := rules.Item(item); err != nil {
			if r.bad == nil {
				r.bad = map[int]error{}
			}
			r.bad[i] = err
		}
	}
	return r
}

// hello opens the shard: it finds or makes the run, takes the shard over from an
// older stream, and tells the runner where to go on.
func (p *publisher) hello(ctx context.Context, r received) error {
	h := r.req.GetHello()
	if h == nil {
		return errHelloFirst
	}
	if r.err != nil {
		return r.err
	}
	if h.Shard == "" {
		h.Shard = defaultShard
	}
	var run *pb.Run
	var shard store.Shard
	err := p.s.store.Update(ctx, func(tx store.Tx) (err error) {
		run, shard, err = p.open(tx, h)
		return err
	})
	if err != nil {
		return err
	}
	p.key, p.incarnation = shardKey{run.Id, h.Shard}, shard.Incarnation
	if err := p.s.register(p); err != nil {
		return err
	}
	return p.stream.Send(&pb.PublishResultsResponse{Frame: &pb.PublishResultsResponse_Welcome{Welcome: &pb.PublishWelcome{
		Run: p.s.withURL(run), CommittedSequence: shard.Committed, Incarnation: p.incarnation,
		HeartbeatInterval: durationpb.New(p.s.cfg.Heartbeat), MaxRequestBytes: uint32(p.s.cfg.MaxRequest),
		Finished: shard.State == pb.ShardState_SHARD_STATE_FINISHED,
	}}})
}

// open is the transaction of hello.
func (p *publisher) open(tx store.Tx, h *pb.PublishHello) (run *pb.Run, shard store.Shard, err error) {
	now := time.Now()
	project, err := access.Project(tx, p.caller.User.Id, h.Project, access.Publish)
	if err != nil {
		return nil, shard, err
	}
	found, err := p.s.findOrStart(tx, project, h.RunKey, h.Info, h.ExpectedShards, p.caller, now)
	if err != nil {
		return nil, shard, err
	}
	_, err = p.s.with(tx, found.Id, func(tx store.Tx, live *Live) error {
		if shard, err = p.claim(tx, live, h, now); err != nil {
			return err
		}
		run = proto.CloneOf(live.Run) // it is sent when others may change the run
		return nil
	})
	return run, shard, err
}

// claim makes this stream the newest of its shard. A finished shard stays as it is.
func (p *publisher) claim(tx store.Tx, live *Live, h *pb.PublishHello, now time.Time) (store.Shard, error) {
	run := live.Run
	shard, err := tx.Shard(run.Id, h.Shard)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return shard, fmt.Errorf("read shard %s of run %s: %w", h.Shard, run.Id, err)
	}
	if takenOver(h.Incarnation, shard.Incarnation) {
		return shard, errFenced
	}
	if shard.State == pb.ShardState_SHARD_STATE_FINISHED {
		return shard, nil
	}
	if shard.Incarnation == 0 && len(run.Shards) >= maxShards {
		return shard, errShards
	}
	if err := reopen(run); err != nil {
		return shard, err
	}
	live.touched = true
	run.ExpectedShards = max(run.ExpectedShards, h.ExpectedShards)
	shard.RunID, shard.Name, shard.State, shard.ChangedAt = run.Id, h.Shard, pb.ShardState_SHARD_STATE_LIVE, now
	shard.Incarnation = nextIncarnation(h.Incarnation, shard.Incarnation)
	return shard, p.s.putShard(tx, live, shard, p.caller.Ref())
}

// The low bits of an incarnation tell runners apart: each draws them when it comes
// first, and keeps them when it comes back. The bits above count the shard's streams.
//
// Without them, a runner that comes back to a shard that another one has written to
// would take what the other committed for its own, and leave as much of its own out. A
// count alone can't tell: a runner whose welcome was lost doesn't know its own number.
const runnerBits = 24

const runnerMask = 1<<runnerBits - 1

// takenOver reports whether a runner that comes back with the incarnation it had
// finds that another one has opened the shard since. A shard that isn't there, since
// the store is an older one that was restored, was taken over by nobody.
func takenOver(had, newest uint64) bool {
	return had != 0 && newest != 0 && had&runnerMask != newest&runnerMask
}

// nextIncarnation is the number of a runner's new stream.
func nextIncarnation(had, newest uint64) uint64 {
	runner := had & runnerMask
	if had == 0 {
		runner = 1 + rand.Uint64N(runnerMask)
	}
	return (newest>>runnerBits+1)<<runnerBits | runner
}

// reopen lets a run go on that was given up because its runners were lost: one
// of them is back. Other ended runs stay as they are.
func reopen(run *pb.Run) error {
	if run.State != pb.RunState_RUN_STATE_ENDED {
		return nil
	}
	lost := run.EndReason == pb.EndReason_END_REASON_ABORTED || run.EndReason == pb.EndReason_END_REASON_INTERRUPTED
	if !lost || run.ResultsTrimmed { // its tests can't be told apart any more
		return errEnded
	}
	run.State, run.EndReason, run.EndedAt = pb.RunState_RUN_STATE_RUNNING, pb.EndReason_END_REASON_UNSPECIFIED, nil
	return nil
}

// putShard writes a shard and its run, and tells the rooms.
func (s *Service) putShard(tx store.Tx, live *Live, shard store.Shard, actor *pb.UserRef) error {
	live.touched = true
	if err := tx.PutShard(shard); err != nil {
		return fmt.Errorf("write shard %s of run %s: %w", shard.Name, shard.RunID, err)
	}
	if err := tx.PutRun(live.Run); err != nil {
		return fmt.Errorf("write run %s: %w", shard.RunID, err)
	}
	run, err := tx.Run(shard.RunID)
	if err != nil {
		return fmt.Errorf("read run %s: %w", shard.RunID, err)
	}
	live.Run.Shards = run.Shards
	return s.tell(tx, live.Run, pb.RunChange_RUN_CHANGE_SHARD, actor, shard.ChangedAt)
}

// register makes p the shard's stream, and ends an older one.
func (s *Service) register(p *publisher) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return errDraining
	}
	old := s.publishers[p.key]
	if old != nil && old.incarnation > p.incarnation {
		return errFenced
	}
	if old != nil {
		old.end(errFenced)
	}
	s.publishers[p.key] = p
	return nil
}

// serve commits what the runner sends until it is done or gone.
func (p *publisher) serve(ctx context.Context, frames <-chan received) error {
	for {
		select {
		case r, ok := <-frames:
			if !ok {
				return nil
			}
			err := p.frame(ctx, r, frames)
			if err != nil && ctx.Err() != nil && fault.Of(err) == nil {
				return p.leave(context.Cause(ctx)) // it failed because the stream has to end
			}
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return p.leave(context.Cause(ctx))
		}
	}
}

// leave ends the stream. A runner that has to come back is told when: what it
// sent and was not acked, it sends again.
func (p *publisher) leave(cause error) error {
	if errors.Is(cause, errDraining) {
		if err := p.stream.Send(&pb.PublishResultsResponse{Frame: &pb.PublishResultsResponse_GoingAway{
			GoingAway: &pb.PublishGoingAway{ReconnectAfter: durationpb.New(p.s.cfg.ReconnectIn())},
		}}); err != nil {
			return err
		}
	}
	return cause
}

// frame carries out a request, and those that gather met behind it.
func (p *publisher) frame(ctx context.Context, r received, frames <-chan received) error {
	for r.req != nil {
		if r.err != nil {
			return r.err
		}
		var err error
		var next received
		switch f := r.req.Frame.(type) {
		case *pb.PublishResultsRequest_Batch:
			var batches []batch
			batches, next = p.gather(ctx, batch{f.Batch, r.bad}, frames)
			p.pacing.begin(time.Now(), len(batches))
			err = p.batches(ctx, batches)
		case *pb.PublishResultsRequest_Finish:
			err = p.finish(ctx, f.Finish)
		case *pb.PublishResultsRequest_Hello:
			err = errHelloTwice
		}
		if err != nil {
			return err
		}
		r = next
	}
	return nil
}

// gathered is what shares a commit.
type gathered struct {
	batches []batch
	items   int
}

func (g *gathered) add(b batch) {
	g.batches, g.items = append(g.batches, b), g.items+len(b.Items)
}

// gather adds the batches that are waiting already to a first one, and those that come
// while the commit is put off. It returns also the request that is no good batch, if
// it met one.
func (p *publisher) gather(ctx context.Context, first batch, frames <-chan received) ([]batch, received) {
	g := gathered{}
	g.add(first)
	for g.items < itemsCommit {
		select {
		case r := <-frames:
			b := r.req.GetBatch()
			if b == nil || r.err != nil {
				return g.batches, r
			}
			g.add(batch{b, r.bad})
			continue
		default:
		}
		break
	}
	if g.items >= pacingItems {
		return g.batches, received{}
	}
	d := p.pacing.wait(time.Now())
	if d.most == 0 {
		return g.batches, received{}
	}
	next := p.putOff(ctx, &g, frames, d)
	return g.batches, next
}

// putOff gathers what comes for so long, or until it is enough or nothing more comes.
// It returns the request that is no good batch, if it met one.
func (p *publisher) putOff(ctx context.Context, g *gathered, frames <-chan received, d delay) received {
	until := time.Now().Add(d.most)
	timer := time.NewTimer(min(d.most, d.quiet))
	defer timer.Stop()
	for bytes := 0; g.items < pacingItems && bytes < pacingBytes; {
		select {
		case r := <-frames:
			b := r.req.GetBatch()
			if b == nil || r.err != nil {
				return r
			}
			g.add(batch{b, r.bad})
			bytes += proto.Size(b)
			timer.Reset(min(time.Until(until), d.quiet))
		case now := <-timer.C:
			p.pacing.tried(d, !now.Before(until), len(g.batches))
			return received{}
		case <-ctx.Done():
			return received{}
		}
	}
	p.pacing.tried(d, true, len(g.batches))
	return received{}
}

// batches commits batches together and acks them.
func (p *publisher) batches(ctx context.Context, batches []batch) error {
	var ack *pb.PublishAck
	err := p.s.change(ctx, p.key.runID, p.caller, func(tx store.Tx, live *Live) error {
		shard, err := p.owned(tx)
		if err != nil {
			return err
		}
		if batches[0].FirstSequence > shard.Committed+1 {
			return gap(shard.Committed + 1)
		}
		w, err := p.s.write(tx, live, p.caller.Ref(), p.key.shard, time.Now())
		if err != nil {
			return err
		}
		ack = &pb.PublishAck{}
		before := shard.Committed
		for _, b := range batches {
			if err := p.take(w, live, &shard, b, ack); err != nil {
				return err
			}
		}
		if shard.Committed != before {
			if err := w.flush(); err != nil {
				return err
			}
			if err := tx.PutShard(shard); err != nil {
				return fmt.Errorf("write shard %s of run %s: %w", shard.Name, shard.RunID, err)
			}
		}
		ack.CommittedSequence, ack.Finished = shard.Committed, shard.State == pb.ShardState_SHARD_STATE_FINISHED
		ack.Counts = proto.CloneOf(live.Run.Counts)
		return nil
	})
	if err != nil {
		return err
	}
	return p.stream.Send(&pb.PublishResultsResponse{Frame: &pb.PublishResultsResponse_Ack{Ack: ack}})
}

// owned reads the shard and makes sure that no newer stream took it over.
func (p *publisher) owned(tx store.Tx) (store.Shard, error) {
	shard, err := tx.Shard(p.key.runID, p.key.shard)
	if err != nil {
		return shard, fmt.Errorf("read shard %s of run %s: %w", p.key.shard, p.key.runID, err)
	}
	if shard.Incarnation != p.incarnation {
		return shard, errFenced
	}
	return shard, nil
}

// take records the items of a batch that are new and not bad.
func (p *publisher) take(w *writer, live *Live, shard *store.Shard, b batch, ack *pb.PublishAck) error {
	if b.FirstSequence > shard.Committed+1 {
		return gap(shard.Committed + 1)
	}
	for i, item := range b.Items {
		seq := b.FirstSequence + uint64(i)
		if seq <= shard.Committed {
			continue // a repeat
		}
		if shard.State == pb.ShardState_SHARD_STATE_FINISHED {
			return errFinished
		}
		if live.Run.State == pb.RunState_RUN_STATE_ENDED {
			return errEnded
		}
		err := b.bad[i]
		if err == nil {
			err = w.item(item)
		}
		if err != nil {
			if fault.Of(err) == nil {
				return err
			}
			if len(ack.Rejections) < maxRejections {
				ack.Rejections = append(ack.Rejections, &pb.Rejection{Sequence: seq, Error: fault.Proto(err)})
			}
		}
		shard.Committed = seq
	}
	return nil
}

func gap(expected uint64) error {
	n := strconv.FormatUint(expected, 10)
	return fault.New(fault.Precondition, "SEQUENCE_GAP", "items are missing; send again from sequence %s", n).With("expected_sequence", n)
}

// finish ends the shard, and the run if it was the last one.
func (p *publisher) finish(ctx context.Context, f *pb.PublishFinish) error {
	var ack *pb.PublishAck
	err := p.s.change(ctx, p.key.runID, p.caller, func(tx store.Tx, live *Live) error {
		shard, err := p.owned(tx)
		if err != nil {
			return err
		}
		if f.LastSequence > shard.Committed {
			return gap(shard.Committed + 1)
		}
		if shard.State != pb.ShardState_SHARD_STATE_FINISHED && live.Run.State != pb.RunState_RUN_STATE_ENDED {
			if err := p.close(tx, live, shard, f); err != nil {
				return err
			}
		}
		ack = &pb.PublishAck{CommittedSequence: shard.Committed, Finished: true, Counts: proto.CloneOf(live.Run.Counts)}
		return nil
	})
	if err != nil {
		return err
	}
	return p.stream.Send(&pb.PublishResultsResponse{Frame: &pb.PublishResultsResponse_Ack{Ack: ack}})
}

// close is the transaction of finish.
func (p *publisher) close(tx store.Tx, live *Live, shard store.Shard, f *pb.PublishFinish) error {
	now := time.Now()
	w, err := p.s.write(tx, live, p.caller.Ref(), p.key.shard, now)
	if err != nil {
		return err
	}
	if err := w.closeTests(false, f.Reason); err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return err
	}
	shard.State, shard.ChangedAt, shard.ExitCode = pb.ShardState_SHARD_STATE_FINISHED, now, f.ExitCode
	if live.stopped == pb.EndReason_END_REASON_UNSPECIFIED {
		live.stopped = f.Reason
	}
	if err := p.s.putShard(tx, live, shard, p.caller.Ref()); err != nil {
		return err
	}
	if !complete(live.Run) {
		return nil
	}
	return w.end(live.stopped)
}

// complete reports whether every announced shard has finished.
func complete(run *pb.Run) bool {
	finished := uint32(0)
	for _, s := range run.Shards {
		if s.State != pb.ShardState_SHARD_STATE_FINISHED {
			return false
		}
		finished++
	}
	return finished >= max(1, run.ExpectedShards)
}

// lose is what happens when a stream has ended: unless the shard has finished or
// a newer stream has it, it is disconnected.
func (p *publisher) lose(ctx context.Context) {
	if p.key == (shardKey{}) {
		return // it never opened its shard
	}
	s := p.s
	// The stream's context is over; the store is not.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loseTimeout)
	defer cancel()
	if err := s.disconnect(ctx, p.key, p.incarnation); err != nil {
		s.cfg.Logger.Warn("a lost shard could not be marked; the sweep will try again", "run", p.key.runID, "shard", p.key.shard, "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.publishers[p.key] == p {
		delete(s.publishers, p.key)
	}
}

// loseTimeout is how long a handler that ends may wait for the store.
const loseTimeout = 5 * time.Second

// disconnect marks a shard as disconnected if this incarnation still has it.
func (s *Service) disconnect(ctx context.Context, key shardKey, incarnation uint64) error {
	var told *progressOf
	err := s.store.Update(ctx, func(tx store.Tx) error {
		shard, err := tx.Shard(key.runID, key.shard)
		if errors.Is(err, store.ErrNotFound) { // its run was deleted
			return nil
		}
		if err != nil {
			return fmt.Errorf("read shard %s of run %s: %w", key.shard, key.runID, err)
		}
		if shard.Incarnation != incarnation || shard.State != pb.ShardState_SHARD_STATE_LIVE {
			return nil
		}
		shard.State, shard.ChangedAt = pb.ShardState_SHARD_STATE_DISCONNECTED, time.Now()
		now, err := s.with(tx, key.runID, func(tx store.Tx, live *Live) error { return s.putShard(tx, live, shard, nil) })
		told = &now
		return err
	})
	if err == nil && told != nil {
		s.progress.note(*told, false)
	}
	return err
}

// Drain asks every runner to reconnect after the restart, and ends the streams.
// What is being committed is acked first; what was not acked is sent again. New
// streams are refused.
func (s *Service) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
	for _, p := range s.publishers {
		p.end(errDraining)
	}
}

func (s *Service) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// Publishers returns how many runners are connected.
func (s *Service) Publishers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.publishers)
}
