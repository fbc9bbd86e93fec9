//go:build !unix

package edge

// readyReader is empty where a socket can't be asked what it holds: a connection of
// gRPC then holds the buffer that it reads into while it rests.
type readyReader struct{}
