//go:build !unix

package main

import (
	"io/fs"
	"os"
)

// What is not unix has access lists in place of modes.
func writableByOthers(fs.FileMode) bool { return false }

func foreignOwner(fs.FileInfo) bool { return false }

// lockDataDir does nothing: the store in the directory has a lock of its own.
func lockDataDir(string) (unlock func() error, err error) { return func() error { return nil }, nil }

var reloadSignals []os.Signal
