package workload

import (
	"slices"
	"time"

	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/target"
)

// Workload is something to measure, by its name in the results.
type Workload struct {
	Name    string
	About   string
	Unit    string // what PerS and CPU count
	Kinds   []target.Kind
	Measure Measurer
	Extra   bool // measured only if it is asked for by name
}

// inFlight is how many events are published that not all were sent to all, where
// a publisher is as fast as it can: enough to keep a server busy.
const inFlight = 100

// all are compared in the workloads with readers.
var all = target.Kinds

// Plan is all that is measured. Counts are such that the slowest server takes some
// 3 to 8 seconds for a round; they are the same for all.
func Plan() []Workload {
	return []Workload{
		{Name: "paced", About: "20 events/s to 1,000 readers of a room", Unit: "delivery", Kinds: all, Measure: Fan{Readers: 1000, Rooms: 1, Events: 120, Rate: 20}},
		{Name: "burst-100", About: "as fast as it can, to 100 readers of a room", Unit: "delivery", Kinds: all, Measure: Fan{Readers: 100, Rooms: 1, Events: 5000, InFlight: inFlight}},
		{Name: "burst-1000", About: "the same, 1,000 readers", Unit: "delivery", Kinds: all, Measure: Fan{Readers: 1000, Rooms: 1, Events: 500, InFlight: inFlight}},
		{Name: "burst-5000", About: "the same, 5,000 readers", Unit: "delivery", Kinds: all, Measure: Fan{Readers: 5000, Rooms: 1, Events: 100, InFlight: inFlight}},
		{Name: "hot", About: "1,000 events/s to 50 readers of a room", Unit: "delivery", Kinds: all, Measure: Fan{Readers: 50, Rooms: 1, Events: 6000, Rate: 1000}},
		{Name: "rooms", About: "as fast as it can, to 1,000 readers over 200 rooms", Unit: "delivery", Kinds: all, Measure: Fan{Readers: 1000, Rooms: 200, Events: 40_000, InFlight: 4 * inFlight}},
		{Name: "latency", About: "result to reader: 50 readers, 20,000 results/s", Unit: "delivery", Kinds: all, Measure: Fan{Readers: 50, Rooms: 1, Events: 100_000, Rate: 20_000, Tick: 5 * time.Millisecond}},
	}
}

// Kinds are all servers of the plan, each once.
func Kinds() []target.Kind {
	var kinds []target.Kind
	for _, w := range Plan() {
		for _, k := range w.Kinds {
			if !slices.Contains(kinds, k) {
				kinds = append(kinds, k)
			}
		}
	}
	return kinds
}
