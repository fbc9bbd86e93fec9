package tcmanager

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

const (
	// maxFleeting is how many frames wait to be sent that are worth nothing later.
	maxFleeting = 32
	// requestOverhead is what a frame takes beside its command.
	requestOverhead = 32
)

// request is a command that waits for its answer.
type request struct {
	command *tcmv1.Command
	id      uint64    // of its frame on the link; 0 while it was not sent there
	sent    time.Time // when it first was; zero while it was not
	answer  chan answer
}

type answer struct {
	result *tcmv1.CommandResult
	err    error
}

// Do gives the server a command and waits for the answer: over as many streams as
// it takes, under one request id, so that it is carried out once. Commands that wait
// are sent in the order in which Do was called. An *Error in the chain is the
// server's refusal, the end of the session, or "OUTBOX_FULL": too many wait already.
//
// The end of ctx ends the waiting: a command that was not sent yet never is; what
// became of one that was is not known, and Do with the same request id tells. The
// command may be changed once Do has returned; it gets a request id if it has none.
func (s *Session) Do(ctx context.Context, command *tcmv1.Command) (*tcmv1.CommandResult, error) {
	switch command.GetCommand().(type) {
	case nil, *tcmv1.Command_UpdateActivity, *tcmv1.Command_UpdatePresence:
		return nil, &Error{
			Code:    codes.InvalidArgument,
			Message: "a command without an answer can't be waited for: use SetActivity or SetPresence",
		}
	}
	if command.GetRequestId() == "" {
		command.RequestId = rand.Text()
	}
	r := &request{command: proto.CloneOf(command), answer: make(chan answer, 1)}
	if err := s.keep(r); err != nil {
		return nil, err
	}
	select {
	case a := <-r.answer:
		return a.result, a.err
	case <-ctx.Done():
		s.drop(r)
		return nil, fmt.Errorf("wait for the answer to command %s: %w", command.GetRequestId(), context.Cause(ctx))
	}
}

// keep puts a request into the outbox.
func (s *Session) keep(r *request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed != nil {
		return s.closed
	}
	if len(s.outbox) >= s.config.Outbox {
		return &Error{
			Code: codes.ResourceExhausted, Reason: "OUTBOX_FULL",
			Message: fmt.Sprintf("%d commands wait for their answers already: wait until the connection is back", len(s.outbox)),
		}
	}
	if slices.ContainsFunc(s.outbox, func(o *request) bool { return o.command.GetRequestId() == r.command.GetRequestId() }) {
		return &Error{
			Code: codes.AlreadyExists, Reason: "REQUEST_ID_WAITS",
			Message: fmt.Sprintf("a command with the request id %q waits for its answer already", r.command.GetRequestId()),
		}
	}
	s.outbox = append(s.outbox, r)
	s.poke()
	return nil
}

// drop takes out a request that nobody waits for.
func (s *Session) drop(r *request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.outbox, r); i >= 0 {
		s.outbox = slices.Delete(s.outbox, i, i+1)
		if s.link != nil {
			delete(s.link.commands, r.id)
		}
	}
}

// answerLocked settles a request. An answer that nobody waits for is a repeat's.
func (s *Session) answerLocked(requestID string, a answer) {
	i := slices.IndexFunc(s.outbox, func(r *request) bool { return r.command.GetRequestId() == requestID })
	if i < 0 {
		return
	}
	if a.err == nil && a.result == nil {
		a.result = &tcmv1.CommandResult{}
	}
	s.outbox[i].answer <- a
	s.outbox = slices.Delete(s.outbox, i, i+1)
}

// commandLocked returns the next command that this stream has not carried; nil if
// there is none. One that can't be sent is refused here: it would end each stream
// that carries it, or be carried out twice.
func (l *link) commandLocked(now time.Time) *tcmv1.SubscribeRequest {
	s := l.s
	for i := 0; i < len(s.outbox); {
		r := s.outbox[i]
		if r.id != 0 {
			i++
			continue
		}
		if e := l.unfitLocked(r, now); e != nil {
			s.answerLocked(r.command.GetRequestId(), answer{err: e})
			continue
		}
		frame := l.frameLocked(&tcmv1.SubscribeRequest{Frame: &tcmv1.SubscribeRequest_Command{Command: r.command}})
		r.id = frame.GetId()
		if r.sent.IsZero() {
			r.sent = now
		}
		l.commands[r.id] = r.command.GetRequestId()
		return frame
	}
	return nil
}

// unfitLocked returns why a request can't be sent; nil if it can.
func (l *link) unfitLocked(r *request, now time.Time) *Error {
	limit := int(l.welcome.GetMaxRequestBytes())
	switch size := proto.Size(r.command) + requestOverhead; {
	case limit > 0 && size > limit:
		return &Error{
			Code: codes.InvalidArgument, Reason: "REQUEST_TOO_LARGE",
			Message: fmt.Sprintf("the command has %d bytes, and the server takes %d: make it shorter", size, limit),
		}
	case l.s.window > 0 && !r.sent.IsZero() && now.Sub(r.sent) >= l.s.window:
		return &Error{
			Code: codes.DeadlineExceeded, Reason: "REQUEST_WINDOW_PASSED",
			Message: fmt.Sprintf("the command was sent %v ago, and the server no longer knows whether it was carried out: look, and repeat it", now.Sub(r.sent).Round(time.Second)),
		}
	default:
		return nil
	}
}

// SetActivity tells a room that Events reads what the caller is doing in a field.
// It is dropped if the session is not live.
func (s *Session) SetActivity(room, field string, state tcmv1.ActivityState) {
	s.saySoon(&tcmv1.Command{Command: &tcmv1.Command_UpdateActivity{
		UpdateActivity: &tcmv1.UpdateActivityRequest{Room: room, Field: field, State: state},
	}})
}

// SetPresence tells all rooms whether somebody is there: ONLINE, as each stream
// begins, or IDLE. It is dropped if the session is not live.
func (s *Session) SetPresence(state tcmv1.PresenceState) {
	s.saySoon(&tcmv1.Command{Command: &tcmv1.Command_UpdatePresence{
		UpdatePresence: &tcmv1.UpdatePresenceRequest{State: state},
	}})
}

// saySoon queues a command that is worth nothing later.
func (s *Session) saySoon(c *tcmv1.Command) {
	s.mu.Lock()
	defer s.mu.Unlock()
	up := s.state.Phase == PhaseLive || s.state.Phase == PhaseCatchingUp
	if !up || len(s.fleeting) >= maxFleeting {
		return
	}
	s.fleeting = append(s.fleeting, c)
	s.poke()
}
