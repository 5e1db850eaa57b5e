package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestCleanRanges(t *testing.T) {
	const smaps = `00400000-01400000 r-xp 00000000 fe:00 1  /bin/muster
Rss:                1000 kB
Anonymous:             0 kB
AnonHugePages:         0 kB
01400000-02400000 r--p 01000000 fe:00 1  /bin/muster
Anonymous:             0 kB
02400000-02500000 r--p 02000000 fe:00 1  /bin/muster
Anonymous:             4 kB
02500000-02600000 rw-p 02100000 fe:00 1  /bin/muster
Anonymous:             0 kB
7f0000000000-7f0000001000 r-xp 00000000 fe:00 2  /lib/libc.so
Anonymous:             0 kB
7f0000001000-7f0000002000 rw-p 00000000 00:00 0
Anonymous:             0 kB
`
	want := [][2]uintptr{{0x400000, 0x1400000}, {0x1400000, 0x2400000}}
	if got := cleanRanges(smaps, "/bin/muster"); !slices.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

// TestGroupMemory: the bound of a control group is the least on the way up.
func TestGroupMemory(t *testing.T) {
	root := t.TempDir()
	for dir, text := range map[string]string{"": "max\n", "a": "1000000\n", "a/b": "max\n", "a/b/c": "2000000\n"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, dir, "memory.max"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]int64{"/": 0, "/a/b/c": 1000000, "/none": 0, "/../..": 0} {
		if got := groupMemory(root, path); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
}
