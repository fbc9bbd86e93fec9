package tcmanager

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	tcmv1 "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestIsLoopback(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]bool{
		"127.0.0.1:9090": true, "127.8.8.8:1": true, "[::1]:9090": true, "localhost:9090": true, "localhost": true, "http://127.0.0.1:9090": true, "unix:///tmp/x": true,
		"10.0.0.1:9090": false, "tcm.example.com:443": false, "localhost.example.com:1": false, "https://tcm.example.com": false, "0.0.0.0:9090": false, "": false,
	} {
		if got := IsLoopback(addr); got != want {
			t.Errorf("%q: %v", addr, got)
		}
	}
}

func TestDialNeedsAnAddress(t *testing.T) {
	t.Parallel()
	if _, err := Dial("http://"); err == nil {
		t.Error("no error")
	}
}

func (l *lane) GetRun(ctx context.Context, _ *tcmv1.GetRunRequest) (*tcmv1.GetRunResponse, error) {
	if l.onHello != nil {
		if err := l.onHello(ctx, 0); err != nil {
			return nil, err
		}
	}
	return &tcmv1.GetRunResponse{Run: &tcmv1.Run{Key: bearer(ctx)}}, nil
}

func TestAUnaryCallIsRepeatedOnceWithANewToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		source := func(context.Context) (Token, error) {
			asked++
			return Token{Value: fmt.Sprint("t", asked)}, nil
		}
		var revoked atomic.Bool
		client := serve(t, &lane{onHello: func(ctx context.Context, _ int) error {
			if revoked.Load() && bearer(ctx) == "Bearer t1" {
				return status.Error(codes.Unauthenticated, "revoked")
			}
			return nil
		}}, WithTokenSource(source))
		for _, want := range []string{"Bearer t1", "Bearer t1", "Bearer t2"} {
			revoked.Store(want == "Bearer t2")
			got, err := client.Execution().GetRun(t.Context(), &tcmv1.GetRunRequest{})
			if err != nil || got.GetRun().GetKey() != want {
				t.Errorf("got %v, %v, want %s", got, err, want)
			}
		}
	})
}

func TestATokenIsRenewedBeforeItExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		tokens := newTokens(func(context.Context) (Token, error) {
			asked++
			return Token{Value: fmt.Sprint("t", asked), ExpiresAt: time.Now().Add(10 * time.Minute)}, nil
		})
		for _, c := range []struct {
			after time.Duration
			want  string
		}{{0, "t1"}, {9 * time.Minute, "t1"}, {31 * time.Second, "t2"}, {0, "t2"}} {
			time.Sleep(c.after)
			if tok, err := tokens.get(t.Context()); err != nil || tok.Value != c.want {
				t.Errorf("got %q, %v, want %q", tok.Value, err, c.want)
			}
		}
	})
}

func TestTheBackoffGrowsWithFullJitterUpToItsLimit(t *testing.T) {
	t.Parallel()
	unavailable := status.Error(codes.Unavailable, "x")
	var biggest [10]time.Duration
	for range 300 {
		var r retries
		for i := range biggest {
			limit := min(backoffCap, backoffBase<<i)
			d := r.delay(unavailable, 0)
			if d < 0 || d >= limit {
				t.Fatalf("attempt %d waits %v", i, d)
			}
			biggest[i] = max(biggest[i], d)
		}
		if r.delay(errNoWelcome, welcomeTimeout); r.attempt != len(biggest)+1 {
			t.Errorf("after a hello that nobody answered the next attempt is number %d, want %d", r.attempt, len(biggest)+1)
		}
		if r.delay(unavailable, healthyAfter); r.attempt != 1 {
			t.Fatal("a healthy connection didn't reset the back-off")
		}
	}
	for i, d := range biggest {
		if limit := min(backoffCap, backoffBase<<i); d < limit*8/10 {
			t.Errorf("attempt %d never waited near its limit: %v of %v", i, d, limit)
		}
	}
	if d := (&retries{}).delay(goingAwayError{after: 7 * time.Second}, 0); d != 7*time.Second {
		t.Errorf("going away waits %v", d)
	}
}

func TestRunIsCalledOnceAndCloseNeedsNoRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := serve(t, &lane{})
		p := client.NewPublisher(PublisherConfig{Project: "demo", RunKey: "k"})
		p.Close()
		p.Close()
		if err := p.Run(t.Context()); !errors.Is(err, ErrFinished) {
			t.Errorf("Run: %v", err)
		}
	})
}
