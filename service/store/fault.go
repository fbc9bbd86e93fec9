package store

import (
	"errors"
	"time"

	"github.com/tcmanager/tcmanager/service/fault"
)

// restartDelay is when to come back to a store that is away: long enough for a
// restart, short enough that nobody gives up.
const restartDelay = 2 * time.Second

var (
	errStopping    = fault.New(fault.Unavailable, "STOPPING", "the server is stopping; try again in a moment").After(restartDelay)
	errUnavailable = fault.New(fault.Unavailable, "STORE_UNAVAILABLE", "the server can't reach its database at the moment; nothing was done: try again").After(restartDelay)
	errFull        = fault.New(fault.Unavailable, "STORE_FULL",
		"the disk of the server's data is full, and nothing was done: free some space there, and it goes on by itself").After(restartDelay)
	errUncertain = fault.New(fault.Unavailable, "OUTCOME_UNKNOWN",
		"the server lost its database in the middle; it may have been done: repeat it with the same request id, or look").After(restartDelay)
)

// Fault returns what a client is told of an error of a store that is away and comes
// back, or of a server that does; nil for any other error.
func Fault(err error) *fault.Error {
	switch {
	case errors.Is(err, ErrClosed):
		return errStopping
	case errors.Is(err, ErrUncertain):
		return errUncertain
	case errors.Is(err, ErrFull):
		return errFull
	case errors.Is(err, ErrUnavailable):
		return errUnavailable
	}
	return nil
}
