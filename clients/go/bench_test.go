package tcmanager_test

import (
	"context"
	"testing"

	tcmanager "github.com/tcmanager/tcmanager/clients/go"
	"github.com/tcmanager/tcmanager/clients/go/tcmtest"
)

// BenchmarkEvents reads events over a pipe, the server in memory included.
func BenchmarkEvents(b *testing.B) {
	srv := tcmtest.New(b)
	ctx, cancel := context.WithCancel(b.Context())
	session := srv.Client().NewSession(tcmanager.SessionConfig{})
	ended := make(chan error, 1)
	go func() { ended <- session.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	b.ReportAllocs()
	n := 0
	for d, err := range session.Events(ctx, room, nil) {
		switch {
		case err != nil:
			b.Fatal(err)
		case d.Kind == tcmanager.DeliverySnapshot:
			emit(srv, room, 1, b.N)
		case d.Event != nil:
			n++
		}
		if n == b.N {
			return
		}
	}
}
