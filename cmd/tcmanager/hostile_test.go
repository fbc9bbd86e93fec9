package main

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/encoding"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/carrier"
	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/config"
	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/crowd"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

const (
	hostileOfEach = 4
	// hostileHeap is what they may cost together: each of the 8 that send has 8 MB of
	// answers and 2 MB of requests at most; each of the 40 has half a megabyte of queues
	// and buffers.
	hostileHeap = 8*10<<20 + 40<<19
	// leftHeap is what may be left of it, for the history of the honest clients.
	leftHeap = 16 << 20
	// hostileTime is when the last of them must be gone: silent or stalled for the
	// heartbeat timeout, or in a write for as long as the edge lets it take.
	hostileTime = 20 * time.Second
)

// hostile is a client that means no good. It returns what ended it, or nil if
// nothing had when ctx ended.
type hostile struct {
	name string
	do   func(ctx context.Context, w *town, by carrier.Carrier, room string) error
	by   []carrier.Carrier
	ends func(error) bool
}

var hostiles = []hostile{
	{"sends without reading", sendsOnly, []carrier.Carrier{carrier.Native{}, carrier.Websocket{}}, func(err error) bool { return err != nil }},
	{"reads without sending", readsOnly, []carrier.Carrier{carrier.Native{}, carrier.Websocket{}}, ends("nothing was heard for too long")},
	{"watches and leaves it at that", readsOnly, []carrier.Carrier{carrier.Watch{}}, func(err error) bool { return errors.Is(err, io.EOF) }},
	{"says nothing", saysNothing, []carrier.Carrier{carrier.Native{}, carrier.Websocket{}}, ends("no hello came in time")},
	{"sends no header block", opensOnly, []carrier.Carrier{carrier.Websocket{}}, func(err error) bool { return err != nil }},
	{"never reads", neverReads, carrier.All, func(err error) bool { return err != nil }},
}

func ends(how string) func(error) bool {
	return func(err error) bool { return err != nil && strings.Contains(err.Error(), how) }
}

// TestHostileClientsCostLittleAndHarmNobody lets clients of all bad manners on all
// carriers loose at a busy server, beside honest ones.
func TestHostileClientsCostLittleAndHarmNobody(t *testing.T) {
	w := newTown(t, 1, func(c *config.Config) {
		c.HeartbeatInterval, c.HeartbeatTimeout, c.AuthTimeout, c.MaxMessageBytes = time.Second, 3*time.Second, time.Second, 1<<20
	})
	run, room := w.startRun("busy")
	w.admit("honest")
	w.admit("hostile")
	w.heads() // what is made once is made before it is counted
	goroutines, heap := runtime.NumGoroutine(), heapInUse()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var publisher, others sync.WaitGroup
	publisher.Go(func() { w.report(ctx, run, 3*time.Millisecond) })
	honest := w.honest(ctx, &others, room)
	peak := w.letLoose(t, room, heap)
	cancel()
	publisher.Wait()
	others.Wait()
	if !w.settle(w.quiet(), w.settleTime(), honest...) {
		t.Error("an honest client was not told all")
	}
	for _, c := range honest {
		c.Cut()
	}
	left := heapInUse()
	t.Logf("the heap grew by %d kB, of which %d kB are left", (peak-heap)>>10, (left-heap)>>10)
	if left-heap > leftHeap {
		t.Errorf("%d MB of heap are left", (left-heap)>>20)
	}
	h := w.history()
	w.check(h)
	t.Log(listed(count(h)))
	if peak-heap > hostileHeap {
		t.Errorf("the heap grew by %d MB", (peak-heap)>>20)
	}
	// The connection of the town's own calls has come since.
	within(t, 15*time.Second, "goroutines are left", func() bool { return runtime.NumGoroutine() <= goroutines+5 })
}

// TestNoCompressorIsRegistered guards what wire.Told relies on: the transport would free
// the buffers of a compressed message before it has taken it out of its queue, and a
// worker of sessions would wait for a client that reads nothing.
func TestNoCompressorIsRegistered(t *testing.T) {
	for _, name := range []string{"gzip", "deflate", "snappy", "zstd"} {
		if encoding.GetCompressor(name) != nil {
			t.Errorf("clients can ask for %s, which sessions can't be sent to with", name)
		}
	}
}

// TestANativeClientThatReadsNothingKeepsNoGoroutineWaiting sends one more than gRPC's
// transport takes.
func TestANativeClientThatReadsNothingKeepsNoGoroutineWaiting(t *testing.T) {
	w := newTown(t, 1)
	run, room := w.startRun("busy")
	w.admit("honest")
	w.admit("hostile")
	deaf, err := w.opened(t.Context(), carrier.Native{}, hello(), joinOf(room))
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Cut()
	c := w.client("honest", "honest", 1)
	defer c.Cut()
	if err := c.Open(t.Context(), carrier.Native{}, target(room)); err != nil {
		t.Fatal(err)
	}
	w.results(run, 2000)
	if !w.settle(w.quiet(), w.settleTime(), c) {
		t.Error("an honest client was not told all")
	}
	stacks := make([]byte, 4<<20)
	if n := strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "transport.(*ServerStream).Write("); n > 0 {
		t.Errorf("%d goroutines wait in a Send", n)
	}
}

// within waits until something holds.
func within(t *testing.T, d time.Duration, otherwise string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(d); !holds(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s after %v: %d", otherwise, d, runtime.NumGoroutine())
		}
	}
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// honest lets one client on each carrier listen until ctx ends.
func (w *town) honest(ctx context.Context, group *sync.WaitGroup, room string) []*crowd.Client {
	var clients []*crowd.Client
	for i, by := range carrier.All {
		c := w.client(by.String(), "honest", uint64(i))
		clients = append(clients, c)
		if err := c.Open(context.WithoutCancel(ctx), by, target(room)); err != nil {
			w.t.Fatal(err)
		}
		group.Go(func() {
			for ctx.Err() == nil {
				if !c.Connected() {
					_ = c.Open(context.WithoutCancel(ctx), by) // it is tried again
				}
				_ = c.Ping() // likewise
				select {
				case <-time.After(200 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
	return clients
}

// letLoose runs all hostile clients until the last has ended, and returns the
// largest heap meanwhile.
func (w *town) letLoose(t *testing.T, room string, heap int64) (peak int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hostileTime)
	defer cancel()
	var group sync.WaitGroup
	for _, h := range hostiles {
		for _, by := range h.by {
			for range hostileOfEach {
				group.Go(func() {
					began := time.Now()
					err := h.do(ctx, w, by, room)
					t.Logf("one that %s by %s ended after %v with %v", h.name, by, time.Since(began).Round(time.Millisecond), err)
					if !h.ends(err) {
						t.Errorf("one that %s by %s ended after %v with %v", h.name, by, time.Since(began).Round(time.Millisecond), err)
					}
				})
			}
		}
	}
	gone := make(chan struct{})
	go func() { defer close(gone); group.Wait() }()
	for peak = heap; ; peak = max(peak, heapInUse()) {
		select {
		case <-gone:
			return peak
		case <-time.After(250 * time.Millisecond):
		}
	}
}

func hello() *pb.SubscribeRequest {
	return &pb.SubscribeRequest{Frame: &pb.SubscribeRequest_Hello{Hello: &pb.Hello{Client: "hostile"}}}
}

func joinOf(room string) *pb.SubscribeRequest {
	return &pb.SubscribeRequest{Id: 1, Frame: &pb.SubscribeRequest_Join{Join: &pb.JoinRoom{Room: room}}}
}

// opened opens a stream of the hostile user.
func (w *town) opened(ctx context.Context, by carrier.Carrier, first ...*pb.SubscribeRequest) (carrier.Stream, error) {
	token, _, err := w.token("hostile")
	if err != nil {
		return nil, err
	}
	return by.Open(ctx, carrier.Server{GRPC: w.cfg.GRPCAddr, HTTP: w.cfg.HTTPAddr, ReadBuffer: 16 << 10}, token, first...)
}

// sendsOnly sends joins, each of which is answered with a snapshot, for as long as
// they are taken. What ended it is only heard by reading: on a native connection
// the end waits behind what was sent before.
func sendsOnly(ctx context.Context, w *town, by carrier.Carrier, room string) error {
	s, err := w.opened(ctx, by, hello())
	if err != nil {
		return err
	}
	refused := make(chan struct{})
	go func() {
		defer close(refused)
		for s.Send(joinOf(room)) == nil {
		}
	}()
	defer func() { <-refused }()
	defer s.Cut()
	return readLate(ctx, s, refused)
}

// tooLate is when a client that has read nothing must have been given up.
const tooLate = 6 * time.Second

// readLate reads nothing until it is too late, or the stream takes no more, and
// returns how the stream ended.
func readLate(ctx context.Context, s carrier.Stream, refused <-chan struct{}) error {
	select {
	case <-time.After(tooLate):
	case <-refused:
	case <-ctx.Done():
	}
	for {
		if _, err := s.Recv(); err != nil {
			return err
		}
	}
}

func readsOnly(ctx context.Context, w *town, by carrier.Carrier, room string) error {
	s, err := w.opened(ctx, by, hello(), joinOf(room))
	if err != nil {
		return err
	}
	defer s.Cut()
	for {
		if _, err := s.Recv(); err != nil {
			return err
		}
	}
}

func saysNothing(ctx context.Context, w *town, by carrier.Carrier, _ string) error {
	s, err := w.opened(ctx, by)
	if err != nil {
		return err
	}
	defer s.Cut()
	_, err = s.Recv()
	return err
}

func opensOnly(ctx context.Context, w *town, _ carrier.Carrier, _ string) error {
	s, err := carrier.Websocket{}.Dial(ctx, carrier.Server{GRPC: w.cfg.GRPCAddr, HTTP: w.cfg.HTTPAddr})
	if err != nil {
		return err
	}
	defer s.Cut()
	_, err = s.Recv()
	return err
}

// neverReads joins a busy room and reads nothing.
func neverReads(ctx context.Context, w *town, by carrier.Carrier, room string) error {
	s, err := w.opened(ctx, by, hello(), joinOf(room))
	if err != nil {
		return err
	}
	defer s.Cut()
	return readLate(ctx, s, nil)
}
