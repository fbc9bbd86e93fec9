package main

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// kindOf is the name of an event's kind in the schema, for example test_execution.
func kindOf(ev *pb.Event) string {
	m := ev.ProtoReflect()
	field := m.WhichOneof(m.Descriptor().Oneofs().ByName("payload"))
	if field == nil {
		return ""
	}
	return string(field.Name())
}

func payloadOf(ev *pb.Event) protoreflect.Message {
	m := ev.ProtoReflect()
	return m.Get(m.WhichOneof(m.Descriptor().Oneofs().ByName("payload"))).Message()
}

// condition is PATH=VALUE: the field at a path, by its names in the schema with
// dots between, has a value. Enum values go by their last words in lower case.
type condition struct{ path, value string }

type conditions []condition

func parseConditions(args []string) (conditions, error) {
	list := make(conditions, 0, len(args))
	for _, arg := range args {
		path, value, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, fmt.Errorf("%q is not PATH=VALUE", arg)
		}
		list = append(list, condition{path, value})
	}
	return list, nil
}

func (c conditions) String() string {
	words := make([]string, 0, len(c))
	for _, x := range c {
		words = append(words, x.path+"="+x.value)
	}
	return strings.Join(words, " ")
}

func (c conditions) holdFor(m protoreflect.Message) bool {
	return !slices.ContainsFunc(c, func(x condition) bool { return !slices.Contains(valuesAt(m, strings.Split(x.path, ".")), x.value) })
}

// valuesAt returns what stands at a path: several for a list, none if there is
// no such field.
func valuesAt(m protoreflect.Message, path []string) []string {
	field := m.Descriptor().Fields().ByName(protoreflect.Name(path[0]))
	if field == nil || field.IsMap() {
		return nil
	}
	var values []string
	read := func(v protoreflect.Value) {
		switch {
		case field.Message() != nil && len(path) > 1:
			values = append(values, valuesAt(v.Message(), path[1:])...)
		case field.Enum() != nil:
			values = append(values, enumWord(field.Enum(), v.Enum()))
		case field.Message() == nil:
			values = append(values, v.String())
		}
	}
	if field.IsList() {
		for i := range m.Get(field).List().Len() {
			read(m.Get(field).List().Get(i))
		}
		return values
	}
	read(m.Get(field))
	return values
}

// enumWord turns STATUS_TIMED_OUT of enum Status into timed_out.
func enumWord(e protoreflect.EnumDescriptor, n protoreflect.EnumNumber) string {
	value := e.Values().ByNumber(n)
	if value == nil {
		return fmt.Sprint(n)
	}
	zero := strings.TrimSuffix(string(e.Values().ByNumber(0).Name()), "UNSPECIFIED")
	return strings.ToLower(strings.TrimPrefix(string(value.Name()), zero))
}

// fill sets the fields of a message from a script's words.
func (c conditions) fill(m proto.Message) error {
	for _, x := range c {
		if err := fillOne(m.ProtoReflect(), strings.Split(x.path, "."), x.value); err != nil {
			return fmt.Errorf("%s=%s: %w", x.path, x.value, err)
		}
	}
	return nil
}

func fillOne(m protoreflect.Message, path []string, value string) error {
	field := m.Descriptor().Fields().ByName(protoreflect.Name(path[0]))
	if field == nil {
		return fmt.Errorf("%s has no field %s", m.Descriptor().Name(), path[0])
	}
	if len(path) > 1 {
		return fillOne(m.Mutable(field).Message(), path[1:], value)
	}
	text := value
	switch field.Kind() {
	case protoreflect.StringKind, protoreflect.BytesKind:
		text = fmt.Sprintf("%q", value)
	case protoreflect.EnumKind:
		zero := strings.TrimSuffix(string(field.Enum().Values().ByNumber(0).Name()), "UNSPECIFIED")
		text = fmt.Sprintf("%q", zero+strings.ToUpper(value))
	}
	if field.IsList() {
		text = "[" + text + "]"
	}
	one := m.New().Interface()
	if err := protojson.Unmarshal([]byte(fmt.Sprintf("{%q:%s}", field.JSONName(), text)), one); err != nil {
		return err
	}
	proto.Merge(m.Interface(), one)
	return nil
}
