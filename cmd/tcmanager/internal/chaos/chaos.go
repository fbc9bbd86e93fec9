// Package chaos breaks a running server in every way it can think of, and looks
// whether anything is lost by it.
//
// The server is its program, as its users have it. Clients of a crowd come and go on
// every carrier, clerks write by calls and commands, runners publish by the Go client
// and by tcm, each over a network of its own; roles change and tokens end. Meanwhile
// the server is killed, stopped, paused, started again, its disk filled or its
// database taken away, and the networks are cut, stalled, slow, late, half-open.
//
// What clients are told is recorded (package history), and what writers are answered
// (ledger). In the end all is mended, and when it is quiet the history is held
// against the guarantees, the ledger against the store: what was acknowledged is
// there once, what was refused is not, and of what was never answered there is at
// most one. All the while somebody looks whether those who are shown as present are,
// and those who are there are shown.
//
// What is chosen follows from a seed. When the machine lets it happen doesn't, so a
// seed repeats what was tried and not always what came of it.
//
// # Concurrency
//
// Each client, clerk, runner and resident is driven by one goroutine, and so is what
// happens to the server. Run ends them all, and every process that it started, before
// it returns, also when its context ends; the processes end too if this one is killed.
package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tcmanager/tcmanager/cmd/tcmanager/internal/crowd"
	"github.com/tcmanager/tcmanager/service/history"
	"github.com/tcmanager/tcmanager/service/identity"
)

// Config says what is broken, and for how long.
type Config struct {
	Seed     uint64
	Duration time.Duration // of the faults; what follows takes some seconds more
	Server   []string      // the server's program, and arguments that come first
	Env      []string      // for the server
	TCM      string        // the program of runners; empty for none
	Dir      string        // for logs and what is kept; must exist
	Store    func(context.Context) (Store, error)
	Clients  int // of the crowd; 0 for 12
	// Clock says in which rounds, by their seeds, the server's clock jumps; nil for
	// none. Server must be one of BuildWithClock. The times of a clock that jumps say
	// nothing about when a right was lost, so in these rounds Authorised isn't checked.
	Clock func(seed uint64) bool
	// Home is how long it is looked at the end who is shown as present; 0 means until
	// everybody who has gone must be known to have.
	Home time.Duration
	Out  io.Writer // is told how far it is
}

// Report is what came of it.
type Report struct {
	Events     int    // what clients were told and did, and writers were answered
	Faults     *tally // by kind
	Did        *tally // what else was tried
	Violations []string
}

// Summary is the last line of a run.
func (r *Report) Summary() string {
	return fmt.Sprintf("events %d, faults %d, violations %d", r.Events, r.Faults.total(), len(r.Violations))
}

// round is how long one server is broken before all that was recorded is checked:
// a history is held in memory.
const round = time.Minute

// Run breaks servers, one after the other, until the duration is over. Each has its
// own seed, which is that of the first plus its place: each violation names it. An
// error says that it could not be tried.
func Run(ctx context.Context, c Config) (*Report, error) {
	all := &Report{Faults: newTally(), Did: newTally()}
	for left, seed := c.Duration, c.Seed; left > 0; seed++ {
		d := left
		if d > round*3/2 {
			d = round
		}
		left -= d
		r, err := runRound(ctx, c, seed, d)
		if err != nil {
			return all, fmt.Errorf("seed %d: %w", seed, err)
		}
		all.Events += r.Events
		all.Faults.merge(r.Faults)
		all.Did.merge(r.Did)
		all.Violations = append(all.Violations, r.Violations...)
		_, _ = fmt.Fprintf(c.Out, "seed %d, %s: %s\n", seed, d, r.Summary())
		for _, v := range r.Violations {
			_, _ = fmt.Fprintf(c.Out, "  %s\n", v)
		}
		if ctx.Err() != nil {
			return all, context.Cause(ctx)
		}
	}
	return all, nil
}

// stage is a server that is about to be broken, and those who use it.
type stage struct {
	*town
	Config
	seed  uint64
	store Store
	fate  *fate
	clock *clock // nil for that of the machine

	clients   []*crowd.Client
	networks  []*network // of clients, by their place; then of the others
	clerks    []*clerk
	runners   []*runner
	residents []*resident
	watcher   *watcher
	echo      *crowd.Echo
	echoWire  *wire // to it, as clients have one to the server
	bad       []string
}

// secret is what tokens are signed with.
const secret = "a secret of nobody, for servers of a minute"

func runRound(ctx context.Context, c Config, seed uint64, d time.Duration) (_ *Report, err error) {
	s := &stage{Config: c, seed: seed}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	s.run(ctx, d)
	if ctx.Err() != nil {
		return &Report{Faults: s.fate.tally, Did: s.tally}, nil // it was interrupted: nothing is promised
	}
	return s.verdict(ctx)
}

func (s *stage) rng(n uint64) *rand.Rand { return rand.New(rand.NewPCG(s.seed, n)) }

// open starts the server and gathers those who will use it.
func (s *stage) open(ctx context.Context) error {
	var err error
	if s.store, err = s.Store(ctx); err != nil {
		return err
	}
	rng := s.rng(0)
	rec, did := history.NewRecorder(s.seed), newTally()
	if s.Clock != nil && s.Clock(s.seed) {
		if s.clock, err = newClock(s.Dir); err != nil {
			return err
		}
		s.Env = append(slices.Clone(s.Env), clockEnv+"="+s.clock.file)
	}
	p, err := newServer(ctx, s.Config, s.store.args(), fmt.Sprint("server-", s.seed, ".log"), rng.IntN)
	if err != nil {
		return err
	}
	s.store.use(p)
	s.town = &town{server: p, rec: rec, ledger: &ledger{}, tally: did, short: map[string]bool{}}
	if s.sign, err = identity.NewSigner(identity.Keys{HS256Secret: []byte(secret)}); err != nil {
		return err
	}
	if s.conn, err = dial(p.grpc); err != nil {
		return err
	}
	if err := p.start(); err != nil {
		return err
	}
	s.fate = newFate(p, rec, newTally(), slices.Concat(s.store.faults(), s.clockFaults()))
	if err := s.build(ctx); err != nil {
		return err
	}
	return s.gather(ctx)
}

// newServer returns a server that is not started yet.
func newServer(ctx context.Context, c Config, args []string, log string, choose func(int) int) (*process, error) {
	p := &process{
		program: c.Server, env: append(slices.Clone(c.Env), "TCM_JWT_HS256_SECRET="+secret),
		args: append([]string{
			"serve", "--heartbeat-interval", beat.String(), "--heartbeat-timeout", silence.String(),
			"--queue-bytes", "16384", "--replay-events", "250",
			"--call-rate", "0", "--message-rate", "0", "--command-rate", "0", "--signal-rate", "0",
		}, args...),
	}
	var err error
	if p.grpc, err = freeAddr(ctx, choose); err != nil {
		return nil, err
	}
	if p.http, err = freeAddr(ctx, choose); err != nil {
		return nil, err
	}
	p.log, err = os.Create(filepath.Join(c.Dir, log))
	return p, err
}

func (s *stage) clockFaults() []fault {
	if s.clock == nil {
		return nil
	}
	return []fault{{name: "clock jumped", weight: 30, strike: s.clock.jump}}
}

const (
	clerksAtOnce    = 3
	runnersAtOnce   = 3 // of which one is tcm
	residentsAtOnce = 4
)

func (s *stage) gather(ctx context.Context) error {
	add := func(user string) (*network, error) {
		n, err := newNetwork(ctx, s.server)
		if err != nil {
			return nil, err
		}
		s.networks = append(s.networks, n)
		return n, s.admit(ctx, user)
	}
	for i := range cmp.Or(s.Clients, 12) {
		user := fmt.Sprintf("user%02d", i)
		n, err := add(user)
		if err != nil {
			return err
		}
		s.short[user] = i%4 == 3
		s.clients = append(s.clients, s.client(fmt.Sprint("s", i), user, n, s.seed*1000+uint64(i)))
	}
	for i := range residentsAtOnce {
		user := fmt.Sprint("resident", i)
		n, err := add(user)
		if err != nil {
			return err
		}
		s.residents = append(s.residents, &resident{
			Client: s.client(user, user, n, s.seed*1000+500+uint64(i)), user: user, room: "project:" + s.projects[0].Id,
			rng: s.rng(uint64(500 + i)), net: n, log: s.fate.tally,
		})
	}
	for i := range clerksAtOnce {
		user := fmt.Sprint("clerk", i)
		n, err := add(user)
		if err != nil {
			return err
		}
		conn, err := dial(n.grpc.addr())
		if err != nil {
			return err
		}
		s.clerks = append(s.clerks, &clerk{town: s.town, user: user, rng: s.rng(uint64(600 + i)), net: n, conn: conn})
	}
	for i := range runnersAtOnce {
		n, err := newNetwork(ctx, s.server)
		if err != nil {
			return err
		}
		s.networks = append(s.networks, n)
		r := &runner{town: s.town, name: fmt.Sprint("runner", i), rng: s.rng(uint64(700 + i)), net: n}
		if i == 0 {
			r.tcm = s.TCM
		}
		s.runners = append(s.runners, r)
	}
	var err error
	if s.echo, err = crowd.NewEcho(ctx); err != nil {
		return err
	}
	if s.echoWire, err = wireTo(ctx, s.echo.Addr()); err != nil {
		return err
	}
	s.watcher = &watcher{town: s.town, room: "project:" + s.projects[0].Id, residents: s.residents, calm: s.fate.calm}
	return nil
}

func (s *stage) client(name, user string, n *network, seed uint64) *crowd.Client {
	return crowd.NewClient(crowd.Config{
		Server: n.server(s.town), Recorder: s.rec, Token: s.token,
		Rooms: func() []crowd.Target { return s.targets(user) },
	}, name, user, seed)
}

// run lets everything happen for a time, mends it, and waits until what was begun
// is finished and everybody was told all there is.
func (s *stage) run(ctx context.Context, d time.Duration) {
	busy, stop := context.WithTimeout(ctx, d)
	defer stop()
	last, stopLast := context.WithTimeout(ctx, d+45*time.Second)
	defer stopLast()
	watching, stopWatching := context.WithCancel(ctx)
	var watch, work, home sync.WaitGroup
	defer func() { stopWatching(); watch.Wait() }()
	watch.Go(func() { s.rec.Watch(watching) })
	watch.Go(func() {
		if err := s.echo.Watch(watching, s.echoWire.addr(), s.rec); err != nil {
			s.fate.complainf("listen for the echo: %v", err)
		}
	})
	living, moved := context.WithCancel(watching)
	defer moved()
	watch.Go(func() { s.watcher.work(living) })
	for i, c := range s.clients {
		work.Go(func() { s.walk(busy, c, s.networks[i], s.rng(uint64(100+i))) })
	}
	for i, r := range s.residents {
		// All are looked at for the same time.
		home.Go(func() { r.live(busy, last, i%2 == 0, cmp.Or(s.Home, silence+grace+2*slack)); moved() })
	}
	for i, c := range s.clerks {
		work.Go(func() { c.work(busy, last) })
		work.Go(func() { weather(busy, c.net, s.rng(uint64(800+i)), s.fate.tally) })
	}
	for i, r := range s.runners {
		work.Go(func() { r.work(busy, last) })
		work.Go(func() { weather(busy, r.net, s.rng(uint64(810+i)), s.fate.tally) })
	}
	work.Go(func() {
		users := []string{s.clerks[0].user}
		for i := range s.clients {
			if i%2 == 0 {
				users = append(users, fmt.Sprintf("user%02d", i))
			}
		}
		s.roles(busy, s.rng(1), users)
	})
	s.fate.work(busy, s.rng(2))
	if err := s.server.ready(ctx); err != nil && ctx.Err() == nil {
		s.fate.complainf("in the end: %v", err)
	}
	<-busy.Done()
	for _, n := range s.networks[:len(s.clients)] {
		n.set(harm{})
	}
	home.Go(work.Wait)
	home.Wait()
	moved() // from now on nobody shows that he is there
	if ctx.Err() == nil {
		s.settle(ctx)
	}
}

// walk lets a client do what it likes, over a network to which things happen.
func (s *stage) walk(ctx context.Context, c *crowd.Client, n *network, rng *rand.Rand) {
	for ctx.Err() == nil {
		c.Doubt(false)
		for range 1 + rng.IntN(3) {
			some(ctx, time.Duration(200+rng.IntN(1500))*time.Millisecond, c.Walk)
		}
		c.Doubt(true)
		over := n.strike(rng, s.fate.tally)
		some(ctx, over+20*time.Millisecond, c.Walk)
		c.Cut() // what it has not read may be from before
	}
}

// some does something for a while.
func some(ctx context.Context, d time.Duration, do func(context.Context)) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	do(ctx)
}

// weather lets things happen to a network until ctx ends.
func weather(ctx context.Context, n *network, rng *rand.Rand, t *tally) {
	for ctx.Err() == nil {
		pause(ctx, time.Duration(300+rng.IntN(3000))*time.Millisecond)
		if ctx.Err() == nil {
			pause(ctx, n.strike(rng, t))
		}
	}
	n.set(harm{})
}

// settleTime is how long it may take until everybody was told all. Only what fails
// uses it up.
const settleTime = 30 * time.Second

func (s *stage) settle(ctx context.Context) {
	heads, err := s.quiet(ctx)
	if err != nil {
		s.bad = append(s.bad, err.Error())
		return
	}
	head := func(room string) (history.Position, bool) { at, ok := heads[room]; return at, ok }
	var group sync.WaitGroup
	for _, c := range s.clients {
		c.Doubt(false)
		group.Go(func() { c.Settle(ctx, settleTime, head) })
	}
	group.Wait()
}

// verdict stops the server, reads its store, and holds all that was recorded
// against it.
func (s *stage) verdict(ctx context.Context) (*Report, error) {
	for _, c := range s.clients {
		c.Cut()
	}
	for _, r := range s.residents {
		r.Cut()
	}
	if err, gone := s.server.gone(); gone {
		s.bad = append(s.bad, err.Error())
	}
	if err := s.server.stop(); err != nil {
		s.bad = append(s.bad, fmt.Sprintf("the server did not stop well: %v", err))
	}
	db, err := s.store.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("open the store of the server that was broken: %w", err)
	}
	unbalanced, err := s.read(ctx, db)
	if err = errors.Join(err, db.Close()); err != nil {
		return nil, fmt.Errorf("read the store of the server that was broken: %w", err)
	}
	h, err := s.rec.History()
	if err != nil {
		return nil, err
	}
	r := &Report{Faults: s.fate.tally, Did: s.tally}
	for _, what := range slices.Concat(s.bad, s.fate.bad, unbalanced, s.watcher.bad, s.logged()) {
		r.Violations = append(r.Violations, fmt.Sprintf("%s (seed %d)", what, s.seed))
	}
	for _, g := range history.Guarantees {
		if s.clock != nil && g.Name == "Authorised" {
			continue
		}
		for _, v := range g.Check(h) {
			r.Violations = append(r.Violations, v.String())
		}
	}
	s.count(r, h)
	return r, s.keep(h, len(r.Violations) > 0)
}

// count says how much there was of what.
func (s *stage) count(r *Report, h *history.History) {
	r.Events = len(h.Records)
	for what, n := range s.ledger.counts() {
		r.Events += n
		r.Did.addN("writes "+string(what), n)
	}
	for _, kind := range []history.Kind{history.Told, history.Joined, history.Reset, history.Evicted, history.Renewed, history.Cursor, history.Bookmark, history.Paused} {
		r.Did.addN(string(kind), s.rec.Count(kind))
	}
	r.Did.addN("looks at presence", s.watcher.looks)
}

// keep leaves a history for whoever looks into what went wrong.
func (s *stage) keep(h *history.History, wrong bool) error {
	if !wrong {
		return nil
	}
	f, err := os.Create(filepath.Join(s.Dir, fmt.Sprintf("history-%d.jsonl", s.seed)))
	if err != nil {
		return err
	}
	return errors.Join(history.Write(f, h), f.Close())
}

// logged looks for what a server's log must not say, and for what it must.
func (s *stage) logged() []string {
	text, err := os.ReadFile(s.server.log.Name())
	if err != nil {
		return []string{err.Error()}
	}
	var bad []string
	for _, word := range []string{"panic", "DATA RACE", "fatal error"} {
		if at := strings.Index(string(text), word); at >= 0 {
			end := min(len(text), at+1500)
			bad = append(bad, fmt.Sprintf("the server's log says %q: %s", word, text[max(0, at-100):end]))
		}
	}
	for _, words := range s.store.told() {
		if !strings.Contains(string(text), words) {
			bad = append(bad, fmt.Sprintf("the server's log doesn't say %q", words))
		}
	}
	return bad
}

// close ends all that was started.
func (s *stage) close() error {
	var errs []error
	for _, c := range s.clients {
		c.Cut()
	}
	for _, r := range s.residents {
		r.Cut()
	}
	for _, c := range s.clerks {
		errs = append(errs, c.conn.Close())
	}
	for _, n := range s.networks {
		n.close()
	}
	if s.echoWire != nil {
		s.echoWire.close()
	}
	if s.echo != nil {
		s.echo.Close()
	}
	if s.town != nil {
		if s.conn != nil {
			errs = append(errs, s.conn.Close())
		}
		errs = append(errs, s.server.kill(), s.server.log.Close())
	}
	if s.store != nil {
		errs = append(errs, s.store.close())
	}
	return errors.Join(errs...)
}
