// Package tcmanager is the Go client of a TCManager server, for test runners and
// for services.
//
// Dial opens a Client, which holds one gRPC connection and the means to prove
// who is calling. Its Execution and Identity methods give the plain services; a
// Publisher is what a runner uses to report: it takes items without ever making
// the caller wait for the server, and brings them there in order, exactly once,
// over as many connections as it takes.
//
//	client, err := tcmanager.Dial("127.0.0.1:9090", tcmanager.WithToken(token))
//	...
//	defer client.Close()
//	pub := client.NewPublisher(tcmanager.PublisherConfig{Project: "demo", RunKey: key})
//	go pub.Run(ctx)
//	pub.Publish(item)
//	report := pub.Finish(ctx, tcmanager.FinishOptions{ExitCode: &code})
//	pub.Close()
//
// A Session is how a program takes part live: Events iterates over what happens in
// a room, and Do gives commands. It keeps one stream open, and goes on by itself
// where it was when that breaks: each event is yielded once, in order, with the
// position to go on from in another process; a command is carried out once. What
// can't be continued is said, by a Delivery of kind DeliveryReset, and begins anew
// with a snapshot.
//
//	session := client.NewSession(tcmanager.SessionConfig{Name: "nightly/1.2"})
//	go session.Run(ctx)
//	for d, err := range session.Events(ctx, "project:demo", nil) {
//		...
//	}
//
// What a server refuses, a call, a Session and a Publisher return as an *Error.
// Package tcmtest has a server in memory for the tests of programs that use this
// one.
//
// # Concurrency
//
// A Client may be used by many goroutines. Of a Publisher, Publish may be called
// by many goroutines too; items are numbered in the order in which the calls got
// the lock, so a caller who cares for an order calls from one. Run is called
// once, in a goroutine of the caller's; it starts one more for the time of each
// connection, which has ended when Run returns. Publish takes one lock for the
// time of a copy, or of a write to a local file when memory is full; it never
// waits for the network. The hooks OnWelcome and OnWarning are called by Run's
// goroutines, one at a time: one that blocks delays the upload, and nothing else.
//
// All methods of a Session may be called by many goroutines, before Run, during and
// after; before and between streams they wait for one. Run is called once, in a
// goroutine of the caller's, which sends; one more receives, for the time of each
// stream, and a third fetches a newer token when the server asks for one. All have
// ended when Run returns. The receiver waits for nobody: a reader that stops reading
// fills the buffer of its own room, whose rest is read from the server's log later,
// and delays no other room, no command and no heartbeat. An iterator runs in the
// goroutine that ranges over it and belongs to that one. Events of one room are
// yielded in their order; between rooms, and between events and the answers of Do,
// there is none: a caller may hear of the effect of a command before its answer, or
// after. The hook OnState is called by Run's goroutine: one that blocks stops
// commands and heartbeats.
package tcmanager
