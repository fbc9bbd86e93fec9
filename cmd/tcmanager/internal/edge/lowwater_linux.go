package edge

import "syscall"

// lowWater makes the kernel tell of a socket that it can be read from once n bytes have
// come, or the peer's end, or an error, and at once if they have already. It reports
// false if the kernel won't.
func lowWater(fd uintptr, n int) bool {
	return syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, n) == nil
}
