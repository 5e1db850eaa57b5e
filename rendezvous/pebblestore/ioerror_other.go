//go:build !unix

package pebblestore

import (
	"errors"
	"io/fs"
)

// isIOError reports whether err says that the disk, or the way to it, failed.
// Elsewhere than on unix every failed call of the system counts, but for a
// file that is missing.
func isIOError(err error) bool {
	var path *fs.PathError
	return errors.As(err, &path) && !errors.Is(err, fs.ErrNotExist)
}
