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
package tcmanager
