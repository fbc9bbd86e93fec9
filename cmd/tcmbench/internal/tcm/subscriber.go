package tcm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/peer"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// Fields of SubscribeResponse, Event and TestExecutionUpdate, held against the
// descriptors by a test.
const (
	respEvents  = 1
	respReplyTo = 2
	respWelcome = 3
	respJoined  = 4
	respAck     = 6
	respError   = 7
	respReset   = 9
	respEvicted = 10
	respGoing   = 13

	joinedPosition = 2
	positionEpoch  = 1
	positionOffset = 2

	eventOffset = 2
	eventEpoch  = 3
	eventTest   = 10

	testDuration  = 8
	testTimestamp = 11

	timestampSeconds = 1
	timestampNanos   = 2
)

// Subscriber is a session that hears one room: a peer.Protocol.
type Subscriber struct {
	transport
	who     Credentials
	on      peer.Handler // during Feed
	payload [16]byte

	room          string
	epoch, offset uint64 // of the newest event heard
	joined        bool
	frame         []byte // scratch
}

// joinID is the request that joins. Those of updates have ids above it.
const joinID = 1

// NewNative returns a session over native gRPC.
func NewNative(who Credentials) *Subscriber { return &Subscriber{transport: newNative(), who: who} }

// NewWeb returns a session over a browser's websocket.
func NewWeb(who Credentials) *Subscriber { return &Subscriber{transport: &web{}, who: who} }

// Resume returns a session that goes on, on a new connection, where this one was.
func (s *Subscriber) Resume() peer.Protocol {
	r := &Subscriber{who: s.who, epoch: s.epoch, offset: s.offset, joined: s.joined}
	if _, ok := s.transport.(*native); ok {
		r.transport = newNative()
	} else {
		r.transport = &web{}
	}
	return r
}

// Open opens the stream and says hello.
func (s *Subscriber) Open(host string) []byte {
	b := s.open(host, "/tcmanager.v1.RealtimeService/Subscribe", s.who)
	return s.request(b, &pb.SubscribeRequest{Frame: &pb.SubscribeRequest_Hello{Hello: &pb.Hello{Client: "tcmbench"}}})
}

func (s *Subscriber) request(dst []byte, req *pb.SubscribeRequest) []byte {
	var err error
	s.frame, err = proto.MarshalOptions{}.MarshalAppend(s.frame[:0], req)
	if err != nil {
		panic(err) // it is made of constants and checked names
	}
	return s.send(dst, s.frame)
}

// Join joins a room, from where the session was if it was in it.
func (s *Subscriber) Join(room string) []byte {
	s.room = room
	join := &pb.JoinRoom{Room: room}
	if s.joined {
		join.Position = &pb.Position{Epoch: s.epoch, Offset: s.offset}
	}
	return s.request(nil, &pb.SubscribeRequest{Id: joinID, Frame: &pb.SubscribeRequest_Join{Join: join}})
}

// Publish panics: results are a runner's.
func (s *Subscriber) Publish([]byte, string, []byte) []byte {
	panic("a session publishes nothing; use a Runner")
}

// Update appends what somebody does in the room: by turns in one field and in
// another, so that each is news. The server acknowledges signals together: an Ack
// stands for all up to the one whose id it says.
func (s *Subscriber) Update(dst []byte, seq uint64) []byte {
	fields := [...]string{"title", "steps"}
	return s.request(dst, &pb.SubscribeRequest{Id: joinID + seq, Frame: &pb.SubscribeRequest_Command{Command: &pb.Command{
		Command: &pb.Command_UpdateActivity{UpdateActivity: &pb.UpdateActivityRequest{
			Room: s.room, Field: fields[seq%2], State: pb.ActivityState_ACTIVITY_STATE_FOCUSED,
		}},
	}}})
}

// Beat returns a sign of life.
func (s *Subscriber) Beat() []byte {
	return s.request(nil, &pb.SubscribeRequest{Frame: &pb.SubscribeRequest_Ping{Ping: &pb.Ping{}}})
}

// Feed takes bytes of the server.
func (s *Subscriber) Feed(p []byte, on peer.Handler) (used int, reply []byte, err error) {
	s.on = on
	return s.feed(p, s)
}

// message takes a SubscribeResponse.
func (s *Subscriber) message(p []byte) error {
	var replyTo uint64
	for len(p) > 0 {
		f, rest, err := next(p)
		if err != nil {
			return err
		}
		p = rest
		switch f.num {
		case respEvents:
			err = s.event(f.bytes)
		case respReplyTo:
			replyTo = f.value
		case respWelcome:
			s.on.Ready()
		case respJoined:
			err = s.place(f.bytes)
			s.on.Joined()
		case respAck:
			if replyTo > joinID {
				s.on.Acked(replyTo - joinID)
			}
		case respError:
			err = refused(f.bytes)
		case respReset, respEvicted, respGoing:
			err = fmt.Errorf("the server sent frame %d: %q", f.num, f.bytes)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func refused(p []byte) error {
	var e pb.Error
	if err := proto.Unmarshal(p, &e); err != nil {
		return err
	}
	return errors.New("the server refused a frame: " + e.String())
}

// place takes where the room is, out of a Joined.
func (s *Subscriber) place(p []byte) error {
	recovered := s.joined
	s.joined = true
	for len(p) > 0 {
		f, rest, err := next(p)
		if err != nil {
			return err
		}
		p = rest
		if f.num != joinedPosition || recovered {
			continue // the missed events follow, and move it
		}
		for at := f.bytes; len(at) > 0; {
			if f, at, err = next(at); err != nil {
				return err
			}
			switch f.num {
			case positionEpoch:
				s.epoch = f.value
			case positionOffset:
				s.offset = f.value
			}
		}
	}
	return nil
}

// event takes an Event.
func (s *Subscriber) event(p []byte) error {
	for len(p) > 0 {
		f, rest, err := next(p)
		if err != nil {
			return err
		}
		p = rest
		switch f.num {
		case eventOffset:
			s.offset = f.value
		case eventEpoch:
			s.epoch = f.value
		case eventTest:
			if err := s.result(f.bytes); err != nil {
				return err
			}
		}
	}
	return nil
}

// result takes the two numbers out of a TestExecutionUpdate.
func (s *Subscriber) result(p []byte) error {
	var seq, at uint64
	for len(p) > 0 {
		f, rest, err := next(p)
		if err != nil {
			return err
		}
		p = rest
		switch f.num {
		case testDuration:
			seq = uint64(math.Float64frombits(f.value))
		case testTimestamp:
			for t := f.bytes; len(t) > 0; {
				if f, t, err = next(t); err != nil {
					return err
				}
				switch f.num {
				case timestampSeconds:
					at += f.value * 1e9
				case timestampNanos:
					at += f.value
				}
			}
		}
	}
	binary.BigEndian.PutUint64(s.payload[:], seq)
	binary.BigEndian.PutUint64(s.payload[8:], at)
	s.on.Event(s.payload[:])
	return nil
}
