package rules

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

func plainItem() *pb.PublishItem {
	return &pb.PublishItem{Item: &pb.PublishItem_Test{Test: &pb.TestExecutionUpdate{
		Test:   &pb.TestRef{Suite: "example.org/pkg", Name: "TestSomething/case", Parent: "TestSomething", Kind: pb.TestKind_TEST_KIND_TEST},
		Status: pb.Status_STATUS_PASSED, DurationMs: 12.5, Attempt: 1, Flags: []pb.ResultFlag{pb.ResultFlag_RESULT_FLAG_CACHED},
		Timestamp: timestamppb.Now(), StartedAt: timestamppb.Now(),
	}}}
}

// If this fails, somebody has changed the rules of published items in a way that
// bounds doesn't know: every item is checked slowly until it does.
func TestTheRulesOfItemsAreOfTheKnownKinds(t *testing.T) {
	if !items.whole {
		t.Fatalf("some rule of the schema isn't understood: %+v", items)
	}
	output := &pb.PublishItem{Item: &pb.PublishItem_Output{Output: &pb.OutputChunk{Suite: "s", Name: "n", Data: []byte("text\n")}}}
	for _, item := range []*pb.PublishItem{plainItem(), output} {
		if !sound(item) {
			t.Errorf("an everyday item is checked slowly: %v", item)
		}
	}
}

// TestItemsAreJudgedAsBySchema makes items whose every field is at, around or beyond
// what is allowed, and asks protovalidate about each that the fast check lets pass.
func TestItemsAreJudgedAsBySchema(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	passed, broken := 0, 0
	for range 8_000 {
		item := randomItem(r)
		err := protovalidate.Validate(item)
		if sound(item) {
			passed++
			if err != nil {
				t.Fatalf("%v\npassed the fast check and breaks a rule: %v", item, err)
			}
		}
		if got := Item(item); (got == nil) != (err == nil) {
			t.Fatalf("%v: Item says %v and protovalidate %v", item, got, err)
		}
		if err != nil {
			broken++
		}
	}
	if passed < 500 || broken < 500 {
		t.Errorf("%d items passed the fast check and %d broke a rule: too few to say anything", passed, broken)
	}
}

// often returns usual in most cases, so that most items break one rule at most.
func often[T any](r *rand.Rand, usual T, others ...T) T {
	if r.IntN(12) > 0 {
		return usual
	}
	return others[r.IntN(len(others))]
}

func randomText(r *rand.Rand, usual string, limit int) string {
	n := limit + r.IntN(3) - 1
	return often(r, usual, "", "x", strings.Repeat("x", n), strings.Repeat("é", n), strings.Repeat("é", n/2))
}

func randomNumber(r *rand.Rand, limit uint32) uint32 {
	return often(r, 1, 0, limit-1, limit, limit+1, math.MaxUint32)
}

func randomItem(r *rand.Rand) *pb.PublishItem {
	switch r.IntN(8) {
	case 0:
		return often(r, &pb.PublishItem{Item: &pb.PublishItem_Suite{Suite: &pb.SuiteExecutionUpdate{Suite: randomText(r, "s", 1024), Status: pb.Status_STATUS_PASSED}}},
			&pb.PublishItem{}, &pb.PublishItem{Item: &pb.PublishItem_Test{}}, &pb.PublishItem{Item: &pb.PublishItem_Output{}}, &pb.PublishItem{Item: &pb.PublishItem_Suite{}})
	case 1, 2:
		return &pb.PublishItem{Item: &pb.PublishItem_Output{Output: &pb.OutputChunk{
			Suite: randomText(r, "s", 1024), Name: randomText(r, "n", 4096), Attempt: randomNumber(r, 10_000),
			Data: []byte(randomText(r, "text", 65536)),
		}}}
	default:
		return &pb.PublishItem{Item: &pb.PublishItem_Test{Test: randomTest(r)}}
	}
}

func randomTest(r *rand.Rand) *pb.TestExecutionUpdate {
	return &pb.TestExecutionUpdate{
		RunId: randomText(r, "", 64), TestCaseId: randomText(r, "", 64), Shard: randomText(r, "", 64),
		RawStatus: randomText(r, "", 64), Comment: randomText(r, "", 4096),
		CaseKeys: often(r, nil, []string{"TC-1"}, []string{""}, make([]string, 17)),
		Test: often(r, &pb.TestRef{
			Source: randomText(r, "go", 32), Suite: randomText(r, "s", 1024), Name: randomText(r, "n", 4096), Parent: randomText(r, "", 4096),
			Kind: pb.TestKind(often[int32](r, 1, 0, 5, 6, -1, math.MaxInt32)),
		}, nil),
		Attempt: randomNumber(r, 10_000), Progress: randomNumber(r, 100),
		Status:     pb.Status(often[int32](r, 4, 0, 1, 8, 10, 11, -1)),
		DurationMs: often(r, 12.5, 0, -1, math.Inf(1), math.Inf(-1), math.NaN(), math.MaxFloat64),
		Flags:      often(r, nil, make([]pb.ResultFlag, 8), make([]pb.ResultFlag, 9), []pb.ResultFlag{1, 6}, []pb.ResultFlag{7}, []pb.ResultFlag{-1}),
		Error:      often(r, nil, &pb.Failure{}, &pb.Failure{Message: strings.Repeat("x", 4097)}),
		User:       often(r, nil, &pb.UserRef{Id: "ada"}),
		Timestamp:  often(r, timestamppb.Now(), nil, &timestamppb.Timestamp{Nanos: -5}),
		StartedAt:  often(r, timestamppb.Now(), nil, &timestamppb.Timestamp{Seconds: math.MaxInt64}),
	}
}

func TestARuleThatIsNotExpectedIsNoticed(t *testing.T) {
	for name, r := range map[string]*reader{
		"a message's rule": newReader(&pb.TestExecutionUpdate{}, nil),
		"a field's":        newReader(&pb.TestRef{}, nil),
		"a field unseen":   newReader(&pb.TestRef{}, nil),
	} {
		if name == "a field's" {
			r.text("suite", 0)
		}
		if r.whole() {
			t.Errorf("%s: not noticed", name)
		}
	}
}

func BenchmarkItem(b *testing.B) {
	item := plainItem()
	for name, check := range map[string]func() error{
		"fast":   func() error { return Item(item) },
		"schema": func() error { return Message(proto.Message(item)) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := check(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
