package session

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// warnBefore is how long before the end of a token a client is asked for a new one.
const warnBefore = time.Minute

// look ends a session whose time is up, does what is due, and sets the session's
// timer for what is due next. Nothing that comes or goes sets the timer: what it
// put off is seen when the timer would have meant the end.
func (s *Session) look() {
	s.looking.Lock()
	defer s.looking.Unlock()
	now := time.Now()
	next, why := s.overdue(now)
	if why != nil {
		s.end(why)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.timer.Reset(next)
	}
}

// overdue returns how long it is until something is due, or why the session has to
// end now.
func (s *Session) overdue(now time.Time) (next time.Duration, why error) {
	if s.ctx.Err() != nil {
		return 0, errLeft // it has ended
	}
	if !s.isGreeted() {
		return 0, errHelloLate
	}
	if s.isExpired(now) {
		return 0, errExpired
	}
	left := s.leaseLeft(now)
	if left <= 0 {
		return 0, s.leaseOver()
	}
	next = left
	if since := s.sendingSince.Load(); since != 0 {
		left = s.srv.cfg.HeartbeatTimeout - time.Duration(now.UnixNano()-since)
		if left <= 0 {
			return 0, errStalled
		}
		next = min(next, left)
	}
	next = min(next, s.warn(now))
	if s.watch != nil {
		next = min(next, s.pulse(now))
	}
	return next, nil
}

func (s *Session) isGreeted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.greeted
}

// leaseLeft is how much of the lease is left. While a request is in hand nothing
// can be heard.
func (s *Session) leaseLeft(now time.Time) time.Duration {
	s.mu.Lock()
	handling := s.handling
	s.mu.Unlock()
	if handling {
		return s.lease()
	}
	return s.lease() - time.Duration(now.UnixNano()-s.heardAt.Load())
}

// warn asks for a new token if the old one is about to end, once for each. It
// returns how long until the next is to be done about the token.
func (s *Session) warn(now time.Time) time.Duration {
	expires := s.expiresAt.Load()
	left := time.Duration(expires - now.UnixNano())
	if left > warnBefore {
		return left - warnBefore
	}
	s.mu.Lock()
	warned := s.warned == expires
	s.warned = expires
	s.mu.Unlock()
	if !warned {
		s.out.post(&pb.SubscribeResponse{Frame: &pb.SubscribeResponse_TokenExpiring{TokenExpiring: &pb.TokenExpiring{
			ExpiresAt: timestamppb.New(time.Unix(0, expires)),
		}}})
	}
	return left
}

// pulse gives a client that can't ask for signs of life one. It returns how long
// until the next.
func (s *Session) pulse(now time.Time) time.Duration {
	s.mu.Lock()
	first, beats := s.pulseAt.IsZero(), !now.Before(s.pulseAt)
	if beats {
		s.pulseAt = now.Add(s.srv.cfg.HeartbeatInterval)
	}
	left := s.pulseAt.Sub(now)
	s.mu.Unlock()
	if beats && !first {
		s.out.post(pong())
	}
	return left
}
