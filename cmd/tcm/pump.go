package main

import (
	"context"
	"io"
	"os"
	"syscall"
	"time"

	tcmanager "github.com/tcmanager/tcmanager/clients/go"
	"github.com/tcmanager/tcmanager/cmd/tcm/internal/gotest"
	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

const (
	// tickEvery is how often what began meanwhile is published.
	tickEvery = 50 * time.Millisecond
	// addressWait is how long the first line of tests waits for the run's
	// address, which should stand above it.
	addressWait = 2 * time.Second
	// holdLimit is how much of the tests' output is kept back for that.
	holdLimit = 1 << 20
	// drainWait is how long input is still read after an interrupt, which also
	// reached the command that writes it.
	drainWait = 3 * time.Second
	// stallWait is how long the end waits for a server that gives no sign, as
	// while it restarts; one that was never there is waited for downWait.
	stallWait = 10 * time.Second
	downWait  = 2 * time.Second
)

// gate keeps the tests' output back until the run's address was printed.
type gate struct {
	w    io.Writer
	open bool
	held []byte
}

func (g *gate) Write(p []byte) (int, error) {
	if g.open {
		return g.w.Write(p)
	}
	if g.held = append(g.held, p...); len(g.held) > holdLimit {
		g.release()
	}
	return len(p), nil
}

// release lets the output through from now on.
func (g *gate) release() {
	g.open = true
	if len(g.held) > 0 {
		_, _ = g.w.Write(g.held)
		g.held = nil
	}
}

// pump moves a test command's output to the person and to the server.
type pump struct {
	terminal *terminal
	upload   *upload
	gate     *gate
	conv     *gotest.Converter
	signals  <-chan os.Signal
	onSignal func(os.Signal) // nil if nobody else needs to know

	run      *tcmv1.Run // nil until the server said which
	signedIn string     // the note of a sign-in, until the address was printed
	signal   os.Signal  // the one that stops us; nil if none did
	warned   bool       // something is wrong with the upload
	begun    time.Time
	tookTime time.Duration
}

func newPump(t *terminal, u *upload, verbose bool, signals <-chan os.Signal) *pump {
	p := &pump{terminal: t, upload: u, gate: &gate{w: t.out}, signals: signals, begun: time.Now()}
	p.conv = gotest.NewConverter(gotest.Options{Publish: u.publish, Human: p.gate, Verbose: verbose})
	return p
}

// read handles input until it ends. extra, which may be nil, is output that is
// no events: of the same command's standard error.
func (p *pump) read(in, extra *input) gotest.Summary {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	late := time.NewTimer(addressWait)
	defer late.Stop()
	var drained <-chan time.Time
	main, second := in.full, (<-chan block)(nil)
	if extra != nil {
		second = extra.full
	}
	for main != nil || second != nil {
		select {
		case b, ok := <-main:
			if !ok {
				main = nil
				continue
			}
			_, _ = p.conv.Write(b.data) // it never fails
			in.recycle(b)
		case b, ok := <-second:
			if !ok {
				second = nil
				continue
			}
			_, _ = p.terminal.err.Write(b.data)
			p.conv.RunOutput(b.data)
			extra.recycle(b)
		case <-tick.C:
			p.conv.Tick()
		case <-late.C:
			p.gate.release()
		case s := <-p.signals:
			if p.interrupted(s) {
				drained = time.After(drainWait)
			}
		case <-drained:
			main, second = nil, nil
		case r := <-p.upload.welcome:
			p.welcomed(r)
		case note := <-p.upload.notes:
			p.note(note)
		}
	}
	summary := p.conv.End()
	p.tookTime = time.Since(p.begun)
	p.awaitAddress(late.C)
	return summary
}

// awaitAddress waits for the address if the input was over before it came.
func (p *pump) awaitAddress(late <-chan time.Time) {
	for !p.gate.open {
		select {
		case r := <-p.upload.welcome:
			p.welcomed(r)
		case note := <-p.upload.notes:
			p.note(note)
		case <-late:
			p.gate.release()
		case s := <-p.signals:
			p.interrupted(s)
			p.gate.release()
		}
	}
}

// welcomed prints where to watch, before anything the tests print.
func (p *pump) welcomed(r *tcmv1.Run) {
	p.run = r
	p.terminal.sayf("watch %s", paint(p.terminal.errColor, bold, r.GetUrl()))
	p.saySignIn()
	p.gate.release()
}

// note says something about the upload. After a warning there is no address to
// wait for. A sign-in happens before the address is known, and is said behind it.
func (p *pump) note(text string) {
	if isSignIn(text) && p.run == nil {
		p.signedIn = text
		return
	}
	p.saySignIn()
	p.warned = true
	p.terminal.sayf("%s", text)
	p.gate.release()
}

func (p *pump) saySignIn() {
	if p.signedIn != "" {
		p.terminal.sayf("%s", p.signedIn)
		p.signedIn = ""
	}
}

// interrupted takes a signal, and reports whether to stop reading soon. The
// second one is for the impatient.
func (p *pump) interrupted(s os.Signal) (stop bool) {
	if p.onSignal != nil {
		p.onSignal(s)
	}
	again := p.signal != nil
	p.signal = s
	return p.onSignal == nil || again
}

// finish uploads the rest, for a bounded time, and returns what became of it.
func (p *pump) finish(o tcmanager.FinishOptions) tcmanager.Report {
	o.StallTimeout = stallWait
	if p.run == nil && p.warned {
		o.StallTimeout = downWait
	}
	if p.signal != nil {
		o.Reason = tcmv1.EndReason_END_REASON_CANCELLED
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan tcmanager.Report, 1)
	go func() { done <- p.upload.finish(ctx, o) }()
	for {
		select {
		case r := <-done:
			p.lastWords()
			return r
		case r := <-p.upload.welcome:
			p.welcomed(r)
		case note := <-p.upload.notes:
			p.note(note)
		case s := <-p.signals:
			p.signal = s
			cancel()
		}
	}
}

// lastWords says what came in together with the end.
func (p *pump) lastWords() {
	for {
		select {
		case r := <-p.upload.welcome:
			p.welcomed(r)
		case note := <-p.upload.notes:
			p.note(note)
		default:
			return
		}
	}
}

// signalCode is the exit code of a command that a signal ended, as a shell
// would give it.
func signalCode(s os.Signal) int {
	if n, ok := s.(syscall.Signal); ok {
		return exitSignal + int(n)
	}
	return exitFailed
}
