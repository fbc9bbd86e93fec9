//go:build linux && (amd64 || arm64)

package websocket

import (
	"syscall"
	"unsafe"
)

// sendNow writes to a socket that never waits. send reaches it without what write
// looks up about the file it stands for, which is memory that nothing else touches.
// The runtime isn't told, since it doesn't take long: then it needs no thread to take
// over meanwhile, and none to look after it.
func sendNow(fd int, b []byte) (int, error) {
	p := unsafe.Pointer(unsafe.SliceData(b)) //nolint:gosec // the call keeps b where it is
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(p), uintptr(len(b)), syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
