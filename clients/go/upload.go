package tcmanager

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// welcomeTimeout is how long a server may take to answer the hello.
	welcomeTimeout = 10 * time.Second
	// ackTimeout is how long sent items may stay unacknowledged before the
	// connection is taken for dead; the server acks at least every 200 ms.
	ackTimeout = 30 * time.Second
	// defaultHeartbeat is used when the welcome names none.
	defaultHeartbeat = 10 * time.Second
	// healthyAfter is how long a connection must have lived for the back-off to
	// begin anew.
	healthyAfter = 10 * time.Second
	// finishPause is the longest wait between two attempts once Finish waits for
	// the end.
	finishPause = 500 * time.Millisecond
	// frameOverhead is what a batch's header may take of the request limit.
	frameOverhead = 64
	// maxGaps is how many times in a row the server may ask for items in another
	// place before that is taken for a disagreement that won't heal.
	maxGaps = 3
)

// errClosedSpool is the state of a spool that was given up.
var errClosedSpool = os.ErrClosed

// Why a connection ended, when it wasn't the server's status.
var (
	errNoWelcome  = status.Error(codes.Unavailable, "the server did not answer the hello")
	errStalled    = status.Error(codes.Unavailable, "the server acknowledged nothing for too long")
	errEndedEarly = status.Error(codes.Unavailable, "the server ended the stream")
)

// goingAwayError is the end of a connection that the server asked for.
type goingAwayError struct{ after time.Duration }

func (g goingAwayError) Error() string { return "the server is about to stop" }

// Run uploads until the shard is finished, the upload has failed for good, ctx
// is done or Close is called. It returns nil only if the server knows that the
// shard is complete. It may be called once.
func (p *Publisher) Run(ctx context.Context) error {
	p.mu.Lock()
	if p.started {
		p.mu.Unlock()
		return ErrFinished
	}
	p.started = true
	p.mu.Unlock()
	defer close(p.ended)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stopped := context.AfterFunc(p.stopping, func() { cancel(context.Cause(p.stopping)) }) //nolint:contextcheck // Close has a context of its own
	defer stopped()

	var retry retries
	for {
		begun := time.Now()
		err := p.upload(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if terminal := retry.terminal(p, err); terminal != nil {
			p.seal(terminal)
			return terminal
		}
		p.noteTrouble(err)
		if !p.pause(ctx, retry.delay(err, time.Since(begun)), askedDelay(err)) {
			return context.Cause(ctx)
		}
	}
}

// noteTrouble remembers what is in the way, and warns the first time.
func (p *Publisher) noteTrouble(err error) {
	if _, ok := errors.AsType[goingAwayError](err); ok {
		return
	}
	p.mu.Lock()
	p.report.Err = said(err)
	first := !p.warned
	p.warned = true
	p.mu.Unlock()
	if first {
		p.warn(fmt.Errorf("results are kept and will be sent when %s answers: %w", p.client.Addr(), said(err)))
	}
}

// pause waits between two attempts, and reports false if ctx is done first. Finish
// gives up soon, and the server may be back already: from then on the wait is
// short. It is never shorter than what the server asked for.
func (p *Publisher) pause(ctx context.Context, d, asked time.Duration) bool {
	soon := max(asked, min(d, finishPause))
	select {
	case <-p.finishing:
		return wait(ctx, soon)
	default:
	}
	t := time.NewTimer(d)
	defer t.Stop()
	begun := time.Now()
	select {
	case <-t.C:
		return true
	case <-p.finishing:
		return wait(ctx, min(d, soon)-time.Since(begun))
	case <-ctx.Done():
		return false
	}
}

// wait waits for d, and reports false if ctx is done first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// upload is one connection.
type upload struct {
	p        *Publisher
	stream   grpc.BidiStreamingClient[tcmv1.PublishResultsRequest, tcmv1.PublishResultsResponse]
	cancel   context.CancelCauseFunc
	welcome  chan *tcmv1.PublishWelcome
	away     chan goingAwayError
	received chan error // the receiver's end
	watchdog *time.Timer

	limit     int // bytes a request may have
	heartbeat time.Duration
	finished  bool // the finish was sent
}

// upload opens a stream, uploads over it, and returns why it ended: nil when
// the shard is finished.
func (p *Publisher) upload(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Fail now rather than inside the stream, where a source's error would be
	// taken for the server's.
	used, err := p.client.tokens.get(ctx)
	if err != nil {
		return tokenError{err}
	}
	p.client.conn.ResetConnectBackoff()
	stream, err := p.client.Execution().PublishResults(ctx, grpc.ForceCodecV2(newCodec()))
	if err != nil {
		return p.refused(used, err)
	}
	s := &upload{
		p: p, stream: stream, cancel: cancel,
		welcome:  make(chan *tcmv1.PublishWelcome, 1),
		away:     make(chan goingAwayError, 1),
		received: make(chan error, 1),
	}
	s.watchdog = time.AfterFunc(ackTimeout, s.checkAcks)
	defer s.watchdog.Stop()
	go func() { s.received <- s.receive() }()
	err = s.send(ctx)
	if errors.Is(err, errShardDone) {
		err = nil
	}
	return p.refused(used, s.end(ctx, err))
}

// end ends the stream and waits for the receiver. It returns the reason.
func (s *upload) end(ctx context.Context, err error) error {
	if err == nil {
		// All is committed, so how the stream ends is no matter; but an orderly
		// end is no trouble in the server's log.
		_ = s.stream.CloseSend()
		polite := time.AfterFunc(time.Second, func() { s.cancel(nil) })
		defer polite.Stop()
		_ = <-s.received //nolint:staticcheck // it is named to say that it is dropped
		return nil
	}
	cause := context.Cause(ctx)
	s.cancel(nil)
	received := <-s.received
	switch {
	case !errors.Is(err, errReceiverEnded):
		return err
	case cause != nil:
		return cause // the status only says that it was cancelled
	}
	return received
}

// refused forgets a token that the server doesn't accept.
func (p *Publisher) refused(used Token, err error) error {
	if status.Code(err) == codes.Unauthenticated {
		p.client.tokens.reject(used)
	}
	return err
}

// errReceiverEnded says that the receiver knows why the stream ended: Send only
// says that it did.
var errReceiverEnded = errors.New("the receiver ended")

// send is the sending half: hello, batches, heartbeats, finish.
func (s *upload) send(ctx context.Context) error {
	if err := s.greet(ctx); err != nil {
		return err
	}
	beat := time.NewTimer(s.heartbeat)
	defer beat.Stop()
	flush := time.NewTimer(flushAfter)
	defer flush.Stop()
	for {
		sent, done, err := s.sendReady(flush)
		if err != nil || done {
			return err
		}
		if sent {
			beat.Reset(s.heartbeat)
		}
		select {
		case <-s.p.wake:
		case <-flush.C:
		case <-beat.C:
			if err := s.sendFrame(&tcmv1.PublishResultsRequest{Frame: &tcmv1.PublishResultsRequest_Heartbeat{Heartbeat: &tcmv1.PublishHeartbeat{}}}); err != nil {
				return err
			}
			beat.Reset(s.heartbeat)
		case away := <-s.away:
			return away
		case err := <-s.received:
			s.received <- err
			return errReceiverEnded
		}
	}
}

// greet sends the hello and waits for the welcome.
func (s *upload) greet(ctx context.Context) error {
	c := &s.p.config
	s.p.mu.Lock()
	had := s.p.had
	s.p.mu.Unlock()
	hello := &tcmv1.PublishHello{
		Project: c.Project, RunKey: c.RunKey, Shard: c.Shard, Info: c.Info, ExpectedShards: c.ExpectedShards, Incarnation: had,
	}
	if err := s.sendFrame(&tcmv1.PublishResultsRequest{Frame: &tcmv1.PublishResultsRequest_Hello{Hello: hello}}); err != nil {
		return err
	}
	late := time.NewTimer(welcomeTimeout)
	defer late.Stop()
	select {
	case w := <-s.welcome:
		s.limit = int(w.GetMaxRequestBytes())
		if s.limit == 0 || s.limit > batchBytes+maxItem {
			s.limit = batchBytes + maxItem
		}
		s.heartbeat = orDefault(w.GetHeartbeatInterval().AsDuration(), defaultHeartbeat)
		if w.GetFinished() {
			return s.alreadyFinished()
		}
		return nil
	case err := <-s.received:
		s.received <- err
		return errReceiverEnded
	case <-late.C:
		return errNoWelcome
	case <-ctx.Done():
		return ctx.Err()
	}
}

// alreadyFinished judges a welcome to a shard that was finished before: fine if
// this Publisher's own finish was committed and only its ack got lost.
func (s *upload) alreadyFinished() error {
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.finish != nil && p.queue.acked == p.queue.sequence {
		p.report.Finished = true
		return errShardDone
	}
	shard := p.config.Shard
	if shard == "" {
		shard = "main"
	}
	return status.Errorf(codes.FailedPrecondition, "shard %q of run %q has already finished: choose another run key or shard", shard, p.config.RunKey)
}

// errShardDone ends a session whose shard is finished.
var errShardDone = errors.New("the shard is finished")

// sendReady sends all that is due. It reports whether anything was sent, and
// whether the shard is finished.
func (s *upload) sendReady(flush *time.Timer) (sent, done bool, err error) {
	for {
		next := s.p.nextSegment()
		if next.done {
			return sent, true, nil
		}
		if next.segment == nil {
			if next.finish != nil && !s.finished {
				s.finished = true
				s.watchdog.Reset(ackTimeout)
				return true, false, s.sendFrame(&tcmv1.PublishResultsRequest{Frame: &tcmv1.PublishResultsRequest_Finish{Finish: next.finish}})
			}
			if next.due > 0 {
				flush.Reset(next.due)
			}
			return sent, false, nil
		}
		if next.first {
			s.watchdog.Reset(ackTimeout)
		}
		if err := s.sendSegment(next.segment, next.base); err != nil {
			return sent, false, err
		}
		sent = true
		select {
		case away := <-s.away:
			return sent, false, away
		default:
		}
	}
}

// upcoming is what the sender has to do next.
type upcoming struct {
	segment *segment
	base    uint64
	first   bool                 // nothing else waits for an ack
	due     time.Duration        // until the open segment has waited long enough; 0 if there is none
	finish  *tcmv1.PublishFinish // all was sent, and this is the end
	done    bool                 // the finish is committed
}

// nextSegment decides what to send next. A segment on disk is pinned for the
// reader.
func (p *Publisher) nextSegment() upcoming {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.report.Finished {
		return upcoming{done: true}
	}
	age := time.Since(p.opened)
	flush := p.finish != nil || age >= flushAfter
	if s := p.queue.unsent(flush); s != nil {
		p.queue.pinned = s
		return upcoming{segment: s, base: p.base, first: p.queue.next == 1}
	}
	if !p.queue.sentAll() {
		return upcoming{due: max(flushAfter-age, time.Millisecond)}
	}
	if p.finish != nil {
		p.finish.LastSequence = p.base + p.queue.sequence
		return upcoming{finish: p.finish}
	}
	return upcoming{}
}

// sendSegment sends a segment, in as many requests as the server's limit asks
// for. An item that alone is above the limit is sent empty, so that the server
// rejects it and goes on.
func (s *upload) sendSegment(seg *segment, base uint64) error {
	defer s.p.unpin()
	items, err := s.p.bytesOf(seg)
	if err != nil {
		return err
	}
	first := base + seg.first
	for len(items) > 0 {
		size, count := splitItems(items, s.limit-frameOverhead)
		if count == 0 {
			return status.Error(codes.Internal, "the spool holds something that is no item")
		}
		part := items[:size]
		if size > s.limit-frameOverhead {
			part, _ = appendItem(nil, &tcmv1.PublishItem{})
		}
		if err := s.sendMessage(newEncodedBatch(first, part)); err != nil {
			return err
		}
		first += uint64(count)
		items = items[size:]
	}
	return nil
}

// bytesOf returns the entries of a pinned segment.
func (p *Publisher) bytesOf(seg *segment) ([]byte, error) {
	p.mu.Lock()
	data, file := seg.data, p.queue.file
	p.mu.Unlock()
	if data != nil {
		return data, nil
	}
	return seg.read(file)
}

// unpin lets the segment that was sent go, if it is committed by now.
func (p *Publisher) unpin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue.pinned = nil
	p.queue.trim()
}

// sendFrame sends one request.
func (s *upload) sendFrame(req *tcmv1.PublishResultsRequest) error { return s.sendMessage(req) }

// sendMessage sends one request, encoded or not. It waits while the server's
// window is full; the watchdog ends that.
func (s *upload) sendMessage(m any) error {
	if err := s.stream.SendMsg(m); err != nil {
		return errReceiverEnded // it gets the status
	}
	return nil
}

// receive is the receiving half. It never waits for the sender, since a server
// that can't send its acks stops reading.
func (s *upload) receive() error {
	for {
		resp, err := s.stream.Recv()
		if err != nil {
			return endOfStream(err)
		}
		switch f := resp.GetFrame().(type) {
		case *tcmv1.PublishResultsResponse_Welcome:
			s.p.handleWelcome(f.Welcome)
			select {
			case s.welcome <- f.Welcome:
			default: // a second welcome says nothing new
			}
		case *tcmv1.PublishResultsResponse_Ack:
			s.p.handleAck(f.Ack)
			s.watchdog.Reset(ackTimeout)
			if f.Ack.GetFinished() {
				s.p.wakeSender()
			}
		case *tcmv1.PublishResultsResponse_GoingAway:
			select {
			case s.away <- goingAwayError{f.GoingAway.GetReconnectAfter().AsDuration()}:
			default: // it was said already
			}
		}
	}
}

// checkAcks ends a connection on which sent items stay unacknowledged.
func (s *upload) checkAcks() {
	s.p.mu.Lock()
	waiting := s.p.queue.next > 0 || s.p.finish != nil && !s.p.report.Finished
	s.p.mu.Unlock()
	if waiting {
		s.cancel(errStalled)
		return
	}
	s.watchdog.Reset(ackTimeout)
}
