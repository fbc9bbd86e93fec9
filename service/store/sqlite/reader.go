package sqlite

import (
	"context"

	"github.com/tcmanager/tcmanager/service/store"
)

// reader reads in the transaction of its connection.
type reader struct {
	ctx context.Context // of the View or Update; long reads look at it
	c   *conn
}

var _ store.Reader = (*reader)(nil)
