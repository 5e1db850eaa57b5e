package main

import (
	"io"
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
// no bound (https://docs.kernel.org/admin-guide/cgroup-v2.html, memory.max).
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
		b, err := os.ReadFile(filepath.Join(root, dir, "memory.max"))
		if n, perr := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && perr == nil && n > 0 {
			least = min(least, n)
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

// dropStartPages gives back the pages of the program that only its start has
// needed: the kernel has mapped whatever lay beside them, some 12 MB. They are
// clean copies of the file, so what is needed again comes again.
func dropStartPages() {
	const most = 1 << 20
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return
	}
	exe, err := os.Executable()
	if err != nil {
		return
	}
	for _, r := range cleanRanges(string(b), exe) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, r[0], r[1]-r[0], unix.MADV_DONTNEED)
	}
}

// cleanRanges are the mappings of a file in the text of smaps that cannot be
// written, and have no page that ever was: the dynamic linker writes some
// before they become read-only, and those are nowhere else.
func cleanRanges(smaps, file string) (ranges [][2]uintptr) {
	var current [2]uintptr
	for line := range strings.Lines(smaps) {
		fields := strings.Fields(line)
		if len(fields) >= 5 && strings.Contains(fields[0], "-") {
			current = [2]uintptr{}
			from, to, _ := strings.Cut(fields[0], "-")
			start, err1 := strconv.ParseUint(from, 16, 64)
			end, err2 := strconv.ParseUint(to, 16, 64)
			if len(fields) == 6 && fields[5] == file && !strings.Contains(fields[1], "w") && err1 == nil && err2 == nil {
				current = [2]uintptr{uintptr(start), uintptr(end)}
			}
		}
		if current[1] > current[0] && len(fields) == 3 && fields[0] == "Anonymous:" && fields[1] == "0" {
			ranges = append(ranges, current)
		}
	}
	return ranges
}
