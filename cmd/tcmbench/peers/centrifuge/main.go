// Command centrifuge is the smallest server that the Centrifuge library makes: rooms are channels, a client publishes to them and
// makes calls that are acknowledged. Nothing is kept: the broker is the library's own in memory, without history.
//
// It has what the library offers to a server of many small messages, and nothing that its documentation advises against:
//
//   - the protobuf protocol, without compression, from and into pooled buffers;
//   - a publication carries its payload and not its publisher's name;
//   - a client's queue and the time that a write may take are large enough for a burst: the defaults, 1 MB and a second, cut off
//     the readers that a benchmark makes wait.
//
// Two more options pay for some loads and cost for others, so they are flags: --write-delay for rooms with many events a second, and
// --idle for many connections that say little.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/centrifugal/centrifuge"
)

const (
	queueSize      = 64 << 20 // bytes that wait for one client
	writeTimeout   = 30 * time.Second
	idleReadBuffer = 512 // bytes; without --idle it is the HTTP server's, 4 KB
)

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "where to listen")
	writeDelay := flag.Duration("write-delay", 0, "how long messages to a client are collected before they are written; 0 writes at once")
	idle := flag.Bool("idle", false, "take less memory for a connection, and more time for what it says")
	flag.Parse()
	if err := run(*addr, *writeDelay, *idle); err != nil {
		log.Fatal(err)
	}
}

func run(addr string, writeDelay time.Duration, idle bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	node, err := newNode(writeDelay)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	config := centrifuge.WebsocketConfig{UseWriteBufferPool: true, WriteTimeout: writeTimeout}
	if idle {
		config.ReadBufferSize, config.ProcessCommandsOffReadLoop = idleReadBuffer, true
	}
	http.Handle("/connection/websocket", authenticate(centrifuge.NewWebsocketHandler(node, config)))
	server := &http.Server{ReadHeaderTimeout: writeTimeout}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	fmt.Println("listening", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return node.Shutdown(context.WithoutCancel(ctx))
}

func newNode(writeDelay time.Duration) (*centrifuge.Node, error) {
	node, err := centrifuge.New(centrifuge.Config{ClientQueueMaxSize: queueSize})
	if err != nil {
		return nil, err
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		reply := centrifuge.ConnectReply{WriteDelay: writeDelay}
		if writeDelay > 0 {
			// 16 messages every 20 ms, which is the default, are 800 a second: a hot room has more.
			reply.MaxMessagesInFrame = -1
		}
		return reply, nil
	})
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(_ centrifuge.SubscribeEvent, answer centrifuge.SubscribeCallback) {
			answer(centrifuge.SubscribeReply{}, nil)
		})
		client.OnPublish(func(e centrifuge.PublishEvent, answer centrifuge.PublishCallback) {
			result, err := node.Publish(e.Channel, e.Data)
			answer(centrifuge.PublishReply{Result: &result}, err)
		})
		client.OnRPC(func(_ centrifuge.RPCEvent, answer centrifuge.RPCCallback) {
			answer(centrifuge.RPCReply{}, nil)
		})
	})
	return node, node.Run()
}

// authenticate lets everybody in: the library wants to know who.
func authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(centrifuge.SetCredentials(r.Context(), &centrifuge.Credentials{UserID: "reader"})))
	})
}
