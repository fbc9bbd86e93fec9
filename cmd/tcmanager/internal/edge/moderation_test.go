package edge

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// postman brings what a peer sends at its time, and what is read when moderation says:
// a connection without a network.
type postman struct {
	m       moderation
	now     time.Time
	written uint32
	reads   int
}

func newPostman() *postman { return &postman{now: time.Unix(1e9, 0)} }

// read reads what came of the pieces, which are sent at their times whatever we do. It
// returns how long each waited.
func (p *postman) read(size int, sent ...time.Time) (waited []time.Duration) {
	for at := 0; at < len(sent); {
		next := later(p.now, sent[at])
		if enough := at + moderateBytes/size - 1; p.m.on {
			next = later(next, p.m.last.Add(moderateEvery))
			if enough < len(sent) && sent[enough].Before(next) {
				next = later(p.now, sent[enough])
			}
		}
		p.now = next
		n := 0
		for ; at < len(sent) && !sent[at].After(p.now); at++ {
			waited = append(waited, p.now.Sub(sent[at]))
			n += size
		}
		p.reads++
		p.m.drained(p.now, n, p.written)
	}
	return waited
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// every returns when n pieces are sent, one each gap.
func (p *postman) every(gap time.Duration, n int) (sent []time.Time) {
	for i := range n {
		sent = append(sent, p.now.Add(time.Duration(i+1)*gap))
	}
	return sent
}

func TestPieceAfterPieceIsReadTogether(t *testing.T) {
	for _, tt := range []struct {
		gap   time.Duration
		reads int // of a second
	}{
		{3 * time.Millisecond, 1000 / 15},
		{time.Millisecond, 1000 / 16},
		{100 * time.Microsecond, 1000 / 6}, // 16 KiB come in 6.6 ms
	} {
		t.Run(fmt.Sprint(tt.gap), func(t *testing.T) {
			p := newPostman()
			for _, waited := range p.read(250, p.every(tt.gap, int(time.Second/tt.gap))...) {
				if waited > moderateEvery {
					t.Fatalf("a piece waited for %v", waited)
				}
			}
			if p.reads > tt.reads+moderateRow+2 {
				t.Errorf("a second of them took %d reads", p.reads)
			}
		})
	}
}

func TestPiecesThatComeAtRandomAreReadTogether(t *testing.T) {
	p, random := newPostman(), rand.New(rand.NewPCG(1, 2))
	var sent []time.Time
	for at := p.now; len(sent) < 10_000; {
		at = at.Add(time.Duration(random.ExpFloat64() * float64(time.Millisecond)))
		sent = append(sent, at)
	}
	if p.read(250, sent...); p.reads > 2000 {
		t.Errorf("%d pieces, one a millisecond on average, took %d reads", len(sent), p.reads)
	}
}

func TestWhatDoesNotComePieceAfterPieceIsReadAtOnce(t *testing.T) {
	for name, gap := range map[string]time.Duration{"a hundred a second": 10 * time.Millisecond, "five a second": 200 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			p := newPostman()
			for _, waited := range p.read(250, p.every(gap, 500)...) {
				if waited > 0 {
					t.Fatalf("a piece waited for %v", waited)
				}
			}
		})
	}
}

func TestAPeerThatWaitsForAnswersNeverWaitsForUs(t *testing.T) {
	for _, pieces := range []int{1, 2, 3} { // of a request: its headers, its body, a ping's answer
		t.Run(fmt.Sprint(pieces), func(t *testing.T) {
			p := newPostman()
			for range 10_000 {
				for range pieces {
					p.now = p.now.Add(100 * time.Microsecond)
					if p.m.drained(p.now, 250, p.written) {
						t.Fatal("a read waits")
					}
				}
				p.written++
			}
		})
	}
}

func TestCallsAtOnceThatWaitForAnswersSeldomWaitForUs(t *testing.T) {
	p := newPostman()
	const calls, takes = 16, 5 * time.Millisecond
	var lost time.Duration
	began := p.now
	for p.now.Sub(began) < time.Minute {
		for _, waited := range p.read(250, p.every(100*time.Microsecond, calls)...) {
			lost += waited / calls
		}
		p.now = p.now.Add(takes)
		p.written += calls
	}
	if lost > time.Second {
		t.Errorf("of a minute %v was lost", lost)
	}
}

func TestWhoStopsSendingPieceAfterPieceWaitsOnce(t *testing.T) {
	p := newPostman()
	p.read(250, p.every(time.Millisecond, 1000)...)
	if !p.m.on {
		t.Fatal("reads don't wait")
	}
	late := 0
	for range 100 { // now each request waits for its answer
		for _, waited := range p.read(250, p.now.Add(time.Millisecond)) {
			if waited > 0 {
				late++
			}
		}
		p.written++
	}
	if late > 1 {
		t.Errorf("%d requests were read late", late)
	}
	p.read(250, p.every(time.Millisecond, 1000)...)
	if !p.m.on {
		t.Error("reads don't wait when it sends so again")
	}
}

func TestAPauseIsNotHeldAgainstAPeer(t *testing.T) {
	p := newPostman()
	for range 10 {
		p.read(250, p.every(time.Millisecond, moderateSkips-1)...)
		if !p.m.on {
			t.Fatal("reads don't wait")
		}
		p.now = p.now.Add(time.Second)
	}
}
