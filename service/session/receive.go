package session

import (
	"context"
	"errors"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// receive reads requests and has them carried out, one after the other, until the
// stream ends. To carry one out takes a deep stack, which the goroutine that waits here
// for the next would keep.
func (s *Session) receive() {
	goesOn := make(chan bool, 1)
	s.receiving(func() {
		for {
			req, err := s.stream.Recv()
			s.srv.hands.do(func() {
				more := false
				s.receiving(func() { more = s.takeAside(req, err) })
				goesOn <- more
			})
			if !<-goesOn {
				return
			}
		}
	})
}

// takeAside is take for a carrier whose Send may wait.
func (s *Session) takeAside(req *pb.SubscribeRequest, err error) bool {
	if !s.take(req, err) {
		return false
	}
	if s.out.claim() { // an answer that nobody was called for
		s.srv.hands.do(s.pumpAside)
	}
	return true
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
	for s.receiveNext() && s.direct.Pending() {
	}
	if s.out.claim() {
		s.pump(false, time.Now())
	}
}

// receiveNext reads one request and carries it out. It reports false when there
// will be no other.
func (s *Session) receiveNext() bool { return s.take(s.stream.Recv()) }

// take carries out what was received.
func (s *Session) take(req *pb.SubscribeRequest, err error) bool {
	switch {
	case errors.Is(err, errSaidAll):
		return false
	case err != nil:
		s.end(streamEnd(err))
		return false
	case s.ctx.Err() != nil: // a newer stream may have taken the session over
		return false
	}
	now := time.Now()
	if s.id == "" {
		if err := s.greet(req); err != nil {
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
	if s.isQuick(req) {
		s.handle(s.ctx, req)
	} else {
		s.carryOut(s.ctx, req)
	}
	s.out.paced(s.ctx)
	return s.ctx.Err() == nil
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
