package workload

import (
	"context"
	"slices"
	"time"

	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/target"
)

// Workload is something to measure, by its name in the results.
type Workload struct {
	Name    string
	About   string
	Kinds   []target.Kind
	Measure func(ctx context.Context, k target.Kind, p target.Programs) (Sample, error)
	Extra   bool // measured only if it is asked for by name

	Readers, EmptyRooms int // which point of the curve it is; 0 else
}

// inFlight is how many events are published that not all were sent to all, where
// a publisher is as fast as it can: enough to keep a server busy.
const inFlight = 100

// ours are TCManager's, by both carriers.
var ours = []target.Kind{{Server: target.TCManager, Carrier: target.Web}, {Server: target.TCManager, Carrier: target.Native}}

// runner is TCManager's, by the carrier of runners.
var runner = target.Kind{Server: target.TCManager, Carrier: target.Native}

// size chooses between what is measured and what is tried out.
type size bool

func (small size) of(full, few int) int {
	if small {
		return few
	}
	return full
}

func (small size) during(full, short time.Duration) time.Duration {
	if small {
		return short
	}
	return full
}

// Plan is all that is measured. Counts are such that the slowest server takes some
// 3 to 8 seconds for a round; they are the same for all. A small plan has the same
// workloads with few clients and events, to see that they work.
func Plan(isSmall bool) []Workload {
	n := size(isSmall)
	return slices.Concat([]Workload{
		of("paced", "20 events/s to 1,000 readers of a room", Fan{Readers: n.of(1000, 5), Rooms: 1, Events: n.of(120, 5), Rate: 20}),
		of("burst-100", "as fast as it can, to 100 readers of a room", Fan{Readers: n.of(100, 5), Rooms: 1, Events: n.of(5000, 300), InFlight: inFlight}),
		of("burst-1000", "the same, to 1,000 readers", Fan{Readers: n.of(1000, 10), Rooms: 1, Events: n.of(500, 200), InFlight: inFlight}),
		of("burst-5000", "the same, to 5,000 readers", Fan{Readers: n.of(5000, 20), Rooms: 1, Events: n.of(100, 100), InFlight: inFlight}),
		of("hot", "1,000 events/s to 50 readers of a room", Fan{Readers: n.of(50, 5), Rooms: 1, Events: n.of(6000, 200), Rate: 1000}),
		of("rooms", "as fast as it can, to 1,000 readers over 200 rooms", Fan{Readers: n.of(1000, 20), Rooms: n.of(200, 5), Events: n.of(12_000, 100), InFlight: 4 * inFlight}),
		of("ingest", "small updates of 10 clients, acknowledged", Ingest{Clients: n.of(10, 2), Updates: n.of(100_000, 320), Window: 256, Write: 16}),
		durable("durable-sqlite", "results, acknowledged once they are on disk, into SQLite", target.BareSQLite,
			Durable{Rows: n.of(200_000, 2000), Batch: n.of(1000, 500), InFlight: 4}),
		durable("durable-postgres", "the same into PostgreSQL", target.BarePostgres,
			Durable{Rows: n.of(200_000, 2000), Batch: n.of(1000, 500), InFlight: 4, Postgres: true}),
		idle("idle", "memory of 5,000 connections in a room", Idle{Readers: n.of(5000, 10), Updates: n.of(200_000, 320), Settle: n.during(10*time.Second, 100*time.Millisecond)}),
		of("storm", "5,000 readers of a room cut at once: until all are back, nothing lost", Storm{Readers: n.of(5000, 10), Rate: 5, Calm: n.during(2*time.Second, 500*time.Millisecond)}),
		of("latency", "result to reader: 50 readers, 20,000 results/s",
			Fan{Readers: n.of(50, 5), Rooms: 1, Events: n.of(100_000, 2000), Rate: 20_000, Tick: 5 * time.Millisecond}),
	}, curve(n))
}

// of is a workload of all servers with readers.
func of(name, about string, m Measurer) Workload {
	return Workload{Name: name, About: about, Kinds: target.Kinds, Measure: func(ctx context.Context, k target.Kind, p target.Programs) (Sample, error) {
		return served(ctx, k, p, m)
	}}
}

// idle is one for which servers get the settings that they have for it.
func idle(name, about string, m Measurer) Workload {
	w := of(name, about, m)
	w.Measure = func(ctx context.Context, k target.Kind, p target.Programs) (Sample, error) {
		p.Idle = true
		return served(ctx, k, p, m)
	}
	return w
}

func durable(name, about, bare string, d Durable) Workload {
	return Workload{Name: name, About: about, Kinds: []target.Kind{runner, {Server: bare}}, Measure: d.Run}
}

// curve is what a delivery costs by how many readers there are, and by how many
// rooms beside theirs that nobody is in. Each point has as many deliveries.
func curve(n size) []Workload {
	deliveries := n.of(500_000, 20_000)
	var all []Workload
	for _, point := range []struct{ readers, empty int }{{10, 0}, {100, 0}, {1000, 0}, {5000, 0}, {1000, n.of(10_000, 50)}} {
		point.readers = n.of(point.readers, point.readers/100+2)
		w := of("curve", "cost by readers and by empty rooms; only if it is asked for",
			Fan{Readers: point.readers, Rooms: 1, Empty: point.empty, Events: deliveries / point.readers, InFlight: inFlight})
		w.Kinds, w.Extra, w.Readers, w.EmptyRooms = ours, true, point.readers, point.empty
		all = append(all, w)
	}
	return all
}

// Kinds are all servers of the plan, each once.
func Kinds() []target.Kind {
	var kinds []target.Kind
	for _, w := range Plan(false) {
		for _, k := range w.Kinds {
			if !slices.Contains(kinds, k) {
				kinds = append(kinds, k)
			}
		}
	}
	return kinds
}
