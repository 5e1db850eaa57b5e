//go:build unix

package access

import (
	"os"
	"syscall"
)

// likeDir gives a new file the owner of its directory, where root writes for
// the user of a daemon: nobody else may do so, and need not.
func likeDir(f *os.File, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 {
		return f.Chown(int(st.Uid), int(st.Gid))
	}
	return nil
}
