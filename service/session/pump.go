package session

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/wire"
)

// fairFrames is how many frames a worker sends to one client before it looks at the
// others: 128 KiB if it is far behind.
const fairFrames = 4

// visit is the worker's call on a session that is due.
func (s *Session) visit(now time.Time) { s.heed(s.out.start(now), now) }

// ripen is the worker's call on a session that was held.
func (s *Session) ripen(t tier, now time.Time) { s.heed(s.out.ripen(t), now) }

func (s *Session) heed(v verdict, now time.Time) {
	switch v {
	case leaveIt:
	case holdIt:
		s.hold(now)
	case goOn:
		if s.quick == nil { // a Send may wait
			s.srv.hands.do(s.pumpAside)
			return
		}
		s.pump(false, now)
	}
}

func (s *Session) hold(now time.Time) {
	wait, t := s.out.heldFor(now)
	s.worker.hold(s, wait, t)
}

func (s *Session) pumpAside() { s.pump(true, time.Now()) }

// step is what came of trying to send.
type step uint8

const (
	moved     step = iota // a frame was sent, or something else was done: there may be more
	idle                  // nothing is to be sent
	unflushed             // the last frame is still on its way
	slow                  // only who may wait can go on
)

// pump sends what waits, until nothing does. Whoever calls it has the turn, which
// it gives back or hands on. On a worker nothing may wait: there it hands the turn
// to a goroutine of its own when only that can go on. A worker's clock
// stands still during a visit, which takes no time to speak of.
func (s *Session) pump(mayWait bool, now time.Time) {
	var panicked error
	defer func() {
		if panicked != nil {
			s.end(panicked)
			s.out.quit()
		}
	}()
	defer recovered(&panicked)
	followed := false
	for frames := 1; ; frames++ {
		did, err := s.next(mayWait, now, &followed)
		if err != nil {
			s.end(err)
			s.out.quit()
			return
		}
		switch {
		case did == slow:
			s.srv.hands.do(s.pumpAside)
			return
		case did == moved && mayWait && (s.out.asks.Load() != 0 || s.watch != nil):
			if s.out.isStopping() {
				s.out.quit()
				return
			}
			now = time.Now()
			continue // there is more to look at than the queues
		case did == moved && !mayWait && frames >= fairFrames:
			if s.out.yield() {
				s.worker.add(s)
			}
			return
		}
		if mayWait {
			now = time.Now()
		}
		switch s.out.finish(now, did == unflushed) {
		case leaveIt:
			return
		case holdIt:
			s.hold(now)
			return
		case goOn:
		}
	}
}

// next sends the next frame, reading the log if only that has one. It looks at
// everything else between two frames, so that a busy room or a long log doesn't
// put off the loss of a right or the end of a token.
func (s *Session) next(mayWait bool, now time.Time, followed *bool) (step, error) {
	asks := s.out.asks.Load()
	if asks != 0 && !mayWait {
		return slow, nil
	}
	if asks&askCheck != 0 { // before anything is sent of a room that the user may no longer be in
		s.out.asks.And(^askCheck)
		s.recheck(s.ctx)
	}
	if s.isExpired(now) { // the timer may be late
		return idle, errExpired
	}
	if asks&askRuns != 0 && !*followed { // once a frame: a run's room may have to wait for one
		s.out.asks.And(^askRuns)
		*followed = true
		s.follow(s.ctx)
	}
	if !s.isFlushed(now) {
		return unflushed, nil
	}
	asked := s.hasAsked()
	frame, found, err := s.out.take(now)
	if err != nil {
		return idle, err
	}
	if !found && s.out.isBehind() {
		if !mayWait {
			return slow, nil
		}
		frame, found, err = s.readLog(s.ctx)
		if err != nil || found && frame.Size() == 0 {
			return moved, err
		}
	}
	if !found {
		return s.rest(asked, followed)
	}
	*followed = false
	if s.watch != nil {
		s.sent++
	}
	return moved, s.send(frame)
}

// rest looks at what is to be done only when nothing waits.
func (s *Session) rest(asked bool, followed *bool) (step, error) {
	asks := s.out.asks.Load()
	if asks&askRuns != 0 {
		*followed = false
		return moved, nil
	}
	if asks&askGo != 0 {
		if away := s.mayGo(); away > 0 {
			at, all := s.out.cursors()
			if !all {
				return moved, nil // something came since it was looked what waits
			}
			return idle, s.farewell(away, at)
		}
	}
	if asked && s.isGreeted() && s.watch.polls(s.sent > s.out.told.Load()) {
		return idle, errExpected
	}
	return idle, nil
}

func (s *Session) send(frame wire.Frame) error {
	if s.quick != nil {
		return s.quick.Send(frame)
	}
	s.sendingSince.Store(time.Now().UnixNano())
	defer s.sendingSince.Store(0)
	return s.stream.Send(frame)
}

// isFlushed reports whether the next frame may be sent. If not, the carrier calls
// when it may.
func (s *Session) isFlushed(now time.Time) bool {
	if s.quick == nil {
		return true
	}
	if s.quick.Flushed(s.ready) {
		if s.sendingSince.Load() != 0 {
			s.sendingSince.Store(0)
		}
		return true
	}
	s.sendingSince.CompareAndSwap(0, now.UnixNano())
	return false
}

// hasAsked reports whether every frame of a Watch was handled, and its answer
// queued. It has to be looked at before what waits: the last answer, queued in
// between, would be taken for sent.
func (s *Session) hasAsked() bool { return s.watch != nil && s.watch.hasAsked() }

// drain makes the session end once the request in hand is answered and all that
// waits is sent. The client is asked to stay away for a while.
func (s *Session) drain(away time.Duration) {
	s.mu.Lock()
	s.draining = away
	s.mu.Unlock()
	s.out.call(askGo)
}

// mayGo returns how long the client is to stay away, once the server drains and
// nothing is in hand; 0 otherwise.
func (s *Session) mayGo() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handling {
		return 0
	}
	return s.draining
}

// setHandling says whether a request is being carried out, and makes who waits for
// its end look again.
func (s *Session) setHandling(now bool) {
	s.mu.Lock()
	s.handling = now
	waits := !now && s.draining > 0
	s.mu.Unlock()
	if waits {
		s.out.call(0)
	}
}

// farewell tells the client where it is and when to come back. It is the last
// frame: all that it speaks of was sent.
func (s *Session) farewell(away time.Duration, at []*pb.Bookmark) error {
	frame, err := wire.Encode(&pb.SubscribeResponse{Frame: &pb.SubscribeResponse_GoingAway{GoingAway: &pb.GoingAway{
		ReconnectAfter: durationpb.New(away), Reason: "the server is stopping", Cursors: at,
	}}})
	if err == nil {
		err = s.send(frame)
	}
	if err != nil {
		return err
	}
	return errDraining.After(away)
}
