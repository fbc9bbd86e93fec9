package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/access"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/identity"
	"github.com/tcmanager/tcmanager/service/notification"
	"github.com/tcmanager/tcmanager/service/presence"
	"github.com/tcmanager/tcmanager/service/project"
	"github.com/tcmanager/tcmanager/service/router"
	"github.com/tcmanager/tcmanager/service/rules"
	"github.com/tcmanager/tcmanager/service/run"
	"github.com/tcmanager/tcmanager/service/scene"
	"github.com/tcmanager/tcmanager/service/session"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/wire"
)

// room is the room of the scene's project.
const room = string(event.KindProject) + ":" + scene.ProjectID

// stage is a session server over the real store, router and presence.
type stage struct {
	*scene.Scene
	t        *testing.T
	over     carrying // what streams of Subscribe come over
	server   *session.Server
	presence *presence.Hub
	runs     *run.Service
	projects *project.Service
	logged   strings.Builder
	broken   atomic.Bool       // rights to be in the project's room can't be looked at
	entering func(user string) // called when a user's right to be in the project's room was looked at
	deaf     atomic.Bool       // the router is told nothing of what is committed
	working  chan bool         // a command "wait" says here that it is carried out, and goes on after a second word
}

// gate is a source of rooms that tells of the rights it looks at.
type gate struct {
	session.RoomSource
	st *stage
}

func (g gate) Enter(r store.Reader, userID string, room event.Room, action access.Action) (event.Room, error) {
	if g.st.broken.Load() {
		return "", errors.New("the disk is gone")
	}
	room, err := g.RoomSource.Enter(r, userID, room, action)
	if g.st.entering != nil && action == access.Read {
		g.st.entering(userID)
	}
	return room, err
}

// carrying is a kind of carrier.
type carrying string

const (
	blocking carrying = "blocking" // Send waits for the client
	direct   carrying = "direct"
	queued   carrying = "queued" // what is sent waits in grpc-go's transport
)

// onStage runs a test over each kind of streams, each in a bubble, where time is
// the test's own.
func onStage(t *testing.T, cfg session.Config, fn func(*testing.T, *stage)) {
	t.Helper()
	onStageWithoutQueues(t, cfg, fn)
	t.Run(string(queued), func(t *testing.T) { onStageOf(t, cfg, queued, fn) })
}

// onStageWithoutQueues is for tests of what waits in a session when its client reads
// nothing, of which a queue would hold the first 48 KiB.
func onStageWithoutQueues(t *testing.T, cfg session.Config, fn func(*testing.T, *stage)) {
	t.Helper()
	for _, over := range []carrying{blocking, direct} {
		t.Run(string(over), func(t *testing.T) { onStageOf(t, cfg, over, fn) })
	}
}

func onStageOf(t *testing.T, cfg session.Config, over carrying, fn func(*testing.T, *stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		rt := router.New()
		st := &stage{t: t, over: over, presence: presence.New(rt, presence.Options{}), working: make(chan bool)}
		st.Scene = scene.Listening(t, func(events []event.Event) {
			if !st.deaf.Load() {
				rt.Publish(events)
			}
		})
		st.serve(cfg, rt, st.Store)
		fn(t, st)
		st.presence.Close()
	})
}

// serve starts the server over a store.
func (st *stage) serve(cfg session.Config, rt *router.Router, db store.Store) {
	st.runs = run.New(st.Store, run.Config{})
	st.projects = project.New(st.Store, time.Now)
	cfg.Logger = slog.New(slog.NewTextHandler(&st.logged, nil))
	st.server = session.NewServer(cfg, session.Deps{
		Store: db, Router: rt, Presence: st.presence,
		Rooms: map[event.Kind]session.RoomSource{
			event.KindProject: gate{project.NewRoom(func(string) string { return "" }), st},
			event.KindUser:    notification.Room{},
			event.KindRun:     run.Room{Service: st.runs},
		},
		Commands: commands{st},
		Verify:   verify,
		Validate: func(req *pb.SubscribeRequest) error { return rules.Message(req) },
	})
}

// commands carries out the commands these tests use.
type commands struct{ st *stage }

func (c commands) Do(ctx context.Context, cmd *pb.Command) (*pb.CommandResult, error) {
	switch cmd.RequestId {
	case "panic":
		panic("a command that panics")
	case "break":
		return nil, errors.New("the disk is full")
	case "away":
		return nil, fmt.Errorf("start a run: %w", store.ErrUncertain)
	case "wait":
		c.st.working <- true
		<-c.st.working
	}
	resp, err := c.st.runs.StartRun(ctx, cmd.GetStartRun())
	if err != nil {
		return nil, err
	}
	return &pb.CommandResult{Result: &pb.CommandResult_StartRun{StartRun: resp}}, nil
}

// verify takes a token "USER" and lets it live for an hour.
func verify(_ context.Context, token string) (identity.Caller, error) {
	if token == "forged" {
		return identity.Caller{}, identity.ErrUnauthenticated
	}
	return identity.Caller{User: &pb.User{Id: token, Name: token}, ExpiresAt: time.Now().Add(time.Hour)}, nil
}

// say appends n numbered durable events to the project's room.
func (st *stage) say(n int) {
	st.t.Helper()
	for range n {
		st.Update(func(tx store.Tx) error {
			d, err := event.NewDraft(event.Room(room), time.Now(), nil, &pb.Event{Payload: &pb.Event_MemberChanged{
				MemberChanged: &pb.MemberChanged{ProjectId: scene.ProjectID},
			}})
			if err != nil {
				return err
			}
			_, err = tx.Append(d)
			return err
		})
	}
}

// client is the other end of a stream.
type client struct {
	st     *stage
	ctx    context.Context
	cancel context.CancelFunc
	in     chan *pb.SubscribeRequest
	out    chan []byte
	done   chan error
	lane   *lane       // its stream, if that is direct
	broken atomic.Bool // to send to it panics
}

// connect opens a stream of a user, whose token lives for an hour.
func (st *stage) connect(user string) *client {
	st.t.Helper()
	return st.open(user, func(c *client) error {
		switch st.over {
		case direct:
			c.lane = newLane(c)
			c.ctx = session.WithDirect(c.ctx, c.lane)
			defer c.lane.finish()
			return st.server.Serve(c.lane)
		case queued:
			c.lane = newLane(c)
			c.ctx = session.OverHTTP2(c.ctx)
			defer c.lane.finish()
			return st.server.Subscribe(&http2Stream{lane: c.lane})
		default:
			return st.server.Serve(c)
		}
	})
}

// watch opens a Watch of a user. Frames are numbered from 1.
func (st *stage) watch(user string, mode pb.WatchMode, frames ...*pb.SubscribeRequest) *client {
	st.t.Helper()
	for i, f := range frames {
		f.Id = uint64(i + 1)
	}
	return st.open(user, func(c *client) error {
		return st.server.Watch(&pb.WatchRequest{Frames: frames, Mode: mode}, watching{c: c})
	})
}

// watching makes a client the stream of a Watch.
type watching struct {
	grpc.ServerStreamingServer[pb.SubscribeResponse]
	c *client
}

func (w watching) Context() context.Context { return w.c.ctx }

func (w watching) SendMsg(m any) error {
	frame, ok := m.(wire.Frame)
	if !ok {
		return errors.New("a message that isn't encoded")
	}
	return w.c.Send(frame)
}

// open runs a call of a user, whose token lives for an hour.
func (st *stage) open(user string, serve func(*client) error) *client {
	st.t.Helper()
	ctx, cancel := context.WithCancel(identity.WithCaller(st.t.Context(), identity.Caller{
		User: &pb.User{Id: user, Name: scene.NameOf(user)}, ExpiresAt: time.Now().Add(time.Hour),
	}))
	c := &client{
		st: st, ctx: ctx, cancel: cancel,
		in: make(chan *pb.SubscribeRequest, 64), out: make(chan []byte), done: make(chan error, 1),
	}
	go func() {
		err := serve(c)
		cancel()
		c.done <- err
	}()
	st.t.Cleanup(cancel)
	return c
}

// Context, Send and Recv make a client the stream of its session.
func (c *client) Context() context.Context { return c.ctx }

func (c *client) Send(f wire.Frame) error {
	if c.broken.Load() {
		panic("a carrier that panics")
	}
	select {
	case c.out <- f.Bytes():
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

func (c *client) Recv() (*pb.SubscribeRequest, error) {
	select {
	case req, ok := <-c.in:
		if !ok {
			return nil, io.EOF
		}
		return req, nil
	case <-c.ctx.Done():
		return nil, c.ctx.Err()
	}
}

// next returns the next frame; it is an error if the stream ends or nothing
// comes for an hour of the bubble's time.
func (c *client) next() *pb.SubscribeResponse {
	c.st.t.Helper()
	select {
	case b := <-c.out:
		return decode(c.st.t, b)
	case err := <-c.done:
		c.st.t.Fatalf("the stream ended: %v", err)
	case <-time.After(time.Hour):
		c.st.t.Fatal("nothing came")
	}
	return nil
}

func decode(t *testing.T, b []byte) *pb.SubscribeResponse {
	t.Helper()
	frame := &pb.SubscribeResponse{}
	if err := proto.Unmarshal(b, frame); err != nil {
		t.Fatalf("a frame can't be decoded: %v", err)
	}
	return frame
}

// waiting returns the frames that can be had now, when what lingered has come.
func (c *client) waiting() iter.Seq[*pb.SubscribeResponse] {
	return func(yield func(*pb.SubscribeResponse) bool) {
		for {
			time.Sleep(15 * time.Millisecond)
			synctest.Wait()
			select {
			case b := <-c.out:
				if !yield(decode(c.st.t, b)) {
					return
				}
			default:
				return
			}
		}
	}
}

// answer returns the next frame that is more than events.
func (c *client) answer() *pb.SubscribeResponse {
	c.st.t.Helper()
	for {
		if frame := c.next(); frame.Frame != nil {
			return frame
		}
	}
}

// quiet makes sure that nothing waits for the client but news of who is there.
func (c *client) quiet() {
	c.st.t.Helper()
	for frame := range c.waiting() {
		for _, ev := range frame.Events {
			if ev.GetPresence() == nil {
				c.st.t.Fatalf("something came: %v", ev)
			}
		}
		if frame.Frame != nil {
			c.st.t.Fatalf("something came: %v", frame)
		}
	}
}

// ended returns why the stream ended.
func (c *client) ended() error {
	c.st.t.Helper()
	for {
		select {
		case <-c.out:
		case err := <-c.done:
			return err
		case <-time.After(time.Hour):
			c.st.t.Fatal("the stream did not end")
		}
	}
}

func (c *client) hello(session string) *pb.Welcome {
	c.st.t.Helper()
	c.in <- &pb.SubscribeRequest{Id: 1, Frame: &pb.SubscribeRequest_Hello{Hello: &pb.Hello{Client: "test", SessionId: session}}}
	w := c.next().GetWelcome()
	if w == nil {
		c.st.t.Fatal("hello was not answered with a welcome")
	}
	return w
}

func (c *client) ask(req *pb.JoinRoom) {
	f := joining(req)
	f.Id = 2
	c.in <- f
}

func hello(session string) *pb.SubscribeRequest {
	return &pb.SubscribeRequest{Frame: &pb.SubscribeRequest_Hello{Hello: &pb.Hello{Client: "test", SessionId: session}}}
}

func joining(req *pb.JoinRoom) *pb.SubscribeRequest {
	return &pb.SubscribeRequest{Frame: &pb.SubscribeRequest_Join{Join: req}}
}

// join comes into a room and returns the answer, without the frames before it
// that hold nothing but presence.
func (c *client) join(req *pb.JoinRoom) *pb.Joined {
	c.st.t.Helper()
	c.ask(req)
	for {
		frame := c.next()
		if j := frame.GetJoined(); j != nil {
			return j
		}
		if frame.GetError() != nil || frame.GetReset_() != nil {
			c.st.t.Fatalf("join %s: %v", req.Room, frame)
		}
		for _, ev := range frame.Events {
			if ev.Room == req.Room && ev.Offset > 0 {
				c.st.t.Fatalf("event %d came before the answer to the join", ev.Offset)
			}
		}
	}
}

// durable returns the next n durable events of a room.
func (c *client) durable(n int) []*pb.Event {
	c.st.t.Helper()
	var out []*pb.Event
	for len(out) < n {
		for _, ev := range c.next().Events {
			if ev.Offset > 0 {
				out = append(out, ev)
			}
		}
	}
	if len(out) != n {
		c.st.t.Fatalf("heard %d events, want %d", len(out), n)
	}
	return out
}

// consecutive makes sure that events follow after an offset without a gap.
func consecutive(t *testing.T, after uint64, events []*pb.Event) {
	t.Helper()
	for i, ev := range events {
		if ev.Offset != after+uint64(i)+1 {
			t.Fatalf("event %d has offset %d, want %d", i, ev.Offset, after+uint64(i)+1)
		}
	}
}
