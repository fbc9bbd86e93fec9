package report

import (
	"io"

	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/target"
)

// aim is a figure that is to be reached, in results of one run.
type aim struct {
	workload, what string
	value          func(found) (float64, bool)
	floor, aim     float64 // 0: there is none
	most           bool    // the figure is to be at most that, not at least
}

// found finds results.
type found []Result

func (f found) of(workload, server, carrier string) *Result {
	for i := range f {
		if r := &f[i]; r.Workload == workload && r.Server == server && r.Carrier == carrier {
			return r
		}
	}
	return nil
}

// field is a figure of a result.
type field func(*Result) *float64

func cpu(r *Result) *float64  { return r.CPU }
func p50(r *Result) *float64  { return r.P50 }
func p95(r *Result) *float64  { return r.P95 }
func p99(r *Result) *float64  { return r.P99 }
func perS(r *Result) *float64 { return r.PerS }
func kb(r *Result) *float64   { return r.KB }

// kind is a server and a carrier.
type kind struct{ server, carrier string }

var (
	web        = kind{target.TCManager, target.Web}
	native     = kind{target.TCManager, target.Native}
	socketio   = kind{target.SocketIO, target.Web}
	centrifuge = kind{target.Centrifuge, target.Web}
	raw        = kind{target.Raw, ""}
	rawBatched = kind{target.RawBatched, ""}
)

// ratio is a figure of one server divided by that of another.
func ratio(workload string, of field, a, b kind) func(found) (float64, bool) {
	return func(f found) (float64, bool) {
		x, known := figureOf(workload, of, a)(f)
		y, also := figureOf(workload, of, b)(f)
		if !known || !also || y == 0 {
			return 0, false
		}
		return x / y, true
	}
}

// figureOf is a figure of one server.
func figureOf(workload string, of field, k kind) func(found) (float64, bool) {
	return func(f found) (float64, bool) {
		r := f.of(workload, k.server, k.carrier)
		if r == nil || of(r) == nil {
			return 0, false
		}
		return *of(r), true
	}
}

// aims are where we aim. CPU ratios are the peer's time divided by ours.
var aims = []aim{
	{"paced", "web: CPU, socketio / ours", ratio("paced", cpu, socketio, web), 1.3, 1.7, false},
	{"paced", "web: CPU, centrifuge / ours", ratio("paced", cpu, centrifuge, web), 1.3, 1.7, false},
	{"paced", "web: p50, socketio / ours", ratio("paced", p50, socketio, web), 1, 1.5, false},
	{"paced", "web: p50, centrifuge / ours", ratio("paced", p50, centrifuge, web), 1, 1.5, false},
	{"paced", "web: p99, socketio / ours", ratio("paced", p99, socketio, web), 1, 0, false},
	{"paced", "web: p99, centrifuge / ours", ratio("paced", p99, centrifuge, web), 1, 0, false},
	{"paced", "web: CPU, ours / raw", ratio("paced", cpu, web, raw), 0, 1.15, true},
	{"paced", "native: CPU, socketio / ours", ratio("paced", cpu, socketio, native), 0.8, 0.9, false},
	{"paced", "native: CPU, centrifuge / ours", ratio("paced", cpu, centrifuge, native), 0.8, 0.9, false},
	{"burst-1000", "web: CPU, socketio / ours", ratio("burst-1000", cpu, socketio, web), 15, 40, false},
	{"burst-1000", "web: CPU, centrifuge / ours", ratio("burst-1000", cpu, centrifuge, web), 2.5, 6, false},
	{"burst-1000", "web: CPU, ours / raw-batched", ratio("burst-1000", cpu, web, rawBatched), 0, 2, true},
	{"burst-1000", "native: CPU, socketio / ours", ratio("burst-1000", cpu, socketio, native), 12, 18, false},
	{"burst-1000", "native: CPU, centrifuge / ours", ratio("burst-1000", cpu, centrifuge, native), 2.2, 2.7, false},
	{"burst-5000", "web: CPU, socketio / ours", ratio("burst-5000", cpu, socketio, web), 12, 40, false},
	{"burst-5000", "web: CPU, centrifuge / ours", ratio("burst-5000", cpu, centrifuge, web), 10, 30, false},
	{"rooms", "web: CPU, socketio / ours", ratio("rooms", cpu, socketio, web), 1.4, 1.9, false},
	{"rooms", "web: CPU, centrifuge / ours", ratio("rooms", cpu, centrifuge, web), 1.1, 1.5, false},
	{"hot", "web: CPU, socketio / ours", ratio("hot", cpu, socketio, web), 3, 4, false},
	{"hot", "web: CPU, centrifuge / ours", ratio("hot", cpu, centrifuge, web), 2, 3, false},
	{"hot", "web: p99, ms", figureOf("hot", p99, web), 25, 25, true},
	{"ingest", "web: CPU, socketio / ours", ratio("ingest", cpu, socketio, web), 3, 7, false},
	{"ingest", "web: CPU, centrifuge / ours", ratio("ingest", cpu, centrifuge, web), 1.5, 3.5, false},
	{"idle", "web: KB a connection", figureOf("idle", kb, web), 18, 10, true},
	{"idle", "native: KB a connection", figureOf("idle", kb, native), 36, 33, true},
	{"durable-sqlite", "rows/s, ours / bare", ratio("durable-sqlite", perS, native, kind{server: target.BareSQLite}), 0.3, 0.6, false},
	{"durable-sqlite", "ack p99, ms", figureOf("durable-sqlite", p99, native), 0, 25, true},
	{"durable-postgres", "rows/s, ours / bare", ratio("durable-postgres", perS, native, kind{server: target.BarePostgres}), 0.3, 0.6, false},
	{"durable-postgres", "ack p99, ms", figureOf("durable-postgres", p99, native), 0, 25, true},
	{"latency", "web: p95, ms", figureOf("latency", p95, web), 300, 100, true},
	{"latency", "native: p95, ms", figureOf("latency", p95, native), 300, 100, true},
}

// Ratios writes what is aimed at, and how far it is reached: "aim", "floor", or
// "no" if not even the floor is.
func Ratios(w io.Writer, results []Result) {
	row := "%-17s %-32s %9s %9s %9s  %s\n"
	sayf(w, row, "workload", "ratio", "measured", "floor", "aim", "met")
	last := ""
	for _, a := range aims {
		v, known := a.value(results)
		if !known {
			continue // not in this run
		}
		if last != "" && last != a.workload {
			sayf(w, "\n")
		}
		last = a.workload
		sayf(w, row, a.workload, a.what, number(v), a.bound(a.floor), a.bound(a.aim), a.met(v))
	}
	if last == "" {
		sayf(w, "no ratio: its workloads or servers were not in this run\n")
	}
}

func (a aim) bound(v float64) string {
	switch {
	case v == 0:
		return ""
	case a.most:
		return "<= " + number(v)
	default:
		return ">= " + number(v)
	}
}

func (a aim) met(v float64) string {
	reaches := func(bound float64) bool { return bound != 0 && (a.most && v <= bound || !a.most && v >= bound) }
	switch {
	case reaches(a.aim):
		return "aim"
	case reaches(a.floor):
		return "floor"
	default:
		return "no"
	}
}
