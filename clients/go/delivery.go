package tcmanager

import (
	"fmt"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Position is a place in a room's log. Keep it and give it back: what it means is
// the server's. As text, also within JSON, it is "EPOCH:OFFSET".
type Position struct {
	// Epoch tells one history of the log from another.
	Epoch uint64
	// Offset is the number of the last event that was seen; 0 is the place before
	// the first.
	Offset uint64
}

// String returns the position as text.
func (p Position) String() string { return fmt.Sprintf("%016x:%d", p.Epoch, p.Offset) }

// MarshalText returns the position as text.
func (p Position) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (p *Position) UnmarshalText(text []byte) error {
	var read Position
	if _, err := fmt.Sscanf(string(text), "%x:%d", &read.Epoch, &read.Offset); err != nil || read.String() != string(text) {
		return fmt.Errorf("%q is no position: want one that Position.String returned", text)
	}
	*p = read
	return nil
}

func (p Position) proto() *tcmv1.Position {
	return &tcmv1.Position{Epoch: p.Epoch, Offset: p.Offset}
}

func positionOf(p *tcmv1.Position) Position {
	return Position{Epoch: p.GetEpoch(), Offset: p.GetOffset()}
}

// DeliveryKind says what a Delivery is.
type DeliveryKind int

// The kinds of a Delivery.
const (
	// DeliverySnapshot is the state of the room at Position: in Joined, with who
	// is there and what happened last. What comes after it goes on from there.
	DeliverySnapshot DeliveryKind = iota + 1
	// DeliveryResumed says that the room goes on where the reader was, at the
	// beginning and after each break. Joined says who is there now, and how far the
	// missed events reach that follow.
	DeliveryResumed
	// DeliveryEvent is an event. A durable one has moved Position by one; one of
	// another class has not.
	DeliveryEvent
	// DeliveryReset says that the room can't go on where the reader was, and why:
	// in Reason. A snapshot follows, and takes the place of all that was known.
	DeliveryReset
	// DeliveryPosition says that there is nothing else up to Position: the server
	// said so of an idle room, or what happened is of a kind that this version of
	// the package doesn't know.
	DeliveryPosition
)

var deliveryKinds = [...]string{"", "snapshot", "resumed", "event", "reset", "position"}

// String names the kind.
func (k DeliveryKind) String() string {
	if k < 0 || int(k) >= len(deliveryKinds) {
		return fmt.Sprintf("DeliveryKind(%d)", int(k))
	}
	return deliveryKinds[k]
}

// Delivery is one thing to know of a room. It is the reader's own.
type Delivery struct {
	// Kind says which of the other fields are set.
	Kind DeliveryKind
	// Room is the room by its canonical name: a project that was asked for by its
	// key has its id here.
	Room string
	// Position is where to go on once this was dealt with. Kept together with what
	// was made of it, it lets another process go on with exactly what comes next.
	Position Position
	// Event is what happened, of DeliveryEvent.
	Event *tcmv1.Event
	// Joined is the room as the server described it, of DeliverySnapshot and
	// DeliveryResumed.
	Joined *tcmv1.Joined
	// Reason is why, of DeliveryReset: POSITION_TRIMMED, POSITION_UNKNOWN,
	// EPOCH_CHANGED or TOO_FAR_BEHIND.
	Reason string
}

// classes says how each kind of event may be delivered.
var classes = classesOf((&tcmv1.Event{}).ProtoReflect().Descriptor())

// classesOf reads the option of each kind of event. A kind without a class is
// left out.
func classesOf(event protoreflect.MessageDescriptor) map[protoreflect.FieldNumber]tcmv1.DeliveryClass {
	found := map[protoreflect.FieldNumber]tcmv1.DeliveryClass{}
	kinds := event.Oneofs().ByName("payload").Fields()
	for i := range kinds.Len() {
		f := kinds.Get(i)
		class, ok := proto.GetExtension(f.Options(), tcmv1.E_Delivery).(tcmv1.DeliveryClass)
		if ok && class != tcmv1.DeliveryClass_DELIVERY_CLASS_UNSPECIFIED {
			found[f.Number()] = class
		}
	}
	return found
}

// payload is the oneof of what happened.
var payload = (&tcmv1.Event{}).ProtoReflect().Descriptor().Oneofs().ByName("payload")

// classify returns the kind of an event and its class: 0 and UNSPECIFIED for a
// kind that is not known here.
func classify(ev *tcmv1.Event) (protoreflect.FieldNumber, tcmv1.DeliveryClass) {
	f := ev.ProtoReflect().WhichOneof(payload)
	if f == nil {
		return 0, tcmv1.DeliveryClass_DELIVERY_CLASS_UNSPECIFIED
	}
	return f.Number(), classes[f.Number()]
}
