package tcmanager

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The back-off between connections: a random time up to base*2^n, which spreads
// the clients of a server that comes back, up to a limit.
const (
	backoffBase = time.Second
	backoffCap  = 20 * time.Second
)

// backoff counts the failures in a row.
type backoff struct{ attempt int }

// next counts one more and returns how long to wait: at least what the server
// asked for.
func (b *backoff) next(asked time.Duration) time.Duration {
	limit := min(backoffCap, backoffBase<<min(b.attempt, 10))
	b.attempt++
	return max(rand.N(limit), asked)
}

// retries decides whether and when to connect again.
type retries struct {
	backoff

	unauthenticated int
	gaps            int
	acked           uint64 // at the last gap
}

// endOfStream names the end of a stream that had no error.
func endOfStream(err error) error {
	if errors.Is(err, io.EOF) {
		return errEndedEarly
	}
	return err
}

// terminal returns the error to give up with, or nil if another attempt may
// help.
func (r *retries) terminal(p *Publisher, err error) error {
	if token, ok := errors.AsType[tokenError](err); ok && !temporary(token.err) {
		return err
	}
	code := status.Code(err)
	if code != codes.Unauthenticated {
		r.unauthenticated = 0
	}
	switch code {
	case codes.Unauthenticated:
		// Once more with a new token; the second refusal is final.
		if r.unauthenticated++; r.unauthenticated > 1 {
			return fmt.Errorf("the server doesn't accept the token: %w", said(err))
		}
	case codes.PermissionDenied:
		return fmt.Errorf("project %q: %w", p.config.Project, said(err))
	case codes.InvalidArgument, codes.Unimplemented, codes.NotFound, codes.AlreadyExists, codes.OutOfRange:
		return fmt.Errorf("the server refuses the upload: %w", said(err))
	case codes.Aborted:
		return fmt.Errorf("another process took over this shard: %w", said(err))
	case codes.FailedPrecondition:
		if !r.gap(p, err) {
			return fmt.Errorf("the server refuses the upload: %w", said(err))
		}
	default:
		// UNAVAILABLE and its like: the server may come back.
	}
	return nil
}

// gap reports whether err asks for items in another place, which the next
// welcome tells, and whether that still can help: it can if anything was
// committed since the last time.
func (r *retries) gap(p *Publisher, err error) bool {
	if !isGap(err) {
		return false
	}
	p.mu.Lock()
	acked := p.queue.acked
	p.mu.Unlock()
	if acked > r.acked {
		r.gaps, r.acked = 0, acked
	}
	r.gaps++
	return r.gaps <= maxGaps
}

// isGap recognises the server's word for a gap.
func isGap(err error) bool {
	e, ok := AsError(err)
	if !ok {
		return false
	}
	_, expected := e.Metadata["expected_sequence"]
	return expected || e.Reason == "SEQUENCE_GAP"
}

// delay is how long to wait before the next attempt, after a connection that
// lived for some time and ended with err.
func (r *retries) delay(err error, lived time.Duration) time.Duration {
	if away, ok := errors.AsType[goingAwayError](err); ok {
		r.attempt = 0
		return away.after // each client gets its own
	}
	if lived >= healthyAfter && !errors.Is(err, errNoWelcome) { // it lived, but nobody was there
		r.attempt = 0
	}
	if r.gaps > 0 || r.unauthenticated > 0 {
		return 0 // the server is there: it asked for something else
	}
	return r.next(retryInfo(err))
}

// askedDelay is how long the server asked to wait before the next attempt, as an
// error or before it stopped; 0 if it didn't.
func askedDelay(err error) time.Duration {
	if away, ok := errors.AsType[goingAwayError](err); ok {
		return away.after
	}
	return retryInfo(err)
}

// retryInfo is the delay that the server asked for; 0 if it didn't.
func retryInfo(err error) time.Duration {
	if e, ok := AsError(err); ok {
		return e.RetryAfter
	}
	return 0
}

// tokenError is the failure of a TokenSource.
type tokenError struct{ err error }

func (e tokenError) Error() string {
	if temporary(e.err) {
		return said(e.err).Error() // the server's trouble, not the token's
	}
	return "get a token: " + said(e.err).Error()
}

func (e tokenError) Unwrap() error { return e.err }

// temporary reports whether a TokenSource may succeed later: only if it says
// so, by a status of the server it asked.
func temporary(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Internal:
		return true
	default:
		return false
	}
}
