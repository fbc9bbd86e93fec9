package workload

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/load"
)

// reader returns a reader that waits for event 1.
func reader(t *testing.T) *member {
	t.Helper()
	loop, err := load.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = loop.Close() })
	c := &crowd{ctx: t.Context(), loop: loop, beat: time.Now()}
	return &member{crowd: c, room: &room{name: "room"}, next: 1}
}

func (m *member) hear(seqs ...uint64) {
	for _, seq := range seqs {
		m.Event(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, seq), 1))
	}
}

func TestEachEventOnceAndInOrder(t *testing.T) {
	for _, c := range []struct {
		name  string
		heard []uint64
		lost  int
	}{
		{"all", []uint64{1, 2, 3}, 0},
		{"one is missing", []uint64{1, 3}, 1},
		{"the first ones are missing", []uint64{3}, 2},
		{"one comes twice", []uint64{1, 1, 2}, 1},
		{"out of order", []uint64{2, 1}, 2},
	} {
		m := reader(t)
		m.hear(c.heard...)
		if m.crowd.lost != c.lost {
			t.Errorf("%s: %d lost, want %d", c.name, m.crowd.lost, c.lost)
		}
		err := m.crowd.step(time.Now())
		if (err != nil) != (c.lost > 0) {
			t.Errorf("%s: the run goes on with %v", c.name, err)
		}
	}
}

// TestWhereTheServerPromisesNothingARunGoesOn: what is lost is counted.
func TestWhereTheServerPromisesNothingARunGoesOn(t *testing.T) {
	m := reader(t)
	m.crowd.forgiving = true
	m.hear(1, 5)
	if err := m.crowd.step(time.Now()); err != nil || m.crowd.lost != 3 {
		t.Errorf("%d lost, %v; want 3 and no error", m.crowd.lost, err)
	}
}

func TestQuantilesAreWithinTwoPercent(t *testing.T) {
	var l Latencies
	for i := range int64(100_000) {
		l.Add((i + 1) * int64(time.Microsecond))
	}
	for q, want := range map[float64]float64{.5: 50, .95: 95, .99: 99} {
		if got := l.Quantile(q); math.Abs(got-want)/want > .02 {
			t.Errorf("quantile %v is %v ms, want about %v", q, got, want)
		}
	}
	l = Latencies{}
	l.Add(-5)
	l.Add(math.MaxInt64)
	if got := l.Quantile(.99); got < 9e12 {
		t.Errorf("the longest is %v ms", got)
	}
	if got := (&Latencies{}).Quantile(.5); got != 0 {
		t.Errorf("of none: %v", got)
	}
}

func TestWhenEventsAreDue(t *testing.T) {
	paced := Fan{Rate: 20}
	if n, wake := paced.due(0, 0, 0); n != 1 || wake != 50*time.Millisecond {
		t.Errorf("at first %d, and more at %s", n, wake)
	}
	if n, _ := paced.due(1, 0, 175*time.Millisecond); n != 3 {
		t.Errorf("after 175 ms %d more, want 3: those that are late come too", n)
	}
	ticked := Fan{Rate: 20_000, Tick: 5 * time.Millisecond}
	if n, wake := ticked.due(100, 0, 5*time.Millisecond); n != 100 || wake != 10*time.Millisecond {
		t.Errorf("each 5 ms %d, and more at %s", n, wake)
	}
	burst := Fan{InFlight: 100}
	for inFlight, want := range map[int]int{0: 100, 50: 50, 51: 0, 100: 0} {
		if n, wake := burst.due(1000, inFlight, time.Second); n != want || wake != 0 {
			t.Errorf("with %d in flight %d more, want %d", inFlight, n, want)
		}
	}
}

func TestAStormIsLeftAloneForLonger(t *testing.T) {
	m := reader(t)
	s := &storm{}
	for range 20 {
		s.again(m)
	}
	for i, b := range s.waiting {
		if wait := time.Until(b.at); wait > mostRetry || i == 0 && wait > leastRetry {
			t.Errorf("after %d refusals it waits for %s", i+1, wait)
		}
	}
}

func TestEachWorkloadHasItsNameOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, w := range Plan(false) {
		if seen[w.Name] && w.Readers == 0 || w.About == "" || len(w.Kinds) == 0 {
			t.Errorf("workload %q", w.Name)
		}
		seen[w.Name] = true
	}
	for name := range strings.SplitSeq("paced,burst-100,burst-1000,burst-5000,hot,rooms,ingest,durable-sqlite,durable-postgres,idle,storm,latency,curve", ",") {
		if !seen[name] {
			t.Errorf("there is no %s", name)
		}
	}
}
