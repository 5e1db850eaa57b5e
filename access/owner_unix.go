//go:build unix

package access

import (
	"os"
	"syscall"
)

// openDir opens a directory that was just made. Its owner is going to be changed,
// maybe by root in a directory of somebody else, who may have put a link in its
// place: that is not followed.
func openDir(dir string) (*os.File, error) {
	return os.OpenFile(dir, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_DIRECTORY, 0)
}

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
