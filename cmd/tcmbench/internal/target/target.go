// Package target starts the servers that are measured and makes the clients'
// protocols for them.
package target

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"

	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/peer"
	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/process"
)

// Names of servers and carriers, as the results have them.
const (
	TCManager  = "tcmanager"
	SocketIO   = "socketio"
	Centrifuge = "centrifuge"
	Raw        = "raw"
	RawBatched = "raw-batched"

	// The engines alone, which are no processes: see package bare.
	BareSQLite   = "bare-sqlite"
	BarePostgres = "bare-postgres"

	Native = "native"
	Web    = "web"
)

// Kind is a server, and the way its readers come.
type Kind struct{ Server, Carrier string }

func (k Kind) String() string {
	if k.Carrier == "" {
		return k.Server
	}
	return k.Server + "/" + k.Carrier
}

// Kinds are all that is compared, in the order of the tables.
var Kinds = []Kind{
	{TCManager, Web}, {TCManager, Native}, {SocketIO, Web}, {Centrifuge, Web}, {Raw, ""}, {RawBatched, ""},
}

// Programs are where the servers' programs are.
type Programs struct {
	TCManager  string
	SocketIO   string // a script of Node's
	Centrifuge string
	Raw        string
	Store      string // URL of a database for TCManager; empty means SQLite in its own directory
	Idle       bool   // connections will say little: a server that has settings for that gets them
}

// Target is a server that runs. Stop it.
type Target struct {
	*process.Process

	Kind      Kind
	Readers   netip.AddrPort // where readers connect
	Runners   netip.AddrPort // where publishers do
	dir       string         // its data; removed at the end
	token     string         // of TCManager
	newReader func() peer.Protocol
	newRunner func(room int) peer.Protocol // nil: a reader publishes to all rooms
}

// Reader returns the protocol of a new connection that joins rooms.
func (t *Target) Reader() peer.Protocol { return t.newReader() }

// Publisher returns the protocol of a connection that publishes to a room, and
// whether it publishes to the others too.
func (t *Target) Publisher(room int) (p peer.Protocol, all bool) {
	if t.newRunner == nil {
		return t.newReader(), true
	}
	return t.newRunner(room), false
}

// Stop stops the server and removes its data.
func (t *Target) Stop() error {
	err := t.Process.Stop()
	if t.dir != "" {
		err = errors.Join(err, os.RemoveAll(t.dir))
	}
	return err
}

// Start starts a server.
func Start(ctx context.Context, k Kind, p Programs) (*Target, error) {
	switch k.Server {
	case TCManager:
		return startTCManager(ctx, k, p)
	case SocketIO:
		node, err := exec.LookPath("node")
		if err != nil {
			return nil, fmt.Errorf("%w: install Node 20 or later", err)
		}
		return startPeer(ctx, k, func() peer.Protocol { return peer.NewSocketIO() }, node, p.SocketIO)
	case Centrifuge:
		var args []string
		if p.Idle {
			args = append(args, "--idle")
		}
		return startPeer(ctx, k, func() peer.Protocol { return peer.NewCentrifuge() }, p.Centrifuge, args...)
	case Raw:
		return startPeer(ctx, k, func() peer.Protocol { return peer.NewRaw() }, p.Raw)
	case RawBatched:
		return startPeer(ctx, k, func() peer.Protocol { return peer.NewRaw() }, p.Raw, "--batched")
	}
	return nil, fmt.Errorf("there is no server %s", k.Server)
}

// startPeer starts a server of another kind, which says where it listens.
func startPeer(ctx context.Context, k Kind, protocol func() peer.Protocol, program string, args ...string) (*Target, error) {
	t := &Target{Kind: k, newReader: protocol}
	var err error
	t.Process, err = process.Start(ctx, process.Command{Path: program, Args: append(args, "--addr", "127.0.0.1:0")}, process.Listening(&t.Readers))
	if err != nil {
		return nil, err
	}
	t.Runners = t.Readers
	return t, nil
}
