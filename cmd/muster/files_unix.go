//go:build unix

package main

import (
	"math"
	"syscall"
)

// maxFiles is how many descriptors this process may have, 0 if any number. The
// runtime has raised the soft limit to the hard one.
func maxFiles() int {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil || lim.Cur > math.MaxInt32 {
		return 0
	}
	return int(lim.Cur)
}
