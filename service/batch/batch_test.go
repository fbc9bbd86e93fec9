package batch

import (
	"math/rand/v2"
	"strings"
	"testing"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the general codec
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

func general() encoding.CodecV2 { return encoding.GetCodecV2("proto") }

// alone decodes as the codec does, but says whether it did all of it.
func alone(b []byte) *pb.PublishResultsRequest {
	d := decoder{inner: general()}
	batch := d.request(string(b))
	if batch == nil {
		return nil
	}
	return &pb.PublishResultsRequest{Frame: batch}
}

func test(change ...func(*pb.TestExecutionUpdate)) *pb.PublishItem {
	u := &pb.TestExecutionUpdate{
		Test:    &pb.TestRef{Source: "go", Suite: "example.org/pkg", Name: "TestThing/cäse", Parent: "TestThing", Kind: pb.TestKind_TEST_KIND_TEST},
		Attempt: 1, Status: pb.Status_STATUS_PASSED, DurationMs: 12.5, Progress: 100, RunId: "r", TestCaseId: "c", RawStatus: "ok", Shard: "s",
		Timestamp: timestamppb.Now(), StartedAt: &timestamppb.Timestamp{Seconds: -5, Nanos: 7},
		Flags: []pb.ResultFlag{pb.ResultFlag_RESULT_FLAG_CACHED, pb.ResultFlag_RESULT_FLAG_RACE}, Comment: "fine",
	}
	for _, f := range change {
		f(u)
	}
	return &pb.PublishItem{Item: &pb.PublishItem_Test{Test: u}}
}

func output(data string) *pb.PublishItem {
	return &pb.PublishItem{Item: &pb.PublishItem_Output{Output: &pb.OutputChunk{Suite: "s", Name: "n", Attempt: 2, Data: []byte(data)}}}
}

func suite() *pb.PublishItem {
	return &pb.PublishItem{Item: &pb.PublishItem_Suite{Suite: &pb.SuiteExecutionUpdate{Suite: "s", Status: pb.Status_STATUS_PASSED}}}
}

func failing(details string) *pb.PublishItem {
	return test(func(u *pb.TestExecutionUpdate) {
		u.Status, u.Error = pb.Status_STATUS_FAILED, &pb.Failure{Message: "no", Details: details}
	})
}

func request(items ...*pb.PublishItem) *pb.PublishResultsRequest {
	return &pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Batch{Batch: &pb.PublishBatch{FirstSequence: 300, Items: items}}}
}

func encoded(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestABatchIsDecodedAsByTheGeneralDecoder(t *testing.T) {
	for name, req := range map[string]*pb.PublishResultsRequest{
		"the usual":   request(test(), output("text\n"), test()),
		"nothing set": request(&pb.PublishItem{Item: &pb.PublishItem_Test{Test: &pb.TestExecutionUpdate{}}}, &pb.PublishItem{Item: &pb.PublishItem_Output{Output: &pb.OutputChunk{}}}),
		"empty items": request(&pb.PublishItem{}, test(), &pb.PublishItem{}),
		"suites":      request(suite(), test()),
		"a failure":   request(test(), failing("at line 5"), test()),
		"links":       request(test(func(u *pb.TestExecutionUpdate) { u.CaseKeys = []string{"TC-1"} })),
		"many flags":  request(test(func(u *pb.TestExecutionUpdate) { u.Flags = make([]pb.ResultFlag, 20) })),
		"negative":    request(test(func(u *pb.TestExecutionUpdate) { u.Status, u.Attempt = -1, 1<<32-1 })),
	} {
		if got := alone(encoded(t, req)); !proto.Equal(got, req) {
			t.Errorf("%s: got  %v\nwant %v", name, got, req)
		}
	}
}

func TestWhatIsSaidTwiceIsMerged(t *testing.T) {
	one := encoded(t, &pb.TestExecutionUpdate{
		Test: &pb.TestRef{Suite: "s", Name: "n"}, StartedAt: &timestamppb.Timestamp{Seconds: 5}, Status: 4, Flags: []pb.ResultFlag{2}, Shard: "a",
	})
	two := encoded(t, &pb.TestExecutionUpdate{
		Test: &pb.TestRef{Name: "m", Parent: "p"}, StartedAt: &timestamppb.Timestamp{Nanos: 7}, Attempt: 2, Flags: []pb.ResultFlag{3}, Shard: "b",
	})
	wrap := func(number protowire.Number, b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), b)
	}
	twice := append(encoded(t, &pb.OutputChunk{Name: "n", Data: []byte("one")}), encoded(t, &pb.OutputChunk{Data: []byte("two")})...)
	b := wrap(requestBatch, append(wrap(batchItems, wrap(itemTest, append(one, two...))), wrap(batchItems, wrap(itemOutput, twice))...))
	if alone(b) == nil {
		t.Error("it was left to the general decoder")
	}
	agree(t, b)
}

func TestWhatIsNoBatchIsLeftToTheGeneralDecoder(t *testing.T) {
	cut := encoded(t, request(test(), test()))
	for name, b := range map[string][]byte{
		"hello":                encoded(t, &pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Hello{Hello: &pb.PublishHello{Project: "demo"}}}),
		"heartbeat":            encoded(t, &pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Heartbeat{Heartbeat: &pb.PublishHeartbeat{}}}),
		"nothing":              nil,
		"an empty batch":       encoded(t, request()),
		"two frames":           append(encoded(t, request(test())), encoded(t, request(test()))...),
		"cut off":              cut[:len(cut)-1],
		"more items than fit":  encoded(t, request(make([]*pb.PublishItem, maxItems+1)...)),
		"much that is unusual": encoded(t, request(failing(strings.Repeat("x", maxUnusual)))),
	} {
		if got := alone(b); got != nil {
			t.Errorf("%s: was decoded as %.200v", name, got)
		}
		want, got := &pb.PublishResultsRequest{}, &pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Finish{}}
		wantErr := general().Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, want)
		gotErr := NewCodec(general()).Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, got)
		if (wantErr == nil) != (gotErr == nil) || wantErr == nil && !proto.Equal(got, want) {
			t.Errorf("%s: got %v and %v\nwant %v and %v", name, got, gotErr, want, wantErr)
		}
	}
}

// Requests arrive in pieces, and other messages pass.
func TestTheCodecTakesPiecesAndPassesOthers(t *testing.T) {
	want := request(test(), output("x"))
	b := encoded(t, want)
	got := request(suite()) // what is there is replaced
	pieces := mem.BufferSlice{mem.SliceBuffer(b[:7]), mem.SliceBuffer(b[7:9]), mem.SliceBuffer(b[9:])}
	if err := NewCodec(general()).Unmarshal(pieces, got); err != nil || !proto.Equal(got, want) {
		t.Errorf("got %v and %v, want %v", got, err, want)
	}
	run := &pb.Run{}
	if err := NewCodec(general()).Unmarshal(mem.BufferSlice{mem.SliceBuffer(encoded(t, &pb.Run{Id: "r"}))}, run); err != nil || run.Id != "r" {
		t.Errorf("got %v and %v", run, err)
	}
}

func TestTheFieldsAreThoseOfTheSchema(t *testing.T) {
	for _, m := range []struct {
		message proto.Message
		numbers map[protoreflect.Name]protowire.Number
	}{
		{&pb.PublishResultsRequest{}, map[protoreflect.Name]protowire.Number{"batch": requestBatch}},
		{&pb.PublishBatch{}, map[protoreflect.Name]protowire.Number{"first_sequence": batchFirstSequence, "items": batchItems}},
		{&pb.PublishItem{}, map[protoreflect.Name]protowire.Number{"test": itemTest, "output": itemOutput}},
		{&pb.TestExecutionUpdate{}, map[protoreflect.Name]protowire.Number{
			"run_id": testRunID, "test_case_id": testTestCaseID, "test": testTest, "attempt": testAttempt, "status": testStatus,
			"progress": testProgress, "duration_ms": testDurationMs, "timestamp": testTimestamp, "started_at": testStartedAt,
			"flags": testFlags, "raw_status": testRawStatus, "shard": testShard, "comment": testComment,
		}},
		{&pb.TestRef{}, map[protoreflect.Name]protowire.Number{
			"source": refSource, "suite": refSuite, "name": refName, "parent": refParent, "kind": refKind,
		}},
		{&timestamppb.Timestamp{}, map[protoreflect.Name]protowire.Number{"seconds": timeSeconds, "nanos": timeNanos}},
		{&pb.OutputChunk{}, map[protoreflect.Name]protowire.Number{
			"suite": outputSuite, "name": outputName, "attempt": outputAttempt, "data": outputData,
		}},
	} {
		d := m.message.ProtoReflect().Descriptor()
		for name, number := range m.numbers {
			if f := d.Fields().ByName(name); f == nil || f.Number() != number {
				t.Errorf("%s.%s isn't field %d", d.FullName(), name, number)
			}
		}
	}
}

// agree fails if b was decoded into something else than the general decoder makes.
func agree(t *testing.T, b []byte) {
	t.Helper()
	got := alone(b)
	if got == nil {
		return
	}
	want := &pb.PublishResultsRequest{}
	if err := proto.Unmarshal(b, want); err != nil {
		t.Fatalf("%x was decoded, and is wrong: %v", b, err)
	}
	if !proto.Equal(got, want) {
		t.Fatalf("%x\ngot  %v\nwant %v", b, got, want)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encoded(f, request(test(), output("text\n"), suite(), failing("x"), &pb.PublishItem{})))
	f.Add(encoded(f, &pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Heartbeat{}}))
	f.Fuzz(agree)
}

// TestBrokenBatchesAreDecodedAsByTheGeneralDecoder changes bytes of good ones.
func TestBrokenBatchesAreDecodedAsByTheGeneralDecoder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	good := encoded(t, request(test(), output("text\n"), suite(), failing("x"), test()))
	for range 50_000 {
		b := append([]byte(nil), good...)
		for range 1 + r.IntN(3) {
			b[r.IntN(len(b))] = byte(r.Uint32())
		}
		agree(t, b)
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	items := make([]*pb.PublishItem, 1000)
	for i := range items {
		items[i] = test(func(u *pb.TestExecutionUpdate) {
			u.Flags, u.RunId, u.TestCaseId, u.RawStatus, u.Shard, u.Comment = nil, "", "", "", "", ""
		})
	}
	data := mem.BufferSlice{mem.SliceBuffer(encoded(b, request(items...)))}
	for name, c := range map[string]encoding.CodecV2{"general": general(), "batch": NewCodec(general())} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := c.Unmarshal(data, &pb.PublishResultsRequest{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/item")
		})
	}
}
