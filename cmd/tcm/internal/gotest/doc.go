// Package gotest reads what `go test -json` prints and turns it into the items
// a runner publishes: suites and tests that begin and end, and what they print.
// The same pass writes what `go test` without -json would have shown a person.
//
// The input is not trusted to be well formed. Tests that never end, ends that
// were printed but not reported, lines that are no events, subtests whose names
// hold slashes, repeated names and builds that fail are all met in practice; the
// rules for each stand beside the code that applies them.
//
// # Concurrency
//
// A Reader has one owner: no two of its methods may run at the same time. It
// starts no goroutine and waits for nothing but its writers, which it calls from
// inside Write, Tick and End.
package gotest
