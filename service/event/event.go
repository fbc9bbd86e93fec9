// Package event is the vocabulary of rooms: names, positions, delivery classes,
// and events in the one encoding that the log stores and the wire carries.
//
// A service makes a Draft. The store gives it its place, which makes it an
// Event, in the transaction that changes the state. Its Wire is an entry of
// SubscribeResponse.events: any number of them, joined, is a valid frame, so an
// event is encoded once for all of its readers, and a piece of the log is sent
// as it lies.
package event

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// Position is a place in a room's log: after the event Offset of the history
// Epoch. Offset 0 is the place before the first event.
type Position struct {
	Epoch  uint64
	Offset uint64
}

// Proto returns the position as clients keep it.
func (p Position) Proto() *pb.Position { return &pb.Position{Epoch: p.Epoch, Offset: p.Offset} }

// PositionOf reads a position from a client; nil gives the zero Position.
func PositionOf(p *pb.Position) Position {
	return Position{Epoch: p.GetEpoch(), Offset: p.GetOffset()}
}

// Draft is an event that has no place yet.
type Draft struct {
	Room  Room
	Class pb.DeliveryClass
	Kind  protoreflect.FieldNumber // the field of Event.payload
	Key   string                   // for class LATEST: what a newer one replaces

	body    []byte // the fields of Event that don't depend on its place
	payload []byte // the message in the field Kind; nil if body has it
}

// Event is an event in its place.
type Event struct {
	Room     Room
	Class    pb.DeliveryClass
	Kind     protoreflect.FieldNumber
	Key      string
	Position Position // zero unless the class is DURABLE
	Wire     []byte   // an entry of SubscribeResponse.events; shared, never changed
}

// Field numbers of the envelope, from event.proto and realtime.proto.
const (
	fieldEvents   protowire.Number = 1
	fieldRoom     protowire.Number = 1
	fieldOffset   protowire.Number = 2
	fieldEpoch    protowire.Number = 3
	fieldKey      protowire.Number = 4
	fieldTime     protowire.Number = 5
	fieldActor    protowire.Number = 6
	firstPayload  protowire.Number = 10
	maxEnvelopeSz                  = 64
)

// NewDraft encodes an event of a room. The time is when the server took it; the
// actor is nil for the server itself. The class is the one event.proto declares.
func NewDraft(room Room, at time.Time, actor *pb.UserRef, ev *pb.Event) (Draft, error) {
	kind, class, err := classify(ev)
	if err != nil {
		return Draft{}, err
	}
	ev.Room, ev.Offset, ev.Epoch = "", 0, 0
	ev.Time, ev.Actor = timestamppb.New(at), actor
	body, err := proto.Marshal(ev)
	if err != nil {
		return Draft{}, fmt.Errorf("encode an event of %s: %w", room, err)
	}
	return Draft{Room: room, Class: class, Kind: kind, Key: ev.Key, body: body}, nil
}

// Stamp is when the server took something and who did it: what the events of one
// commit have in common, encoded once.
type Stamp struct{ body []byte }

// NewStamp encodes a stamp. The actor is nil for the server itself.
func NewStamp(at time.Time, actor *pb.UserRef) (Stamp, error) {
	body, err := proto.Marshal(&pb.Event{Time: timestamppb.New(at), Actor: actor})
	if err != nil {
		return Stamp{}, fmt.Errorf("encode who did something and when: %w", err)
	}
	return Stamp{body}, nil
}

// Draft is NewDraft for a payload that is encoded already: the bytes of the message
// in the field kind of Event.payload, which must be of class DURABLE. They must not
// change before the event has its place.
func (s Stamp) Draft(room Room, kind protoreflect.FieldNumber, payload []byte) (Draft, error) {
	class := ClassOf(kind)
	if class != pb.DeliveryClass_DELIVERY_CLASS_DURABLE {
		return Draft{}, fmt.Errorf("event kind %d is of class %v, which is not stamped", kind, class)
	}
	if payload == nil {
		payload = []byte{}
	}
	return Draft{Room: room, Class: class, Kind: kind, body: s.body, payload: payload}, nil
}

// For returns the same event for another room, without encoding it again.
func (d Draft) For(room Room) Draft {
	d.Room = room
	return d
}

// Size is about how many bytes the event will take on the wire.
func (d Draft) Size() int { return len(d.body) + len(d.payload) + len(d.Room) + maxEnvelopeSz }

// At gives the event its place. A draft that is not durable has none and is
// given the zero Position.
func (d Draft) At(p Position) Event {
	if d.Class != pb.DeliveryClass_DELIVERY_CLASS_DURABLE {
		p = Position{}
	}
	_, ev := d.AppendAt(make([]byte, 0, d.WireSize(p)), p)
	return ev
}

// WireSize is how many bytes the event takes on the wire in that place.
func (d Draft) WireSize(p Position) int {
	n := d.innerSize(p)
	return protowire.SizeTag(fieldEvents) + protowire.SizeBytes(n)
}

func (d Draft) innerSize(p Position) int {
	n := protowire.SizeTag(fieldRoom) + protowire.SizeBytes(len(d.Room)) + len(d.body)
	if p.Offset != 0 {
		n += protowire.SizeTag(fieldOffset) + protowire.SizeVarint(p.Offset) + protowire.SizeTag(fieldEpoch) + protowire.SizeFixed64()
	}
	if d.payload != nil {
		n += protowire.SizeTag(d.Kind) + protowire.SizeBytes(len(d.payload))
	}
	return n
}

// AppendAt is At for a durable draft whose event is to lie behind others: it appends
// the event to b and returns both. The event's Wire is the end of the new b.
func (d Draft) AppendAt(b []byte, p Position) ([]byte, Event) {
	from := len(b)
	b = protowire.AppendTag(b, fieldEvents, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(d.innerSize(p)))
	b = protowire.AppendTag(b, fieldRoom, protowire.BytesType)
	b = protowire.AppendString(b, string(d.Room))
	if p.Offset != 0 {
		b = protowire.AppendTag(b, fieldOffset, protowire.VarintType)
		b = protowire.AppendVarint(b, p.Offset)
		b = protowire.AppendTag(b, fieldEpoch, protowire.Fixed64Type)
		b = protowire.AppendFixed64(b, p.Epoch)
	}
	b = append(b, d.body...)
	if d.payload != nil {
		b = protowire.AppendTag(b, d.Kind, protowire.BytesType)
		b = protowire.AppendBytes(b, d.payload)
	}
	return b, Event{Room: d.Room, Class: d.Class, Kind: d.Kind, Key: d.Key, Position: p, Wire: b[from:len(b):len(b)]}
}

// Decode returns the event as a message.
func (e Event) Decode() (*pb.Event, error) {
	_, _, n := protowire.ConsumeTag(e.Wire)
	if n < 0 {
		return nil, protowire.ParseError(n)
	}
	b, n := protowire.ConsumeBytes(e.Wire[n:])
	if n < 0 {
		return nil, protowire.ParseError(n)
	}
	ev := &pb.Event{}
	if err := proto.Unmarshal(b, ev); err != nil {
		return nil, fmt.Errorf("decode an event of %s: %w", e.Room, err)
	}
	return ev, nil
}

// Split cuts joined durable events, as the log keeps them, into events. The
// events share b's memory.
func Split(room Room, b []byte) ([]Event, error) {
	var out []Event
	for len(b) > 0 {
		ev, n, err := first(room, b)
		if err != nil {
			return nil, fmt.Errorf("read the log of %s: %w", room, err)
		}
		out = append(out, ev)
		b = b[n:]
	}
	return out, nil
}

// first reads the event at the beginning of b and returns how long it is.
func first(room Room, b []byte) (Event, int, error) {
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 {
		return Event{}, 0, protowire.ParseError(n)
	}
	if num != fieldEvents || typ != protowire.BytesType {
		return Event{}, 0, fmt.Errorf("field %d where an event should be", num)
	}
	body, m := protowire.ConsumeBytes(b[n:])
	if m < 0 {
		return Event{}, 0, protowire.ParseError(m)
	}
	ev := Event{Room: room, Class: pb.DeliveryClass_DELIVERY_CLASS_DURABLE, Wire: b[: n+m : n+m]}
	for len(body) > 0 {
		num, typ, n := protowire.ConsumeTag(body)
		if n < 0 {
			return Event{}, 0, protowire.ParseError(n)
		}
		body = body[n:]
		switch {
		case num == fieldOffset && typ == protowire.VarintType:
			ev.Position.Offset, _ = protowire.ConsumeVarint(body)
		case num == fieldEpoch && typ == protowire.Fixed64Type:
			ev.Position.Epoch, _ = protowire.ConsumeFixed64(body)
		case num >= firstPayload:
			ev.Kind = num
		}
		if n = protowire.ConsumeFieldValue(num, typ, body); n < 0 {
			return Event{}, 0, protowire.ParseError(n)
		}
		body = body[n:]
	}
	return ev, len(ev.Wire), nil
}
