package workload

import (
	"context"
	"fmt"
	"time"

	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/target"
)

// Ingest is small updates that clients send and the server acknowledges. Each
// client is in a room of its own, so that nothing is fanned out.
type Ingest struct {
	Clients int
	Updates int // of each; a fifth more warm the server up
	Window  int // of each, sent and not acknowledged
	Write   int // sent at once
}

// Measure measures a server.
func (w Ingest) Measure(ctx context.Context, t *target.Target) (s Sample, err error) {
	c, err := newCrowd(ctx, t)
	if err != nil {
		return s, err
	}
	defer func() { err = first(err, c.close()) }()
	if err := c.open(w.Clients); err != nil {
		return s, err
	}
	if err := c.enter(w.Clients, c.rooms...); err != nil {
		return s, err
	}
	const warm = 5
	up := w.Updates / warm / w.Write * w.Write
	if err := w.run(c, c.readers, 0, up); err != nil {
		return s, fmt.Errorf("warming up: %w", err)
	}
	before, err := t.CPU()
	if err != nil {
		return s, err
	}
	began := time.Now()
	if err := w.run(c, c.readers, up, up+w.Updates/w.Write*w.Write); err != nil {
		return s, err
	}
	took := time.Since(began)
	after, err := t.CPU()
	updates := float64(w.Updates / w.Write * w.Write * w.Clients)
	return Sample{CPU: micro(after-before) / updates, PerS: updates / took.Seconds()}, err
}

// run sends the updates numbered from one above from up to to, of each client, and
// waits for the answers.
func (w Ingest) run(c *crowd, clients []*member, from, to int) error {
	sent := make([]int, len(clients))
	for i := range sent {
		sent[i] = from
	}
	acked := func() int {
		n := 0
		for _, m := range clients {
			n += int(m.acked)
		}
		return n
	}
	done := func() bool {
		all := true
		for i, m := range clients {
			for sent[i] < to && sent[i]-int(m.acked) <= w.Window-w.Write {
				for range w.Write {
					sent[i]++
					m.out = m.conn.Protocol.Update(m.out, uint64(sent[i]))
				}
				c.fail(m.send())
			}
			all = all && int(m.acked) >= to
		}
		return all
	}
	return c.until(done, acked, func() string { return fmt.Sprintf("update %d of %d to be acknowledged", acked(), to*len(clients)) })
}
