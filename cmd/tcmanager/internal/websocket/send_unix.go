//go:build unix && !(linux && (amd64 || arm64))

package websocket

import "syscall"

// sendNow writes to a socket that never waits.
func sendNow(fd int, b []byte) (int, error) { return syscall.Write(fd, b) }
