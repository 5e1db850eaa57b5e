//go:build unix && !solaris && !aix

package transfer

import (
	"errors"
	"os"
	"syscall"
)

// lockFile locks f for this process until f is closed, or returns errLocked. A
// file system without locks is used without.
func lockFile(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errLocked
	}
	return nil
}
