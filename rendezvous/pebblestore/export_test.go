package pebblestore

import "github.com/cockroachdb/pebble/v2/vfs"

// WithFS returns cfg with a disk of the test's.
func (c Config) WithFS(fs vfs.FS) Config {
	c.fs = fs
	return c
}
