package chaos

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	tcmanager "github.com/tcmanager/tcmanager/clients/go"
	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// runner is a machine that publishes runs, one after the other, by the Go client
// or by tcm, over a network of its own.
type runner struct {
	*town
	name  string
	rng   *rand.Rand
	net   *network
	tcm   string // the program; empty for the Go client
	count int
}

// work publishes runs until ctx ends. What was begun is finished until last ends.
func (r *runner) work(ctx, last context.Context) {
	for ctx.Err() == nil {
		r.count++
		key := fmt.Sprintf("%s-%d", r.name, r.count)
		var err error
		if r.tcm == "" {
			err = r.publish(ctx, last, key)
		} else {
			err = r.stream(ctx, last, key)
		}
		if err != nil {
			r.ledger.complainf("runner %s: %v", r.name, err)
			return
		}
		pause(ctx, time.Duration(r.rng.IntN(300))*time.Millisecond)
	}
}

// publish publishes a run with the Go client. Now and then another one takes the
// shard over in the middle, or the client is gone before it has finished.
func (r *runner) publish(ctx, last context.Context, key string) error {
	client, err := tcmanager.Dial(r.net.grpc.addr(), tcmanager.WithTokenSource(func(context.Context) (tcmanager.Token, error) {
		token, until, err := r.token(boss)
		return tcmanager.Token{Value: token, ExpiresAt: until}, err
	}))
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // what it could say was said to the publisher
	first := newPublishing(ctx, client, r.town, key, 1)
	var group sync.WaitGroup
	firstRng, secondRng := rand.New(rand.NewPCG(r.rng.Uint64(), 1)), rand.New(rand.NewPCG(r.rng.Uint64(), 2))
	takenOver, after := r.rng.IntN(6) == 0, time.Duration(r.rng.IntN(600))*time.Millisecond
	group.Go(func() { first.publish(ctx, last, firstRng) })
	if takenOver {
		r.tally.add("shards taken over")
		pause(ctx, after)
		second := newPublishing(ctx, client, r.town, key, 2)
		second.publish(ctx, last, secondRng)
		group.Wait()
		r.ledger.addLane(second.lane)
	}
	group.Wait()
	r.ledger.addLane(first.lane)
	return nil
}

// publishing is one Publisher and what it was given.
type publishing struct {
	*tcmanager.Publisher
	lane   lane
	tally  *tally
	ended  chan struct{} // closed when Run has ended
	suite  string
	number int
}

func newPublishing(ctx context.Context, client *tcmanager.Client, t *town, key string, part int) *publishing {
	p := &publishing{
		lane: lane{name: fmt.Sprintf("%s/%d", key, part), bad: map[int]bool{}}, tally: t.tally,
		ended: make(chan struct{}), suite: fmt.Sprintf("%s/%d", key, part),
	}
	p.Publisher = client.NewPublisher(tcmanager.PublisherConfig{Project: "alpha", RunKey: key, MemoryLimit: 64 << 10, OnWelcome: t.addRun})
	go func() {
		defer close(p.ended)
		_ = p.Run(context.WithoutCancel(ctx)) // until Close; why is in the report
	}()
	return p
}

// item publishes one more item; one that breaks a rule if bad.
func (p *publishing) item(bad bool) error {
	u := &pb.TestExecutionUpdate{Test: &pb.TestRef{Suite: p.suite, Name: fmt.Sprint("T", p.number)}, Status: pb.Status_STATUS_PASSED}
	switch {
	case bad:
		u.Status = pb.Status_STATUS_UNSPECIFIED
	case p.number%9 == 0:
		u.Status, u.Error = pb.Status_STATUS_FAILED, &pb.Failure{Message: "it broke", Details: strings.Repeat("detail ", p.number%200)}
	default:
	}
	p.number++
	if err := p.Publish(&pb.PublishItem{Item: &pb.PublishItem_Test{Test: u}}); err != nil {
		return err // it was not taken
	}
	p.lane.bad[len(p.lane.tokens)] = bad
	p.lane.tokens = append(p.lane.tokens, testToken(u.Test))
	return nil
}

// leave ends the Publisher at once and notes what it was told. It may be called again.
func (p *publishing) leave() {
	p.Close()
	<-p.ended
	report := p.Report()
	p.lane.acked = int(report.Published - report.NotUploaded)
}

func (p *publishing) publish(ctx, last context.Context, rng *rand.Rand) {
	defer p.leave()
	for burst, bursts := 0, 2+rng.IntN(20); burst < bursts && ctx.Err() == nil; burst++ {
		for range 1 + rng.IntN(30) {
			if p.item(rng.IntN(40) == 0) != nil {
				return // the upload is over: another one took the shard
			}
		}
		pause(ctx, time.Duration(rng.IntN(100))*time.Millisecond)
	}
	if rng.IntN(5) == 0 {
		p.tally.add("publishers gone")
		return
	}
	p.Finish(last, tcmanager.FinishOptions{StallTimeout: 10 * time.Second})
}

// stream lets tcm read a recording at the pace of a test run. Now and then the
// process is stopped for a while, or killed.
func (r *runner) stream(ctx, last context.Context, key string) error {
	s, err := r.startTCM(last, r.net.grpc.addr(), key)
	if err != nil {
		return err
	}
	killed := r.rng.IntN(4) == 0
	for n, tests := 0, 20+r.rng.IntN(150); n < tests && ctx.Err() == nil; n++ {
		s.test()
		switch {
		case killed && n == tests/2:
			r.tally.add("runners killed")
			s.kill()
			return r.judge(s, nil)
		case r.rng.IntN(300) == 0:
			r.tally.add("runners paused")
			s.pause(ctx, time.Duration(200+r.rng.IntN(3000))*time.Millisecond)
		default:
		}
		pause(ctx, time.Duration(r.rng.IntN(25))*time.Millisecond)
	}
	return r.judge(s, s.finish())
}

// judge books what tcm said at its end.
func (r *runner) judge(s *tcmRun, err error) error {
	r.ledger.addLane(s.lane)
	return err
}

// tcmRun is a tcm that reads a recording as it is made.
type tcmRun struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	w    *bufio.Writer
	said *strings.Builder
	pkg  string
	lane lane
}

func (r *runner) startTCM(ctx context.Context, addr, key string) (*tcmRun, error) {
	token, _, err := r.token(boss)
	if err != nil {
		return nil, err
	}
	s := &tcmRun{pkg: "example.com/" + key, lane: lane{name: key}, said: &strings.Builder{}}
	s.cmd = exec.CommandContext(ctx, r.tcm, "stream", "--project", "alpha", "--run-key", key, "--upload-timeout", "20s") //nolint:gosec // what was built here
	s.cmd.Env = append(os.Environ(), "TCM_SERVER="+addr, "TCM_TOKEN="+token, "TCM_TOKEN_FILE=")
	s.cmd.Stderr = s.said
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start tcm: %w", err)
	}
	s.w = bufio.NewWriter(s.in)
	s.event("start", "", "")
	return s, nil
}

// event writes an event as go test -json does.
func (s *tcmRun) event(action, test, output string) {
	_, _ = fmt.Fprintf(s.w, `{"Time":%q,"Action":%q,"Package":%q`, time.Now().Format(time.RFC3339Nano), action, s.pkg)
	if test != "" {
		_, _ = fmt.Fprintf(s.w, `,"Test":%q`, test)
	}
	if output != "" {
		_, _ = fmt.Fprintf(s.w, `,"Output":%q`, output)
	}
	_, _ = fmt.Fprintln(s.w, "}") // a tcm that is gone says so at its end
}

// test writes the events of one test.
func (s *tcmRun) test() {
	name := fmt.Sprint("Test", len(s.lane.tokens))
	s.event("run", name, "")
	s.event("output", name, "=== RUN   "+name+"\n")
	s.event("output", name, "--- PASS: "+name+" (0.00s)\n")
	s.event("pass", name, "")
	s.lane.tokens = append(s.lane.tokens, s.pkg+"/"+name)
	_ = s.w.Flush() // as above
}

func (s *tcmRun) pause(ctx context.Context, d time.Duration) {
	_ = s.cmd.Process.Signal(syscall.SIGSTOP) // it may have ended; finish says so
	pause(ctx, d)
	_ = s.cmd.Process.Signal(syscall.SIGCONT)
}

// kill ends tcm without a word: what it knew of acks is gone with it.
func (s *tcmRun) kill() {
	_ = s.cmd.Process.Kill() // it may have ended
	_ = s.in.Close()
	_ = s.cmd.Wait() // it was killed
}

// finish ends the recording and waits for tcm. If it doesn't say that something was
// not uploaded, all is acknowledged.
func (s *tcmRun) finish() error {
	s.event("output", "", "PASS\n")
	s.event("pass", "", "")
	_ = s.w.Flush()
	_ = s.in.Close()
	err := s.cmd.Wait()
	text := s.said.String()
	if !strings.Contains(text, "were not uploaded") && !strings.Contains(text, "the server refused") && !strings.Contains(text, "didn't confirm") {
		s.lane.acked = len(s.lane.tokens)
	}
	if err != nil {
		return fmt.Errorf("tcm must not fail because of the upload: %w:\n%s", err, text)
	}
	return nil
}
