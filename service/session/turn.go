package session

import "time"

// turn says whose turn it is to send. It is guarded by the outbox's lock, so that
// what is queued and who is to send it are decided together and nothing is left
// lying.
type turn struct {
	is      state
	more    bool          // something waits that take hasn't looked at
	called  bool          // there is something else to look at
	tier    tier          // if it is held, for what
	listed  [tiers]bool   // the session is on its worker's list of those that are held so
	linger  time.Duration // at least so long lies between two frames of events alone, if there is more
	flushed int64         // when events were sent last, in nanoseconds since 1970
	stopped chan struct{} // closed once nobody sends any more; nil until somebody waits for that
}

// state is where a session is on its way to the network.
type state uint8

const (
	resting state = iota // there is nothing to do
	due                  // it is on its worker's list
	held                 // likewise, but its time comes later: it was flushed just now
	stuck                // its carrier will call once it has flushed
	sending              // somebody is at it
	over                 // the session has ended, and nobody sends any more
)

// tier is for how long a session is held.
type tier uint8

const (
	brief tier = iota // for the linger
	calm              // for the calm: all that waits can wait for an event that can't
	tiers
)

// calmLinger is how long what is of class LATEST alone waits for an event to go with
// after some were sent: a progress bar that moves ten times a second then costs no
// frames of its own beside the results that move it.
const calmLinger = 100 * time.Millisecond

// What whoever sends has to look at beside the queues.
const (
	askCheck uint32 = 1 << iota // rights may have changed
	askRuns                     // a run of a followed project started or ended
	askGo                       // the server drains; this stays set
)

// dueLocked notes that something was queued. It reports whether the session has to
// be put on its worker's list. What is not urgent may linger.
func (o *outbox) dueLocked(urgent bool) bool {
	o.turn.more = true
	urgent = urgent || o.turn.tier == calm && !o.isCalmLocked()
	if o.turn.is == resting || urgent && o.turn.is == held {
		o.turn.is = due
		return true
	}
	return false
}

// call makes whoever sends look at something, even if nothing can be sent.
func (o *outbox) call(asks uint32) {
	o.asks.Or(asks)
	o.mu.Lock()
	o.turn.called = true
	summon := o.turn.is == resting || o.turn.is == held || o.turn.is == stuck
	if summon {
		o.turn.is = due
	}
	o.unlock(summon)
}

// noDelay makes events go as they come.
func (o *outbox) noDelay() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.turn.linger = 0
}

// ready is called by a carrier that has flushed.
func (o *outbox) ready() {
	o.mu.Lock()
	o.turn.called = true // it may be about to get stuck
	summon := o.turn.is == stuck
	if summon {
		o.turn.is = due
	}
	o.unlock(summon)
}

// verdict is what comes next for a session.
type verdict uint8

const (
	leaveIt verdict = iota // nothing, now
	goOn                   // send
	holdIt                 // put it on its worker's list of those that are held
)

// start takes the turn for a session that is due.
func (o *outbox) start(now time.Time) verdict {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.turn.is != due {
		return leaveIt
	}
	if left, t := o.lingerLocked(now); left > 0 {
		return o.holdLocked(t)
	}
	o.turn.is, o.turn.called = sending, false
	return goOn
}

// ripen takes the turn for a session whose time has come if it is held still.
func (o *outbox) ripen(t tier) verdict {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.turn.listed[t] = false
	if o.turn.is != held || o.turn.tier != t {
		return leaveIt
	}
	o.turn.is, o.turn.called = sending, false
	return goOn
}

// claim takes the turn for whoever receives, to acknowledge signals, which summons
// nobody. It reports false if there are none, or somebody else will.
func (o *outbox) claim() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.acked == 0 || o.turn.is != resting && o.turn.is != held {
		return false
	}
	o.turn.is, o.turn.called = sending, false
	return true
}

// finish gives the turn back when there is nothing to do, or nothing can be done
// until the carrier calls. It says goOn if something came meanwhile.
func (o *outbox) finish(now time.Time, unflushed bool) verdict {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.stopLocked():
		return leaveIt
	case o.turn.called:
		o.turn.called = false
		return goOn
	case unflushed:
		o.turn.is = stuck
	case !o.turn.more && !o.logs:
		o.turn.is = resting
	default:
		if left, t := o.lingerLocked(now); left > 0 {
			return o.holdLocked(t)
		}
		return goOn
	}
	return leaveIt
}

// yield gives the turn to whoever comes behind the others that are due. It reports
// false if the session has ended.
func (o *outbox) yield() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stopLocked() {
		return false
	}
	o.turn.is, o.turn.called = due, true
	return true
}

func (o *outbox) holdLocked(t tier) verdict {
	o.turn.is, o.turn.tier = held, t
	if o.turn.listed[t] {
		return leaveIt
	}
	o.turn.listed[t] = true
	return holdIt
}

// isCalmLocked reports whether all that waits is of class LATEST.
func (o *outbox) isCalmLocked() bool { return len(o.durable) == 0 && len(o.ephemeral) == 0 }

// lingerLocked returns how long what waits may wait for more to come, and for what:
// if it is nothing but events, of which some were sent just now, and not yet a frame
// full. It returns 0 if it has to go now.
func (o *outbox) lingerLocked(now time.Time) (left time.Duration, t tier) {
	if o.turn.linger <= 0 || o.turn.called || o.logs || o.bytes >= frameBytes ||
		o.broken != nil || len(o.control) > 0 || o.acked != 0 || o.asks.Load() != 0 {
		return 0, brief
	}
	linger := o.turn.linger
	if o.isCalmLocked() {
		linger, t = max(linger, calmLinger), calm
	}
	since := time.Duration(now.UnixNano() - o.turn.flushed)
	if since < 0 {
		return 0, brief
	}
	return linger - since, t
}

// heldFor returns how long what waits may wait for more to come, and for what.
func (o *outbox) heldFor(now time.Time) (time.Duration, tier) {
	o.mu.Lock()
	defer o.mu.Unlock()
	left, _ := o.lingerLocked(now)
	return max(left, 0), o.turn.tier
}

// stop ends the sending: what waits is dropped and nobody sends any more. Somebody
// who is at it is waited for, but not for long: a client that reads nothing would
// keep a Send for ever.
func (o *outbox) stop(patience time.Duration) {
	o.mu.Lock()
	if o.turn.is != sending {
		o.overLocked()
		o.mu.Unlock()
		return
	}
	stopped := make(chan struct{})
	o.turn.stopped = stopped
	o.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-stopped:
	case <-timer.C:
	}
}

// quit ends the sending for whoever is at it.
func (o *outbox) quit() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.stopLocked() {
		o.overLocked()
	}
}

// stopLocked is for who has the turn: it reports whether the session has ended.
func (o *outbox) stopLocked() bool {
	if o.turn.stopped == nil {
		return o.turn.is == over
	}
	close(o.turn.stopped)
	o.turn.stopped = nil
	o.overLocked()
	return true
}

func (o *outbox) overLocked() {
	o.turn.is = over
	o.control, o.durable, o.ephemeral, o.latest = nil, nil, nil, newest{}
	o.bytes, o.replies = 0, 0
	o.makeRoomLocked()
}

// isStopping reports whether whoever sends should stop.
func (o *outbox) isStopping() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.turn.stopped != nil || o.turn.is == over
}
