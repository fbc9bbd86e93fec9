//go:build !(linux || darwin || freebsd || windows)

package disk

// freeSpace knows nothing here: who writes too much finds out when it is.
func freeSpace(string) (free int64, known bool, err error) { return 0, false, nil }
