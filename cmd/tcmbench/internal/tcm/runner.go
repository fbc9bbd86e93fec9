package tcm

import (
	"encoding/binary"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/peer"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

const (
	// tests is how many tests a run has: further results are attempts of theirs. A
	// run may have a million, in 5,000 suites.
	tests = 480_000
	// perSuite is how many tests a suite has, as in package bare.
	perSuite = 100
)

// Runner publishes results into a run of its own: a peer.Protocol that joins
// nothing. Its run is the room that readers join.
type Runner struct {
	transport
	who  Credentials
	key  string
	on   peer.Handler
	room string

	items   []byte // of the batch that is being made
	count   uint64
	next    uint64 // sequence of the stream
	scratch []byte
	test    []byte
}

// NewRunner returns a runner of a new run, which the key names.
func NewRunner(who Credentials, key string) *Runner {
	return &Runner{transport: newNative(), who: who, key: key, next: 1}
}

// Room is where the results are heard, once the protocol is ready.
func (r *Runner) Room() string { return r.room }

// Open opens the stream and says which run it is of.
func (r *Runner) Open(host string) []byte {
	b := r.open(host, "/tcmanager.v1.ExecutionService/PublishResults", r.who)
	return r.request(b, &pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Hello{
		Hello: &pb.PublishHello{Project: "demo", RunKey: r.key},
	}})
}

func (r *Runner) request(dst []byte, req *pb.PublishResultsRequest) []byte {
	b, err := proto.Marshal(req)
	if err != nil {
		panic(err) // it is made of constants and checked names
	}
	return r.send(dst, b)
}

// Beat returns a sign of life.
func (r *Runner) Beat() []byte {
	return r.request(nil, &pb.PublishResultsRequest{Frame: &pb.PublishResultsRequest_Heartbeat{Heartbeat: &pb.PublishHeartbeat{}}})
}

// Join panics: a runner hears nothing but its acks.
func (r *Runner) Join(string) []byte { panic("a runner joins no room; use a Subscriber") }

// Update panics: see Publish.
func (r *Runner) Update([]byte, uint64) []byte { panic("a runner publishes results; use a Subscriber") }

// Publish adds a result to the batch that the next Flush sends.
func (r *Runner) Publish(dst []byte, _ string, payload []byte) []byte {
	seq, at := binary.BigEndian.Uint64(payload), binary.BigEndian.Uint64(payload[8:])
	n := seq % tests
	t := r.test[:0]
	t = protowire.AppendTag(t, 4, protowire.BytesType)
	s := fmt.Appendf(r.scratch[:0], "example.org/shop/cart%04d", n/perSuite)
	split := len(s)
	s = fmt.Appendf(s, "TestCart/case_%06d", n)
	r.scratch = s
	t = protowire.AppendVarint(t, uint64(len(s)+4)) // two tags and two lengths of a byte each
	t = protowire.AppendTag(t, 2, protowire.BytesType)
	t = protowire.AppendBytes(t, s[:split])
	t = protowire.AppendTag(t, 3, protowire.BytesType)
	t = protowire.AppendBytes(t, s[split:])
	t = protowire.AppendTag(t, 6, protowire.VarintType)
	t = protowire.AppendVarint(t, uint64(pb.Status_STATUS_PASSED))
	t = protowire.AppendTag(t, testDuration, protowire.Fixed64Type)
	t = protowire.AppendFixed64(t, math.Float64bits(float64(seq)))
	seconds, nanos := at/1e9, at%1e9
	t = protowire.AppendTag(t, testTimestamp, protowire.BytesType)
	t = protowire.AppendVarint(t, uint64(2+protowire.SizeVarint(seconds)+protowire.SizeVarint(nanos)))
	t = protowire.AppendTag(t, timestampSeconds, protowire.VarintType)
	t = protowire.AppendVarint(t, seconds)
	t = protowire.AppendTag(t, timestampNanos, protowire.VarintType)
	t = protowire.AppendVarint(t, nanos)
	r.test = t

	item := r.items
	item = protowire.AppendTag(item, 2, protowire.BytesType) // PublishBatch.items
	item = protowire.AppendVarint(item, uint64(1+protowire.SizeBytes(len(t))))
	item = protowire.AppendTag(item, 1, protowire.BytesType) // PublishItem.test
	r.items = protowire.AppendBytes(item, t)
	r.count++
	return dst
}

// Flush appends the batch that was made, if there is one.
func (r *Runner) Flush(dst []byte) []byte {
	if r.count == 0 {
		return dst
	}
	b := r.scratch[:0]
	b = protowire.AppendTag(b, 2, protowire.BytesType) // PublishResultsRequest.batch
	b = protowire.AppendVarint(b, uint64(1+protowire.SizeVarint(r.next)+len(r.items)))
	b = protowire.AppendTag(b, 1, protowire.VarintType) // PublishBatch.first_sequence
	b = protowire.AppendVarint(b, r.next)
	b = append(b, r.items...)
	r.scratch = b
	r.next += r.count
	r.items, r.count = r.items[:0], 0
	return r.send(dst, b)
}

// Feed takes bytes of the server. What is committed is reported as acked.
func (r *Runner) Feed(p []byte, on peer.Handler) (used int, reply []byte, err error) {
	r.on = on
	return r.feed(p, r)
}

// message takes a PublishResultsResponse.
func (r *Runner) message(p []byte) error {
	var resp pb.PublishResultsResponse
	if err := proto.Unmarshal(p, &resp); err != nil {
		return err
	}
	switch f := resp.Frame.(type) {
	case *pb.PublishResultsResponse_Welcome:
		r.room = "testrun:" + f.Welcome.Run.Id
		r.on.Ready()
	case *pb.PublishResultsResponse_Ack:
		if len(f.Ack.Rejections) > 0 {
			return fmt.Errorf("a result was rejected: %s", f.Ack.Rejections[0])
		}
		r.on.Acked(f.Ack.CommittedSequence)
	default:
		return fmt.Errorf("the server sent %s", &resp)
	}
	return nil
}
