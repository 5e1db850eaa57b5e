//go:build !unix

package main

import "io/fs"

// sharedMode cannot tell where files have no permission bits.
func sharedMode(fs.FileMode) bool { return false }
