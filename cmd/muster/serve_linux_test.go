package main

import (
	"os"
	"path/filepath"
	"testing"
)

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
