package tcmanager

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/protobuf/proto"
)

func TestAJoinedBatchIsTheMessageItStandsFor(t *testing.T) {
	t.Parallel()
	want := &tcmv1.PublishResultsRequest{Frame: &tcmv1.PublishResultsRequest_Batch{Batch: &tcmv1.PublishBatch{
		FirstSequence: 1 << 40, Items: []*tcmv1.PublishItem{output("a", 1000), {}, output("b", 0)},
	}}}
	var items []byte
	for _, item := range want.GetBatch().GetItems() {
		var err error
		if items, err = appendItem(items, item); err != nil {
			t.Fatal(err)
		}
	}
	wire, err := newCodec().Marshal(newEncodedBatch(want.GetBatch().GetFirstSequence(), items))
	if err != nil {
		t.Fatal(err)
	}
	got := &tcmv1.PublishResultsRequest{}
	if err := proto.Unmarshal(wire.Materialize(), got); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestSplitItemsCutsBetweenItems(t *testing.T) {
	t.Parallel()
	var items []byte
	for _, n := range []int{10, 200, 3000} {
		items, _ = appendItem(items, output("x", n))
	}
	one, _ := appendItem(nil, output("x", 10))
	two, _ := appendItem(nil, output("x", 200))
	for _, c := range []struct{ limit, size, count int }{
		{1, len(one), 1},
		{len(one), len(one), 1},
		{len(one) + len(two) - 1, len(one), 1},
		{len(one) + len(two), len(one) + len(two), 2},
		{1 << 20, len(items), 3},
	} {
		if size, count := splitItems(items, c.limit); size != c.size || count != c.count {
			t.Errorf("limit %d: %d bytes, %d items, want %d, %d", c.limit, size, count, c.size, c.count)
		}
	}
	if _, count := splitItems([]byte{0x12, 0xff}, 10); count != 0 {
		t.Error("broken bytes were taken for an item")
	}
}

// TestTheQueueGivesBackWhatItWasGiven drives a queue with a small ring on disk
// through random adds, sends, acks and rewinds, and compares what is sent with
// what was added.
func TestTheQueueGivesBackWhatItWasGiven(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			q := &queue{memoryLimit: 300 << 10, diskLimit: 2 << 20, dir: t.TempDir()}
			defer q.discard()
			var want [][]byte // by sequence, from 1
			sent := uint64(0)
			for range 1000 {
				switch r.IntN(8) {
				case 0:
					sent = sendOne(t, q, want, r.IntN(2) == 0, sent)
				case 1:
					q.ack(q.acked + uint64(r.Int64N(int64(sent-min(sent, q.acked))+1)))
				case 2:
					if r.IntN(20) == 0 {
						q.rewind()
						sent = q.acked
					}
				default:
					entry := bytes.Repeat([]byte{byte(len(want))}, 1+r.IntN(100<<10))
					if q.add(entry) == nil {
						want = append(want, entry)
					}
				}
				checkQueue(t, q)
			}
			if q.inFile == 0 && q.file == nil {
				t.Error("the ring was never used")
			}
		})
	}
}

// sendOne reads the next segment as the sender does, and compares it.
func sendOne(t *testing.T, q *queue, want [][]byte, flush bool, sent uint64) uint64 {
	t.Helper()
	s := q.unsent(flush)
	if s == nil {
		return sent
	}
	data := s.data
	if s.onDisk {
		var err error
		if data, err = s.read(q.file); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(data, bytes.Join(want[s.first-1:s.last()], nil)) {
		t.Fatalf("items %d to %d came back changed", s.first, s.last())
	}
	return max(sent, s.last())
}

// checkQueue checks what must hold between any two operations.
func checkQueue(t *testing.T, q *queue) {
	t.Helper()
	memory, inFile := 0, 0
	next := q.acked + 1
	for i, s := range q.segments {
		if i > 0 && s.first != next || i == 0 && s.first > next {
			t.Fatalf("segment %d begins at %d, want %d", i, s.first, next)
		}
		next = s.first + uint64(s.count)
		if s.onDisk {
			inFile++
		} else {
			memory += s.size
		}
	}
	if memory != q.memory || inFile != q.inFile || next != q.sequence+1 && len(q.segments) > 0 {
		t.Fatalf("memory %d, want %d; in file %d, want %d", q.memory, memory, q.inFile, inFile)
	}
	if q.memory > q.memoryLimit+batchBytes+maxItem {
		t.Fatalf("%d bytes in memory", q.memory)
	}
}

func TestASegmentBeingReadKeepsItsPlaceInTheRing(t *testing.T) {
	t.Parallel()
	q := &queue{memoryLimit: 1, diskLimit: 2 * batchBytes, dir: t.TempDir()}
	defer q.discard()
	for q.add(make([]byte, batchBytes/2)) == nil {
	}
	s := q.unsent(true)
	q.pinned = s
	q.ack(s.last())
	if q.segments[0] != s || q.roomOnDisk(batchBytes) {
		t.Error("the place was given away while it was read")
	}
	q.pinned = nil
	q.trim()
	if q.segments[0] == s {
		t.Error("the segment was kept")
	}
}
