package tcmanager

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/protobuf/proto"
)

// Defaults of a PublisherConfig.
const (
	defaultMemory = 4 << 20
	defaultDisk   = 1 << 30
	// maxItem is the largest item taken: the schema's largest, a chunk of output
	// of 64 KiB or a failure of 16 KiB with the longest names, is well below.
	maxItem = 128 << 10
	// flushAfter is how long an item waits for others to share its frame.
	flushAfter = 20 * time.Millisecond
)

// Reasons why an item is not taken.
var (
	// ErrFinished says that Finish or Close was called, or that the server ended
	// the upload for good.
	ErrFinished = errors.New("the upload is over")
	// ErrItemTooLarge says that an item is above 128 KiB.
	ErrItemTooLarge = errors.New("the item is too large")
)

// PublisherConfig says what a Publisher publishes into.
type PublisherConfig struct {
	// Project is the key or id of the project.
	Project string
	// RunKey names the run: shards and reruns that give the same one write into
	// the same run.
	RunKey string
	// Shard names this stream within the run; empty means "main". Two Publishers
	// of the same shard push each other out.
	Shard string
	// ExpectedShards is how many shards the run has; 0 means one.
	ExpectedShards uint32
	// Info is about the run; nil says nothing.
	Info *tcmv1.RunInfo

	// MemoryLimit is how many bytes of items are kept in memory; 0 means 4 MiB.
	MemoryLimit int
	// DiskLimit is how many bytes more may be put into a temporary file; 0 means
	// 1 GiB, negative none.
	DiskLimit int64
	// SpoolDir is where the file is made; empty means the system's place.
	SpoolDir string

	// OnWelcome is called once, when the server first says which run it is.
	OnWelcome func(*tcmv1.Run)
	// OnWarning is called at most twice: when the server first can't be reached,
	// and when the upload has failed for good.
	OnWarning func(error)
}

// Report says what became of the items.
type Report struct {
	// Run is the run as the server last described it; nil if it never did.
	Run *tcmv1.Run
	// Counts are the run's counts after the last commit; nil if there was none.
	Counts *tcmv1.Counts
	// Published is how many items Publish was given.
	Published uint64
	// NotUploaded is how many of them are not known to be committed: they were
	// not taken, not sent, or not acknowledged.
	NotUploaded uint64
	// Rejected is how many the server read and refused, and FirstRejection the
	// reason of the first; nil if there was none.
	Rejected       uint64
	FirstRejection *tcmv1.Error
	// Finished says that the server knows that this shard is complete.
	Finished bool
	// Err is why the upload stopped for good, or what was in its way last; nil
	// if nothing was.
	Err error
}

// Publisher brings items to the server. Make one with Client.NewPublisher, start
// Run, and end it with Finish and Close.
type Publisher struct {
	client *Client
	config PublisherConfig

	wake      chan struct{} // something changed that the sender should look at
	finishing chan struct{} // closed when Finish is called
	ended     chan struct{} // closed when Run returns, or never began before Close
	stop      context.CancelCauseFunc
	stopping  context.Context

	mu        sync.Mutex // guards all below
	queue     queue
	opened    time.Time // when the open segment got its first item
	base      uint64    // committed before this Publisher's first item
	hasBase   bool
	had       uint64 // the incarnation of the last stream that was welcomed; 0 before
	started   bool
	sealed    error // why no more items are taken; nil while they are
	finish    *tcmv1.PublishFinish
	moves     uint64 // counts all steps forward
	warned    bool
	welcomed  bool
	published uint64
	dropped   uint64
	report    Report
	encode    []byte
}

// NewPublisher returns a Publisher that has not started.
func (c *Client) NewPublisher(config PublisherConfig) *Publisher {
	if config.MemoryLimit == 0 {
		config.MemoryLimit = defaultMemory
	}
	if config.DiskLimit == 0 {
		config.DiskLimit = defaultDisk
	}
	p := &Publisher{
		client:    c,
		config:    config,
		wake:      make(chan struct{}, 1),
		finishing: make(chan struct{}),
		ended:     make(chan struct{}),
		queue:     queue{memoryLimit: config.MemoryLimit, diskLimit: config.DiskLimit, dir: config.SpoolDir},
	}
	p.stopping, p.stop = context.WithCancelCause(context.Background())
	return p
}

// Publish takes an item and returns at once; the item may be changed afterwards.
// An error means that the item is lost, and counted in Report.NotUploaded:
// ErrItemTooLarge, ErrFinished, or that memory and disk are full. Publish never
// waits for the server.
func (p *Publisher) Publish(item *tcmv1.PublishItem) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.published++
	err := p.publishLocked(item)
	if err != nil {
		p.dropped++
	}
	return err
}

func (p *Publisher) publishLocked(item *tcmv1.PublishItem) error {
	if p.sealed != nil {
		return p.sealed
	}
	var err error
	if p.encode, err = appendItem(p.encode[:0], item); err != nil {
		return fmt.Errorf("encode an item: %w", err)
	}
	if len(p.encode) > maxItem {
		return ErrItemTooLarge
	}
	before := len(p.queue.segments)
	if err := p.queue.add(p.encode); err != nil {
		return err
	}
	if len(p.queue.segments) != before {
		p.opened = time.Now()
		p.wakeSender()
	}
	return nil
}

// wakeSender makes the sender look again.
func (p *Publisher) wakeSender() {
	select {
	case p.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// FinishOptions say how a shard ended.
type FinishOptions struct {
	// ExitCode is the command's exit code; nil if it isn't known.
	ExitCode *int32
	// Reason is set if the runner was stopped: CANCELLED or TIMED_OUT.
	Reason tcmv1.EndReason
	// Timeout is how long to wait for the last acknowledgement; 0 means 60 s.
	Timeout time.Duration
	// StallTimeout is how long to wait without any progress; 0 means 5 s. A
	// server that can't be reached is waited for this long.
	StallTimeout time.Duration
}

// Finish takes no more items, and waits until all are committed and the server
// knows that the shard is complete, or until a time is up, ctx is done or the
// upload has failed. It reports what became of the items. Run must have been
// started; it goes on after Finish gave up, until Close.
func (p *Publisher) Finish(ctx context.Context, o FinishOptions) Report {
	p.mu.Lock()
	if p.finish == nil {
		p.finish = &tcmv1.PublishFinish{ExitCode: o.ExitCode, Reason: o.Reason}
		if p.sealed == nil {
			p.sealed = ErrFinished
		}
		close(p.finishing)
		p.wakeSender()
	}
	p.mu.Unlock()
	p.awaitEnd(ctx, orDefault(o.Timeout, time.Minute), orDefault(o.StallTimeout, 5*time.Second))
	return p.Report()
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// awaitEnd waits for the end of Run, as long as there is progress.
func (p *Publisher) awaitEnd(ctx context.Context, timeout, stall time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	seen := p.progress()
	idle := time.NewTicker(stall)
	defer idle.Stop()
	for {
		select {
		case <-p.ended:
			return
		case <-ctx.Done():
			return
		case <-idle.C:
			now := p.progress()
			if now == seen {
				return
			}
			seen = now
		}
	}
}

// progress is a number that changes with each step forward.
func (p *Publisher) progress() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.moves
}

// Report says what became of the items so far.
func (p *Publisher) Report() Report {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.report
	r.Published = p.published
	r.NotUploaded = p.dropped + p.queue.sequence - p.queue.acked
	if r.Err == nil && p.queue.fileErr != nil && !errors.Is(p.queue.fileErr, errClosedSpool) {
		r.Err = p.queue.fileErr
	}
	return r
}

// Close stops Run, waits until it has ended, and gives up what was not uploaded.
// It may be called more than once.
func (p *Publisher) Close() {
	p.mu.Lock()
	if p.sealed == nil {
		p.sealed = ErrFinished
	}
	if !p.started {
		p.started = true
		close(p.ended)
	}
	p.mu.Unlock()
	p.stop(ErrFinished)
	<-p.ended
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue.discard()
}

// seal makes the upload over for good.
func (p *Publisher) seal(err error) {
	p.mu.Lock()
	p.sealed = ErrFinished
	p.report.Err = err
	p.mu.Unlock()
	p.warn(err)
}

// warn calls OnWarning.
func (p *Publisher) warn(err error) {
	if p.config.OnWarning != nil {
		p.config.OnWarning(err)
	}
}

// handleWelcome takes the server's answer to the hello.
func (p *Publisher) handleWelcome(w *tcmv1.PublishWelcome) {
	p.mu.Lock()
	if !p.hasBase {
		// An earlier process may have published into this shard: go on behind it.
		p.base, p.hasBase = w.GetCommittedSequence(), true
	}
	p.had = w.GetIncarnation()
	p.ackLocked(w.GetCommittedSequence())
	p.queue.rewind()
	p.moves++
	p.report.Run = w.GetRun()
	first := !p.welcomed
	p.welcomed = true
	p.mu.Unlock()
	if first && p.config.OnWelcome != nil {
		p.config.OnWelcome(proto.CloneOf(w.GetRun()))
	}
}

// handleAck takes what is committed.
func (p *Publisher) handleAck(a *tcmv1.PublishAck) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ackLocked(a.GetCommittedSequence())
	p.moves++
	for _, r := range a.GetRejections() {
		p.report.Rejected++
		if p.report.FirstRejection == nil {
			p.report.FirstRejection = r.GetError()
		}
	}
	if a.GetCounts() != nil {
		p.report.Counts = a.GetCounts()
	}
	p.report.Finished = p.report.Finished || a.GetFinished()
}

// ackLocked drops what the server has.
func (p *Publisher) ackLocked(committed uint64) {
	if committed >= p.base {
		p.queue.ack(committed - p.base)
	}
}
