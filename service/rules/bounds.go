package rules

import (
	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// items are the bounds of the fields of published items, read from the schema. The
// length of a text is bounded in characters there and taken for bytes here, which
// are never fewer.
var items = readBounds()

type bounds struct {
	// Whether every rule of these messages is of a kind that sound looks at. One
	// that isn't, because somebody has added it, leaves all items to Message.
	whole bool

	runID, testCaseID, shard, rawStatus, comment int // of TestExecutionUpdate
	attempt, progress, status                    int // the greatest allowed
	flags, flag                                  int // how many, and the greatest defined
	source, suite, name, parent, kind            int // of TestRef
	outputSuite, outputName                      int // of OutputChunk
	outputAttempt, outputData                    int
}

func readBounds() bounds {
	var b bounds
	item := newReader(&pb.PublishItem{}, &validate.MessageRules{})
	for _, kind := range []protoreflect.Name{"test", "suite", "output"} {
		item.want(kind, nil)
	}
	test := newReader(&pb.TestExecutionUpdate{}, &validate.MessageRules{Cel: []*validate.Rule{blocked}})
	b.runID, b.testCaseID, b.shard = test.text("run_id", 0), test.text("test_case_id", 0), test.text("shard", 0)
	b.rawStatus, b.comment = test.text("raw_status", 0), test.text("comment", 0)
	b.attempt, b.progress = test.number("attempt"), test.number("progress")
	b.status = test.enum("status", 0)
	b.flags, b.flag = test.enums("flags")
	test.want("test", &validate.FieldRules{Required: new(true)})
	test.want("duration_ms", &validate.FieldRules{Type: &validate.FieldRules_Double{
		Double: &validate.DoubleRules{GreaterThan: &validate.DoubleRules_Gte{}, Finite: new(true)},
	}})
	for _, free := range []protoreflect.Name{"error", "user", "timestamp", "started_at"} {
		test.want(free, nil)
	}
	test.absent("case_keys")
	ref := newReader(&pb.TestRef{}, nil)
	b.source, b.suite, b.name, b.parent = ref.text("source", 0), ref.text("suite", 1), ref.text("name", 1), ref.text("parent", 0)
	b.kind = ref.enum("kind")
	output := newReader(&pb.OutputChunk{}, nil)
	b.outputSuite, b.outputName, b.outputAttempt = output.text("suite", 0), output.text("name", 0), output.number("attempt")
	b.outputData = output.data("data")
	b.whole = item.whole() && test.whole() && ref.whole() && output.whole()
	return b
}

// blocked is the rule that a test with status BLOCKED has a comment. Its words don't
// matter here.
var blocked = &validate.Rule{Id: new("blocked_comment")}

// reader reads the rules of one message, and notices those that it doesn't expect.
type reader struct {
	message protoreflect.MessageDescriptor
	seen    map[protoreflect.Name]bool
	strange bool
}

// newReader expects the rules of a message itself; nil for none.
func newReader(m proto.Message, expected *validate.MessageRules) *reader {
	r := &reader{message: m.ProtoReflect().Descriptor(), seen: map[protoreflect.Name]bool{}}
	rules, _ := proto.GetExtension(r.message.Options(), validate.E_Message).(*validate.MessageRules)
	rules = proto.CloneOf(rules)
	for _, rule := range rules.GetCel() {
		rule.Message, rule.Expression = nil, nil
	}
	r.strange = !proto.Equal(orEmpty(rules), orEmpty(expected))
	return r
}

func orEmpty(rules *validate.MessageRules) *validate.MessageRules {
	if rules == nil {
		return &validate.MessageRules{}
	}
	return rules
}

// whole reports whether every field was asked for and had the rules expected.
func (r *reader) whole() bool { return !r.strange && len(r.seen) == r.message.Fields().Len() }

// rules returns the rules of a field; none are empty.
func (r *reader) rules(field protoreflect.Name) *validate.FieldRules {
	r.seen[field] = true
	d := r.message.Fields().ByName(field)
	if d == nil {
		r.strange = true
		return &validate.FieldRules{}
	}
	rules, _ := proto.GetExtension(d.Options(), validate.E_Field).(*validate.FieldRules)
	if rules == nil {
		return &validate.FieldRules{}
	}
	return rules
}

// want expects a field to have these rules; nil for none.
func (r *reader) want(field protoreflect.Name, expected *validate.FieldRules) {
	if expected == nil {
		expected = &validate.FieldRules{}
	}
	r.strange = !proto.Equal(r.rules(field), expected) || r.strange
}

// absent expects that a repeated field may be empty.
func (r *reader) absent(field protoreflect.Name) {
	rules := r.rules(field)
	rest := proto.CloneOf(rules.GetRepeated())
	if rest != nil {
		rest.MaxItems, rest.Items = nil, nil
	}
	r.want(field, &validate.FieldRules{Type: &validate.FieldRules_Repeated{Repeated: rules.GetRepeated()}})
	r.strange = !proto.Equal(rest, &validate.RepeatedRules{}) || r.strange
}

// text returns the greatest length of a text whose least is least.
func (r *reader) text(field protoreflect.Name, least uint64) int {
	length := r.rules(field).GetString().GetMaxLen()
	expected := &validate.StringRules{MaxLen: &length}
	if least > 0 {
		expected.MinLen = &least
	}
	r.want(field, &validate.FieldRules{Type: &validate.FieldRules_String_{String_: expected}})
	return int(length)
}

// data returns the greatest length of bytes whose least is 1.
func (r *reader) data(field protoreflect.Name) int {
	length := r.rules(field).GetBytes().GetMaxLen()
	r.want(field, &validate.FieldRules{Type: &validate.FieldRules_Bytes{
		Bytes: &validate.BytesRules{MinLen: new(uint64(1)), MaxLen: &length},
	}})
	return int(length)
}

// number returns the greatest value of a number that may be 0.
func (r *reader) number(field protoreflect.Name) int {
	most := r.rules(field).GetUint32().GetLte()
	r.want(field, &validate.FieldRules{Type: &validate.FieldRules_Uint32{
		Uint32: &validate.UInt32Rules{LessThan: &validate.UInt32Rules_Lte{Lte: most}},
	}})
	return int(most)
}

// enum returns the greatest defined value of a field that may not have others.
func (r *reader) enum(field protoreflect.Name, not ...int32) int {
	r.want(field, &validate.FieldRules{Type: &validate.FieldRules_Enum{
		Enum: &validate.EnumRules{DefinedOnly: new(true), NotIn: not},
	}})
	return r.greatest(field)
}

// enums returns how many values a list may have, and the greatest defined one.
func (r *reader) enums(field protoreflect.Name) (length, greatest int) {
	most := r.rules(field).GetRepeated().GetMaxItems()
	r.want(field, &validate.FieldRules{Type: &validate.FieldRules_Repeated{Repeated: &validate.RepeatedRules{
		MaxItems: &most,
		Items:    &validate.FieldRules{Type: &validate.FieldRules_Enum{Enum: &validate.EnumRules{DefinedOnly: new(true)}}},
	}}})
	return int(most), r.greatest(field)
}

// greatest returns the greatest value of an enum that has every one from 0 to there.
func (r *reader) greatest(field protoreflect.Name) int {
	d := r.message.Fields().ByName(field)
	if d == nil || d.Enum() == nil {
		r.strange = true
		return 0
	}
	values := d.Enum().Values()
	for n := range values.Len() {
		r.strange = values.ByNumber(protoreflect.EnumNumber(n)) == nil || r.strange
	}
	return values.Len() - 1
}
