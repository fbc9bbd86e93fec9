package tcmanager

import (
	"context"
	"errors"
	"time"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// pingMargin is how much earlier pings are sent than the server asks for, so
	// that a slow network doesn't make them late.
	pingMargin = 0.8
	// The seed of all servers asks for these; a welcome that names none means them.
	defaultPingInterval = 25 * time.Second
	defaultSilence      = 60 * time.Second
)

// link is one Subscribe stream: one incarnation of a session. Run's goroutine
// sends, and one more receives; what is to be sent follows from what the session
// wants and what this stream was told, so there is no queue between them.
type link struct {
	s        *Session
	ctx      context.Context // ends with the stream
	cancel   context.CancelCauseFunc
	stream   grpc.BidiStreamingClient[tcmv1.SubscribeRequest, tcmv1.SubscribeResponse]
	received chan error  // the receiver's end
	late     *time.Timer // ends an attempt that the server doesn't welcome

	// Only the receiver uses these.
	silent  *time.Timer // ends a stream on which nothing arrives
	silence time.Duration

	// Session.mu guards all below.
	token    Token             // what the stream was opened with, or was told last
	newer    string            // a token to tell the server of
	lastID   uint64            // of the frames that were sent
	joins    map[uint64]*feed  // that wait for an answer
	commands map[uint64]string // request ids, likewise
	leaves   []string          // canonical names of rooms to leave
	welcome  *tcmv1.Welcome
	since    time.Time // of the welcome
	pingAt   time.Time
	reset    *tcmv1.Reset // why the room's next Joined begins anew
	asking   bool         // a newer token is being fetched
	away     time.Time    // when to come back, once the server has said that it stops
}

// connect opens a stream, serves it, and returns why it ended and how long the
// server was there.
func (s *Session) connect(ctx context.Context) (lived time.Duration, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(s.config.ConnectTimeout, func() {
		cancel(unavailable("the server did not answer within %v", s.config.ConnectTimeout))
	})
	defer late.Stop()
	used, stream, err := s.open(ctx)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return 0, cause // err only says that it was cancelled
		}
		return 0, err
	}
	l := &link{
		s: s, ctx: ctx, cancel: cancel, stream: stream, received: make(chan error, 1), late: late,
		token: used, joins: map[uint64]*feed{}, commands: map[uint64]string{},
	}
	s.attach(l)
	go func() { l.received <- l.receive() }()
	err = l.end(l.send())
	s.detach(l)
	if !l.since.IsZero() {
		lived = time.Since(l.since)
	}
	return lived, s.noteEnd(l, err)
}

// open gets a token and opens the stream.
func (s *Session) open(ctx context.Context) (Token, grpc.BidiStreamingClient[tcmv1.SubscribeRequest, tcmv1.SubscribeResponse], error) {
	// Fail now rather than inside the stream, where a source's error would be
	// taken for the server's.
	used, err := s.client.tokens.get(ctx)
	if err != nil {
		return Token{}, nil, tokenError{err}
	}
	s.client.conn.ResetConnectBackoff()
	stream, err := s.client.Realtime().Subscribe(ctx)
	if status.Code(err) == codes.Unauthenticated {
		s.client.tokens.reject(used)
	}
	return used, stream, err
}

// attach makes l the session's link: all that the session wants is asked for anew.
func (s *Session) attach(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link = l
}

// detach forgets the link. Rooms go on from where they are, and commands that
// were not answered wait to be sent again.
func (s *Session) detach(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link = nil
	for _, f := range s.feeds {
		f.lostLocked()
	}
	for _, r := range s.outbox {
		r.id = 0
	}
	s.fleeting = nil
	l.joins, l.commands, l.leaves = nil, nil, nil
}

// end ends the stream and waits for the receiver. It returns the reason.
func (l *link) end(err error) error {
	cause := context.Cause(l.ctx)
	l.cancel(nil)
	received := <-l.received
	if l.silent != nil {
		l.silent.Stop()
	}
	switch {
	case cause != nil:
		return cause // the status only says that it was cancelled
	case errors.Is(err, errReceiverEnded):
		return received
	default:
		return err
	}
}

// noteEnd draws the conclusions for the next stream.
func (s *Session) noteEnd(l *link, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch code := status.Code(err); {
	case !l.away.IsZero():
		return goingAwayError{max(0, time.Until(l.away))} // how the stream ended after that is no matter
	case code == codes.Unauthenticated:
		s.client.tokens.reject(l.token)
	case code == codes.Aborted:
		// Another stream took the session over. With a session of its own neither
		// disturbs the other.
		s.id = ""
	}
	return err
}

// send is the sending half.
func (l *link) send() error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		l.s.tell()
		due, err := l.sendReady()
		if err != nil {
			return err
		}
		timer.Reset(time.Until(due))
		select {
		case <-l.s.wake:
		case <-timer.C:
		case err := <-l.received:
			l.received <- err
			return errReceiverEnded
		case <-l.ctx.Done():
			return context.Cause(l.ctx)
		}
	}
}

// sendReady sends all that is to be sent, and returns when there is more.
func (l *link) sendReady() (due time.Time, err error) {
	for {
		l.s.mu.Lock()
		frame, due, err := l.nextLocked(time.Now())
		l.s.mu.Unlock()
		if err != nil || frame == nil {
			return due, err
		}
		if err := l.stream.Send(frame); err != nil {
			return due, errReceiverEnded // it gets the status
		}
	}
}

// nextLocked returns the next frame, or when to look again. Joins follow the hello
// at once: the server reads in order, and a round trip is saved. Leaves come before
// joins, so that a room can be left and joined again.
func (l *link) nextLocked(now time.Time) (frame *tcmv1.SubscribeRequest, due time.Time, err error) {
	due = now.Add(time.Hour)
	switch {
	case !l.away.IsZero():
		// The server has told all that it will. It may still answer.
		if !now.Before(l.away) {
			return nil, due, goingAwayError{}
		}
		return nil, l.away, nil
	case l.lastID == 0:
		hello := &tcmv1.Hello{Client: l.s.config.Name, SessionId: l.s.id, NoDelay: l.s.config.NoDelay}
		return l.frameLocked(&tcmv1.SubscribeRequest{Frame: &tcmv1.SubscribeRequest_Hello{Hello: hello}}), due, nil
	case len(l.leaves) > 0:
		room := l.leaves[0]
		l.leaves = l.leaves[1:]
		return l.frameLocked(&tcmv1.SubscribeRequest{Frame: &tcmv1.SubscribeRequest_Leave{Leave: &tcmv1.LeaveRoom{Room: room}}}), due, nil
	}
	for _, f := range l.s.feeds {
		switch {
		case !f.wanted:
		case f.due.After(now):
			due = earlier(due, f.due)
		default:
			return l.joinLocked(f), due, nil
		}
	}
	if l.welcome == nil {
		return nil, due, nil
	}
	if frame := l.saidLocked(now); frame != nil {
		return l.frameLocked(frame), due, nil
	}
	if frame := l.commandLocked(now); frame != nil {
		return frame, due, nil
	}
	return nil, earlier(due, l.pingAt), nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// frameLocked numbers a frame.
func (l *link) frameLocked(frame *tcmv1.SubscribeRequest) *tcmv1.SubscribeRequest {
	l.lastID++
	frame.Id = l.lastID
	return frame
}

// joinLocked asks for a room, from where its reader is.
func (l *link) joinLocked(f *feed) *tcmv1.SubscribeRequest {
	join := &tcmv1.JoinRoom{Room: f.name}
	if f.known {
		join.Position = f.position.proto()
	}
	frame := l.frameLocked(&tcmv1.SubscribeRequest{Frame: &tcmv1.SubscribeRequest_Join{Join: join}})
	f.wanted, f.asked = false, frame.GetId()
	l.joins[frame.GetId()] = f
	return frame
}

// saidLocked returns what is told without an answer being waited for.
func (l *link) saidLocked(now time.Time) *tcmv1.SubscribeRequest {
	switch {
	case l.newer != "":
		token := l.newer
		l.newer = ""
		return &tcmv1.SubscribeRequest{Frame: &tcmv1.SubscribeRequest_RefreshToken{RefreshToken: &tcmv1.RefreshToken{Token: token}}}
	case !now.Before(l.pingAt):
		l.pingAt = now.Add(pingEvery(l.welcome))
		return &tcmv1.SubscribeRequest{Frame: &tcmv1.SubscribeRequest_Ping{Ping: &tcmv1.Ping{}}}
	case len(l.s.fleeting) > 0:
		command := l.s.fleeting[0]
		l.s.fleeting = l.s.fleeting[1:]
		if a := command.GetUpdateActivity(); a != nil {
			if f := l.s.feeds[a.GetRoom()]; f != nil {
				a.Room = f.canonical
			}
		}
		return &tcmv1.SubscribeRequest{Frame: &tcmv1.SubscribeRequest_Command{Command: command}}
	default:
		return nil
	}
}

func pingEvery(w *tcmv1.Welcome) time.Duration {
	interval := max(orDefault(w.GetHeartbeatInterval().AsDuration(), defaultPingInterval), time.Second)
	return time.Duration(float64(interval) * pingMargin)
}

// receive is the receiving half. It never waits for the sender, nor for a reader.
func (l *link) receive() error {
	for {
		frame, err := l.stream.Recv()
		if err != nil {
			return endOfStream(err)
		}
		if l.silent != nil {
			l.silent.Reset(l.silence) // any frame is a sign of life
		}
		if err := l.take(frame); err != nil {
			return err
		}
	}
}

// take takes a frame: its events, and then what else it says.
func (l *link) take(frame *tcmv1.SubscribeResponse) error {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	for _, ev := range frame.GetEvents() {
		if f := l.s.joined[ev.GetRoom()]; f != nil {
			f.acceptLocked(ev)
		}
	}
	defer l.s.settleLocked()
	return l.controlLocked(frame)
}

// controlLocked takes what a frame says beside events. An error is the end of the
// stream.
func (l *link) controlLocked(frame *tcmv1.SubscribeResponse) error {
	switch c := frame.GetFrame().(type) {
	case *tcmv1.SubscribeResponse_Welcome:
		l.welcomedLocked(c.Welcome)
	case *tcmv1.SubscribeResponse_Joined:
		l.joinedLocked(frame.GetReplyTo(), c.Joined)
	case *tcmv1.SubscribeResponse_Ack:
		delete(l.commands, frame.GetReplyTo())
		l.s.answerLocked(c.Ack.GetRequestId(), answer{result: c.Ack.GetResult()})
	case *tcmv1.SubscribeResponse_Error:
		return l.refusedLocked(frame.GetReplyTo(), errorOfFrame(c.Error))
	case *tcmv1.SubscribeResponse_TokenExpiring:
		l.refreshLocked()
	case *tcmv1.SubscribeResponse_GoingAway:
		l.away = time.Now().Add(c.GoingAway.GetReconnectAfter().AsDuration())
		l.s.setStateLocked(State{Phase: PhaseReconnecting, RetryAt: l.away})
		l.s.poke()
	default:
		l.roomLocked(frame)
	}
	return nil
}

// roomLocked takes what is said of a room that is joined.
func (l *link) roomLocked(frame *tcmv1.SubscribeResponse) {
	switch c := frame.GetFrame().(type) {
	case *tcmv1.SubscribeResponse_Bookmark:
		if f := l.s.joined[c.Bookmark.GetRoom()]; f != nil {
			f.bookmarkLocked(positionOf(c.Bookmark.GetPosition()))
		}
	case *tcmv1.SubscribeResponse_Reset_:
		l.reset = c.Reset_
	case *tcmv1.SubscribeResponse_Evicted:
		if f := l.s.joined[c.Evicted.GetRoom()]; f != nil {
			e := errorOfFrame(c.Evicted.GetError())
			if c.Evicted.GetError() == nil {
				e.Code = codes.PermissionDenied
			}
			f.evictedLocked(e)
		}
	case *tcmv1.SubscribeResponse_Left:
		// To a leave that crossed a newer join: the room is still wanted.
		if f := l.s.joined[c.Left.GetRoom()]; f != nil {
			f.rejoinLocked()
		}
	default:
		// A pong, word of lag, or a frame of a newer server.
	}
}

// welcomedLocked begins the stream.
func (l *link) welcomedLocked(w *tcmv1.Welcome) {
	if l.welcome != nil {
		return // it says nothing new
	}
	s := l.s
	l.late.Stop()
	l.silence = max(orDefault(w.GetHeartbeatTimeout().AsDuration(), defaultSilence), time.Second)
	l.silent = time.AfterFunc(l.silence, func() { l.cancel(unavailable("nothing was heard of the server for %v", l.silence)) })
	l.welcome, l.since = w, time.Now()
	l.pingAt = l.since.Add(pingEvery(w))
	s.id, s.window = w.GetSessionId(), w.GetRequestWindow().AsDuration()
	s.setStateLocked(State{Phase: PhaseCatchingUp})
	s.poke()
}

// joinedLocked takes the state of a room: the answer to a join, or what follows a
// reset and answers nothing.
func (l *link) joinedLocked(to uint64, j *tcmv1.Joined) {
	f, asked := l.joins[to]
	delete(l.joins, to)
	there := l.s.joined[j.GetRoom()]
	reason := ""
	if l.reset.GetRoom() == j.GetRoom() {
		reason = l.reset.GetReason()
		l.reset = nil
	}
	switch {
	case !asked && there != nil:
		there.joinedLocked(j, reason)
	case !asked:
		// Of a room that is being joined again, or was left: its own answer decides.
	case f.asked == to && (there == nil || there == f):
		f.joinedLocked(j, reason)
	case f.asked == to:
		// The same room under its other name, from another place.
		f.endLocked(ErrRoomTaken)
		there.rejoinLocked()
	case there == nil && f.asked == 0 && !f.wanted:
		// It was left while the answer, which tells its name, was on its way.
		l.leaves = append(l.leaves, j.GetRoom())
		l.s.poke()
	}
}

// refusedLocked takes an error: the answer to a frame.
func (l *link) refusedLocked(to uint64, e *Error) error {
	if to == 1 {
		return e // the hello
	}
	if f := l.joins[to]; f != nil {
		delete(l.joins, to)
		if f.asked == to {
			f.refusedLocked(e)
		}
		return nil
	}
	if id, ok := l.commands[to]; ok {
		delete(l.commands, to)
		l.s.answerLocked(id, answer{err: e})
	}
	return nil // of a token, a ping or typing: whatever it means, the stream's end will say so
}

// refreshLocked fetches a newer token while the stream goes on. If there is none,
// the stream's end leads to the next attempt, which says why.
func (l *link) refreshLocked() {
	if l.asking {
		return
	}
	l.asking = true
	used := l.token
	l.s.background.Go(func() {
		l.s.client.tokens.reject(used)
		token, err := l.s.client.tokens.get(l.ctx)
		l.s.mu.Lock()
		defer l.s.mu.Unlock()
		l.asking = false
		if err != nil || token.Value == "" || token.Value == used.Value {
			return
		}
		l.token, l.newer = token, token.Value
		l.s.poke()
	})
}
