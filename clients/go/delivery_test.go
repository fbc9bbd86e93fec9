package tcmanager

import (
	"encoding/json"
	"fmt"
	"testing"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// undeclared names the kinds of event that have no class.
func undeclared(event protoreflect.MessageDescriptor) (names []protoreflect.Name) {
	known := classesOf(event)
	kinds := event.Oneofs().ByName("payload").Fields()
	for i := range kinds.Len() {
		if _, ok := known[kinds.Get(i).Number()]; !ok {
			names = append(names, kinds.Get(i).Name())
		}
	}
	return names
}

func TestEachKindOfEventDeclaresItsClass(t *testing.T) {
	event := (&tcmv1.Event{}).ProtoReflect().Descriptor()
	if names := undeclared(event); len(names) > 0 {
		t.Errorf("%v have no class: give them one in event.proto", names)
	}
	if payload == nil || len(classes) != payload.Fields().Len() {
		t.Errorf("%d kinds have a class", len(classes))
	}

	// And one without is noticed.
	file := protodesc.ToFileDescriptorProto(tcmv1.File_tcmanager_v1_event_proto)
	for _, m := range file.GetMessageType() {
		for _, f := range m.GetField() {
			if f.GetName() == "activity" {
				f.Options = nil
			}
		}
	}
	changed, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	mustEqual(t, undeclared(changed.Messages().ByName("Event")), []protoreflect.Name{"activity"})
}

func TestAPositionIsKeptAsText(t *testing.T) {
	for _, p := range []Position{{}, {Epoch: 1, Offset: 2}, {Epoch: ^uint64(0), Offset: ^uint64(0)}} {
		text, err := json.Marshal(map[string]Position{"at": p})
		if err != nil {
			t.Fatal(err)
		}
		var back map[string]Position
		if err := json.Unmarshal(text, &back); err != nil || back["at"] != p {
			t.Errorf("%s became %v, %v", text, back, err)
		}
	}
	for _, text := range []string{"", "1", "x:1", "0000000000000001:", "0000000000000001:2 ", "1:2", "0000000000000001:-2"} {
		p := Position{Epoch: 7}
		if err := p.UnmarshalText([]byte(text)); err == nil || p.Epoch != 7 {
			t.Errorf("%q became %v", text, p)
		}
	}
}

func TestABufferIsBoundedAndYieldsInTheOrderOfArrival(t *testing.T) {
	b := buffer{limit: 4 << 10}
	kind := protoreflect.FieldNumber(13)
	refused := 0
	for n := range 10_000 {
		if !b.add(Delivery{Kind: DeliveryEvent, Event: &tcmv1.Event{Offset: uint64(n + 1)}}) {
			refused++
		}
		b.addLatest(kind, Delivery{Event: &tcmv1.Event{Key: fmt.Sprint(n)}})
		b.addEphemeral(Delivery{Event: &tcmv1.Event{}})
		if b.bytes > b.limit || b.latestBytes > b.limit || len(b.latestOrder) != len(b.latest) || len(b.ephemeral) > maxEphemeral {
			t.Fatalf("after %d: %d and %d bytes, %d and %d keys, %d ephemeral", n, b.bytes, b.latestBytes, len(b.latest), len(b.latestOrder), len(b.ephemeral))
		}
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
	taken, last := 0, uint64(0)
	for {
		d, ok := b.take()
		if !ok {
			break
		}
		taken++
		if offset := d.Event.GetOffset(); offset > 0 {
			if offset != last+1 {
				t.Fatalf("%d after %d", offset, last)
			}
			last = offset
		}
	}
	if taken == 0 || b.bytes != 0 || b.latestBytes != 0 {
		t.Errorf("%d taken, %d and %d bytes are left", taken, b.bytes, b.latestBytes)
	}
	large := Delivery{Joined: &tcmv1.Joined{Room: string(make([]byte, 1<<20))}}
	if proto.Size(large.Joined) < b.limit || !b.add(large) || b.add(large) {
		t.Error("what is larger than the buffer is taken when it is alone, and only then")
	}
}
