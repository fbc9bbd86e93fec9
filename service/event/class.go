package event

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// classes holds the delivery class that event.proto declares for each kind of
// event. It is read once from the descriptor, so there is no second list.
var classes = readClasses(pb.File_tcmanager_v1_event_proto.Messages().ByName("Event"))

func readClasses(event protoreflect.MessageDescriptor) map[protoreflect.FieldNumber]pb.DeliveryClass {
	m := map[protoreflect.FieldNumber]pb.DeliveryClass{}
	fields := event.Oneofs().ByName("payload").Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		c, _ := proto.GetExtension(f.Options(), pb.E_Delivery).(pb.DeliveryClass)
		m[f.Number()] = c
	}
	return m
}

// ClassOf returns the delivery class of a kind of event; UNSPECIFIED for a kind
// that event.proto doesn't have.
func ClassOf(kind protoreflect.FieldNumber) pb.DeliveryClass { return classes[kind] }

func classify(ev *pb.Event) (protoreflect.FieldNumber, pb.DeliveryClass, error) {
	m := ev.ProtoReflect()
	f := m.WhichOneof(m.Descriptor().Oneofs().ByName("payload"))
	if f == nil {
		return 0, 0, errors.New("an event needs a payload")
	}
	c := classes[f.Number()]
	switch {
	case c == pb.DeliveryClass_DELIVERY_CLASS_UNSPECIFIED:
		return 0, 0, fmt.Errorf("event %s declares no delivery class", f.Name())
	case c == pb.DeliveryClass_DELIVERY_CLASS_LATEST && ev.Key == "":
		return 0, 0, fmt.Errorf("event %s is of class LATEST and needs a key", f.Name())
	}
	return f.Number(), c, nil
}
