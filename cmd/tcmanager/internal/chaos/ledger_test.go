package chaos

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// held is a store with so many of each token in its state and its log.
func held(tokens map[string]int) *found {
	return &found{state: tokens, log: tokens, kinds: map[string]bool{kindResult: true}}
}

func TestAWriteIsThereAsOftenAsItsWriterWasTold(t *testing.T) {
	for _, c := range []struct {
		outcome outcome
		there   int
		bad     string // a word of what is said
	}{
		{acked, 0, "lost"}, {acked, 1, ""}, {acked, 2, "doubled"},
		{refused, 0, ""}, {refused, 1, "refused"}, {refused, 2, "refused"},
		{unknown, 0, ""}, {unknown, 1, ""}, {unknown, 2, "doubled"},
	} {
		l := &ledger{}
		l.add(write{token: "w", kind: kindResult, outcome: c.outcome})
		bad := strings.Join(l.balance(held(map[string]int{"w": c.there})), "\n")
		if (c.bad == "") != (bad == "") || !strings.Contains(bad, c.bad) {
			t.Errorf("%s and %d times there: %q", c.outcome, c.there, bad)
		}
	}
}

func TestWhatOnlyTheLogOrOnlyTheStateHasIsNoticed(t *testing.T) {
	l := &ledger{}
	l.add(write{token: "w", kind: kindResult, outcome: unknown})
	f := &found{state: map[string]int{"w": 1}, log: map[string]int{}, kinds: map[string]bool{kindResult: true}}
	if bad := l.balance(f); len(bad) != 1 {
		t.Errorf("%q", bad)
	}
}

func TestARunnersItemsAreThereFromTheFirstOn(t *testing.T) {
	tokens := []string{"a", "b", "c", "d"}
	for name, c := range map[string]struct {
		lane  lane
		there []string
		bad   string
	}{
		"all acknowledged":                {lane{acked: 4}, tokens, ""},
		"more than was acknowledged":      {lane{acked: 1}, tokens[:3], ""},
		"one that was acknowledged isn't": {lane{acked: 3}, tokens[:2], "c was acknowledged and is lost"},
		"a hole":                          {lane{acked: 1}, []string{"a", "c", "d"}, "item 3 (c) is there, and item 2 before it is not"},
		"a bad one isn't there":           {lane{acked: 4, bad: map[int]bool{1: true}}, []string{"a", "c", "d"}, ""},
		"a bad one is there":              {lane{acked: 4, bad: map[int]bool{1: true}}, tokens, "b was refused"},
	} {
		l, n := &ledger{}, map[string]int{}
		c.lane.tokens = tokens
		l.addLane(c.lane)
		for _, token := range c.there {
			n[token]++
		}
		bad := strings.Join(l.balance(held(n)), "\n")
		if (c.bad == "") != (bad == "") || !strings.Contains(bad, c.bad) {
			t.Errorf("%s: %q", name, bad)
		}
	}
}

func TestWhoIsShownMustBeThere(t *testing.T) {
	now := time.Now()
	ago := func(s float64) time.Time { return now.Add(-time.Duration(s * float64(time.Second))) }
	there := state{here: true, since: ago(20), joined: ago(19)}
	coming := state{here: true, since: ago(20)}
	gone := func(s float64) state { return state{since: ago(s), bound: grace} }
	for _, c := range []struct {
		name          string
		before, after state
		calm          time.Duration
		born          time.Time
		shown         bool
		bad           string
	}{
		{"there and shown", there, there, time.Minute, ago(60), true, ""},
		{"there and not shown", there, there, time.Minute, ago(60), false, "not shown, though there"},
		{"there, and the stream just broke", there, coming, 2 * time.Second, ago(60), false, ""},
		{"coming back after a fault", coming, coming, 2 * time.Second, ago(2), false, ""},
		{"not back for long", coming, coming, 10 * time.Second, ago(10), false, "wanted to be there"},
		{"gone and not shown", gone(20), gone(20), time.Minute, ago(60), false, ""},
		{"just gone", gone(4), gone(4), time.Minute, ago(60), true, ""},
		{"gone for long", gone(9), gone(9), time.Minute, ago(60), true, "shown, though gone"},
		{"gone while the server stood still", gone(9), gone(9), 4 * time.Second, ago(60), true, ""},
		{"gone before the server was started", gone(9), gone(9), 3 * time.Second, ago(3), true, "before the server was started"},
		{"just coming", gone(30), there, time.Minute, ago(60), true, ""},
	} {
		bad := judge(c.before, c.after, now, c.calm, c.born, c.shown)
		if (c.bad == "") != (bad == "") || !strings.Contains(bad, c.bad) {
			t.Errorf("%s: %q", c.name, bad)
		}
	}
}

func TestEveryTroubleAndFaultIsPicked(t *testing.T) {
	s := &stage{seed: 1}
	seen := map[string]bool{}
	for range 1000 {
		seen[pick(s.rng(uint64(len(seen))), troubles, func(x trouble) int { return x.weight }).name] = true
		rng := s.rng(9)
		for range 50 {
			seen[pick(rng, troubles, func(x trouble) int { return x.weight }).name] = true
		}
	}
	if missing := slices.IndexFunc(troubles, func(x trouble) bool { return !seen[x.name] }); missing >= 0 {
		t.Errorf("%s never happens", troubles[missing].name)
	}
}
