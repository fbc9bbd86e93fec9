package peer_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tcmanager/tcmanager/cmd/tcmbench/internal/peer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	peers    = "../../peers"
	patience = time.Minute // a server of Node's under the race detector's load
)

// servers are the real ones: how each is built and started, and who speaks to it.
var servers = []struct {
	name     string
	build    string // the folder of a Go program; empty for one that is run as it is
	command  []string
	protocol func() peer.Protocol
}{
	{"socketio", "", []string{"node", peers + "/socketio/server.mjs"}, func() peer.Protocol { return peer.NewSocketIO() }},
	{"centrifuge", "centrifuge", nil, func() peer.Protocol { return peer.NewCentrifuge() }},
	{"centrifuge with a delay", "centrifuge", []string{"--write-delay=20ms"}, func() peer.Protocol { return peer.NewCentrifuge() }},
	{"centrifuge for idle connections", "centrifuge", []string{"--idle"}, func() peer.Protocol { return peer.NewCentrifuge() }},
	{"raw", "raw", nil, func() peer.Protocol { return peer.NewRaw() }},
	{"raw, batched", "raw", []string{"--batched"}, func() peer.Protocol { return peer.NewRaw() }},
}

// start starts a server and returns where it listens.
func start(t *testing.T, build string, command []string) string {
	t.Helper()
	if build != "" {
		program := filepath.Join(t.TempDir(), build)
		cmd := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
		cmd.Dir = filepath.Join(peers, build)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", build, err, out)
		}
		command = append([]string{program}, command...)
	}
	cmd := exec.Command(command[0], append(slices.Clone(command[1:]), "--addr=127.0.0.1:0")...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", command[0], err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "listening ")
	if err != nil || !ok {
		t.Fatalf("%s says %q (%v)", command[0], line, err)
	}
	return addr
}

// heard is what a Handler was told.
type heard struct {
	ready, joined int
	events        [][]byte
	acks          []uint64
}

func (h *heard) Ready()           { h.ready++ }
func (h *heard) Joined()          { h.joined++ }
func (h *heard) Event(p []byte)   { h.events = append(h.events, bytes.Clone(p)) }
func (h *heard) Acked(seq uint64) { h.acks = append(h.acks, seq) }

// client is one connection that is fed as it is read.
type client struct {
	t *testing.T
	peer.Protocol
	net.Conn
	heard

	got []byte
}

func connect(t *testing.T, addr string, p peer.Protocol) *client {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, Protocol: p, Conn: conn}
	c.send(p.Open(addr))
	c.until(func() bool { return c.ready == 1 })
	return c
}

func (c *client) send(p []byte) {
	c.t.Helper()
	if _, err := c.Write(p); err != nil {
		c.t.Fatal(err)
	}
}

// until reads until done.
func (c *client) until(done func() bool) {
	c.t.Helper()
	buffer := make([]byte, 64<<10)
	for !done() {
		n, err := c.Read(buffer)
		if err != nil {
			c.t.Fatalf("read after %d events and %d acknowledgements: %v", len(c.events), len(c.acks), err)
		}
		c.got = append(c.got, buffer[:n]...)
		consumed, reply, err := c.Feed(c.got, &c.heard)
		if err != nil {
			c.t.Fatal(err)
		}
		c.got = c.got[consumed:]
		if len(reply) > 0 {
			c.send(reply)
		}
	}
}

// payload is as large as an update of a test's execution, and has every value of a byte in it.
func payload(seq uint64) []byte {
	p := binary.BigEndian.AppendUint64(nil, seq)
	for len(p) < 210 {
		p = append(p, byte(seq)+byte(len(p)))
	}
	return p
}

func TestARealServerDeliversInOrderAndAcknowledges(t *testing.T) {
	const events, updates = 1000, 300
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			addr := start(t, s.build, s.command)
			reader, other, publisher := connect(t, addr, s.protocol()), connect(t, addr, s.protocol()), connect(t, addr, s.protocol())
			for _, c := range []*client{reader, publisher} {
				c.send(c.Join("a room"))
				c.until(func() bool { return c.joined == 1 })
			}
			other.send(other.Join("another room"))
			other.until(func() bool { return other.joined == 1 })

			var sent []byte
			for seq := range uint64(events) {
				sent = publisher.Publish(sent, "a room", payload(seq))
			}
			publisher.send(publisher.Publish(sent, "another room", payload(events)))
			for _, c := range []*client{reader, publisher} {
				c.until(func() bool { return len(c.events) >= events })
				for seq, got := range c.events {
					if !bytes.Equal(got, payload(uint64(seq))) {
						t.Fatalf("event %d is %x", seq, got)
					}
				}
			}
			other.until(func() bool { return len(other.events) > 0 })
			if len(other.events) != 1 || !bytes.Equal(other.events[0], payload(events)) {
				t.Errorf("the other room has %d events, the first %x", len(other.events), other.events[0])
			}

			sent = nil
			for seq := range uint64(updates) {
				sent = other.Update(sent, seq)
			}
			other.send(sent)
			other.until(func() bool { return len(other.acks) >= updates })
			for seq, got := range other.acks {
				if got != uint64(seq) {
					t.Fatalf("acknowledgement %d is of %d", seq, got)
				}
			}
		})
	}
}
