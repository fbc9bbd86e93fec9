package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	tcmanager "github.com/tcmanager/tcmanager/clients/go"
	"github.com/tcmanager/tcmanager/service/history"
	"github.com/tcmanager/tcmanager/service/identity"
)

// KillReport is what came of killing a server while it was published to.
type KillReport struct {
	Kills        int
	Acknowledged int // results of which a runner was told that they are committed
	Found        int // of them
	Doubled      int // results that are there more than once
	Lost         int // acknowledged ones that are not there
	Wrong        []string
}

func (r *KillReport) String() string {
	return fmt.Sprintf("kills %d, acknowledged %d, found %d, doubled %d, lost %d", r.Kills, r.Acknowledged, r.Found, r.Doubled, r.Lost)
}

// Bad reports whether anything is not as it should be.
func (r *KillReport) Bad() bool { return r.Doubled+r.Lost+len(r.Wrong) > 0 }

// Kills kills the server n times, always on the same store, while two runners
// publish: a tcm, which must go on by itself and bring all of it, and a Go client
// that is gone with the server, so that what it was told rests on the kill alone.
func Kills(ctx context.Context, c Config, n int) (_ *KillReport, err error) {
	s := &stage{Config: c, seed: c.Seed}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.openForKills(ctx); err != nil {
		return nil, err
	}
	r := &KillReport{}
	rng := s.rng(3)
	for began := time.Now(); r.Kills < n && ctx.Err() == nil; r.Kills++ {
		if err := s.killOnce(ctx, fmt.Sprintf("kill-%03d", r.Kills), rng); err != nil {
			return nil, fmt.Errorf("kill %d: %w", r.Kills+1, err)
		}
		if (r.Kills+1)%10 == 0 {
			_, _ = fmt.Fprintf(c.Out, "%d kills in %.0f s\n", r.Kills+1, time.Since(began).Seconds())
		}
	}
	if err := s.server.stop(); err != nil {
		r.Wrong = append(r.Wrong, fmt.Sprintf("the server did not stop well: %v", err))
	}
	return r, s.countKills(context.WithoutCancel(ctx), r)
}

func (s *stage) openForKills(ctx context.Context) error {
	var err error
	if s.store, err = s.Store(ctx); err != nil {
		return err
	}
	p, err := newServer(ctx, s.Config, s.store.args(), "server-kills.log", s.rng(0).IntN)
	if err != nil {
		return err
	}
	s.store.use(p)
	s.town = &town{server: p, rec: history.NewRecorder(s.seed), ledger: &ledger{}, tally: newTally(), short: map[string]bool{}}
	if s.sign, err = identity.NewSigner(identity.Keys{HS256Secret: []byte(secret)}); err != nil {
		return err
	}
	if s.conn, err = dial(p.grpc); err != nil {
		return err
	}
	if err := p.start(); err != nil {
		return err
	}
	return s.build(ctx)
}

const (
	testsEach = 120                  // that each runner publishes around a kill
	testEvery = 4 * time.Millisecond // so that some hundreds of milliseconds are hit
)

// killOnce kills the server in the middle of two uploads and starts it again.
func (s *stage) killOnce(ctx context.Context, key string, rng *rand.Rand) error {
	client, err := tcmanager.Dial(s.server.grpc, tcmanager.WithTokenSource(func(context.Context) (tcmanager.Token, error) {
		token, until, err := s.token(boss)
		return tcmanager.Token{Value: token, ExpiresAt: until}, err
	}))
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // what it could say was said to the publisher
	p := newPublishing(ctx, client, s.town, key+"-go", 1)
	r := runner{town: s.town, tcm: s.TCM}
	tcm, err := r.startTCM(ctx, s.server.grpc, key+"-tcm")
	if err != nil {
		p.leave()
		return err
	}
	if err := s.publishAcross(ctx, p, tcm, 10+rng.IntN(testsEach-20)); err != nil {
		tcm.kill()
		return err
	}
	err = tcm.finish()
	if err == nil && tcm.lane.acked < len(tcm.lane.tokens) {
		err = fmt.Errorf("tcm did not bring all by itself:\n%s", tcm.said)
	}
	s.ledger.addLane(p.lane)
	s.ledger.addLane(tcm.lane)
	return err
}

// publishAcross publishes, and kills the server before item at.
func (s *stage) publishAcross(ctx context.Context, p *publishing, tcm *tcmRun, at int) error {
	defer p.leave()
	for i := range testsEach {
		tcm.test()
		var err error
		switch {
		case i < at:
			err = p.item(false)
		case i == at:
			if err = s.server.kill(); err == nil {
				p.leave()
				err = s.server.start()
			}
		default:
		}
		if err != nil {
			return err
		}
		pause(ctx, testEvery)
	}
	return nil
}

// countKills looks for what was acknowledged.
func (s *stage) countKills(ctx context.Context, r *KillReport) error {
	db, err := s.store.open(ctx)
	if err != nil {
		return fmt.Errorf("open the store: %w", err)
	}
	bad, err := s.read(ctx, db)
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("read the store: %w", err)
	}
	r.Wrong = append(r.Wrong, bad...)
	for _, l := range s.ledger.lanes {
		for i, t := range l.tokens {
			there := min(s.found.state[t], s.found.log[t])
			if i < l.acked {
				r.Acknowledged++
				r.Found += min(1, there)
				r.Lost += 1 - min(1, there)
			}
			r.Doubled += max(0, max(s.found.state[t], s.found.log[t])-1)
		}
	}
	return nil
}
