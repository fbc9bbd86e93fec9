package wire

import "google.golang.org/grpc/mem"

// Told is a Frame whose sender is told what became of it. gRPC's HTTP/2 transport
// queues what SendMsg is given, and says nothing of it afterwards, but frees its
// buffers: an empty one goes behind those of the frame.
type Told struct {
	Frame Frame
	// Taken is called once, from any goroutine, when the transport has taken the
	// frame, and all that was sent on the stream before, out of its queue, or has
	// dropped it; possibly before SendMsg returns. It is not called if the
	// connection ends first.
	Taken func()
}

// slices are those of the frame, and what is freed behind them.
func (t *Told) slices() mem.BufferSlice {
	return append(t.Frame.slices(), mem.NewBuffer(&noBytes, taken(t.Taken)))
}

// noBytes are what is freed. Smaller ones count no references: no pool wants them
// back.
var noBytes = make([]byte, 0, 4<<10)

// taken is a pool that buffers are given back to.
type taken func()

// Get is never called.
func (t taken) Get(n int) *[]byte {
	b := make([]byte, n)
	return &b
}

// Put is called when nobody needs the buffer any more.
func (t taken) Put(*[]byte) { t() }
