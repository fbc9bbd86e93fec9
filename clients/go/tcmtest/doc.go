// Package tcmtest is a TCManager server in memory, for the tests of programs that
// use package tcmanager.
//
//	srv := tcmtest.New(t)
//	session := srv.Client().NewSession(tcmanager.SessionConfig{})
//	go session.Run(t.Context())
//	srv.Emit("project:demo", &tcmv1.Event{Payload: ...})
//	srv.CutStreams()
//
// It keeps the rules of the protocol: rooms are logs with positions and epochs, a
// join with a position gives exactly what was missed or an explicit reset, a
// command with a request id is carried out once, a session that is taken up again
// ends its older stream, silence ends a stream. It knows one user, no rights and no
// projects: every room is there, and every command succeeds unless Handle says
// otherwise. Its methods make it misbehave in the ways in which networks and
// servers do.
//
// It speaks gRPC over pipes in memory, so it works within the bubbles of
// testing/synctest, where a minute of heartbeats takes no time.
//
// # Concurrency
//
// All methods of a Server may be called by many goroutines at the same time. None
// waits for a client. What one call of Emit adds to a room reaches each stream
// behind what earlier calls added. A function given to Handle or Authenticate is
// called by the goroutines of streams; commands are carried out one at a time. All
// goroutines have ended when the test has.
package tcmtest
