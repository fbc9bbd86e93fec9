package event_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// row is a line of the table of events in ARCHITECTURE.md: event, class, key, rooms.
var row = regexp.MustCompile(`(?m)^\| (\w+) \| (DURABLE|LATEST|EPHEMERAL) \| ([^|]*)\| ([^|]+) \|$`)

func TestTheTableOfEventsInTheArchitectureIsTheSchema(t *testing.T) {
	doc, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, m := range row.FindAllStringSubmatch(string(doc), -1) {
		documented[m[1]] = m[2]
		if latest := m[2] == "LATEST"; latest != (strings.TrimSpace(m[3]) != "") {
			t.Errorf("%s: a key belongs to class LATEST and only there", m[1])
		}
	}
	fields := (&pb.Event{}).ProtoReflect().Descriptor().Oneofs().ByName("payload").Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		class, _ := proto.GetExtension(f.Options(), pb.E_Delivery).(pb.DeliveryClass)
		want := strings.TrimPrefix(class.String(), "DELIVERY_CLASS_")
		if got := documented[string(f.Name())]; got != want {
			t.Errorf("%s is %s in the schema and %q in the table", f.Name(), want, got)
		}
		delete(documented, string(f.Name()))
	}
	for name := range documented {
		t.Errorf("%s is in the table and not in the schema", name)
	}
}
