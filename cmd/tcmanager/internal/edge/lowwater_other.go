//go:build unix && !linux

package edge

// lowWater does nothing: other kernels don't promise to look at what has come already
// when the mark is lowered. Reads there don't wait.
func lowWater(uintptr, int) bool { return false }
