package flow

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

// message is a gRPC message with a body of n bytes.
func message(n int) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(n)), make([]byte, n)...)
}

// read reads as grpc-go does, with the chunk sizes given.
func read(t *testing.T, w *Window, body []byte, sizes ...int) error {
	t.Helper()
	r := w.Body(io.NopCloser(bytes.NewReader(body)))
	for i := 0; ; i++ {
		size := readCost
		if i < len(sizes) {
			size = sizes[i]
		}
		if _, err := r.Read(make([]byte, size)); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func TestReceivingGivesAllBack(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 0))
		_, w, stop := NewWindow(t.Context(), 1<<40)
		var body []byte
		messages := 1 + rng.IntN(20)
		for range messages {
			body = append(body, message(rng.IntN(40_000)*rng.IntN(2))...)
		}
		var sizes []int
		for range 200 {
			sizes = append(sizes, 1+rng.IntN(20_000))
		}
		if err := read(t, w, body, sizes...); err != nil {
			t.Fatal(err)
		}
		if len(w.costs) != messages || w.pending < int64(len(body)) {
			t.Fatalf("seed %d: %d messages counted of %d, %d bytes pending of %d", seed, len(w.costs), messages, w.pending, len(body))
		}
		for range messages {
			w.received()
		}
		if w.pending != 0 || w.partial != 0 {
			t.Fatalf("seed %d: %d bytes are still pending", seed, w.pending)
		}
		stop()
	}
}

func TestATinyMessageCostsTheBufferThatHoldsIt(t *testing.T) {
	_, w, stop := NewWindow(t.Context(), 1<<40)
	defer stop()
	body := message(1)
	if err := read(t, w, body, 1, 1, 1, 1, 1, 1); err != nil {
		t.Fatal(err)
	}
	if want := int64(6 * readCost); w.pending != want {
		t.Errorf("%d pending, want %d", w.pending, want)
	}
}

func TestSendingTooFarAheadEndsTheRequest(t *testing.T) {
	ctx, w, stop := NewWindow(t.Context(), 10*readCost)
	defer stop()
	for range 10 {
		if err := read(t, w, message(10)); err != nil {
			t.Fatal(err)
		}
	}
	if ctx.Err() != nil {
		t.Fatal("ended within the window")
	}
	if err := read(t, w, message(10)); err == nil {
		t.Fatal("the window holds more than its limit")
	}
	if !errors.Is(context.Cause(ctx), ErrExceeded) {
		t.Error(context.Cause(ctx))
	}
}

func TestAHandlerThatKeepsUpNeverExceeds(t *testing.T) {
	ctx, w, stop := NewWindow(t.Context(), 10*readCost)
	defer stop()
	for range 1000 {
		if err := read(t, w, message(100_000)); err != nil {
			t.Fatal(err)
		}
		w.received()
	}
	if ctx.Err() != nil {
		t.Error(context.Cause(ctx))
	}
}
