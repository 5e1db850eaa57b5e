//go:build unix

package main

import "io/fs"

// sharedMode reports whether anyone but the owner may touch a file.
func sharedMode(m fs.FileMode) bool { return m.Perm()&0o077 != 0 }
