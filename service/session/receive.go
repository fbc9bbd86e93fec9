package session

import (
	"context"
	"errors"
	"sync"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// receive reads requests and has them carried out, one after the other, until the
// stream ends. To carry one out takes a deep stack, which the goroutine that waits here
// for the next would keep; an activity takes none.
func (s *Session) receive() {
	var r received
	var err error
	goesOn := make(chan bool, 1)
	take := func() {
		more := false
		s.receiving(func() { more = s.take(&r, err) })
		goesOn <- more
	}
	s.receiving(func() {
		for {
			err = s.recv(&r)
			if err == nil && r.isActivity {
				take()
			} else {
				s.srv.hands.do(take)
			}
			if !<-goesOn {
				return
			}
			r.at = time.Time{} // the next one may take its time to come
			if s.out.claim() { // an answer that nobody was called for
				s.srv.hands.do(s.pumpAside)
			}
		}
	})
}

// receiving ends the session with the panic that a request may bring about.
func (s *Session) receiving(work func()) {
	var panicked error
	defer func() {
		if panicked != nil {
			s.end(panicked)
		}
	}()
	defer recovered(&panicked)
	work()
}

// listen is receive for a carrier on which waiting for a request takes next to
// nothing: the goroutine that rests here has a small stack, and what a request
// needs is done on another. It returns when the session has ended.
func (s *Session) listen() {
	done := make(chan struct{}, 1)
	work := func() {
		s.receiving(s.receivePending)
		done <- struct{}{}
	}
	for {
		if err := s.direct.Wait(); err != nil {
			s.end(streamEnd(err))
		}
		if s.ctx.Err() != nil {
			return
		}
		s.srv.hands.do(work)
		select {
		case <-done:
		case <-s.ctx.Done(): // the request in hand may take its time
			return
		}
	}
}

// receivePending carries out the requests that have come, and then sends what
// answers to signals wait: one for all of them.
func (s *Session) receivePending() {
	r := receiveds.Get().(*received) //nolint:forcetypeassert // it is ours
	for s.receiveNext(r) && s.direct.Pending() {
	}
	r.other, r.at = nil, time.Time{}
	receiveds.Put(r)
	if s.out.claim() {
		s.pump(false, time.Now())
	}
}

// receiveds are those of sessions that receive nothing at the moment.
var receiveds = sync.Pool{New: func() any { return new(received) }}

// receiveNext reads one request and carries it out. It reports false when there
// will be no other.
func (s *Session) receiveNext(r *received) bool { return s.take(r, s.recv(r)) }

// take carries out what was received, or failed to be.
func (s *Session) take(r *received, err error) bool {
	if err == nil {
		err = r.decode()
	}
	switch {
	case errors.Is(err, errSaidAll):
		return false
	case err != nil:
		s.end(streamEnd(err))
		return false
	case s.ctx.Err() != nil: // a newer stream may have taken the session over
		return false
	}
	if r.at.IsZero() {
		r.at = time.Now()
	}
	now := r.at
	if s.id == "" {
		if err := s.greet(r.request()); err != nil {
			s.end(err)
			return false
		}
		return true
	}
	if s.isExpired(now) { // the timer may be late
		s.end(errExpired)
		return false
	}
	s.heardAt.Store(now.UnixNano())
	if r.isActivity && s.signalAtOnce(&r.activity, now) {
		return s.ctx.Err() == nil
	}
	r.at = time.Time{}
	if req := r.request(); req.GetPing() != nil {
		s.handle(s.ctx, req)
	} else {
		s.carryOut(s.ctx, req)
	}
	s.out.paced(s.ctx)
	return s.ctx.Err() == nil
}

// recv reads one request.
func (s *Session) recv(r *received) error {
	if grpc, is := s.stream.(grpcStream); is {
		return grpc.RecvMsg(r)
	}
	req, err := s.stream.Recv()
	if err != nil {
		return err
	}
	r.take(req)
	return nil
}

// carryOut handles a request that may take its time.
func (s *Session) carryOut(ctx context.Context, req *pb.SubscribeRequest) {
	if s.direct != nil && s.out.claim() { // what was answered before doesn't wait for it
		s.pump(false, time.Now())
	}
	s.setHandling(true)
	s.handle(ctx, req)
	s.setHandling(false)
}
