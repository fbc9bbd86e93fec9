package disk

import "golang.org/x/sys/windows"

// freeSpace returns how many bytes this process may still write into a folder.
func freeSpace(dir string) (free int64, known bool, err error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, false, err
	}
	var available uint64
	if err := windows.GetDiskFreeSpaceEx(name, &available, nil, nil); err != nil {
		return 0, false, err
	}
	return int64(available), true, nil
}
