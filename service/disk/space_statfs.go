//go:build linux || darwin || freebsd

package disk

import "golang.org/x/sys/unix"

// freeSpace returns how many bytes this process may still write into a folder.
func freeSpace(dir string) (free int64, known bool, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, false, err
	}
	return int64(st.Bavail) * int64(st.Bsize), true, nil //nolint:unconvert // their types differ between systems
}
