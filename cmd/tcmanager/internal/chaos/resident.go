package chaos

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/carrier"
	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/crowd"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

const (
	// grace is how long the server keeps the place of somebody whose connection broke.
	grace = 5 * time.Second
	// slack is what a loaded machine may need beyond what is promised.
	slack = 1500 * time.Millisecond
	// reconnect is within what a client that wants to be there is back, once the
	// server is and its network works.
	reconnect = 4 * time.Second
)

// resident is somebody who is in a room or is not, for long enough that everybody
// should know which.
type resident struct {
	*crowd.Client
	user string
	room string
	rng  *rand.Rand
	net  *network
	log  *tally

	mu     sync.Mutex // guards the rest
	here   bool       // it means to be there
	since  time.Time  // of here; and of the last trouble
	bound  time.Duration
	joined time.Time // since when it has known that it is there, on this stream
}

func (r *resident) move(here bool, bound time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.here, r.bound, r.since, r.joined = here, bound, time.Now(), time.Time{}
}

// live comes and goes until ctx ends, and is there then or goes once more. It is
// over when everybody must know.
func (r *resident) live(ctx, last context.Context, goes bool, home time.Duration) {
	r.comeAndGo(ctx)
	if goes {
		r.stay(last, reconnect)
		r.log.add(r.depart(last))
		pause(last, home)
		return
	}
	r.stay(last, reconnect+home)
}

func (r *resident) comeAndGo(ctx context.Context) {
	for ctx.Err() == nil {
		r.move(true, 0)
		r.stay(ctx, time.Duration(2000+r.rng.IntN(9000))*time.Millisecond)
		if ctx.Err() != nil {
			break
		}
		r.log.add(r.depart(ctx))
		pause(ctx, silence+grace+slack+time.Duration(r.rng.IntN(5000))*time.Millisecond)
		r.net.set(harm{})
	}
	r.net.set(harm{})
	r.move(true, 0)
}

// depart goes, and notes how soon the others must know.
func (r *resident) depart(ctx context.Context) string {
	switch r.rng.IntN(4) {
	case 0:
		r.net.set(harm{lost: true}) // as if the power were cut: the server has to notice by itself
		r.move(false, silence+grace)
		r.Doubt(true)
		r.Cut()
		return "residents lost"
	case 1:
		r.move(false, grace)
		r.Cut()
		return "residents cut off"
	case 2:
		r.move(false, grace)
		r.Close()
		return "residents gone home"
	default:
		_ = r.Leave(ctx, r.room) // a stream that broke just now has been left, too
		r.move(false, grace)
		r.Close()
		return "residents left"
	}
}

// stay stays in the room, coming back as often as it has to.
func (r *resident) stay(ctx context.Context, d time.Duration) {
	r.Doubt(false)
	life := context.WithoutCancel(ctx) // of the stream
	for deadline := time.Now().Add(d); time.Now().Before(deadline) && ctx.Err() == nil; {
		r.keep(life)
		r.Wait(ctx, 100*time.Millisecond)
	}
}

// keep does what a client does all the time.
func (r *resident) keep(life context.Context) {
	if !r.Connected() {
		r.know(false)
		by := carrier.All[r.rng.IntN(len(carrier.All))]
		if r.Open(life, by, crowd.Target{Room: r.room}) != nil {
			pause(life, 50*time.Millisecond)
		}
		return
	}
	_, in := r.Rooms()[r.room]
	r.know(in)
	if r.Quiet() > beat/2 {
		_ = r.Ping() // a broken stream is noticed by Connected
	}
}

func (r *resident) know(in bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !in:
		r.joined = time.Time{}
	case r.joined.IsZero():
		r.joined = time.Now()
	default:
	}
}

// state is what is known of a resident at a moment.
type state struct {
	here   bool
	since  time.Time
	bound  time.Duration
	joined time.Time
}

func (r *resident) state() state {
	r.mu.Lock()
	defer r.mu.Unlock()
	return state{r.here, r.since, r.bound, r.joined}
}

// watcher looks again and again who is shown in a room, and whether that is so.
type watcher struct {
	*town
	room      string
	residents []*resident
	calm      func() time.Duration // how long nothing has happened to the server and its store
	looks     int
	bad       []string
}

// work looks until ctx ends.
func (w *watcher) work(ctx context.Context) {
	for ctx.Err() == nil {
		w.look(ctx)
		pause(ctx, 200*time.Millisecond)
	}
}

// look compares who is shown with who is there.
func (w *watcher) look(ctx context.Context) {
	before := w.states()
	began, calm, born := time.Now(), w.calm(), w.server.started()
	var shown map[string]bool
	call, cancel := context.WithTimeout(ctx, 5*time.Second)
	err := w.poll(call, boss, []string{w.room}, func(j *pb.Joined) { shown = present(j) })
	cancel()
	if err != nil || calm < 0 {
		return // the server is away
	}
	// A stream that the server had ended by then is known to have ended after this.
	pause(ctx, 300*time.Millisecond)
	after := w.states()
	if w.calm() < time.Since(began) || ctx.Err() != nil {
		return // something happened meanwhile
	}
	w.looks++
	for i, r := range w.residents {
		if what := judge(before[i], after[i], began, calm, born, shown[r.user]); what != "" {
			w.bad = append(w.bad, fmt.Sprintf("presence of %s: %s; shown are %v", r.user, what, slices.Sorted(maps.Keys(shown))))
		}
	}
}

func (w *watcher) states() []state {
	list := make([]state, 0, len(w.residents))
	for _, r := range w.residents {
		list = append(list, r.state())
	}
	return list
}

func present(j *pb.Joined) map[string]bool {
	shown := map[string]bool{}
	for _, p := range j.GetPresence() {
		shown[p.GetUser().GetId()] = p.GetState() != pb.PresenceState_PRESENCE_STATE_OFFLINE
	}
	return shown
}

// judge says what is wrong with a resident's being shown or not; empty for nothing.
// A server that stands still can't notice who leaves, so the time counts from when
// it went on; one that was started since has never seen those who left before.
func judge(before, after state, at time.Time, calm time.Duration, born time.Time, shown bool) string {
	if before.here != after.here || !before.since.Equal(after.since) {
		return "" // it was just coming or going
	}
	moved := at.Sub(before.since)
	switch {
	case !before.here && shown && born.After(before.since.Add(slack)):
		return fmt.Sprintf("shown, though it went %v before the server was started", born.Sub(before.since).Round(time.Millisecond))
	case !before.here && shown && min(moved, calm) > before.bound+slack:
		return fmt.Sprintf("shown, though gone for %v, and %v is allowed", moved.Round(time.Millisecond), before.bound)
	case before.here && !shown && !before.joined.IsZero() && before.joined.Equal(after.joined) && calm > slack:
		return fmt.Sprintf("not shown, though there for %v", at.Sub(before.joined).Round(time.Millisecond))
	case before.here && !shown && min(moved, calm) > reconnect+slack:
		return fmt.Sprintf("not shown, though it has wanted to be there for %v, and the server has been there for %v", moved.Round(time.Millisecond), calm.Round(time.Millisecond))
	default:
		return ""
	}
}
