package main

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// noDumps keeps the keys of this process out of core files, and other
// processes of the user from reading its memory.
func noDumps() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }

// memoryMax is what the control groups of this process allow it, 0 if there is
// no bound (https://docs.kernel.org/admin-guide/cgroup-v2.html, memory.max and
// memory.high).
func memoryMax() int64 {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return groupMemory("/sys/fs/cgroup", path)
		}
	}
	return 0
}

// groupMemory is the least of the bounds of a group and those above it.
func groupMemory(root, path string) int64 {
	least := int64(math.MaxInt64)
	for dir := filepath.Clean("/" + path); ; dir = filepath.Dir(dir) {
		for _, bound := range []string{"memory.max", "memory.high"} {
			b, err := os.ReadFile(filepath.Join(root, dir, bound))
			if n, perr := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && perr == nil && n > 0 {
				least = min(least, n)
			}
		}
		if dir == "/" {
			break
		}
	}
	if least == math.MaxInt64 {
		return 0
	}
	return least
}
