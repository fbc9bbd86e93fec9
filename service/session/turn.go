package session

import "time"

// turn says whose turn it is to send. It is guarded by the outbox's lock, so that
// what is queued and who is to send it are decided together and nothing is left
// lying.
type turn struct {
	is      state
	more    bool          // something waits that take hasn't looked at
	called  bool          // there is something else to look at
	listed  bool          // the session is on its worker's list of those that are held
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

// start takes the turn for a session that is due, or whose time has come if it was
// held.
func (o *outbox) start(now time.Time, ripe bool) verdict {
	o.mu.Lock()
	defer o.mu.Unlock()
	if ripe {
		o.turn.listed = false
	}
	switch {
	case o.turn.is == due && o.lingersLocked(now):
		return o.holdLocked()
	case o.turn.is == due, o.turn.is == held && ripe:
		o.turn.is, o.turn.called = sending, false
		return goOn
	default:
		return leaveIt
	}
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
	case o.lingersLocked(now):
		return o.holdLocked()
	default:
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

func (o *outbox) holdLocked() verdict {
	o.turn.is = held
	if o.turn.listed {
		return leaveIt
	}
	o.turn.listed = true
	return holdIt
}

// lingersLocked reports whether what waits may wait for more to come: nothing but
// events, of which some were sent just now, and not yet a frame full.
func (o *outbox) lingersLocked(now time.Time) bool {
	if o.turn.linger <= 0 || o.turn.called || o.logs || o.bytes >= frameBytes ||
		o.broken != nil || len(o.control) > 0 || o.acked != 0 || o.asks.Load() != 0 {
		return false
	}
	since := now.UnixNano() - o.turn.flushed
	return 0 <= since && since < int64(o.turn.linger)
}

// heldFor returns how long what waits may wait for more to come.
func (o *outbox) heldFor(now time.Time) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.turn.linger - time.Duration(now.UnixNano()-o.turn.flushed)
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
