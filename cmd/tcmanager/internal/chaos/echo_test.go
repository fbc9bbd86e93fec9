package chaos

import (
	"context"
	"testing"
	"time"

	"github.com/tcmanager/tcmanager/service/history"
)

func TestAnEchoThatIsLateIsNoted(t *testing.T) {
	e, err := newEcho(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	e.wire.set(harm{late: 2 * echoLate})
	rec := history.NewRecorder(1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- e.watch(ctx, rec) }()
	for ctx.Err() == nil && rec.Count(history.Paused) == 0 {
		pause(ctx, time.Millisecond)
	}
	if ctx.Err() != nil {
		t.Error("nothing was noted")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
