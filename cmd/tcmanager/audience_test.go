package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// audience is one session of a person: what was heard in it, and what of that
// the script has asked for already.
type audience struct {
	open func() (grpc.BidiStreamingClient[pb.SubscribeRequest, pb.SubscribeResponse], context.CancelFunc, error)
	id   string // the session's

	stream grpc.BidiStreamingClient[pb.SubscribeRequest, pb.SubscribeResponse]
	cancel context.CancelFunc
	ended  chan struct{} // closed when the stream has ended
	next   uint64        // the number of the last request

	mu        sync.Mutex // guards the rest
	changed   chan struct{}
	heard     []*pb.Event
	taken     map[string]int // room and kind -> how much of heard the script is past
	answers   map[uint64]*pb.SubscribeResponse
	joined    map[string]*pb.Joined // by canonical room
	positions map[string]*pb.Position
	wrong     error // a gap, a repeat, or an event of a room that was not joined
	end       error
}

func newAudience(open func() (grpc.BidiStreamingClient[pb.SubscribeRequest, pb.SubscribeResponse], context.CancelFunc, error)) *audience {
	return &audience{
		open: open, changed: make(chan struct{}), taken: map[string]int{}, answers: map[uint64]*pb.SubscribeResponse{},
		joined: map[string]*pb.Joined{}, positions: map[string]*pb.Position{},
	}
}

// connect opens the stream, the first time or again, and says hello.
func (a *audience) connect() error {
	stream, cancel, err := a.open()
	if err != nil {
		return err
	}
	a.stream, a.cancel, a.ended = stream, cancel, make(chan struct{})
	a.mu.Lock()
	a.end = nil
	a.mu.Unlock()
	go a.listen(stream, a.ended)
	res, err := a.ask(&pb.SubscribeRequest{Frame: &pb.SubscribeRequest_Hello{Hello: &pb.Hello{Client: "script", SessionId: a.id}}})
	if err != nil {
		return err
	}
	a.id = res.GetWelcome().GetSessionId()
	return nil
}

// hangUp ends the stream without a word and waits until it has ended here.
func (a *audience) hangUp() {
	if a.cancel == nil {
		return
	}
	a.cancel()
	<-a.ended
}

func (a *audience) listen(stream grpc.BidiStreamingClient[pb.SubscribeRequest, pb.SubscribeResponse], ended chan<- struct{}) {
	defer close(ended)
	for {
		res, err := stream.Recv()
		a.mu.Lock()
		if err != nil {
			a.end = err
		} else {
			a.noteLocked(res)
		}
		close(a.changed)
		a.changed = make(chan struct{})
		a.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (a *audience) noteLocked(res *pb.SubscribeResponse) {
	for _, ev := range res.Events {
		a.checkLocked(ev)
		a.heard = append(a.heard, ev)
	}
	if j := res.GetJoined(); j != nil {
		a.joined[j.Room] = j
		switch {
		case !j.Recovered:
			a.positions[j.Room] = proto.CloneOf(j.Position)
		case a.positions[j.Room] == nil:
			// A run that started after its project was joined: all of it follows.
			a.positions[j.Room] = &pb.Position{}
		}
	}
	if b := res.GetBookmark(); b != nil {
		a.positions[b.Room] = b.Position
	}
	for _, gone := range []string{res.GetLeft().GetRoom(), res.GetEvicted().GetRoom()} {
		delete(a.positions, gone)
	}
	if res.ReplyTo != 0 {
		a.answers[res.ReplyTo] = res
	}
}

// checkLocked holds what is heard against what is promised of every room:
// ordered, unique, without a gap.
func (a *audience) checkLocked(ev *pb.Event) {
	at := a.positions[ev.Room]
	switch {
	case ev.Offset == 0: // not durable: these may come just before the answer to the join
	case at == nil:
		a.wrong = errors.Join(a.wrong, fmt.Errorf("an event of %s, which was not joined: %v", ev.Room, ev))
	case ev.Offset != at.Offset+1:
		a.wrong = errors.Join(a.wrong, fmt.Errorf("%s: after event %d comes %d: %v", ev.Room, at.Offset, ev.Offset, ev))
	default:
		a.positions[ev.Room] = &pb.Position{Epoch: ev.Epoch, Offset: ev.Offset}
	}
}

// wait waits until ready, which is called with the lock held, returns true.
func (a *audience) wait(what string, ready func() bool) error {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		a.mu.Lock()
		ok, wrong, end, changed := ready(), a.wrong, a.end, a.changed
		a.mu.Unlock()
		switch {
		case wrong != nil:
			return wrong
		case ok:
			return nil
		case end != nil:
			return end
		}
		select {
		case <-changed:
		case <-deadline.C:
			return fmt.Errorf("nothing of the kind in %s: %s", patience, what)
		}
	}
}

// refused is an answer that is an error.
type refused struct{ because *pb.Error }

func (r refused) Error() string { return r.because.Reason + ": " + r.because.Message }

// ask sends a request and returns the answer to it.
func (a *audience) ask(req *pb.SubscribeRequest) (*pb.SubscribeResponse, error) {
	a.next++
	req.Id = a.next
	if err := a.stream.Send(req); err != nil {
		<-a.ended // the reason comes with the end
		return nil, a.end
	}
	var res *pb.SubscribeResponse
	err := a.wait("an answer", func() bool { res = a.answers[req.Id]; return res != nil })
	if err == nil && res.GetError() != nil {
		return nil, refused{res.GetError()}
	}
	return res, err
}

// join comes into a room, from where the session was if it was in it before.
func (a *audience) join(room string, detail pb.Detail, at *pb.Position) (*pb.Joined, error) {
	res, err := a.ask(&pb.SubscribeRequest{Frame: &pb.SubscribeRequest_Join{Join: &pb.JoinRoom{Room: room, Detail: detail, Position: at}}})
	return res.GetJoined(), err
}

// resume connects again and goes on in every room.
func (a *audience) resume() error {
	if err := a.connect(); err != nil {
		return err
	}
	a.mu.Lock()
	rooms := maps.Clone(a.positions)
	a.mu.Unlock()
	for room, at := range rooms {
		joined, err := a.join(room, 0, at)
		if err != nil {
			return err
		}
		if !joined.Recovered {
			return fmt.Errorf("%s was not continued from %v", room, at)
		}
	}
	return nil
}

// take returns the next event of a room and kind that fits, and passes over
// those before it.
func (a *audience) take(room, kind string, want conditions) (*pb.Event, error) {
	var found *pb.Event
	err := a.wait(strings.TrimSpace(room+" "+kind+" "+want.String()), func() bool {
		found = a.findLocked(room, kind, want, true)
		return found != nil
	})
	if err != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		return nil, fmt.Errorf("%w\nheard:\n%s", err, listing(a.heard))
	}
	return found, nil
}

// untaken returns an event that fits and has arrived already. A ping before it
// makes sure that what the server had sent has.
func (a *audience) untaken(room, kind string, want conditions) (*pb.Event, error) {
	if _, err := a.ask(&pb.SubscribeRequest{Frame: &pb.SubscribeRequest_Ping{Ping: &pb.Ping{}}}); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.findLocked(room, kind, want, false), a.wrong
}

func (a *audience) findLocked(room, kind string, want conditions, pass bool) *pb.Event {
	lane := room + " " + kind
	for i := a.taken[lane]; i < len(a.heard); i++ {
		ev := a.heard[i]
		if ev.Room != room || kindOf(ev) != kind || !want.holdFor(payloadOf(ev)) {
			continue
		}
		if pass {
			a.taken[lane] = i + 1
		}
		return ev
	}
	return nil
}

func listing(events []*pb.Event) string {
	var b strings.Builder
	for _, ev := range events {
		fmt.Fprintf(&b, "  %v\n", ev)
	}
	return b.String()
}
