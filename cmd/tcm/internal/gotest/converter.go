package gotest

import (
	"bytes"
	"io"
	"time"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

// Limits of what is read and kept.
const (
	// maxLine is the longest line that can be an event: go cuts output at 1 KiB,
	// so only an attribute could come near. A longer line is passed through.
	maxLine = 1 << 20
	// maxStray is how much of one line that is no event is kept for the upload,
	// and maxStrayTotal of all of them.
	maxStray      = 64 << 10
	maxStrayTotal = 4 << 20
	// tapeBudget is the memory of the output of all unfinished tests.
	tapeBudget = 12 << 20
	// outputEvery is how many ticks pass between uploads of a running test's
	// output: starts are shown at once, text a few times a second.
	outputEvery = 5
)

// Options say where a Converter's results go.
type Options struct {
	// Publish takes each item, in order. It must not keep it: the next item is
	// built in the same memory. Nil drops them.
	Publish func(*tcmv1.PublishItem)
	// Human takes the text for the person at the terminal. Nil drops it.
	Human io.Writer
	// Verbose passes everything that was printed to Human as it comes, like
	// `go test -v`.
	Verbose bool
}

// A Converter turns the output of `go test -json`, written to it, into items to
// publish and text to read.
type Converter struct {
	emit  emitter
	human *printer
	dec   decoder
	ev    event

	carry    []byte // the beginning of a line that isn't complete yet
	tooLong  bool   // within a line longer than maxLine
	strayed  int    // bytes of stray output uploaded
	strayCut bool   // some was left out
	strayBad bool   // plain text said that a test failed

	suites  map[string]*suite
	order   []*suite
	last    *suite // the one of the last event
	builds  builds
	budget  budget
	dirty   []*test // begun, paused, resumed or talkative since the last tick
	free    []*test // ready to be used again
	ticks   uint
	now     time.Time // of the last event that said one
	summary Summary
}

// NewConverter returns a Converter that has read nothing.
func NewConverter(o Options) *Converter {
	if o.Publish == nil {
		o.Publish = func(*tcmv1.PublishItem) {}
	}
	if o.Human == nil {
		o.Human = io.Discard
	}
	return &Converter{
		emit:   newEmitter(o.Publish),
		human:  &printer{w: o.Human, verbose: o.Verbose},
		suites: map[string]*suite{},
		builds: builds{texts: map[string]*build{}},
		budget: budget{limit: tapeBudget},
	}
}

// Write takes a piece of the input, cut anywhere. It never fails: input that
// makes no sense is kept as output of the run.
func (c *Converter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			c.begin(p)
			break
		}
		c.complete(p[:i+1])
		p = p[i+1:]
	}
	return n, nil
}

// begin keeps the beginning of a line.
func (c *Converter) begin(part []byte) {
	switch {
	case c.tooLong:
		c.human.stray(part)
	case len(c.carry)+len(part) > maxLine:
		c.tooLong = true
		c.stray(c.carry)
		c.carry = c.carry[:0]
		c.stray(part)
	default:
		c.carry = append(c.carry, part...)
	}
}

// complete handles the end of a line, with its newline.
func (c *Converter) complete(end []byte) {
	switch {
	case c.tooLong:
		c.tooLong = false
		c.human.stray(end)
	case len(c.carry) > 0:
		c.carry = append(c.carry, end...)
		c.line(c.carry)
		c.carry = c.carry[:0]
	default:
		c.line(end)
	}
}

// line handles one whole line.
func (c *Converter) line(line []byte) {
	body := bytes.TrimSuffix(line, []byte("\n"))
	if c.dec.decode(body, &c.ev) {
		c.event(&c.ev)
		return
	}
	// Text without a newline from a process that shares the pipe ends up in
	// front of an event.
	for _, start := range []string{`{"Time":"`, `{"ImportPath":"`, `{"Action":"`} {
		if i := bytes.Index(body, []byte(start)); i > 0 && c.dec.decode(body[i:], &c.ev) {
			c.stray(body[:i])
			c.event(&c.ev)
			return
		}
	}
	c.stray(line)
}

// stray keeps a piece of input that is no event: it goes to the person at once,
// and up to a limit into the run's own output.
func (c *Converter) stray(text []byte) {
	if len(text) == 0 {
		return
	}
	c.summary.StrayBytes += int64(len(text))
	c.human.stray(text)
	if bytes.HasPrefix(text, []byte("FAIL")) || bytes.HasPrefix(text, []byte("--- FAIL:")) {
		c.strayBad = true
	}
	c.RunOutput(text)
}

// RunOutput adds text to the run's own output, up to a limit; what is beyond it
// is marked as left out. It writes nothing to the person.
func (c *Converter) RunOutput(text []byte) {
	const mark = "\n[a long line was cut here]\n"
	cut := len(text) > maxStray
	if cut {
		text = text[:maxStray]
	}
	if c.strayed+len(text) > maxStrayTotal {
		if !c.strayCut {
			c.strayCut = true
			c.emit.output("", "", 0, []byte("\n[output of the run beyond 4 MiB was left out]\n"))
		}
		return
	}
	c.strayed += len(text)
	c.emit.output("", "", 0, text)
	if cut {
		c.emit.output("", "", 0, []byte(mark))
	}
}

// event applies one event.
func (c *Converter) event(ev *event) {
	c.summary.Events++
	switch ev.action {
	case actionUnknown:
		c.summary.Unknown++
		return
	case actionBuildOutput:
		c.builds.output(string(ev.importPath), ev.output)
		c.human.stray(ev.output)
		return
	case actionBuildFail:
		c.builds.fail(string(ev.importPath))
		return
	}
	s := c.suite(ev.pkg)
	if len(ev.test) == 0 {
		s.event(ev)
		return
	}
	s.testEvent(ev)
}

// suite finds or makes the suite of a package.
func (c *Converter) suite(pkg []byte) *suite {
	if c.last != nil && c.last.name == string(pkg) {
		return c.last
	}
	s := c.suites[string(pkg)]
	if s == nil {
		s = newSuite(c, string(pkg))
		c.suites[s.name] = s
		c.order = append(c.order, s)
	}
	c.last = s
	return s
}

// at returns the moment of an event: as the event says, or else now. Only
// starts and ends need it, so output isn't parsed.
func (c *Converter) at(ev *event) time.Time {
	if t, err := time.Parse(time.RFC3339Nano, string(ev.time)); err == nil {
		c.now = t
		return t
	}
	return time.Now()
}

// Tick publishes what is still running: begun, paused or resumed since the last
// Tick, and a few times a second what was printed. A test that began and ended
// between two Ticks is published once, as its result. Call it every 50 ms or so.
func (c *Converter) Tick() {
	c.ticks++
	withOutput := c.ticks%outputEvery == 0
	kept := c.dirty[:0]
	for _, t := range c.dirty {
		if t.ended {
			c.recycle(t)
			continue
		}
		t.announce()
		if withOutput {
			t.upload()
		}
		if len(t.tape.buf) > t.tape.sent {
			kept = append(kept, t)
			continue
		}
		t.isDirty = false
	}
	clear(c.dirty[len(kept):])
	c.dirty = kept
	c.human.flush()
}

// recycle keeps the memory of an ended test for the next one.
func (c *Converter) recycle(t *test) {
	*t = test{}
	if len(c.free) < 4096 {
		c.free = append(c.free, t)
	}
}

// End handles the end of the input: what still runs ends with a synthetic
// result, and the rest of the output is written. It returns what there was.
// Nothing may be called after it.
func (c *Converter) End() Summary {
	if len(c.carry) > 0 {
		c.line(c.carry)
	}
	for _, s := range c.order {
		if s.open {
			c.summary.CutOff = true
			s.finish(tcmv1.Status_STATUS_ABORTED, 0, "", true)
		}
	}
	c.human.flush()
	c.summarise()
	return c.summary
}
