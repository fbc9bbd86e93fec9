package batch

import (
	"math"
	"unicode/utf8"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// Field numbers of the messages that are taken apart here; a test compares them
// with the descriptors.
const (
	requestBatch = 2

	batchFirstSequence = 1
	batchItems         = 2

	itemTest   = 1
	itemOutput = 3

	testRunID      = 1
	testTestCaseID = 2
	testTest       = 4
	testAttempt    = 5
	testStatus     = 6
	testProgress   = 7
	testDurationMs = 8
	testTimestamp  = 11
	testStartedAt  = 12
	testFlags      = 13
	testRawStatus  = 14
	testShard      = 15
	testComment    = 16

	refSource = 1
	refSuite  = 2
	refName   = 3
	refParent = 4
	refKind   = 5

	timeSeconds = 1
	timeNanos   = 2

	outputSuite   = 1
	outputName    = 2
	outputAttempt = 3
	outputData    = 4
)

// maxFlags is how many flags are decoded here; the rules allow no more.
const maxFlags = 8

// decoder decodes one request.
type decoder struct {
	inner   encoding.CodecV2
	unusual int // bytes of items given to inner so far
	tests   []testSlot
	outputs []outputSlot
}

// A slot is what an item with everything usual in it needs, in one piece.
type (
	testSlot struct {
		of            pb.PublishItem_Test
		test          pb.TestExecutionUpdate
		ref           pb.TestRef
		time, started timestamppb.Timestamp
	}
	outputSlot struct {
		of     pb.PublishItem_Output
		output pb.OutputChunk
	}
)

// request returns the batch that a request holds, or nil if it is for the inner codec.
func (d *decoder) request(s string) *pb.PublishResultsRequest_Batch {
	f, rest, ok := next(s)
	if !ok || rest != "" || f.num != requestBatch || f.typ != protowire.BytesType {
		return nil
	}
	items := d.count(f.text)
	if items < 0 {
		return nil
	}
	batch := &pb.PublishBatch{}
	made := make([]pb.PublishItem, items)
	batch.Items = make([]*pb.PublishItem, items)
	for s, n := f.text, 0; s != ""; {
		f, s, _ = next(s)
		if f.num == batchFirstSequence {
			batch.FirstSequence = f.value
			continue
		}
		if !d.item(f.text, &made[n]) {
			return nil
		}
		batch.Items[n] = &made[n]
		n++
	}
	return &pb.PublishResultsRequest_Batch{Batch: batch}
}

// count looks over a batch and makes room for its items. It returns how many there
// are, or -1 if the batch is for the inner codec.
func (d *decoder) count(s string) int {
	items, tests, outputs := 0, 0, 0
	for s != "" {
		f, rest, ok := next(s)
		switch {
		case !ok:
			return -1
		case f.num == batchFirstSequence && f.typ == protowire.VarintType:
		case f.num == batchItems && f.typ == protowire.BytesType:
			items++
			if first, _, ok := next(f.text); ok && first.num == itemTest {
				tests++
			} else if ok && first.num == itemOutput {
				outputs++
			}
		default:
			return -1
		}
		s = rest
	}
	if items == 0 || items > maxItems {
		return -1
	}
	d.tests, d.outputs = make([]testSlot, tests), make([]outputSlot, outputs)
	return items
}

// item decodes an item.
func (d *decoder) item(s string, into *pb.PublishItem) bool {
	f, rest, ok := next(s)
	if ok && rest == "" && f.typ == protowire.BytesType {
		switch f.num {
		case itemTest:
			slot := &d.tests[0]
			d.tests = d.tests[1:]
			if slot.decode(f.text) {
				slot.of.Test = &slot.test
				into.Item = &slot.of
				return true
			}
		case itemOutput:
			slot := &d.outputs[0]
			d.outputs = d.outputs[1:]
			if slot.decode(f.text) {
				slot.of.Output = &slot.output
				into.Item = &slot.of
				return true
			}
		}
	}
	if d.unusual += len(s); d.unusual > maxUnusual {
		return false
	}
	return d.inner.Unmarshal(mem.BufferSlice{mem.SliceBuffer(s)}, into) == nil
}

// decode decodes an update of a test that has nothing unusual. What is said twice is
// merged, as everywhere in protobuf, since it is decoded into the same place.
func (t *testSlot) decode(s string) bool {
	u := &t.test
	for s != "" {
		f, rest, ok := next(s)
		if !ok {
			return false
		}
		s = rest
		switch f.num {
		case testRunID:
			ok = f.string(&u.RunId)
		case testTestCaseID:
			ok = f.string(&u.TestCaseId)
		case testTest:
			ok = f.typ == protowire.BytesType && decodeRef(f.text, &t.ref)
			u.Test = &t.ref
		case testAttempt:
			ok = f.uint32(&u.Attempt)
		case testStatus:
			ok = f.typ == protowire.VarintType
			u.Status = pb.Status(f.value)
		case testProgress:
			ok = f.uint32(&u.Progress)
		case testDurationMs:
			ok = f.double(&u.DurationMs)
		case testTimestamp:
			ok = f.time(&t.time)
			u.Timestamp = &t.time
		case testStartedAt:
			ok = f.time(&t.started)
			u.StartedAt = &t.started
		case testFlags:
			u.Flags, ok = f.flags(u.Flags)
		case testRawStatus:
			ok = f.string(&u.RawStatus)
		case testShard:
			ok = f.string(&u.Shard)
		case testComment:
			ok = f.string(&u.Comment)
		default:
			return false
		}
		if !ok {
			return false
		}
	}
	return true
}

func decodeRef(s string, r *pb.TestRef) bool {
	for s != "" {
		f, rest, ok := next(s)
		if !ok {
			return false
		}
		s = rest
		switch f.num {
		case refSource:
			ok = f.string(&r.Source)
		case refSuite:
			ok = f.string(&r.Suite)
		case refName:
			ok = f.string(&r.Name)
		case refParent:
			ok = f.string(&r.Parent)
		case refKind:
			ok = f.typ == protowire.VarintType
			r.Kind = pb.TestKind(f.value)
		default:
			return false
		}
		if !ok {
			return false
		}
	}
	return true
}

// decode decodes a piece of output.
func (o *outputSlot) decode(s string) bool {
	for s != "" {
		f, rest, ok := next(s)
		if !ok {
			return false
		}
		s = rest
		switch f.num {
		case outputSuite:
			ok = f.string(&o.output.Suite)
		case outputName:
			ok = f.string(&o.output.Name)
		case outputAttempt:
			ok = f.uint32(&o.output.Attempt)
		case outputData:
			ok = f.typ == protowire.BytesType
			o.output.Data = []byte(f.text)
		default:
			return false
		}
		if !ok {
			return false
		}
	}
	return true
}

// field is one field of an encoded message.
type field struct {
	num   protowire.Number
	typ   protowire.Type
	value uint64 // of numbers
	text  string // of strings, bytes and messages
}

func (f *field) string(into *string) bool {
	*into = f.text
	return f.typ == protowire.BytesType && utf8.ValidString(f.text)
}

func (f *field) uint32(into *uint32) bool {
	*into = uint32(f.value)
	return f.typ == protowire.VarintType
}

func (f *field) double(into *float64) bool {
	*into = math.Float64frombits(f.value)
	return f.typ == protowire.Fixed64Type
}

func (f *field) time(into *timestamppb.Timestamp) bool {
	if f.typ != protowire.BytesType {
		return false
	}
	for s := f.text; s != ""; {
		inner, rest, ok := next(s)
		if !ok || inner.typ != protowire.VarintType {
			return false
		}
		switch inner.num {
		case timeSeconds:
			into.Seconds = int64(inner.value)
		case timeNanos:
			into.Nanos = int32(inner.value)
		default:
			return false
		}
		s = rest
	}
	return true
}

// flags adds the flags of a packed list.
func (f *field) flags(flags []pb.ResultFlag) ([]pb.ResultFlag, bool) {
	if f.typ != protowire.BytesType || len(flags)+len(f.text) > maxFlags {
		return nil, false
	}
	for s := f.text; s != ""; {
		v, rest, ok := varint(s)
		if !ok {
			return nil, false
		}
		flags, s = append(flags, pb.ResultFlag(v)), rest
	}
	return flags, true
}

// next reads the first field of s and returns what follows it. It takes numbers,
// doubles and what has a length.
func next(s string) (f field, rest string, ok bool) {
	tag, s, ok := varint(s)
	if !ok || tag>>3 == 0 || tag>>3 > uint64(protowire.MaxValidNumber) {
		return f, s, false
	}
	f.num, f.typ = protowire.Number(tag>>3), protowire.Type(tag&7)
	switch f.typ {
	case protowire.VarintType:
		f.value, s, ok = varint(s)
		return f, s, ok
	case protowire.BytesType:
		n, s, ok := varint(s)
		if !ok || n > uint64(len(s)) {
			return f, s, false
		}
		f.text = s[:n]
		return f, s[n:], true
	case protowire.Fixed64Type:
		if len(s) < 8 {
			return f, s, false
		}
		for i := range 8 {
			f.value |= uint64(s[i]) << (8 * i)
		}
		return f, s[8:], true
	default:
		return f, s, false
	}
}

// varint reads a number.
func varint(s string) (v uint64, rest string, ok bool) {
	if len(s) > 0 && s[0] < 0x80 {
		return uint64(s[0]), s[1:], true
	}
	for i := 0; i < len(s) && i < 10; i++ {
		v |= uint64(s[i]&0x7f) << (7 * i)
		if s[i] < 0x80 {
			return v, s[i+1:], i < 9 || s[i] < 2 // the tenth byte has room for one bit
		}
	}
	return 0, s, false
}
