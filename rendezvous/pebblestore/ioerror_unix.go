//go:build unix

package pebblestore

import (
	"errors"
	"syscall"
)

// isIOError reports whether err says that the disk, or the way to it, failed.
func isIOError(err error) bool {
	for _, e := range []syscall.Errno{syscall.EIO, syscall.EROFS, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ESTALE, syscall.EDQUOT} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
