package tcmanager

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// start runs a publisher of client until the test ends.
func start(t *testing.T, client *Client, config PublisherConfig) (p *Publisher, result <-chan error) {
	t.Helper()
	config.Project, config.RunKey = "demo", "key"
	config.SpoolDir = t.TempDir()
	p = client.NewPublisher(config)
	done := make(chan error, 1)
	go func() { done <- p.Run(t.Context()) }()
	t.Cleanup(p.Close)
	return p, done
}

// publish publishes n outputs named from, from+1, ...
func publish(t *testing.T, p *Publisher, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		if err := p.Publish(output(fmt.Sprint(i), 10)); err != nil {
			t.Fatal(err)
		}
	}
}

// counted are the names from 0 to n-1.
func counted(n int) []string {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprint(i))
	}
	return names
}

func mustEqual(t *testing.T, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestItemsArriveInOrderAndTheShardIsFinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lane{}
		welcomed := make(chan *tcmv1.Run, 1)
		p, done := start(t, serve(t, l), PublisherConfig{Shard: "a", OnWelcome: func(r *tcmv1.Run) { welcomed <- r }})
		publish(t, p, 0, 2500)
		code := int32(1)
		r := p.Finish(t.Context(), FinishOptions{ExitCode: &code, Reason: tcmv1.EndReason_END_REASON_CANCELLED})
		mustEqual(t, l.names(), counted(2500))
		if !r.Finished || r.NotUploaded != 0 || r.Published != 2500 || r.Err != nil || r.Run.GetId() != "run-1" || r.Counts == nil {
			t.Errorf("report %+v", r)
		}
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if u := (<-welcomed).GetUrl(); u != "http://x/runs/1" {
			t.Errorf("url %q", u)
		}
		if l.finish.GetLastSequence() != 2500 || l.finish.GetExitCode() != 1 || l.finish.GetReason() != tcmv1.EndReason_END_REASON_CANCELLED {
			t.Errorf("finish %v", l.finish)
		}
		if h := l.hellos[0]; h.GetProject() != "demo" || h.GetRunKey() != "key" || h.GetShard() != "a" {
			t.Errorf("hello %v", h)
		}
		if l.orderly != 1 {
			t.Error("the stream was not closed in an orderly way")
		}
	})
}

func TestAnItemWaitsNoLongerThanTheFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lane{}
		p, _ := start(t, serve(t, l), PublisherConfig{})
		synctest.Wait()
		for i := range 3 {
			publish(t, p, i, 1)
			time.Sleep(flushAfter + time.Millisecond)
			synctest.Wait()
			mustEqual(t, l.names(), counted(i+1))
		}
	})
}

func TestACutStreamResumesWithoutLossOrRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		batches := 0
		l := &lane{onBatch: func(stream int, b *tcmv1.PublishBatch) (bool, error) {
			if batches++; stream < 4 && batches%2 == 0 {
				return false, status.Error(codes.Unavailable, "cut")
			}
			// Committed, but the ack is lost with the stream: it is sent again.
			return stream >= 4, nil
		}}
		var warnings []error
		p, _ := start(t, serve(t, l), PublisherConfig{OnWarning: func(err error) { warnings = append(warnings, err) }})
		publish(t, p, 0, 5000)
		r := p.Finish(t.Context(), FinishOptions{StallTimeout: time.Minute})
		mustEqual(t, l.names(), counted(5000))
		if !r.Finished || r.NotUploaded != 0 || l.streams != 4 {
			t.Errorf("report %+v after %d streams", r, l.streams)
		}
		if len(warnings) != 1 || !strings.Contains(warnings[0].Error(), "cut") {
			t.Errorf("warnings %v", warnings)
		}
		for i, h := range l.hellos { // each stream is numbered from 1
			if h.GetIncarnation() != uint64(i) {
				t.Errorf("stream %d came back as %d", i+1, h.GetIncarnation())
			}
		}
	})
}

func TestAGapIsHealedByTheNextWelcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lane{onBatch: func(stream int, b *tcmv1.PublishBatch) (bool, error) {
			if stream == 1 && b.GetFirstSequence() > 1 {
				return false, gapError()
			}
			return true, nil
		}}
		p, _ := start(t, serve(t, l), PublisherConfig{})
		begun := time.Now()
		publish(t, p, 0, 3000)
		r := p.Finish(t.Context(), FinishOptions{})
		mustEqual(t, l.names(), counted(3000))
		if !r.Finished || time.Since(begun) > time.Second {
			t.Errorf("report %+v after %v", r, time.Since(begun))
		}
	})
}

func TestAGapThatDoesNotHealIsFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lane{onBatch: func(int, *tcmv1.PublishBatch) (bool, error) { return false, gapError() }}
		p, done := start(t, serve(t, l), PublisherConfig{})
		publish(t, p, 0, 1)
		if err := <-done; status.Code(err) != codes.FailedPrecondition {
			t.Errorf("Run: %v", err)
		}
		if r := p.Report(); r.NotUploaded != 1 || r.Err == nil {
			t.Errorf("report %+v", r)
		}
	})
}

func TestTerminalCodesAreNotRetriedAndWarnOnce(t *testing.T) {
	for _, code := range []codes.Code{codes.PermissionDenied, codes.InvalidArgument, codes.FailedPrecondition, codes.Aborted, codes.Unimplemented} {
		t.Run(code.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				published := make(chan struct{})
				l := &lane{onHello: func(context.Context, int) error {
					<-published
					return status.Error(code, "no way")
				}}
				var warnings []error
				p, done := start(t, serve(t, l), PublisherConfig{OnWarning: func(err error) { warnings = append(warnings, err) }})
				publish(t, p, 0, 3)
				close(published)
				if err := <-done; status.Code(err) != code {
					t.Errorf("Run: %v", err)
				}
				begun := time.Now()
				r := p.Finish(t.Context(), FinishOptions{})
				if r.NotUploaded != 3 || r.Finished || status.Code(r.Err) != code || time.Since(begun) != 0 {
					t.Errorf("report %+v after %v", r, time.Since(begun))
				}
				if len(warnings) != 1 || !strings.Contains(warnings[0].Error(), "no way") || l.streams != 1 {
					t.Errorf("warnings %v after %d streams", warnings, l.streams)
				}
				if err := p.Publish(output("x", 1)); !errors.Is(err, ErrFinished) {
					t.Errorf("Publish: %v", err)
				}
			})
		})
	}
}

func TestARefusedTokenIsRenewedOnceThenFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		source := func(context.Context) (Token, error) {
			asked++
			return Token{Value: fmt.Sprint("t", asked)}, nil
		}
		l := &lane{onHello: func(ctx context.Context, _ int) error {
			if bearer(ctx) != "Bearer t2" {
				return status.Error(codes.Unauthenticated, "bad token")
			}
			return nil
		}}
		p, _ := start(t, serve(t, l, WithTokenSource(source)), PublisherConfig{})
		publish(t, p, 0, 3)
		if r := p.Finish(t.Context(), FinishOptions{}); !r.Finished || asked != 2 {
			t.Errorf("report %+v after %d tokens", r, asked)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		l := &lane{onHello: func(context.Context, int) error { return status.Error(codes.Unauthenticated, "bad token") }}
		_, done := start(t, serve(t, l, WithToken("fixed")), PublisherConfig{})
		if err := <-done; status.Code(err) != codes.Unauthenticated || l.streams != 2 {
			t.Errorf("Run: %v after %d streams", err, l.streams)
		}
	})
}

func TestATokenSourceThatFailsForGoodEndsTheUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := func(context.Context) (Token, error) { return Token{}, errors.New("no token here") }
		_, done := start(t, serve(t, &lane{}, WithTokenSource(source)), PublisherConfig{})
		if err := <-done; err == nil || !strings.Contains(err.Error(), "no token here") {
			t.Errorf("Run: %v", err)
		}
	})
}

// unreachable refuses connections until up is closed.
func unreachable(client func(context.Context) (net.Conn, error)) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		if client == nil {
			return nil, errors.New("connection refused")
		}
		return client(ctx)
	}
}

func TestAServerThatIsNeverThereCostsOneWarningAndABoundedWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var warnings []error
		p, _ := start(t, dialTo(t, unreachable(nil)), PublisherConfig{OnWarning: func(err error) { warnings = append(warnings, err) }})
		publish(t, p, 0, 1000)
		time.Sleep(5 * time.Minute)
		publish(t, p, 1000, 1000)
		begun := time.Now()
		r := p.Finish(t.Context(), FinishOptions{StallTimeout: 2 * time.Second})
		if took := time.Since(begun); took != 2*time.Second {
			t.Errorf("Finish took %v", took)
		}
		p.Close()
		if r.NotUploaded != 2000 || r.Published != 2000 || r.Run != nil || r.Err == nil {
			t.Errorf("report %+v", r)
		}
		if len(warnings) != 1 || !strings.Contains(warnings[0].Error(), "connection refused") {
			t.Errorf("warnings %v", warnings)
		}
	})
}

func TestAServerThatIsBackBeforeTheEndGetsEverything(t *testing.T) {
	for range 20 { // the back-off is random
		synctest.Test(t, func(t *testing.T) {
			var down atomic.Bool
			down.Store(true)
			failed := make(chan struct{}, 1)
			l := &lane{onHello: func(context.Context, int) error {
				if !down.Load() {
					return nil
				}
				select {
				case failed <- struct{}{}:
				default:
				}
				return status.Error(codes.Unavailable, "down")
			}}
			p, _ := start(t, serve(t, l), PublisherConfig{})
			publish(t, p, 0, 100)
			time.Sleep(5 * time.Minute) // the back-off has reached its cap
			for len(failed) > 0 {
				<-failed
			}
			<-failed // an attempt has just failed, and the server is back
			down.Store(false)
			if r := p.Finish(t.Context(), FinishOptions{StallTimeout: 2 * time.Second}); !r.Finished || r.NotUploaded != 0 {
				t.Errorf("report %+v", r)
			}
			mustEqual(t, l.names(), counted(100))
		})
	}
}

func TestASlowServerNeverMakesTheCallerWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		l := &lane{onBatch: func(int, *tcmv1.PublishBatch) (bool, error) { <-release; return true, nil }}
		p, _ := start(t, serve(t, l), PublisherConfig{MemoryLimit: 1 << 20})
		begun := time.Now()
		var want []string
		for i := range 600 {
			if err := p.Publish(output(fmt.Sprint(i), 32<<10)); err != nil {
				t.Fatal(err)
			}
			want = append(want, fmt.Sprint(i))
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("600 calls of Publish took %v", took)
		}
		p.mu.Lock()
		memory, inFile := p.queue.memory, p.queue.inFile
		p.mu.Unlock()
		if memory > 1<<20+batchBytes || inFile == 0 {
			t.Errorf("%d bytes in memory, %d segments on disk", memory, inFile)
		}
		close(release)
		if r := p.Finish(t.Context(), FinishOptions{}); !r.Finished || r.NotUploaded != 0 {
			t.Errorf("report %+v", r)
		}
		mustEqual(t, l.names(), want)
	})
}

func TestTheSpoolLeavesNoFileBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := start(t, dialTo(t, unreachable(nil)), PublisherConfig{MemoryLimit: 1})
		for range 100 {
			if err := p.Publish(output("x", 32<<10)); err != nil {
				t.Fatal(err)
			}
		}
		if p.queue.inFile == 0 {
			t.Error("nothing was spilled")
		}
		p.Close()
		left, err := filepath.Glob(filepath.Join(p.config.SpoolDir, "*"))
		if err != nil || len(left) > 0 {
			t.Errorf("left %v, %v", left, err)
		}
		if err := p.Publish(output("x", 1)); !errors.Is(err, ErrFinished) {
			t.Errorf("Publish: %v", err)
		}
	})
}

func TestAFullSpoolLosesItemsAndCountsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var up func(context.Context) (net.Conn, error)
		p, _ := start(t, dialTo(t, func(ctx context.Context) (net.Conn, error) { return unreachable(up)(ctx) }), PublisherConfig{MemoryLimit: 64 << 10, DiskLimit: -1})
		lost := 0
		for range 10 {
			if err := p.Publish(output("x", 30<<10)); err != nil {
				lost++
			}
		}
		if r := p.Report(); lost != 8 || r.NotUploaded != 10 || r.Published != 10 {
			t.Errorf("lost %d, report %+v", lost, r)
		}
	})
}

func TestASpoolThatCannotBeWrittenStaysInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		l := &lane{onHello: func(context.Context, int) error { <-release; return nil }}
		client := serve(t, l)
		p := client.NewPublisher(PublisherConfig{Project: "demo", RunKey: "k", SpoolDir: filepath.Join(t.TempDir(), "missing"), MemoryLimit: 100 << 10})
		go func() { _ = p.Run(t.Context()) }()
		defer p.Close()
		taken := 0
		for range 100 {
			if p.Publish(output("x", 30<<10)) == nil {
				taken++
			}
		}
		close(release)
		r := p.Finish(t.Context(), FinishOptions{})
		if taken == 0 || taken == 100 || int(r.NotUploaded) != 100-taken || !errors.Is(r.Err, os.ErrNotExist) {
			t.Errorf("taken %d, report %+v", taken, r)
		}
	})
}

func TestRejectionsAreCountedAndPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lane{}
		p, _ := start(t, serve(t, l), PublisherConfig{})
		bad := output("bad", 1)
		bad.GetOutput().Suite = "bad"
		publish(t, p, 0, 1)
		if err := p.Publish(bad); err != nil {
			t.Fatal(err)
		}
		publish(t, p, 1, 1)
		r := p.Finish(t.Context(), FinishOptions{})
		mustEqual(t, l.names(), counted(2))
		if r.Rejected != 1 || r.FirstRejection.GetMessage() != "no such thing" || r.NotUploaded != 0 {
			t.Errorf("report %+v", r)
		}
	})
}

func TestGoingAwayIsFollowedAfterTheGivenTimeWithoutAWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		after := 3 * time.Second
		l := &lane{goAway: func(n int) *time.Duration {
			if n == 1 {
				return &after
			}
			return nil
		}}
		warned := false
		p, _ := start(t, serve(t, l), PublisherConfig{OnWarning: func(error) { warned = true }})
		begun := time.Now()
		publish(t, p, 0, 10)
		r := p.Finish(t.Context(), FinishOptions{})
		if took := time.Since(begun); !r.Finished || took < after || took > after+time.Second || warned {
			t.Errorf("report %+v after %v, warned %v", r, took, warned)
		}
		mustEqual(t, l.names(), counted(10))
	})
}

func TestTheServersRetryDelayIsHonoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy, err := status.New(codes.ResourceExhausted, "busy").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(30 * time.Second)})
		if err != nil {
			t.Fatal(err)
		}
		l := &lane{onHello: func(_ context.Context, n int) error {
			if n == 1 {
				return busy.Err()
			}
			return nil
		}}
		begun := time.Now()
		p, _ := start(t, serve(t, l), PublisherConfig{})
		publish(t, p, 0, 1)
		r := p.Finish(t.Context(), FinishOptions{StallTimeout: time.Minute})
		if took := time.Since(begun); !r.Finished || took < 30*time.Second || took > 31*time.Second {
			t.Errorf("report %+v after %v", r, took)
		}
	})
}

func TestASilentConnectionIsGivenUpAndTheItemsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lane{onBatch: func(stream int, _ *tcmv1.PublishBatch) (bool, error) { return stream > 1, nil }}
		p, _ := start(t, serve(t, l), PublisherConfig{})
		publish(t, p, 0, 5)
		time.Sleep(ackTimeout + backoffBase + time.Second)
		synctest.Wait()
		if r := p.Report(); r.NotUploaded != 0 || l.streams != 2 {
			t.Errorf("report %+v after %d streams", r, l.streams)
		}
		mustEqual(t, l.names(), counted(5))
	})
}

func TestASlowServerThatAcknowledgesIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lane{onBatch: func(int, *tcmv1.PublishBatch) (bool, error) {
			time.Sleep(ackTimeout * 2 / 3)
			return true, nil
		}}
		p, _ := start(t, serve(t, l), PublisherConfig{})
		for i := range 10 {
			publish(t, p, i, 1)
			time.Sleep(time.Second)
		}
		r := p.Finish(t.Context(), FinishOptions{Timeout: time.Hour, StallTimeout: time.Minute})
		if !r.Finished || l.streams != 1 {
			t.Errorf("report %+v after %d streams", r, l.streams)
		}
		mustEqual(t, l.names(), counted(10))
	})
}

func TestAnIdleStreamIsKeptByHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lane{}
		_, _ = start(t, serve(t, l), PublisherConfig{})
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.heartbeats < 119 || l.streams != 1 {
			t.Errorf("%d heartbeats over %d streams", l.heartbeats, l.streams)
		}
	})
}

func TestAnEarlierProcessOfTheShardIsContinued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lane{committedBefore: 40}
		p, _ := start(t, serve(t, l), PublisherConfig{})
		publish(t, p, 0, 5)
		r := p.Finish(t.Context(), FinishOptions{})
		mustEqual(t, l.names(), counted(5))
		if r.NotUploaded != 0 || l.finish.GetLastSequence() != 45 {
			t.Errorf("report %+v, finish %v", r, l.finish)
		}
	})
}

func TestAShardThatHasFinishedIsRefusedWithAdvice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		published := make(chan struct{})
		l := &lane{finish: &tcmv1.PublishFinish{}, committedBefore: 3, onHello: func(context.Context, int) error {
			<-published
			return nil
		}}
		p, done := start(t, serve(t, l), PublisherConfig{})
		publish(t, p, 0, 5)
		close(published)
		if err := <-done; err == nil || !strings.Contains(err.Error(), "another run key") {
			t.Errorf("Run: %v", err)
		}
		if r := p.Report(); r.NotUploaded != 5 {
			t.Errorf("report %+v", r)
		}
	})
}

func TestALostAckOfTheFinishIsNoTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lane{}
		l.onHello = func(_ context.Context, n int) error { return nil }
		cut := make(chan struct{})
		l.goAway = func(n int) *time.Duration {
			l.mu.Lock()
			defer l.mu.Unlock()
			if n == 1 && l.finish != nil {
				close(cut)
				zero := time.Duration(0)
				return &zero
			}
			return nil
		}
		p, _ := start(t, serve(t, l), PublisherConfig{})
		publish(t, p, 0, 5)
		r := p.Finish(t.Context(), FinishOptions{})
		<-cut
		if !r.Finished || l.streams != 2 {
			t.Errorf("report %+v after %d streams", r, l.streams)
		}
	})
}

func TestASmallRequestLimitSplitsBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lane{maxRequest: 4096}
		p, _ := start(t, serve(t, l), PublisherConfig{})
		for i := range 100 {
			if err := p.Publish(output(fmt.Sprint(i), 1000)); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Publish(output("too large for this server", 5000)); err != nil {
			t.Fatal(err)
		}
		r := p.Finish(t.Context(), FinishOptions{})
		mustEqual(t, l.names(), counted(100))
		if l.biggest > 4096 || r.Rejected != 1 || r.NotUploaded != 0 {
			t.Errorf("biggest %d, report %+v", l.biggest, r)
		}
	})
}

func TestAnOversizeItemIsRefusedAtOnce(t *testing.T) {
	p := (&Client{tokens: newTokens(nil)}).NewPublisher(PublisherConfig{})
	defer p.Close()
	if err := p.Publish(output("x", maxItem)); !errors.Is(err, ErrItemTooLarge) {
		t.Errorf("Publish: %v", err)
	}
	if r := p.Report(); r.NotUploaded != 1 {
		t.Errorf("report %+v", r)
	}
}

func TestFinishReturnsWhenItsContextIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := start(t, dialTo(t, unreachable(nil)), PublisherConfig{})
		publish(t, p, 0, 1)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		begun := time.Now()
		if r := p.Finish(ctx, FinishOptions{}); r.NotUploaded != 1 || time.Since(begun) != 0 {
			t.Errorf("report %+v after %v", r, time.Since(begun))
		}
	})
}
