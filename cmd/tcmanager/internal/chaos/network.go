package chaos

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/carrier"
)

// network is the way of one client to the server: a wire to each door.
type network struct {
	grpc, http *wire
}

func newNetwork(ctx context.Context, p *process) (*network, error) {
	g, err := wireTo(ctx, p.grpc)
	if err != nil {
		return nil, err
	}
	h, err := wireTo(ctx, p.http)
	if err != nil {
		g.close()
		return nil, err
	}
	return &network{g, h}, nil
}

func (n *network) close() {
	n.grpc.close()
	n.http.close()
}

// server is the server as it is seen through the network. Readers get buffers that
// are soon full, as over a long way.
func (n *network) server(t *town) carrier.Server {
	return carrier.Server{GRPC: n.grpc.addr(), HTTP: n.http.addr(), Origin: "http://" + t.server.http, ReadBuffer: 192 << 10}
}

func (n *network) set(h harm) {
	n.grpc.set(h)
	n.http.set(h)
}

func (n *network) cut() {
	n.grpc.cut()
	n.http.cut()
}

// trouble is something that happens to a network, and how often.
type trouble struct {
	name   string
	weight int
	moment bool // it is over at once
	begin  func(n *network, rng *rand.Rand)
}

// silence is how long the server waits for a silent client: the least that can be
// configured but one.
const (
	beat    = time.Second
	silence = 3 * time.Second
)

var troubles = []trouble{
	{"connections reset", 20, true, func(n *network, _ *rand.Rand) { n.cut() }},
	{"connections closed", 10, true, func(n *network, _ *rand.Rand) { n.grpc.hangUp(); n.http.hangUp() }},
	{"connections abandoned", 15, true, func(n *network, _ *rand.Rand) {
		n.grpc.abandon(2 * silence)
		n.http.abandon(2 * silence)
	}},
	{"connections stalled", 15, false, func(n *network, _ *rand.Rand) { n.set(harm{stalled: true}) }},
	{"connections half-open", 15, false, func(n *network, _ *rand.Rand) { n.set(harm{lost: true}) }},
	{"connections slow", 15, false, func(n *network, rng *rand.Rand) { n.set(harm{pace: 20 + rng.IntN(500)}) }},
	{"connections late", 15, false, func(n *network, rng *rand.Rand) {
		n.set(harm{late: time.Duration(20+rng.IntN(400)) * time.Millisecond})
	}},
	{"connections refused", 5, false, func(n *network, _ *rand.Rand) {
		n.set(harm{refused: true})
		n.cut()
	}},
}

// pick chooses by weight.
func pick[T any](rng *rand.Rand, list []T, weight func(T) int) T {
	sum := 0
	for _, x := range list {
		sum += weight(x)
	}
	at := rng.IntN(sum)
	for _, x := range list {
		if at -= weight(x); at < 0 {
			return x
		}
	}
	return list[len(list)-1]
}

// strike lets something happen to a network. It returns when it will be over, which
// it will be by itself.
func (n *network) strike(rng *rand.Rand, faults *tally) time.Duration {
	t := pick(rng, troubles, func(t trouble) int { return t.weight })
	faults.add(t.name)
	t.begin(n, rng)
	if t.moment {
		return 0
	}
	// Shorter than what is waited for, or longer.
	d := time.Duration(100+rng.IntN(1400)) * time.Millisecond
	if rng.IntN(4) == 0 {
		d += silence
	}
	time.AfterFunc(d, func() { n.set(harm{}) })
	return d
}
